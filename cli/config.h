/* Configuration files: a YAML mapping whose keys are the long options of a verb, so that
 * everything that can be said in the file can be said on the command line, which wins. */
#ifndef VIDLOOM_CLI_CONFIG_H
#define VIDLOOM_CLI_CONFIG_H

#include "base/arena.h"
#include "base/error.h"
#include "cli/options.h"

/* The value of the verb's --config option; NULL when it has none or it was not given. */
const char *config_path(const void *values, const struct verb *verb);

/* Set `values` from the file; texts are kept in `arena`. Errors name file:line:column and what was
 * expected: ERR_MISSING, ERR_DENIED, ERR_USAGE, ERR_FORMAT, ERR_LIMIT, ERR_IO. */
MUST_CHECK enum error_code config_read(void *values, const struct verb *verb, const char *path,
                                       struct arena *arena, struct error *error);

/* The same from text; `name` is used in errors. */
MUST_CHECK enum error_code config_parse(void *values, const struct verb *verb, const char *name,
                                        const char *text, size_t length, struct arena *arena,
                                        struct error *error);

#endif

/* YAML by libyaml's event interface, with everything dangerous refused: aliases, anchors, tags,
 * several documents, duplicate keys, non-scalar keys, more than 32 levels, more than
 * YAML_BYTES_MAX bytes. The one reader of job and configuration files. Fuzzed. Any thread, an arena
 * by one thread at a time. */
#ifndef VIDLOOM_BASE_YAML_H
#define VIDLOOM_BASE_YAML_H

#include <stdbool.h>
#include <stddef.h>

#include "base/arena.h"
#include "base/error.h"

#define YAML_BYTES_MAX (16u << 20)

enum yaml_type { YAML_SCALAR, YAML_SEQUENCE, YAML_MAPPING };

struct yaml {
    enum yaml_type type;
    int line, column; /* from 1 */
    const char *key;  /* of a mapping's member; NULL otherwise */
    int key_line, key_column;
    const char *text; /* YAML_SCALAR: UTF-8, NUL-terminated, no NUL inside */
    size_t length;    /* YAML_SCALAR: bytes; else the number of children */
    bool quoted;      /* YAML_SCALAR: written in quotes or as a block: never a number or null */
    const struct yaml *child, *next;
};

/* `name` is used in errors ("job.yaml:3:7: …"). Nodes and their texts are in `arena`; `text` is not
 * kept. Errors: ERR_FORMAT, ERR_LIMIT (arena full), ERR_MEMORY; then the arena is as before. */
MUST_CHECK enum error_code yaml_parse(const struct yaml **out, struct arena *arena,
                                      const char *name, const char *text, size_t length,
                                      struct error *error);

/* NULL: absent, or no mapping. */
const struct yaml *yaml_get(const struct yaml *mapping, const char *key);

#endif

/* Prompt lists: a text file, CSV or JSON lines → one mapping a video, as if it stood in the job
 * file. Private to the job reader.
 *
 *   .txt            one prompt a line; blank lines and lines that start with '#' are skipped
 *   .csv            RFC 4180; the first record names the keys; an empty field is a key left out
 *   .jsonl .ndjson  one object a line; blank lines are skipped
 *
 * All are UTF-8; a byte order mark is skipped. */
#ifndef VIDLOOM_COORDINATOR_JOB_LIST_H
#define VIDLOOM_COORDINATOR_JOB_LIST_H

#include <stdbool.h>
#include <stddef.h>

#include "base/arena.h"
#include "base/error.h"
#include "base/yaml.h"

/* Called for each row; `row` and its texts are in the scratch arena and gone after the call.
 * `typed` false: everything is text as written, so "12" may be a prompt (text, CSV). */
typedef enum error_code (*job_list_sink)(void *user, const struct yaml *row, bool typed,
                                         struct error *error);

/* `name` is used in errors and gives the kind by its extension. `header`, which ends with NULL,
 * lists the columns that a CSV file may have. ERR_FORMAT, ERR_LIMIT, ERR_USAGE (the kind),
 * ERR_MEMORY, and the sink's. */
MUST_CHECK enum error_code job_list_read(const char *name, const char *text, size_t length,
                                         const char *const *header, struct arena *scratch,
                                         job_list_sink sink, void *user, struct error *error);

#endif

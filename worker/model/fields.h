/* One JSON object of a configuration file, read field by field.
 *
 * The first error sticks and later reads do nothing, so that a reader is the list of its fields:
 * open, read, close. A field that is absent or null takes its fallback. Errors: those of
 * worker/model/config.h. One thread. */
#ifndef VIDLOOM_WORKER_MODEL_FIELDS_H
#define VIDLOOM_WORKER_MODEL_FIELDS_H

#include <stdbool.h>

#include "base/arena.h"
#include "base/file.h"
#include "base/json.h"
#include "worker/model/names.h"
#include "worker/model/weights.h"

struct fields {
    struct arena arena;
    char path[FILE_PATH_BYTES];
    const struct json *root;
    enum error_code code;
    struct error *error;
};

/* Parse folder/name. */
void fields_open(struct fields *fields, const char *folder, const char *name, struct error *error);
/* folder/config.json of a component; where there is none, what the shapes of its weights say.
 * weights may be NULL: then it must be there. */
void fields_open_config(struct fields *fields, const char *folder, const struct weights *weights,
                        enum names_component component, struct error *error);
enum error_code fields_close(struct fields *fields);

/* NULL where it is absent or null, or an error came before. */
const struct json *fields_get(const struct fields *fields, const char *key);

#define FIELDS_REQUIRED (-1) /* as a fallback below every minimum */

int fields_int(struct fields *fields, const char *key, int fallback, int min, int max);
float fields_float(struct fields *fields, const char *key, double fallback, double min, double max);
bool fields_bool(struct fields *fields, const char *key, bool fallback);
/* A list of at most `max` whole numbers; *count stays, and `out` too, where it is absent. */
void fields_ints(struct fields *fields, const char *key, int *out, int *count, int max, int low,
                 int high);
void fields_floats(struct fields *fields, const char *key, float *out, int *count, int max);

/* Settings that have only one value here: others, null too, are refused by name. */
void fields_must_be_text(struct fields *fields, const char *key, const char *only);
void fields_must_be_bool(struct fields *fields, const char *key, bool only);
/* Absent, null or an empty list. */
void fields_must_be_empty(struct fields *fields, const char *key);
/* Where the class's own fallback is none that is implemented. */
void fields_must_be_given(struct fields *fields, const char *key, const char *fallback);

#endif

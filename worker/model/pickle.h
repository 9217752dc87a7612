/* The part of Python's pickle format that a file of tensors is made of, read as data.
 *
 * Protocol 2, as torch.save writes it, to 5, which it can be asked for. An object that pickle would
 * make by a call stays a call here: a name out of a list that the caller gives, and its arguments.
 * Nothing is imported and nothing is run; any other name, and any opcode that a state dict does not
 * need, is refused by name. Time and memory are linear in the length of the text: a value that is
 * used twice is there once, so a walk over the result must bound what it visits (and a list can
 * hold itself).
 *
 * Source: CPython, Lib/pickletools.py (what each opcode means). Any thread. */
#ifndef VIDLOOM_WORKER_MODEL_PICKLE_H
#define VIDLOOM_WORKER_MODEL_PICKLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"

enum pickle_type {
    PICKLE_NONE,
    PICKLE_BOOL,
    PICKLE_INT,
    PICKLE_FLOAT,
    PICKLE_TEXT,
    PICKLE_TUPLE, /* of `first`'s chain */
    PICKLE_LIST,
    PICKLE_DICT,   /* key, value, key, value, … */
    PICKLE_GLOBAL, /* text: "module name" */
    PICKLE_CALL,   /* of the global `text` with a tuple of arguments, the chain of `first` */
    PICKLE_OUTSIDE /* what the pickle names by `first`: torch's storages */
};

struct pickle_value;

/* One place in a container: values may be in several. */
struct pickle_item {
    const struct pickle_value *value;
    struct pickle_item *next;
};

struct pickle_value {
    enum pickle_type type;
    int64_t integer; /* PICKLE_INT, PICKLE_BOOL */
    double number;   /* PICKLE_FLOAT */
    const char *text;
    size_t length; /* of text; number of items */
    struct pickle_item *first, *last;
};

/* `globals` (ends with NULL) has the names, "module name", that may occur. Values are in `arena`
 * and texts are copied there. Offsets in errors are bytes of the pickle. Errors: ERR_FORMAT,
 * ERR_UNSUPPORTED (a global or opcode), ERR_LIMIT (arena full). */
MUST_CHECK enum error_code pickle_read(const struct pickle_value **out, struct arena *arena,
                                       const uint8_t *bytes, size_t length,
                                       const char *const *globals, struct error *error);

/* The value of a dict's key; NULL when it has none. */
const struct pickle_value *pickle_get(const struct pickle_value *dict, const char *key);
/* Argument `index` of a call, tuple or list; NULL past its end. */
const struct pickle_value *pickle_item(const struct pickle_value *value, size_t index);

#endif

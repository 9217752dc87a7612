/* Between weights.c and the readers of the formats it knows. */
#ifndef VIDLOOM_WORKER_MODEL_WEIGHTS_INTERNAL_H
#define VIDLOOM_WORKER_MODEL_WEIGHTS_INTERNAL_H

#include <stdbool.h>

#include "base/arena.h"
#include "base/json.h"
#include "worker/model/weights.h"

#define WEIGHTS_HEADER_MAX                                                                         \
    (100u << 20) /* bytes; the limit of the reference reader of safetensors */

struct weights_file {
    const char *name;     /* for errors; in the arena */
    const uint8_t *bytes; /* all of the file */
    size_t size;
    size_t header; /* bytes before the data: a reader fills it in */
    bool mapped;   /* unmap it on close */
};

struct weights_entry {
    const char *name; /* in the arena */
    struct tensor tensor;
    int file;
    bool folded; /* into another tensor: weights_scales.c */
};

struct lora;

struct weights {
    struct arena arena; /* entries, names, headers as read */
    const char *path;
    enum weights_format format; /* of its first file */
    struct weights_file *file;
    int file_count;
    struct weights_entry *entry; /* by name once all are read */
    size_t count, room;
    void *aligned;     /* copies of tensors that are not aligned in their file */
    struct lora *lora; /* what is added to them: lora.c; NULL: nothing */
};

void lora_close(struct lora *lora);

/* A tensor whose `data` is inside the file. `name` is in the arena already. */
MUST_CHECK enum error_code weights_add(struct weights *weights, const char *name,
                                       const struct tensor *tensor, int file, struct error *error);

/* In order of names, each there once: after all are read, and after names were changed. */
MUST_CHECK enum error_code weights_sort(struct weights *weights, struct error *error);
/* Scales that are tensors of their own become part of their matrices. */
MUST_CHECK enum error_code weights_attach_scales(struct weights *weights, struct error *error);
/* NULL when there is none; after all are sorted. */
const struct weights_entry *weights_entry_find(const struct weights *weights, const char *name);

/* ERR_FORMAT: "FILE: tensor 'NAME': what"; name may be NULL. */
enum error_code weights_bad(struct error *error, const struct weights_file *file, const char *name,
                            const char *what);

/* ERR_LIMIT: more than WEIGHTS_TENSORS_MAX. */
enum error_code weights_too_many(struct error *error, const char *path);

/* ERR_USAGE: a whole file and an index of shards under one name. */
enum error_code weights_both(struct error *error, const char *path, const char *index);

/* Map `path` as the next file and add its tensors. */
MUST_CHECK enum error_code weights_add_path(struct weights *weights, const char *path,
                                            struct error *error);

/* Readers of one format: add all tensors of file `index`; and whether it begins like one. A file
 * that is no other is taken for safetensors, which has no magic. */
MUST_CHECK enum error_code safetensors_read(struct weights *weights, int index,
                                            struct error *error);
MUST_CHECK enum error_code pth_read(struct weights *weights, int index, struct error *error);
MUST_CHECK enum error_code gguf_read(struct weights *weights, int index, struct error *error);
bool pth_is(const struct weights_file *file);
bool gguf_is(const struct weights_file *file);

/* The index at weights->path: *map is its "weight_map", and every file it names is added. */
MUST_CHECK enum error_code weights_read_index(struct weights *weights, const struct json **map,
                                              struct error *error);
/* Index and files name the same tensors in the same files; after all are read and sorted. */
MUST_CHECK enum error_code weights_check_index(const struct weights *weights,
                                               const struct json *map, struct error *error);

#endif

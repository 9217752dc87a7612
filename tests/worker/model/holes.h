/* Weight files of the right size with holes in place of weights: names and shapes without data. */
#ifndef VIDLOOM_TESTS_WORKER_MODEL_HOLES_H
#define VIDLOOM_TESTS_WORKER_MODEL_HOLES_H

#include <stdint.h>

#include "base/buffer.h"
#include "base/json.h"
#include "worker/model/config.h"

struct holes {
    struct buffer header;
    struct json_writer json;
    int64_t at; /* bytes of data so far */
};

void holes_start(struct holes *holes);
/* A bf16 tensor; dimensions end with 0. */
void holes_add(struct holes *holes, const char *name, const int64_t *dims);
/* prefix + name, of `count` elements; and prefix + name.weight [out,in] with .bias [out]. */
void holes_vector(struct holes *holes, const char *prefix, const char *name, int64_t count);
void holes_layer(struct holes *holes, const char *prefix, const char *name, int64_t out,
                 int64_t in);
/* Write a safetensors file and release. */
void holes_finish(struct holes *holes, const char *folder, const char *file);

/* The tensors of one component of a list of shapes: a line a tensor, component, name, dimensions.
 */
void holes_from_list(const char *list, const char *component, const char *folder, const char *file);

/* A transformer of the diffusers layout. */
void holes_transformer(const struct transformer_config *config, const char *folder,
                       const char *file);

/* Random numbers, of bf16, in place of all holes of a file. */
void holes_fill(const char *folder, const char *file);

/* A new folder of a text-to-video transformer alone, of this width (a multiple of 128), ffn and
 * number of layers. */
void holes_folder(char folder[64], const struct transformer_config *shape);

void write_text(const char *folder, const char *name, const char *text);

#endif

/* Taking a component's weights over: by name, shape-checked, with the first error kept, so that
 * opening a component reads as the list of its layers.
 *
 * Names are those of the diffusers layout. A file of the original layout is recognised by its names
 * and read through the table in names.c. */
#ifndef VIDLOOM_WORKER_MODEL_LOADER_H
#define VIDLOOM_WORKER_MODEL_LOADER_H

#include <stdbool.h>

#include "base/error.h"
#include "worker/model/names.h"
#include "worker/model/runtime.h"
#include "worker/model/weights.h"

struct loader {
    struct runtime *runtime;
    const struct weights *file;
    enum names_component component;
    bool original;         /* the file has the original layout's names */
    size_t used;           /* tensors taken over */
    int64_t elements;      /* in them */
    char prefix[96];       /* put before every name: "blocks.3." */
    struct stream *stream; /* that layers used in the file are added to; NULL: none */
    int block;             /* of it */
    enum error_code code;
    struct error *error;
    struct tensor made[8]; /* as many as one layer asks for */
    int made_count;
};

/* `file` NULL: every tensor that is asked for is there, with random numbers in it, made in
 * the runtime's memory for that: for benchmarks. */
void loader_start(struct loader *loader, struct runtime *runtime, const struct weights *file,
                  enum names_component component, struct error *error);
/* Set the prefix from a format: loader_enter(loader, "blocks.%d.", i). */
void loader_enter(struct loader *loader, const char *format, ...) PRINTF_LIKE(2, 3);

/* Layers from now on are of block 0 of a new stream, where the runtime has a streamer; and of
 * another block of it. */
void loader_stream(struct loader *loader, struct stream **out, int blocks);
void loader_block(struct loader *loader, int block);

/* The tensor prefix + name, which must have these dimensions; NULL after an error. */
const struct tensor *loader_tensor(struct loader *loader, const char *name, int rank,
                                   const int64_t *dim);
/* A matrix of which a few rows are read at a time. */
const struct tensor *loader_table(struct loader *loader, const char *name, int64_t rows,
                                  int64_t columns);
/* A parameter of `count` elements (of any rank) as f32 in the model's device memory. */
const float *loader_vector(struct loader *loader, const char *name, int64_t count);

/* A tensor of random numbers, or a matrix made narrower; good until seven more
 * are made. NULL after an error. I8, F8_E4M3: one of 8 bits or fewer stays; BF16: wider ones are
 * rounded, and narrower ones widened. */
const struct tensor *loader_invent(struct loader *loader, int rank, const int64_t *dim);
const struct tensor *loader_narrow(struct loader *loader, const struct tensor *tensor,
                                   enum dtype dtype);

/* One layer from `count` tensors name[i] + ".weight" [out,in] stacked along the output, with
 * ".bias" [out] each if `bias`. Made narrower if the runtime says so and `dtype` is its compute
 * type. */
void loader_linear(struct loader *loader, struct layer *layer, const char *const *names, int count,
                   int64_t in, int64_t out, bool bias, enum dtype dtype);
/* A convolution of these `rank` dimensions, output first, whose stride is its kernel: as a layer
 * over patches, whose elements are in the order of the others. */
void loader_patch(struct loader *loader, struct layer *layer, const char *name, int rank,
                  const int64_t *dim, bool bias, enum dtype dtype);
/* name + ".weight" [out,in,kt,kh,kw], or [out,in,kh,kw] where `plane`; ".bias" [out]. */
void loader_filter(struct loader *loader, struct filter *filter, const char *name,
                   const struct conv_shape *shape, bool plane);

/* Every tensor of the file must have been used, but those in `ignored` (ends with NULL; whole
 * names, and beginnings of names where one ends with a dot): a left-over means that the
 * configuration contradicts the file. Returns the first error. */
MUST_CHECK enum error_code loader_finish(struct loader *loader, const char *const *ignored);

void layer_close(struct runtime *runtime, struct layer *layer);
void filter_close(struct runtime *runtime, struct filter *filter);

#endif

/* Weight files of small models of the original layout, of random numbers. */
#ifndef VIDLOOM_TESTS_WORKER_MODEL_SMALL_MODEL_H
#define VIDLOOM_TESTS_WORKER_MODEL_SMALL_MODEL_H

#include "tests/worker/model/model_test.h"

struct small_model {
    struct tensor tensor[256];
    char name[256][96];
    int count;
};

#define DIMS(...)                                                                                  \
    (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]) {                       \
        __VA_ARGS__                                                                                \
    }

/* One more tensor; DIMS(…) are rank and dimensions. */
void small_put(struct small_model *m, const char *name, int rank, const int64_t *dim);
/* Width 128, two layers, texts of width 64, 16 channels out. */
void small_transformer(struct small_model *m, int64_t in, bool image);
/* Width 64, four heads of 12, two layers, 32 pieces. */
void small_umt5(struct small_model *m);
/* Write them as safetensors and begin anew. */
void small_write(struct small_model *m, const char *path);

#endif

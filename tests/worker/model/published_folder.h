/* Folders of the published checkpoints' names and shapes, of the diffusers layout, with holes in
 * place of weights (holes.h). */
#ifndef VIDLOOM_TESTS_WORKER_MODEL_PUBLISHED_FOLDER_H
#define VIDLOOM_TESTS_WORKER_MODEL_PUBLISHED_FOLDER_H

#include "tests/worker/model/model_test.h"

enum { NO_CLIP, ONE_PICTURE, TWO_PICTURES };

struct published {
    const char *name, *index; /* model_index.json */
    int width, ffn, heads, layers, in, out, clip, experts;
    int64_t parameters; /* of all transformers; wan.md, section 1 */
    /* What it is recognised as. */
    const char *family;
    int stages;
    unsigned rules; /* without WINDOW_RULE_MODEL */
    enum window_end end;
    bool from_text;
    int steps, video_width, video_height; /* defaults */
};

extern const struct published published_models[]; /* the last has no name */

/* Fill an empty folder. Needs the sources' root as current folder. */
void published_make(const char *folder, const struct published *p);

#endif

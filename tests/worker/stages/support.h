/* What the tests of stages share: a device, the tiny random model, a store in a scratch folder, and
 * one chain of tasks that has run: text, keyframe, two windows, two decodes. */
#ifndef VIDLOOM_TESTS_WORKER_STAGES_SUPPORT_H
#define VIDLOOM_TESTS_WORKER_STAGES_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "worker/stage.h"

#define WIDTH      48
#define HEIGHT     32
#define INPUTS_MAX 4

/* One task: what a lease would say. */
struct task {
    stage_function stage;
    char parameters[4096];
    struct stage_artifact inputs[INPUTS_MAX];
    int input_count;
    const char *image_path;
    struct hash image_hash;
    const char *staged;
    const atomic_bool *cancel;
    void (*progress)(void *user, int step, int steps);
    void *user;
};

struct chain {
    char folder[64]; /* scratch */
    char hash[HASH_HEX_BYTES];
    struct device *device;
    struct stage_context context;
    struct task text, keyframe, window[2], decode[2], mux;
    struct stage_result text_result, keyframe_result, window_result[2], decode_result[2];
};

int chain_setup(void **state); /* *state: the chain */
int chain_teardown(void **state);
const char *chain_path(const struct chain *chain, const char *name); /* in the scratch folder */

void task_input(struct task *task, const char *name, const struct stage_artifact *artifact);
enum error_code task_run(struct chain *chain, const struct task *task, struct stage_result *result,
                         struct error *error);
void task_must(struct chain *chain, const struct task *task, struct stage_result *result);
/* Fails with this code, `part` in the detail. */
void task_refused(struct chain *chain, const struct task *task, enum error_code code,
                  const char *part);
/* The parameter `key` replaced by the JSON text `value`; NULL: left out. */
void task_change(struct task *task, const char *key, const char *value);
/* More parameters: JSON members without braces. */
void task_add(struct task *task, const char *members);

/* An output's file in the store. */
const char *output_path(struct chain *chain, const struct stage_artifact *output);

#endif

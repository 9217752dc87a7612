/* Job files and prompt lists from outside. What follows the first NUL byte is what every prompt
 * list that the job names holds. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/job.h"
#include "coordinator/plan.h"

struct tail {
    const char *bytes;
    size_t length;
};

static enum error_code read_file(void *user, char **out, size_t *length, struct arena *arena,
                                 const char *name, size_t bytes_max, struct error *error) {
    const struct tail *tail = user;
    if (tail->length > bytes_max)
        return error_set(error, ERR_LIMIT, "%s has %zu bytes", name, tail->length);
    *length = tail->length;
    *out = arena_strdup(arena, tail->bytes, tail->length);
    return *out ? ERR_OK : error_set(error, ERR_MEMORY, "no memory");
}

static enum error_code find_image(void *user, struct job_file *out, struct arena *arena,
                                  const char *name, struct error *error) {
    *out = (struct job_file){.bytes = 100, .path = "/image.png"};
    return ERR_OK;
}

static enum error_code find_lora(void *user, struct job_file *out, struct arena *arena,
                                 const char *spec, struct error *error) {
    return find_image(user, out, arena, spec, error);
}

static enum error_code read_model(void *user, struct model_facts *out, const char *spec,
                                  struct error *error) {
    *out = (struct model_facts){.family = "pocket",
                                .abilities = MODEL_CAN_TEXT | MODEL_CAN_KEYFRAME |
                                             MODEL_CAN_WINDOW | MODEL_CAN_VAE,
                                .size_multiple = 16,
                                .size_min = 32,
                                .size_max = 1024,
                                .width = 160,
                                .height = 96,
                                .fps = 16,
                                .window_frames = 17,
                                .window_step = 4,
                                .end = JOB_END_MAY,
                                .experts = 2,
                                .guidance_low = 3,
                                .overlaps = {1, 5},
                                .overlap_count = 2,
                                .sampler = JOB_SAMPLER_EULER,
                                .steps = 4,
                                .guidance = 1,
                                .shift = 1};
    return ERR_OK;
}

static enum error_code find_steps(void *user, struct job_step_list *out, const char *name,
                                  struct error *error) {
    *out =
        (struct job_step_list){.sampler = JOB_SAMPLER_RENOISE, .steps = 2, .sigmas = {1, 0.5, 0}};
    return ERR_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const uint8_t *end = size ? memchr(data, 0, size) : NULL;
    size_t length = end ? (size_t)(end - data) : size;
    struct tail tail = {end ? (const char *)end + 1 : "", end ? size - length - 1 : 0};
    struct job_resolver resolver = {.user = &tail,
                                    .read_file = read_file,
                                    .find_image = find_image,
                                    .find_lora = find_lora,
                                    .read_model = read_model,
                                    .find_steps = find_steps};
    struct job *job = NULL;
    struct error error = {0};
    enum error_code code =
        job_parse(&job, "fuzz.yaml", (const char *)data, length, &resolver, &error);
    if ((code == ERR_OK) != (job != NULL))
        abort();
    if (!job)
        return 0;
    /* What was accepted can be planned, and fits a lease; a few videos stand for all. */
    for (int i = 0; i < job->video_count && i < 4; i++) {
        struct plan_counts counts;
        if (plan_count(&counts, job, &job->videos[i], &error) != ERR_OK)
            abort();
        struct buffer body = {0};
        plan_mux_body(&body, job, &job->videos[i]);
        if (body.failed || body.length > LIMIT_PARAMETERS_BYTES + 1024)
            abort();
        buffer_close(&body);
    }
    job_close(&job);
    return 0;
}

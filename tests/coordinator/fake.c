#include "fake.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static enum error_code read_file(void *user, char **out, size_t *length, struct arena *arena,
                                 const char *name, size_t bytes_max, struct error *error) {
    const struct fake *fake = user;
    for (int i = 0; i < 4; i++)
        if (fake->files[i].name && !strcmp(fake->files[i].name, name)) {
            *length = strlen(fake->files[i].text);
            *out = arena_strdup(arena, fake->files[i].text, *length);
            return *out ? ERR_OK : error_set(error, ERR_MEMORY, "no memory");
        }
    return error_set(error, ERR_MISSING, "%s: no such file", name);
}

static enum error_code find_image(void *user, struct job_file *out, struct arena *arena,
                                  const char *name, struct error *error) {
    size_t length = strlen(name);
    if (length < 4 || strcmp(name + length - 4, ".png") != 0 || !strcmp(name, "missing.png"))
        return error_set(error, ERR_MISSING, "%s: no such file", name);
    hash_of(&out->hash, name, length);
    out->bytes = 1234;
    out->path = arena_strdup(arena, name, length);
    return out->path ? ERR_OK : error_set(error, ERR_MEMORY, "no memory");
}

static enum error_code find_lora(void *user, struct job_file *out, struct arena *arena,
                                 const char *spec, struct error *error) {
    if (!strcmp(spec, "missing.safetensors"))
        return error_set(error, ERR_MISSING, "%s: no such file", spec);
    const char *content =
        !strncmp(spec, "high-", 5) ? spec + 5 : spec; /* renamed, it is the same */
    hash_of(&out->hash, content, strlen(content));
    return ERR_OK;
}

static enum job_expert lora_expert(void *user, bool *unclear, const char *spec) {
    (void)user;
    *unclear = !strncmp(spec, "low-", 4);
    return !strncmp(spec, "high-", 5) ? JOB_EXPERT_HIGH : JOB_EXPERT_BOTH;
}

struct model_facts fake_pocket(const char *spec) {
    struct model_facts facts = {.family = "pocket",
                                .abilities = MODEL_CAN_TEXT | MODEL_CAN_KEYFRAME |
                                             MODEL_CAN_WINDOW | MODEL_CAN_VAE,
                                .size_multiple = 16,
                                .size_min = 64,
                                .size_max = 512,
                                .width = 160,
                                .height = 96,
                                .fps = 16,
                                .window_frames = 17,
                                .window_step = 4,
                                .overlaps = {1, 5},
                                .overlap_count = 2,
                                .windows = 1u << JOB_WINDOWS_MODEL | 1u << JOB_WINDOWS_LAST_FRAME |
                                           1u << JOB_WINDOWS_OVERLAP,
                                .sampler = JOB_SAMPLER_EULER,
                                .steps = 4,
                                .guidance = 1,
                                .shift = 3,
                                .experts = 1};
    hash_of(&facts.hash, spec, strlen(spec));
    return facts;
}

static enum error_code read_model(void *user, struct model_facts *out, const char *spec,
                                  struct error *error) {
    *out = fake_pocket(spec);
    if (!strcmp(spec, "picture")) {
        out->abilities &= ~MODEL_CAN_WINDOW;
    } else if (!strcmp(spec, "t2v")) {
        out->from_text = true;
        out->overlap_count = 0;
        out->windows = 1u << JOB_WINDOWS_MODEL;
    } else if (!strcmp(spec, "fits")) {
        out->window_fits = true;
    } else if (!strcmp(spec, "i2v")) {
        out->abilities &= ~MODEL_CAN_KEYFRAME;
    } else if (!strcmp(spec, "single")) {
        out->overlap_count = 0;
    } else if (!strcmp(spec, "experts")) {
        out->experts = 2;
        out->guidance = 4;
        out->guidance_low = 3;
    } else if (!strcmp(spec, "ends")) {
        out->end = JOB_END_MAY;
    } else if (!strcmp(spec, "sized")) {
        out->shift_small = 2;
        out->small = 160 * 96;
    } else if (!strcmp(spec, "between")) {
        out->end = JOB_END_MUST;
        out->overlap_count = 1;
    } else if (!strcmp(spec, "wan")) {
        out->width = 832;
        out->height = 480;
        out->size_max = 1280;
        out->window_frames = 81;
        out->guidance = 5;
        out->sampler = JOB_SAMPLER_UNIPC;
        out->steps = 50;
    } else if (strcmp(spec, "pocket") != 0 && strcmp(spec, "pocket2") != 0) {
        return error_set(error, ERR_MISSING, "there is no model %s", spec);
    }
    return ERR_OK;
}

/* One LoRA is for windows alone, one for no model here. */
static enum error_code check_model(void *user, const struct job_model *model, int ability,
                                   struct error *error) {
    for (int i = 0; i < model->lora_count; i++) {
        const char *spec = model->loras[i].spec;
        if (!strcmp(spec, "other.safetensors") ||
            (!strcmp(spec, "window.safetensors") && ability != MODEL_CAN_WINDOW))
            return error_set(error, ERR_SHAPE, "%s: made for another model than %s", spec,
                             model->spec);
    }
    if (model->weights == JOB_WEIGHTS_FP8 && !strcmp(model->spec, "pocket2"))
        return error_set(error, ERR_UNSUPPORTED, "no fp8 here");
    return ERR_OK;
}

static enum error_code find_steps(void *user, struct job_step_list *out, const char *name,
                                  struct error *error) {
    *out =
        (struct job_step_list){.sampler = JOB_SAMPLER_RENOISE, .steps = 2, .sigmas = {1, 0.5, 0}};
    return strcmp(name, "published") == 0 || strcmp(name, "self-forcing") == 0
               ? ERR_OK
               : error_set(error, ERR_USAGE, "no list \"%s\"", name);
}

struct job_resolver fake_resolver(struct fake *fake) {
    return (struct job_resolver){.user = fake,
                                 .read_file = read_file,
                                 .find_image = find_image,
                                 .find_lora = find_lora,
                                 .lora_expert = lora_expert,
                                 .read_model = read_model,
                                 .check_model = check_model,
                                 .find_steps = find_steps};
}

struct job *fake_job(const char *yaml) {
    struct fake fake = {0};
    struct job_resolver resolver = fake_resolver(&fake);
    struct error error = {0};
    struct job *job = NULL;
    if (job_parse(&job, "job.yaml", yaml, strlen(yaml), &resolver, &error)) {
        print_error("%s\n", error.detail);
        fail();
    }
    return job;
}

void expect_sampling(const struct job_sampling *is, const struct job_sampling *expected) {
    assert_int_equal(is->sampler, expected->sampler);
    assert_int_equal(is->steps, expected->steps);
    assert_true(is->guidance == expected->guidance && is->shift == expected->shift);
    assert_true(is->guidance_low == expected->guidance_low);
    assert_int_equal(is->attention, expected->attention);
    assert_int_equal(is->sigmas != NULL, expected->sigmas != NULL);
    for (int i = 0; is->sigmas && expected->sigmas && i <= is->steps; i++)
        assert_true(fabs(is->sigmas[i] - expected->sigmas[i]) < 1e-12);
}

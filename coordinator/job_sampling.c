/* How noise is taken away: steps, noise levels, sampler, guidance, for keyframe and windows. */
#include "coordinator/job_reader.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"

#define TIMESTEP_FIRST 1000 /* the timestep of noise alone */

bool job_sampling_is_guided(const struct job_sampling *sampling) {
    return sampling->guidance != 1 || (sampling->guidance_low != 0 && sampling->guidance_low != 1);
}

/* -- reading ---------------------------------------------------------------------------------- */

/* A list that somebody has published, by its name. */
static enum error_code read_published(struct reader *reader, struct steps_setting *out,
                                      const struct yaml *node) {
    const struct job_resolver *resolver = reader->resolver;
    struct job_step_list list = {0};
    struct place at = job_place(reader, node);
    if (!resolver->find_steps)
        return job_fail(reader, at, ERR_UNSUPPORTED, "steps: lists have no names here");
    enum error_code code = resolver->find_steps(resolver->user, &list, node->text, reader->error);
    if (code)
        return error_prefix(reader->error, "%s:%d:%d: steps: ", at.file, at.line, at.column);
    double *levels = arena_array(&reader->job->arena, (size_t)list.steps + 1, sizeof *levels);
    if (!levels)
        return job_no_memory(reader);
    memcpy(levels, list.sigmas, ((size_t)list.steps + 1) * sizeof *levels);
    *out = (struct steps_setting){.set = true,
                                  .at = at,
                                  .form = STEPS_PUBLISHED,
                                  .count = list.steps,
                                  .levels = levels,
                                  .sampler = list.sampler};
    return ERR_OK;
}

/* A number, or the name of a published list. */
static enum error_code read_steps(struct reader *reader, struct steps_setting *out,
                                  const struct yaml *node) {
    struct setting number = {0};
    double some;
    if (node->type == YAML_SCALAR && node->length && !text_to_double(node->text, &some))
        return read_published(reader, out, node);
    enum error_code code = job_read_integer(reader, &number, node, 1, LIMIT_STEPS, "steps");
    if (!code)
        *out = (struct steps_setting){
            .set = true, .at = number.at, .form = STEPS_NUMBER, .count = (int)number.integer};
    return code;
}

/* Levels are computed with in single precision: there, too, each is below the one before it. The
 * place of the first that is not; -1: all are. */
static int level_that_stays(const double *levels, int count) {
    for (int i = 0; i < count; i++)
        if ((float)levels[i] < FLT_MIN || (i > 0 && (float)levels[i] >= (float)levels[i - 1]))
            return i;
    return -1;
}

static enum error_code refuse_level(struct reader *reader, struct place at, const char *key,
                                    double level) {
    return job_fail(
        reader, at, ERR_USAGE,
        "%s: noise level %.12g is 0, or the one before it, in the single precision that is "
        "computed with",
        key, level);
}

/* Numbers that fall from at most `most` to above 0; a last 0 may be written. Levels are parts of
 * `most`. */
static enum error_code read_levels(struct reader *reader, struct steps_setting *out,
                                   const struct yaml *node, enum steps_form form, double most) {
    char expected[96];
    snprintf(expected, sizeof expected,
             "a list of 1 to %d numbers that fall from at most %g to above 0", LIMIT_STEP_LIST,
             most);
    if (node->type != YAML_SEQUENCE || !node->length || node->length > LIMIT_STEP_LIST + 1)
        return job_wrong(reader, node, ERR_USAGE, expected);
    double *levels = arena_array(&reader->job->arena, node->length + 1, sizeof *levels);
    if (!levels)
        return job_no_memory(reader);
    int count = 0;
    double before = INFINITY;
    for (const struct yaml *item = node->child; item; item = item->next) {
        double value = NAN;
        char found[96];
        bool number =
            item->type == YAML_SCALAR && !item->quoted && text_to_double(item->text, &value);
        bool end = number && value == 0 && !item->next && count > 0;
        if (!end && !(number && value > 0 && value <= most && value < before))
            return job_fail(reader, job_place(reader, item), ERR_USAGE, "%s: expected %s, found %s",
                            node->key, expected, job_describe(found, item));
        before = value;
        if (!end)
            levels[count++] = value / most;
        if (level_that_stays(levels, count) >= 0)
            return refuse_level(reader, job_place(reader, item), node->key, value / most);
    }
    levels[count] = 0;
    *out = (struct steps_setting){
        .set = true, .at = job_place(reader, node), .form = form, .count = count, .levels = levels};
    return count <= LIMIT_STEP_LIST ? ERR_OK : job_wrong(reader, node, ERR_LIMIT, expected);
}

/* `experts`: of the model, or of either. */
static enum error_code read_guidance_low(struct reader *reader, struct setting *out,
                                         const struct yaml *node, bool experts) {
    if (!experts)
        return job_fail(reader, job_place(reader, node), ERR_UNSUPPORTED,
                        "guidance_low: it is of the second of two transformers that share the "
                        "steps, and this model has one; say guidance");
    return job_read_number(reader, out, node, 0, true, LIMIT_GUIDANCE, "a guidance scale");
}

static bool is_key(const char *key, enum job_words words) {
    const char *const *list = job_words(words);
    while (*list && strcmp(*list, key) != 0)
        list++;
    return *list;
}

bool job_is_sampling_key(const char *key) {
    return is_key(key, JOB_KEYS_STAGE);
}

static enum error_code read_key(struct reader *reader, struct sampling_settings *out,
                                const struct yaml *node, bool experts) {
    const char *key = node->key;
    bool list = !strcmp(key, "sigmas"), times = !strcmp(key, "timesteps");
    if (list || times || !strcmp(key, "steps")) {
        if (out->steps.set)
            return job_fail(reader, job_place_of_key(reader, node), ERR_USAGE,
                            "%s: give one of steps, sigmas and timesteps", key);
        return list    ? read_levels(reader, &out->steps, node, STEPS_SIGMAS, 1)
               : times ? read_levels(reader, &out->steps, node, STEPS_TIMESTEPS, TIMESTEP_FIRST)
                       : read_steps(reader, &out->steps, node);
    }
    if (!strcmp(key, "sampler"))
        return job_read_word(reader, &out->sampler, node, JOB_VALUES_SAMPLER, "a sampler");
    if (!strcmp(key, "attention"))
        return job_read_word(reader, &out->attention, node, JOB_VALUES_ATTENTION, "attention");
    if (!strcmp(key, "guidance"))
        return job_read_number(reader, &out->guidance, node, 0, false, LIMIT_GUIDANCE,
                               "a guidance scale");
    if (!strcmp(key, "guidance_low"))
        return read_guidance_low(reader, &out->guidance_low, node, experts);
    return job_read_number(reader, &out->shift, node, 0, true, LIMIT_GUIDANCE, "a shift");
}

enum error_code job_read_sampling_key(struct reader *reader, struct settings *out,
                                      const struct yaml *node) {
    const struct job *job = reader->job;
    bool experts = job->keyframe.facts.experts > 1 || job->window.facts.experts > 1;
    return read_key(reader, &out->both, node, experts);
}

enum error_code job_read_stage(struct reader *reader, struct settings *out,
                               const struct yaml *node) {
    bool window = !strcmp(node->key, "window");
    const struct job_model *model = window ? &reader->job->window : &reader->job->keyframe;
    if (node->type != YAML_MAPPING)
        return job_wrong(reader, node, ERR_USAGE, "a mapping, e.g. {steps: 4, guidance: 1}");
    if (!window && reader->job->window.facts.from_text)
        return job_no_keyframe(reader, job_place_of_key(reader, node), "keyframe");
    enum error_code code = job_check_keys(reader, node, JOB_KEYS_STAGE, node->key);
    for (const struct yaml *child = node->child; child && !code; child = child->next)
        code = read_key(reader, window ? &out->window : &out->keyframe, child,
                        model->facts.experts > 1);
    return code;
}

/* -- layers ----------------------------------------------------------------------------------- */

static void lay_one(struct setting *out, const struct setting *layer) {
    if (layer->set)
        *out = *layer;
}

/* A published list has its sampler and takes no guidance, whatever farther layers say. */
static void lay(struct sampling_settings *out, const struct sampling_settings *layer) {
    if (layer->steps.set) {
        out->steps = layer->steps;
        if (layer->steps.form == STEPS_PUBLISHED)
            out->sampler.set = out->guidance.set = out->guidance_low.set = false;
    }
    if (layer->guidance.set)
        out->guidance_low.set = false;
    lay_one(&out->sampler, &layer->sampler);
    lay_one(&out->guidance, &layer->guidance);
    lay_one(&out->guidance_low, &layer->guidance_low);
    lay_one(&out->shift, &layer->shift);
    lay_one(&out->attention, &layer->attention);
}

void job_lay_sampling(struct settings *out, const struct settings *layer) {
    lay(&out->keyframe, &layer->both);
    lay(&out->keyframe, &layer->keyframe);
    lay(&out->window, &layer->both);
    lay(&out->window, &layer->window);
}

/* -- resolving -------------------------------------------------------------------------------- */

/* Noise levels of timesteps, shifted: k·s/(1+(k-1)·s). Videos with one list share the result. */
static const double *shift_levels(struct reader *reader, struct shifted *shifted,
                                  const struct steps_setting *steps, double shift) {
    if (shifted->from == steps->levels && shifted->shift == shift)
        return shifted->levels;
    double *levels = arena_array(&reader->job->arena, (size_t)steps->count + 1, sizeof *levels);
    for (int i = 0; levels && i <= steps->count; i++)
        levels[i] = shift * steps->levels[i] / (1 + (shift - 1) * steps->levels[i]);
    *shifted = (struct shifted){steps->levels, shift, levels};
    return levels;
}

static double own_shift(const struct model_facts *facts, const struct job_output *output) {
    bool small = facts->shift_small > 0 && output->width * output->height <= facts->small;
    return small ? facts->shift_small : facts->shift;
}

/* A published list is of a distilled model: it has its sampler, and goes without guidance. */
static enum error_code check_published(struct reader *reader, const struct steps_setting *steps,
                                       const struct sampling_settings *settings) {
    const struct setting *guidance = settings->guidance.set && settings->guidance.number != 1
                                         ? &settings->guidance
                                         : &settings->guidance_low;
    if (settings->sampler.set && settings->sampler.integer != (int64_t)steps->sampler)
        return job_fail(reader, settings->sampler.at, ERR_USAGE,
                        "sampler: the published list at %s:%d:%d is for %s, not %s; leave the "
                        "sampler out, or list the noise levels by sigmas",
                        steps->at.file, steps->at.line, steps->at.column,
                        job_sampler_name(steps->sampler),
                        job_sampler_name((enum job_sampler)settings->sampler.integer));
    if (guidance->set && guidance->number != 1)
        return job_fail(reader, guidance->at, ERR_USAGE,
                        "%s: the published list at %s:%d:%d is for a model without guidance; leave "
                        "it out there (of keyframe and window each has its own), or list the noise "
                        "levels by sigmas",
                        guidance == &settings->guidance ? "guidance" : "guidance_low",
                        steps->at.file, steps->at.line, steps->at.column);
    return ERR_OK;
}

static enum error_code fill(struct reader *reader, struct job_sampling *out,
                            const struct model_facts *facts, const struct job_output *output,
                            const struct sampling_settings *settings, struct shifted *shifted) {
    const struct steps_setting *steps = &settings->steps;
    bool published = steps->set && steps->form == STEPS_PUBLISHED;
    bool own = !published && !settings->guidance.set; /* the model's guidance */
    enum error_code code =
        published && !facts->unknown ? check_published(reader, steps, settings) : ERR_OK;
    if (code)
        return code;
    *out = (struct job_sampling){
        .sampler = settings->sampler.set ? (enum job_sampler)settings->sampler.integer
                   : published           ? steps->sampler
                                         : facts->sampler,
        .steps = steps->set ? steps->count : facts->steps,
        .guidance = settings->guidance.set ? settings->guidance.number
                    : published            ? 1
                                           : facts->guidance,
        .shift = settings->shift.set ? settings->shift.number : own_shift(facts, output),
        .attention = (enum job_attention)settings->attention.integer,
        .sigmas = steps->set ? steps->levels : NULL,
    };
    if (facts->experts > 1)
        out->guidance_low = settings->guidance_low.set ? settings->guidance_low.number
                            : own                      ? facts->guidance_low
                                                       : 0;
    if (steps->set && steps->form == STEPS_TIMESTEPS) {
        out->sigmas = shift_levels(reader, shifted, steps, out->shift);
        if (!out->sigmas)
            return job_no_memory(reader);
        int stays = level_that_stays(out->sigmas, out->steps);
        if (stays >= 0)
            return refuse_level(reader, steps->at, "timesteps, shifted", out->sigmas[stays]);
    }
    return ERR_OK;
}

enum error_code job_fill_sampling(struct reader *reader, struct job_video *video,
                                  const struct settings *settings) {
    const struct job *job = reader->job;
    enum error_code code = fill(reader, &video->keyframe, &job->keyframe.facts, &video->output,
                                &settings->keyframe, &reader->shifted[0]);
    return code ? code
                : fill(reader, &video->window, &job->window.facts, &video->output,
                       &settings->window, &reader->shifted[1]);
}

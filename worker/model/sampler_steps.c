/* Noise levels: computed, of a folder, of a request, and the published lists. */
#include <math.h>
#include <string.h>

#include "worker/model/sampler.h"

#define TRAIN_STEPS 1000.0
/* σ = 1 has no signal and λ = -∞: UniPC's first level is this much below. */
#define UNIPC_FIRST_GAP 1e-6

/* Of the step-distilled models; none takes guidance. rCM's are sin θ/(sin θ + cos θ) of its angles.
 */
static const struct step_list lists[] = {
    {"lightx2v", SAMPLER_EULER, 4, {1, 0.9375f, 0.8333333f, 0.625f, 0}},
    {"self-forcing", SAMPLER_RENOISE, 4, {1, 0.9375f, 0.8333333f, 0.625f, 0}},
    {"causvid", SAMPLER_RENOISE, 3, {1, 0.757f, 0.522f, 0}}, /* FastWan's too */
    {"causvid-4", SAMPLER_RENOISE, 4, {1, 0.96f, 0.8888889f, 0.7272727f, 0}},
    {"rcm", SAMPLER_RENOISE, 4, {0.9876543f, 0.9337811f, 0.8528954f, 0.6089790f, 0}},
    {"rcm-i2v", SAMPLER_RENOISE, 4, {0.9950249f, 0.9337811f, 0.8528954f, 0.6089790f, 0}},
    {NULL, SAMPLER_EULER, 0, {0}},
};

const struct step_list *step_lists(void) {
    return lists;
}

const struct step_list *step_list_find(const char *name) {
    for (const struct step_list *list = lists; list->name != NULL; list++)
        if (strcmp(list->name, name) == 0)
            return list;
    return NULL;
}

static double shifted(double s, double shift) {
    return shift * s / (1 + (shift - 1) * s);
}

/* s from 1 down to 0.001 without the last, shifted. Kept as float, as the reference keeps them:
 * λ near σ = 1 depends on the rounding. */
static void make_unipc(struct schedule *out, double shift) {
    for (int i = 0; i < out->steps; i++) {
        double s = 1 + i * (1 / TRAIN_STEPS - 1) / out->steps;
        double sigma = shifted(s, shift);
        if (i == 0 && fabs(sigma - 1) < UNIPC_FIRST_GAP)
            sigma -= UNIPC_FIRST_GAP;
        out->time[i] = (float)floor(sigma * TRAIN_STEPS);
        out->sigma[i] = (float)sigma;
    }
}

static void make_plain(struct schedule *out, double shift) {
    for (int i = 0; i < out->steps; i++)
        out->sigma[i] = shifted(1 - (double)i / out->steps, shift);
}

static enum error_code take_list(struct schedule *out, const float *sigmas, struct error *error) {
    bool good = sigmas[0] <= 1 && sigmas[out->steps] == 0;
    for (int i = 0; i < out->steps; i++) {
        good = good && sigmas[i] > sigmas[i + 1];
        out->sigma[i] = sigmas[i];
    }
    return good ? ERR_OK
                : error_set(error, ERR_FORMAT,
                            "a list of noise levels must fall from at most 1 to 0 in %d steps",
                            out->steps);
}

enum error_code schedule_make(struct schedule *out, const struct scheduler_config *config,
                              enum sampler sampler, int steps, float shift, const float *sigmas,
                              struct error *error) {
    memset(out, 0, sizeof *out);
    if (steps < 1 || steps >= CONFIG_SIGMAS_MAX)
        return error_set(error, ERR_LIMIT, "steps: %d; expected 1 to %d", steps,
                         CONFIG_SIGMAS_MAX - 1);
    if (!(shift >= 1e-3f && shift <= 1e3f))
        return error_set(error, ERR_LIMIT, "shift: %g; expected 0.001 to 1000", (double)shift);
    out->sampler = sampler;
    out->steps = steps;
    if (sigmas == NULL && config->sigma_count == steps + 1 && shift == config->shift)
        sigmas = config->sigma;
    if (sampler == SAMPLER_UNIPC && sigmas == NULL) {
        make_unipc(out, shift);
        return ERR_OK;
    }
    enum error_code code = ERR_OK;
    if (sigmas != NULL)
        code = take_list(out, sigmas, error);
    else
        make_plain(out, shift);
    for (int i = 0; i < steps; i++)
        out->time[i] = (float)(out->sigma[i] * TRAIN_STEPS);
    if (sampler == SAMPLER_DPMPP && sigmas == NULL) /* whole times, as the reference's */
        for (int i = 0; i < steps; i++)
            out->time[i] = floorf(out->time[i]);
    if (sampler == SAMPLER_UNIPC && out->sigma[0] == 1)
        out->sigma[0] = (float)(1 - UNIPC_FIRST_GAP);
    return code;
}

#include "worker/model/speed_models.h"

#include <stdio.h>

#include "base/clock.h"
#include "worker/model/rehearsal.h"

#define STEPS 4
#define RUNS  3 /* the first makes plans and measures algorithms: it never counts */
#define TOO_LONG_NS                                                                                \
    (20 * CLOCK_S) /* of a run that is counted but not repeated: something is amiss */

static enum error_code run_once(struct rehearsal *r, struct error *error) {
    return r->vae != NULL ? rehearsal_decode(r, error) : rehearsal_steps(r, STEPS, error);
}

/* The better of the two runs after the first. */
static enum error_code time_runs(double *seconds, const struct rehearsal_config *config,
                                 struct error *error) {
    struct rehearsal r;
    int64_t best = INT64_MAX;
    enum error_code code = rehearsal_open(&r, config, error);
    for (int i = 0; i < RUNS && code == ERR_OK && (i < 2 || r.ns <= TOO_LONG_NS); i++) {
        code = run_once(&r, error);
        if (i > 0 && r.ns < best)
            best = r.ns;
    }
    rehearsal_close(&r);
    *seconds = (double)best * 1e-9;
    return code;
}

static int pixels(int64_t latents) {
    return 8 * (int)latents;
}

static enum error_code speed_decode(const struct speed_config *config,
                                    const struct rehearsal_config *model, struct error *error) {
    struct figure figure = {.key = "vae_decode", .unit = "s"};
    enum error_code code = time_runs(&figure.value, model, error);
    if (code != ERR_OK)
        return code;
    snprintf(figure.what, sizeof figure.what, "Wan2.1 VAE decode, %d frames %dx%d",
             4 * (int)model->frames - 3, pixels(model->height), pixels(model->width));
    config->put(config->user, &figure);
    return ERR_OK;
}

static enum error_code speed_denoise(const struct speed_config *config,
                                     const struct rehearsal_config *model, const char *key,
                                     struct error *error) {
    struct figure figure = {.key = key, .unit = "s"};
    enum error_code code = time_runs(&figure.value, model, error);
    if (code != ERR_OK)
        return code;
    snprintf(figure.what, sizeof figure.what,
             "1.3B (%d layers), %d steps, %d frames %dx%d, denoise%s", model->layers, STEPS,
             4 * (int)model->frames - 3, pixels(model->height), pixels(model->width),
             model->attention8 ? ", 8 bits" : "");
    config->put(config->user, &figure);
    return ERR_OK;
}

enum error_code speed_models(const struct speed_config *config, struct error *error) {
    struct rehearsal_config model = {.ops = config->ops,
                                     .device = config->device,
                                     .decoder = true,
                                     .layers = config->small ? 1 : 30,
                                     .frames = config->small ? 2 : 21,
                                     .height = config->small ? 4 : 60,
                                     .width = config->small ? 4 : 104};
    enum error_code code = ERR_OK;
    if (config->groups & SPEED_VAE)
        code = speed_decode(config, &model, error);
    model.decoder = false;
    if (code == ERR_OK && config->groups & SPEED_DENOISE)
        code = speed_denoise(config, &model, "denoise", error);
    model.attention8 = true;
    model.narrow = DTYPE_I8;
    if (code == ERR_OK && config->groups & SPEED_DENOISE8)
        code = speed_denoise(config, &model, "denoise8", error);
    return code;
}

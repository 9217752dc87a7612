/* Flow-matching samplers: from noise to latents by a list of noise levels.
 *
 * x_t = (1-σ)·x0 + σ·noise; the network gives the velocity v = noise - x0; x0 = x - σ·v.
 * Schedules are pure host arithmetic in double. Steps run on the device, in place.
 * Source: diffusers, scheduling_unipc_multistep.py, scheduling_dpmsolver_multistep.py and
 * scheduling_flow_match_euler_discrete.py; formulas in MODEL.md. */
#ifndef VIDLOOM_WORKER_MODEL_SAMPLER_H
#define VIDLOOM_WORKER_MODEL_SAMPLER_H

#include "worker/model/config.h"
#include "worker/model/noise.h"
#include "worker/model/runtime.h"

struct schedule {
    enum sampler sampler;
    int steps;
    double sigma[CONFIG_SIGMAS_MAX]; /* steps + 1 of them; the last is 0 */
    float time[CONFIG_SIGMAS_MAX];   /* what the network is told, 0..1000 */
};

/* `sigmas` [steps+1] where it is not NULL; the fixed list of `config` where steps and shift are its
 * own; else computed. Errors: ERR_LIMIT: steps or shift out of range (says which); ERR_FORMAT: a
 * list that does not fall from at most 1 to 0. */
MUST_CHECK enum error_code schedule_make(struct schedule *out,
                                         const struct scheduler_config *config,
                                         enum sampler sampler, int steps, float shift,
                                         const float *sigmas, struct error *error);

/* One run. Memory is in the runtime's work arena. */
struct sampler_run {
    const struct schedule *schedule;
    struct runtime *runtime;
    int64_t count;   /* elements of the latents */
    int step;        /* next */
    int order;       /* UniPC: of the last prediction */
    float *model[3]; /* UniPC, DPM++: x0 of this and the last steps, at step % 3 */
    float *last;     /* UniPC: the sample of the last step, after its correction */
    float *noise;    /* re-noise: device */
    float *host;     /* re-noise: the caller's, [count] */
    struct noise_source *source;
};

/* source: where noise comes from that is added on the way, and host: room for `count` floats that
 * the run may use; for SAMPLER_RENOISE, else unused. */
void sampler_start(struct sampler_run *run, const struct schedule *schedule,
                   struct runtime *runtime, int64_t count, struct noise_source *source,
                   float *host);
/* Noise to a sample of the first level: re-noise knows no x0 yet and takes 0 for it, so a list that
 * begins below 1 (rCM) scales the noise; the others start from noise as it is. */
void sampler_scale_noise(struct sampler_run *run, float *x);
/* x to the next noise level, given the velocity at this one. */
void sampler_step(struct sampler_run *run, float *x, const float *velocity);

#endif

#include "worker/model/sampler.h"

#include <assert.h>
#include <math.h>
#include <string.h>

void sampler_start(struct sampler_run *run, const struct schedule *schedule,
                   struct runtime *runtime, int64_t count, struct noise_source *source,
                   float *host) {
    *run = (struct sampler_run){
        .schedule = schedule, .runtime = runtime, .count = count, .source = source, .host = host};
    if (schedule->sampler == SAMPLER_RENOISE)
        run->noise = work_floats(runtime, count);
    int kept = schedule->sampler == SAMPLER_UNIPC ? 3 : schedule->sampler == SAMPLER_DPMPP ? 2 : 0;
    for (int i = 0; i < kept; i++)
        run->model[i] = work_floats(runtime, count);
    if (schedule->sampler == SAMPLER_UNIPC)
        run->last = work_floats(runtime, count);
}

static void combine(struct sampler_run *run, float *out, const float *const *x,
                    const double *coefficient, int terms) {
    float rounded[OPS_COMBINE_MAX];
    assert(terms <= OPS_COMBINE_MAX);
    for (int i = 0; i < terms; i++)
        rounded[i] = (float)coefficient[i];
    run->runtime->ops->combine(run->runtime->device, out, x, rounded, terms, run->count);
}

void sampler_scale_noise(struct sampler_run *run, float *x) {
    double first = run->schedule->sigma[0];
    if (run->schedule->sampler == SAMPLER_RENOISE && first != 1)
        combine(run, x, (const float *const[]){x}, (const double[]){first}, 1);
}

static void euler(struct sampler_run *run, float *x, const float *velocity) {
    const double *sigma = run->schedule->sigma + run->step;
    combine(run, x, (const float *const[]){x, velocity}, (const double[]){1, sigma[1] - sigma[0]},
            2);
}

/* To x0, and back up with fresh noise: the next draw of where the starting noise came from. */
static void renoise(struct sampler_run *run, float *x, const float *velocity) {
    const double *sigma = run->schedule->sigma + run->step;
    if (sigma[1] == 0) {
        combine(run, x, (const float *const[]){x, velocity}, (const double[]){1, -sigma[0]}, 2);
        return;
    }
    if (!run->runtime->work->measuring)
        noise_draw(run->source, run->host, (size_t)run->count);
    run->runtime->ops->upload(run->runtime->device, run->noise, run->host,
                              (size_t)run->count * sizeof *run->noise);
    double keep = 1 - sigma[1];
    combine(run, x, (const float *const[]){x, velocity, run->noise},
            (const double[]){keep, -keep * sigma[0], sigma[1]}, 3);
}

/* λ = ln(1-σ) - ln σ; +∞ at σ = 0, -∞ at σ = 1. */
static double lambda_of(double sigma) {
    return log1p(-sigma) - log(sigma);
}

/* Correct the sample of step i with what the network said there: base x_{i-1},
 * x_i = (σ_i/σ_{i-1})·x_{i-1} - α_i·B·[m_{i-1} + ρ1·(m_{i-2}-m_{i-1})/r + ρ2·(m_i-m_{i-1})]. */
static void correct(struct sampler_run *run, float *x) {
    const double *sigma = run->schedule->sigma;
    int i = run->step;
    double from = lambda_of(sigma[i - 1]), step = lambda_of(sigma[i]) - from;
    double h = -step, b = expm1(h), rho1 = 0, rho2 = 0.5, r = 1;
    if (run->order == 2) {
        double phi = b / h - 1;
        double b1 = phi / b, b2 = 2 * (phi / h - 0.5) / b;
        r = (lambda_of(sigma[i - 2]) - from) / step;
        rho1 = (b1 - b2) / (1 - r);
        rho2 = b1 - rho1;
    }
    double scale = -(1 - sigma[i]) * b;
    combine(run, x,
            (const float *const[]){run->last, run->model[(i + 2) % 3], run->model[i % 3],
                                   run->model[(i + 1) % 3]},
            (const double[]){sigma[i] / sigma[i - 1], scale * (1 - rho1 / r - rho2), scale * rho2,
                             scale * rho1 / r},
            run->order == 2 ? 4 : 3);
}

/* x_{i+1} = (σ_{i+1}/σ_i)·x_i - α_{i+1}·B·[m_i + ½·(m_{i-1}-m_i)/r]. */
static void predict(struct sampler_run *run, float *x) {
    const double *sigma = run->schedule->sigma;
    int i = run->step, steps = run->schedule->steps;
    double from = lambda_of(sigma[i]), step = lambda_of(sigma[i + 1]) - from;
    double b = expm1(-step), scale = -(1 - sigma[i + 1]) * b, half = 0;
    run->order = i > 0 && steps - i > 1 ? 2 : 1;
    if (run->order == 2)
        half = 0.5 * step / (lambda_of(sigma[i - 1]) - from);
    combine(run, x, (const float *const[]){run->last, run->model[i % 3], run->model[(i + 2) % 3]},
            (const double[]){sigma[i + 1] / sigma[i], scale * (1 - half), scale * half},
            run->order == 2 ? 3 : 2);
}

/* UniPC of order 2, bh2, predicting x0. */
static void unipc(struct sampler_run *run, float *x, const float *velocity) {
    const struct ops *ops = run->runtime->ops;
    int i = run->step;
    combine(run, run->model[i % 3], (const float *const[]){x, velocity},
            (const double[]){1, -run->schedule->sigma[i]}, 2);
    if (i > 0)
        correct(run, x);
    ops->copy(run->runtime->device, run->last, x, (size_t)run->count * sizeof *x);
    predict(run, x);
}

/* DPM++ 2M, midpoint: x_{i+1} = (σ_{i+1}/σ_i)·x_i - α_{i+1}(e^{-h}-1)·[m_i + ½(m_i-m_{i-1})·h/h'],
 * of the first order at both ends. Where σ_{i-1} was 1, h' is infinite. */
static void dpmpp(struct sampler_run *run, float *x, const float *velocity) {
    const double *sigma = run->schedule->sigma;
    int i = run->step;
    float *now = run->model[i % 2];
    const float *before = run->model[(i + 1) % 2];
    combine(run, now, (const float *const[]){x, velocity}, (const double[]){1, -sigma[i]}, 2);
    double h = lambda_of(sigma[i + 1]) - lambda_of(sigma[i]);
    double scale = -(1 - sigma[i + 1]) * expm1(-h), half = 0;
    bool second = i > 0 && i + 1 < run->schedule->steps;
    if (second)
        half = 0.5 * h / (lambda_of(sigma[i]) - lambda_of(sigma[i - 1]));
    combine(run, x, (const float *const[]){x, now, before},
            (const double[]){sigma[i + 1] / sigma[i], scale * (1 + half), -scale * half},
            second ? 3 : 2);
}

void sampler_step(struct sampler_run *run, float *x, const float *velocity) {
    assert(run->step < run->schedule->steps);
    switch (run->schedule->sampler) {
    case SAMPLER_EULER:
        euler(run, x, velocity);
        break;
    case SAMPLER_RENOISE:
        renoise(run, x, velocity);
        break;
    case SAMPLER_UNIPC:
        unipc(run, x, velocity);
        break;
    case SAMPLER_DPMPP:
        dpmpp(run, x, velocity);
        break;
    }
    run->step++;
}

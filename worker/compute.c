#include "worker/compute.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/text.h"
#include "worker/device_class.h"

/* Address space for one task's own buffers (latents, frames of a tail); pages are touched as used.
 */
#define TASK_ARENA_BYTES ((size_t)4 << 30)

struct compute {
    struct compute_config config;
    struct device *device;
    struct device_info info;
    struct stage_context context; /* the thread's */
    pthread_t thread;
    bool started;

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    struct work *waiting, **waiting_end;
    struct work *done, **done_end;
    struct work *running;
    int held;
    int step, steps;
    bool quit;
    bool broken; /* a piece has shown that the worker cannot go on */

    atomic_bool cancel; /* of the running piece */
};

static const stage_function stages[WORK_KIND_COUNT] = {
    [WORK_TEXT] = stage_text,     [WORK_KEYFRAME] = stage_keyframe, [WORK_IMAGE] = stage_image,
    [WORK_WINDOW] = stage_window, [WORK_DECODE] = stage_decode,     [WORK_MUX] = stage_mux,
};

struct work *work_new(int input_count) {
    struct work *work = calloc(1, sizeof *work);
    if (!work)
        return NULL;
    work->inputs = calloc((size_t)input_count + 1, sizeof *work->inputs);
    work->input_count = input_count;
    if (!work->inputs) {
        work_free(work);
        return NULL;
    }
    return work;
}

void work_free(struct work *work) {
    if (!work)
        return;
    free(work->parameters);
    free(work->inputs);
    free(work->image_path);
    free(work->staged);
    free(work);
}

/* -- the compute thread ------------------------------------------------------------------------ */

static void on_progress(void *user, int step, int steps) {
    struct compute *compute = user;
    pthread_mutex_lock(&compute->lock);
    compute->step = step;
    compute->steps = steps;
    pthread_mutex_unlock(&compute->lock);
    compute->config.wake(compute->config.user);
}

static void on_streaming(void *user, const struct stream_cost *cost) {
    const struct compute *compute = user;
    char all[32], pass[32], rate[32], time[32];
    double seconds =
        cost->bytes_per_second > 0 ? (double)cost->pass_bytes / cost->bytes_per_second : 0;
    log_line(compute->config.log, LOG_INFO, "worker",
             "of %s of weights every pass reads %s from the files: %s at %s a second",
             text_bytes(all, cost->bytes), text_bytes(pass, cost->pass_bytes),
             text_duration(time, seconds), text_bytes(rate, (uint64_t)cost->bytes_per_second));
}

static void on_opening(void *user, const char *folder, int what) {
    static const char *const names[] = {"text", "keyframe", "window", "vae"};
    const struct compute *compute = user;
    char list[64] = "";
    size_t used = 0;
    for (int i = 0; i < 4; i++)
        if ((what >> i & 1) != 0)
            used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", used ? ", " : "",
                                     names[i]);
    log_line(compute->config.log, LOG_INFO, "worker", "opening %s for %s", folder, list);
}

static enum error_code run_stage(struct compute *compute, struct work *work) {
    const struct json *parameters;
    struct arena *arena = &compute->context.arena;
    arena_reset(arena, 0);
    enum error_code code =
        json_parse(&parameters, arena, work->parameters, work->parameters_length, &work->error);
    if (code != ERR_OK)
        return error_prefix(&work->error, "the lease's parameters: ");
    size_t mark = arena->used;
    if (!compute->context.store)
        return error_set(&work->error, ERR_INTERNAL, "a task came before the store was named");
    struct stage_task task = {
        .key = work->key,
        .epoch = work->epoch,
        .parameters = parameters,
        .inputs = work->inputs,
        .input_count = work->input_count,
        .image_path = work->image_path,
        .image_hash = work->image_hash,
        .staged = work->staged,
        .class = work->class,
        .progress = on_progress,
        .user = compute,
        .cancel = &compute->cancel,
    };
    code = stages[work->kind](&compute->context, &task, &work->result, &work->error);
    while (code == ERR_MEMORY && models_shed(compute->context.models)) {
        arena_reset(arena, mark);
        work->result = (struct stage_result){.output_count = 0};
        code = stages[work->kind](&compute->context, &task, &work->result, &work->error);
    }
    const char *model = json_text(parameters, "model", "");
    if (code == ERR_MEMORY && *model)
        return error_prefix(&work->error, "model %.512s: ", model);
    return code;
}

/* Under the lock: the next piece, or NULL when there is none. */
static struct work *start_next(struct compute *compute) {
    struct work *work = compute->waiting;
    if (!work)
        return NULL;
    compute->waiting = work->next;
    if (!compute->waiting)
        compute->waiting_end = &compute->waiting;
    work->next = NULL;
    compute->running = work;
    compute->step = compute->steps = 0;
    atomic_store(&compute->cancel, false);
    return work;
}

/* Under the lock. */
static void finish(struct compute *compute, struct work *work) {
    work->next = NULL;
    *compute->done_end = work;
    compute->done_end = &work->next;
}

/* Under the lock. */
static void hand_back_waiting(struct compute *compute) {
    while (compute->waiting) {
        struct work *work = compute->waiting;
        compute->waiting = work->next;
        work->code = error_set(&work->error, ERR_INTERRUPTED, "handed back before it began");
        finish(compute, work);
    }
    compute->waiting_end = &compute->waiting;
}

/* Under the lock, which is let go while the stage works. */
static void run_one(struct compute *compute, struct work *work) {
    pthread_mutex_unlock(&compute->lock);
    int64_t started = clock_monotonic_ns();
    work->code = run_stage(compute, work);
    work->seconds = (double)(clock_monotonic_ns() - started) / 1e9;
    pthread_mutex_lock(&compute->lock);
    compute->running = NULL;
    finish(compute, work);
    if (error_class_of(work->code) == ERROR_CLASS_STOP_WORKER) {
        compute->broken = true;
        hand_back_waiting(compute);
    }
}

static void *compute_main(void *user) {
    struct compute *compute = user;
    pthread_mutex_lock(&compute->lock);
    while (!compute->quit) {
        struct work *work = start_next(compute);
        if (!work) {
            pthread_cond_wait(&compute->changed, &compute->lock);
            continue;
        }
        run_one(compute, work);
        pthread_mutex_unlock(&compute->lock);
        compute->config.wake(compute->config.user);
        pthread_mutex_lock(&compute->lock);
    }
    pthread_mutex_unlock(&compute->lock);
    return NULL;
}

/* -- the network thread's side ------------------------------------------------------------------
 */

static enum error_code open_parts(struct compute *compute, struct error *error) {
    const struct compute_config *config = &compute->config;
    enum error_code code = config->ops->device_open(&compute->device, &config->device, error);
    if (code != ERR_OK)
        return code;
    device_class_read(&compute->info, config->ops, compute->device, config->dtype);
    struct models_config models = {.ops = config->ops,
                                   .device = compute->device,
                                   .folder = config->models,
                                   .dtype = config->dtype,
                                   .memory = config->memory,
                                   .streaming = on_streaming,
                                   .opening = on_opening,
                                   .user = compute};
    compute->context.gpu = strcmp(config->ops->name, "cuda") == 0;
    compute->context.card = (struct media_card){.index = config->device.index,
                                                .cuda = config->ops->context(compute->device)};
    code = models_open(&compute->context.models, &models, error);
    if (code == ERR_OK)
        code = arena_open(&compute->context.arena, TASK_ARENA_BYTES, error);
    if (code == ERR_OK && pthread_create(&compute->thread, NULL, compute_main, compute) != 0)
        code = error_set(error, ERR_MEMORY, "cannot start the compute thread");
    compute->started = code == ERR_OK;
    return code;
}

enum error_code compute_open(struct compute **out, const struct compute_config *config,
                             struct error *error) {
    struct compute *compute = calloc(1, sizeof *compute);
    if (!compute)
        return error_set(error, ERR_MEMORY, "no memory for a compute thread");
    compute->config = *config;
    compute->waiting_end = &compute->waiting;
    compute->done_end = &compute->done;
    pthread_mutex_init(&compute->lock, NULL);
    pthread_cond_init(&compute->changed, NULL);
    enum error_code code = open_parts(compute, error);
    if (code != ERR_OK)
        compute_close(&compute);
    *out = compute;
    return code;
}

static void free_list(struct work *work) {
    while (work) {
        struct work *next = work->next;
        work_free(work);
        work = next;
    }
}

void compute_close(struct compute **owner) {
    struct compute *compute = *owner;
    if (!compute)
        return;
    if (compute->started) {
        pthread_mutex_lock(&compute->lock);
        compute->quit = true;
        atomic_store(&compute->cancel, true);
        pthread_cond_signal(&compute->changed);
        pthread_mutex_unlock(&compute->lock);
        pthread_join(compute->thread, NULL);
    }
    free_list(compute->waiting);
    free_list(compute->done);
    models_close(&compute->context.models);
    store_close(&compute->context.store);
    arena_close(&compute->context.arena);
    compute->config.ops->device_close(&compute->device);
    pthread_cond_destroy(&compute->changed);
    pthread_mutex_destroy(&compute->lock);
    free(compute);
    *owner = NULL;
}

void compute_device_info(const struct compute *compute, struct device_info *out) {
    *out = compute->info;
}

enum error_code compute_set_store(struct compute *compute, const char *folder,
                                  struct error *error) {
    pthread_mutex_lock(&compute->lock);
    bool idle = !compute->running && !compute->waiting;
    pthread_mutex_unlock(&compute->lock);
    if (!idle)
        return error_set(error, ERR_BUSY, "the store cannot change while a task runs");
    /* Nothing runs and only this thread adds work, so the compute thread does not look. */
    store_close(&compute->context.store);
    return store_open(&compute->context.store, folder, error);
}

void compute_add(struct compute *compute, struct work *work) {
    pthread_mutex_lock(&compute->lock);
    work->next = NULL;
    *compute->waiting_end = work;
    compute->waiting_end = &work->next;
    compute->held++;
    if (compute->broken)
        hand_back_waiting(compute);
    pthread_cond_signal(&compute->changed);
    pthread_mutex_unlock(&compute->lock);
}

struct work *compute_take(struct compute *compute) {
    pthread_mutex_lock(&compute->lock);
    struct work *work = compute->done;
    if (work) {
        compute->done = work->next;
        if (!compute->done)
            compute->done_end = &compute->done;
        work->next = NULL;
        compute->held--;
    }
    pthread_mutex_unlock(&compute->lock);
    return work;
}

void compute_stop(struct compute *compute) {
    pthread_mutex_lock(&compute->lock);
    if (compute->running)
        atomic_store(&compute->cancel, true);
    hand_back_waiting(compute);
    pthread_mutex_unlock(&compute->lock);
}

void compute_stop_waiting(struct compute *compute) {
    pthread_mutex_lock(&compute->lock);
    hand_back_waiting(compute);
    pthread_mutex_unlock(&compute->lock);
}

static void forget_list(struct work *work, uint64_t epoch) {
    for (; work; work = work->next)
        work->forgotten |= !epoch || work->epoch == epoch;
}

/* Take the forgotten ones out of the waiting list. Under the lock. */
static void drop_forgotten(struct compute *compute) {
    struct work **place = &compute->waiting;
    while (*place) {
        struct work *work = *place;
        if (!work->forgotten) {
            place = &work->next;
            continue;
        }
        *place = work->next;
        work->code = error_set(&work->error, ERR_INTERRUPTED, "revoked before it began");
        finish(compute, work);
    }
    compute->waiting_end = place;
}

/* epoch 0: all. */
static void forget(struct compute *compute, uint64_t epoch) {
    pthread_mutex_lock(&compute->lock);
    if (compute->running && (!epoch || compute->running->epoch == epoch)) {
        compute->running->forgotten = true;
        atomic_store(&compute->cancel, true);
    }
    forget_list(compute->done, epoch);
    forget_list(compute->waiting, epoch);
    drop_forgotten(compute);
    pthread_mutex_unlock(&compute->lock);
}

void compute_forget(struct compute *compute, uint64_t epoch) {
    if (epoch)
        forget(compute, epoch);
}

void compute_forget_all(struct compute *compute) {
    forget(compute, 0);
}

int compute_get_progress(struct compute *compute, struct compute_progress *out, int max) {
    int count = 0;
    pthread_mutex_lock(&compute->lock);
    const struct work *running = compute->running;
    if (running && count < max)
        out[count++] = (struct compute_progress){.key = running->key,
                                                 .epoch = running->epoch,
                                                 .running = true,
                                                 .forgotten = running->forgotten,
                                                 .step = compute->step,
                                                 .steps = compute->steps};
    for (const struct work *work = compute->waiting; work && count < max; work = work->next)
        out[count++] = (struct compute_progress){.key = work->key, .epoch = work->epoch};
    pthread_mutex_unlock(&compute->lock);
    return count;
}

int compute_held(struct compute *compute) {
    pthread_mutex_lock(&compute->lock);
    int held = compute->held;
    pthread_mutex_unlock(&compute->lock);
    return held;
}

/* What a job will take. */
#include "cli/estimate.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

/* Of the rate of one large product, what a whole stage reaches: norms, attention, small layers and
 * waiting. The pocket family's minute took 32 s of one core for 5.7 TFLOP: 0.8 of the 218 GFLOP/s
 * of that core's large product; some is lost between tasks. */
#define STAGE_EFFICIENCY 0.75
/* Scaling, encoding and joining a frame: seconds a pixel. */
#define ENCODE_S_PIXEL 3e-8
/* Of the product that is timed: M = N = K, doubled until it takes a share of the time that there is
 * for it. A small one leaves most of a GPU idle, and a device that is slow, as an emulated one is,
 * would be at a large one for hours. */
#define RATE_SIZE     128
#define RATE_SIZE_CPU 512 /* the most */
#define RATE_SIZE_GPU 4096
#define ATTEMPTS_READ 4096
#define LIKE_MAX      256 /* earlier jobs of the same model and size that are looked at: the latest */

/* -- memory and arithmetic -------------------------------------------------------------------- */

struct cost_key {
    const struct job_model *model; /* of the job: one of two */
    enum model_stage stage;
    int width, height, frames;
};
struct cost_table {
    struct {
        struct cost_key key;
        struct model_cost cost;
    } rows[ESTIMATE_COSTS_MAX];
    int count;
    const struct job_source *source;
    const struct estimate_worker *worker;
    size_t shortage;       /* bytes that the stage which needs the most needs; 0: all fit */
    struct error too_much; /* what is to be said of it */
};

/* All stages are looked at before the largest shortage is told: less would only bring up the next.
 */
static void note_shortage(struct cost_table *table, const struct cost_key *key,
                          const struct model_cost *cost, struct error *error) {
    size_t needed = cost->weight_bytes_least + cost->work_bytes;
    if (needed <= table->shortage)
        return;
    table->shortage = needed;
    (void)error_prefix(error, "model %.128s: ", key->model->spec);
    table->too_much = *error;
}

static bool same_cost(const struct cost_key *a, const struct cost_key *b) {
    return a->stage == b->stage && a->width == b->width && a->height == b->height &&
           a->frames == b->frames && a->model == b->model;
}

static double pixels_of(const struct cost_key *key) {
    return (double)key->width * key->height * key->frames;
}

/* How a worker opens a model of the job. Its options point into it. */
struct opening {
    const struct model_info *info;
    const char *folder;
    struct model_options options;
    struct model_lora loras[LIMIT_LORAS];
    char paths[LIMIT_LORAS][FILE_PATH_BYTES];
};

static enum error_code opening_make(struct opening *out, const struct cost_table *table,
                                    const struct job_model *model, struct error *error) {
    out->info = job_source_model(table->source, model->spec, &out->folder);
    if (!out->info)
        return error_set(error, ERR_INTERNAL, "no model %.128s in this job", model->spec);
    enum error_code code =
        job_source_options(&out->options, out->loras, out->paths, table->source, model, error);
    out->options.dtype = table->worker->dtype;
    out->options.memory = table->worker->memory;
    out->options.like = table->worker->ops;
    out->options.like_index = table->worker->index;
    return code;
}

/* The cost of a task, planned once for each model, stage and size. When the table is full, the cost
 * of the stage's first size is scaled by the number of pixels of all frames. */
static enum error_code find_cost(struct model_cost *out, struct cost_table *table,
                                 const struct cost_key *key, struct error *error) {
    for (int i = 0; i < table->count; i++) {
        if (same_cost(&table->rows[i].key, key)) {
            *out = table->rows[i].cost;
            return ERR_OK;
        }
    }
    if (table->count == ESTIMATE_COSTS_MAX) {
        int first = 0; /* which is there: every video has every stage, or the like of it */
        while (first + 1 < table->count && (table->rows[first].key.stage != key->stage ||
                                            table->rows[first].key.model != key->model))
            first++;
        double scale = pixels_of(key) / pixels_of(&table->rows[first].key);
        *out = table->rows[first].cost;
        out->work_bytes = (size_t)((double)out->work_bytes * scale);
        out->flops *= scale;
        out->flops_forward *= scale;
        return ERR_OK;
    }
    struct opening opening;
    const char *spec = key->model->spec;
    enum error_code code = opening_make(&opening, table, key->model, error);
    if (code != ERR_OK)
        return code;
    if (key->stage == STAGE_TEXT || key->stage == STAGE_VAE)
        opening.options.lora_count = 0;
    struct model_size size = {key->width ? key->width : opening.info->width,
                              key->height ? key->height : opening.info->height, key->frames};
    code = model_plan(out, opening.folder, key->stage, &size, &opening.options, error);
    if (code == ERR_MEMORY && out->weight_bytes_least > 0) {
        note_shortage(table, key, out, error);
        code = ERR_OK;
    }
    if (code != ERR_OK)
        return error_prefix(error, "model %.128s: ", spec);
    table->rows[table->count].key = *key;
    table->rows[table->count++].cost = *out;
    return ERR_OK;
}

/* `sampling` is the job's, NULL for stages without a sampler: the plan is for the model's own. */
static enum error_code add_stage(struct estimate *estimate, struct cost_table *table,
                                 enum estimate_row row, int64_t tasks, const struct cost_key *key,
                                 const struct job_sampling *sampling, struct error *error) {
    struct estimate_stage *stage = &estimate->stages[row];
    struct model_cost cost = {0};
    if (tasks == 0)
        return ERR_OK;
    enum error_code code = find_cost(&cost, table, key, error);
    if (code != ERR_OK)
        return code;
    if (sampling) {
        int forwards = sampling->steps * (job_sampling_is_guided(sampling) ? 2 : 1);
        cost.flops += cost.flops_forward * (forwards - cost.forwards);
        if (cost.forwards > 0)
            cost.read_bytes = (size_t)((double)cost.read_bytes * forwards / (double)cost.forwards);
    }
    stage->model = key->model;
    stage->tasks += tasks;
    stage->flops += cost.flops * (double)tasks;
    if (cost.work_bytes > stage->cost.work_bytes)
        stage->cost.work_bytes = cost.work_bytes;
    if (cost.weight_bytes > stage->cost.weight_bytes)
        stage->cost.weight_bytes = cost.weight_bytes;
    if (cost.held_bytes > stage->cost.held_bytes)
        stage->cost.held_bytes = cost.held_bytes;
    if (cost.read_bytes > stage->cost.read_bytes)
        stage->cost.read_bytes = cost.read_bytes;
    if (cost.flops > stage->cost.flops)
        stage->cost.flops = cost.flops;
    return ERR_OK;
}

static enum error_code add_video(struct estimate *estimate, struct cost_table *table,
                                 const struct job *job, const struct job_video *video,
                                 struct error *error) {
    struct plan_counts counts;
    enum error_code code = plan_count(&counts, job, video, error);
    if (code != ERR_OK)
        return code;
    const struct job_output *output = &video->output;
    const struct job_model *window = &job->window, *keyframe = &job->keyframe;
    int frames = counts.windows == 1 ? counts.last_frames : counts.window_frames;
    struct {
        enum estimate_row row;
        enum model_stage stage;
        const struct job_model *model;
        int64_t tasks;
        int frames;
        const struct job_sampling *sampling;
    } rows[] = {
        {ESTIMATE_TEXT, STAGE_TEXT, window, counts.texts - counts.keyframe_texts, frames, NULL},
        {ESTIMATE_KEYFRAME_TEXT, STAGE_TEXT, keyframe, counts.keyframe_texts, frames, NULL},
        {ESTIMATE_KEYFRAME, STAGE_KEYFRAME, keyframe, counts.keyframe, 1, &video->keyframe},
        {ESTIMATE_WINDOW, STAGE_WINDOW, window, counts.windows, frames, &video->window},
        {ESTIMATE_DECODE, STAGE_VAE, window, counts.windows, frames, NULL}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        /* Text does not depend on the size of the picture. */
        bool text = rows[i].stage == STAGE_TEXT;
        struct cost_key key = {rows[i].model, rows[i].stage, text ? 0 : output->width,
                               text ? 0 : output->height, text ? 1 : rows[i].frames};
        code =
            add_stage(estimate, table, rows[i].row, rows[i].tasks, &key, rows[i].sampling, error);
        if (code != ERR_OK)
            return code;
    }
    estimate->stages[ESTIMATE_IMAGE].tasks += video->image != NULL;
    estimate->stages[ESTIMATE_MUX].tasks++;
    estimate->windows += counts.windows;
    estimate->tasks += counts.tasks;
    estimate->frames += counts.frames;
    estimate->video_seconds +=
        (double)video->frames * output->fps_denominator / output->fps_numerator;
    return ERR_OK;
}

/* Whether a worker opens one model for keyframes and windows. */
static bool same_opened(const struct job_model *a, const struct job_model *b) {
    if (strcmp(a->spec, b->spec) != 0 || a->weights != b->weights || a->lora_count != b->lora_count)
        return false;
    for (int i = 0; i < a->lora_count; i++) {
        const struct job_lora *one = &a->loras[i], *other = &b->loras[i];
        if (!hash_equal(&one->hash, &other->hash) || one->strength != other->strength ||
            one->expert != other->expert)
            return false;
    }
    return true;
}

/* The stage of a row whose model is opened together with the windows'; 0: it is not. */
static int stage_together(const struct estimate *estimate, const struct job *job, int row) {
    static const int stages[ESTIMATE_ROWS] = {[ESTIMATE_TEXT] = STAGE_TEXT,
                                              [ESTIMATE_KEYFRAME] = STAGE_KEYFRAME | STAGE_VAE,
                                              [ESTIMATE_WINDOW] = STAGE_WINDOW,
                                              [ESTIMATE_DECODE] = STAGE_VAE};
    bool other = row == ESTIMATE_KEYFRAME && !same_opened(&job->keyframe, &job->window);
    return estimate->stages[row].tasks == 0 || other ? 0 : stages[row];
}

/* Bytes of weights, once each, of all stages of the windows' model. */
static enum error_code measure_together(size_t *out, const struct estimate *estimate,
                                        const struct cost_table *table, const struct job *job,
                                        struct error *error) {
    struct model_bytes bytes = {0};
    struct opening opening;
    enum error_code code = opening_make(&opening, table, &job->window, error);
    for (int i = 0; i < ESTIMATE_ROWS; i++)
        opening.options.stages |= stage_together(estimate, job, i);
    if (code == ERR_OK && opening.options.stages != 0)
        code = model_measure(&bytes, opening.folder, &opening.options, error);
    *out = bytes.all;
    return code;
}

/* Of a worker that does everything. What stages share counts once: a transformer, the VAE. */
static enum error_code sum_memory(struct estimate *out, const struct cost_table *table,
                                  const struct job *job, struct error *error) {
    const size_t memory = table->worker->memory;
    size_t once, sum = 0;
    enum error_code code = measure_together(&once, out, table, job, error);
    for (int i = 0; i < ESTIMATE_ROWS; i++) {
        const struct model_cost *cost = &out->stages[i].cost;
        *(stage_together(out, job, i) ? &sum : &out->weight_bytes) += cost->held_bytes;
        if (cost->work_bytes > out->work_bytes)
            out->work_bytes = cost->work_bytes;
    }
    out->weight_bytes += sum < once ? sum : once;
    if (memory > 0 && out->weight_bytes + out->work_bytes > memory)
        out->weight_bytes = memory > out->work_bytes ? memory - out->work_bytes : 0;
    return code;
}

static const enum plan_kind kinds[ESTIMATE_ROWS] = {
    [ESTIMATE_TEXT] = PLAN_TEXT,     [ESTIMATE_KEYFRAME_TEXT] = PLAN_TEXT,
    [ESTIMATE_IMAGE] = PLAN_IMAGE,   [ESTIMATE_KEYFRAME] = PLAN_KEYFRAME,
    [ESTIMATE_WINDOW] = PLAN_WINDOW, [ESTIMATE_DECODE] = PLAN_DECODE,
    [ESTIMATE_MUX] = PLAN_MUX};

enum error_code estimate_job(struct estimate *out, const struct job *job,
                             const struct job_source *source, const struct estimate_worker *worker,
                             struct error *error) {
    struct cost_table *table = calloc(1, sizeof *table);
    enum error_code code = ERR_OK;
    if (!table)
        return error_set(error, ERR_MEMORY, "no memory for the estimate");
    memset(out, 0, sizeof *out);
    for (int i = 0; i < ESTIMATE_ROWS; i++)
        out->stages[i].kind = kinds[i];
    table->source = source;
    table->worker = worker;
    out->videos = job->video_count;
    for (int i = 0; i < job->video_count && code == ERR_OK; i++)
        code = add_video(out, table, job, &job->videos[i], error);
    if (code == ERR_OK)
        code = sum_memory(out, table, job, error);
    if (code == ERR_OK && table->shortage > 0) {
        *error = table->too_much;
        code = ERR_MEMORY;
    }
    free(table);
    return code;
}

/* -- time from an earlier job ----------------------------------------------------------------- */

struct earlier {
    const struct job *job;
    const char *class;
    char hash[HASH_HEX_BYTES];
    uint64_t like[LIKE_MAX]; /* jobs, as a ring */
    int like_count;
    uint64_t id; /* of the latest of them that ran on the class; 0: none */
    double seconds[PLAN_KIND_COUNT];
    int64_t count[PLAN_KIND_COUNT];
};

static enum error_code see_job(void *user, const struct ledger_job *row, struct error *error) {
    struct earlier *earlier = user;
    const struct job_output *now = &earlier->job->videos[0].output;
    struct job *job;
    struct error ignored;
    if (row->document_length > (4u << 20) || !strstr(row->document, earlier->hash) ||
        job_load(&job, row->document, row->document_length, &ignored) != ERR_OK)
        return ERR_OK;
    const struct job_output *then = &job->videos[0].output;
    if (then->width == now->width && then->height == now->height &&
        job->videos[0].window.steps == earlier->job->videos[0].window.steps)
        earlier->like[earlier->like_count++ % LIKE_MAX] = row->id;
    job_close(&job);
    return ERR_OK;
}

/* After all jobs. */
static enum error_code see_video(void *user, const struct ledger_video *video,
                                 struct error *error) {
    struct earlier *earlier = user;
    if (video->job <= earlier->id || strcmp(video->class, earlier->class) != 0)
        return ERR_OK;
    for (int i = 0; i < earlier->like_count && i < LIKE_MAX; i++)
        if (earlier->like[i] == video->job)
            earlier->id = video->job;
    return ERR_OK;
}

static enum error_code see_attempt(void *user, const struct ledger_attempt *attempt,
                                   struct error *error) {
    struct earlier *earlier = user;
    if (attempt->code == ERR_OK && attempt->kind < PLAN_KIND_COUNT &&
        strcmp(attempt->class, earlier->class) == 0) {
        earlier->seconds[attempt->kind] += attempt->seconds;
        earlier->count[attempt->kind]++;
    }
    return ERR_OK;
}

enum error_code estimate_from_ledger(struct estimate *estimate, const struct job *job,
                                     struct ledger *ledger, const char *class,
                                     struct error *error) {
    struct earlier earlier = {.job = job, .class = class};
    struct ledger_visitor visitor = {.user = &earlier, .job = see_job, .video = see_video};
    hash_hex(earlier.hash, &job->window.facts.hash);
    enum error_code code = ledger_load(ledger, &visitor, error);
    if (code != ERR_OK || earlier.id == 0)
        return code;
    visitor = (struct ledger_visitor){.user = &earlier, .attempt = see_attempt};
    code = ledger_read_attempts(ledger, &visitor, earlier.id, -1, ATTEMPTS_READ, error);
    if (code != ERR_OK || earlier.count[PLAN_WINDOW] == 0)
        return code;
    estimate->seconds = 0;
    for (int i = 0; i < ESTIMATE_ROWS; i++) {
        struct estimate_stage *stage = &estimate->stages[i];
        if (earlier.count[stage->kind])
            stage->seconds = earlier.seconds[stage->kind] / (double)earlier.count[stage->kind];
        estimate->seconds += stage->seconds * (double)stage->tasks;
    }
    estimate->measured = true;
    estimate->flops_per_second = 0;
    return ERR_OK;
}

/* -- time from the arithmetic ----------------------------------------------------------------- */

/* Seconds that one product takes, after the first, which makes code and plans. */
static enum error_code time_linear(double *out, const struct ops *ops, struct device *device,
                                   const struct linear *linear, int64_t size, void *in,
                                   void *result, double seconds, struct error *error) {
    struct linear_epilogue epilogue = {.out_dtype = DTYPE_F32};
    ops->linear(device, result, in, linear, size, &epilogue);
    enum error_code code = ops->status(device, error);
    int64_t start = clock_monotonic_ns(), best = INT64_MAX, now = start;
    while (code == ERR_OK && (best == INT64_MAX || now - start < (int64_t)(seconds * 1e9))) {
        int64_t before = clock_monotonic_ns();
        ops->linear(device, result, in, linear, size, &epilogue);
        code = ops->status(device, error);
        now = clock_monotonic_ns();
        best = now - before < best ? now - before : best;
    }
    *out = (double)best / 1e9;
    return code;
}

static enum error_code time_size(double *out, const struct ops *ops, struct device *device,
                                 enum dtype dtype, int64_t size, double seconds,
                                 struct error *error) {
    const size_t elements = (size_t)(size * size);
    struct arena arena = {0};
    struct linear *linear = NULL;
    float *zeros = calloc(elements, sizeof *zeros);
    struct tensor weight = {.data = zeros, .dtype = DTYPE_F32, .rank = 2, .dim = {size, size}};
    const struct tensor *weights[] = {&weight}, *biases[] = {NULL};
    enum error_code code = ERR_OK;
    if (!zeros)
        return error_set(error, ERR_MEMORY, "no memory to time a matrix product");
    code = ops->arena_open(device, &arena, 4 * elements * sizeof(float), error);
    if (code == ERR_OK)
        code = ops->linear_create(device, &linear, weights, biases, 1, dtype, error);
    if (code == ERR_OK) {
        void *in = arena_alloc(&arena, elements * sizeof(float));
        void *result = arena_alloc(&arena, elements * sizeof(float));
        ops->zero(device, in, elements * sizeof(float));
        code = time_linear(out, ops, device, linear, size, in, result, seconds, error);
    }
    if (linear)
        ops->linear_close(device, &linear);
    arena_close(&arena);
    free(zeros);
    return code;
}

enum error_code estimate_rate(double *out, const struct ops *ops, struct device *device,
                              enum dtype dtype, double seconds, struct error *error) {
    const int64_t most = ops == ops_cpu() ? RATE_SIZE_CPU : RATE_SIZE_GPU;
    for (int64_t size = RATE_SIZE;; size *= 2) {
        double took = 0;
        enum error_code code = time_size(&took, ops, device, dtype, size, seconds / 4, error);
        if (code != ERR_OK)
            return code;
        *out = 2.0 * (double)size * (double)size * (double)size / took;
        if (size == most || 8 * took > seconds)
            return ERR_OK;
    }
}

enum error_code estimate_from_arithmetic(struct estimate *estimate, const struct job *job,
                                         const struct estimate_worker *worker,
                                         struct device *device, struct error *error) {
    double flops = 0;
    enum error_code code =
        estimate_rate(&estimate->flops_per_second, worker->ops, device, worker->dtype, 0.03, error);
    if (code != ERR_OK)
        return code;
    for (int i = 0; i < ESTIMATE_ROWS; i++)
        flops += estimate->stages[i].flops;
    const struct job_output *output = &job->videos[0].output;
    double pixels = (double)estimate->frames * output->width * output->height;
    estimate->seconds =
        flops / (estimate->flops_per_second * STAGE_EFFICIENCY) + pixels * ENCODE_S_PIXEL;
    estimate->measured = false;
    return ERR_OK;
}

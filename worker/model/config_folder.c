/* What a folder as a whole says: which pipeline it is, where its transformers are, and the settings
 * that it was made for. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "worker/model/components.h"
#include "worker/model/config.h"
#include "worker/model/describe.h"
#include "worker/model/fields.h"

#define SCHEDULER   "scheduler/scheduler_config.json"
#define TEXT_LENGTH 512 /* of every published model; their tokenizers name no limit of use */

/* -- the scheduler --------------------------------------------------------------------------- */

static void read_sigmas(struct fields *fields, struct scheduler_config *out) {
    fields_floats(fields, "sigmas", out->sigma, &out->sigma_count, CONFIG_SIGMAS_MAX);
    if (out->sigma_count == 0)
        return;
    bool good =
        out->sigma_count >= 2 && out->sigma[0] <= 1 && out->sigma[out->sigma_count - 1] == 0;
    for (int i = 1; i < out->sigma_count; i++)
        good = good && out->sigma[i] < out->sigma[i - 1];
    if (fields->code == ERR_OK && !good)
        fields->code = error_set(fields->error, ERR_FORMAT,
                                 "%s: 'sigmas' must fall from at most 1 to 0", fields->path);
    if (fields->code == ERR_OK && out->steps != out->sigma_count - 1)
        fields->code = error_set(fields->error, ERR_FORMAT,
                                 "%s: 'num_inference_steps' is %d, but 'sigmas' are those of %d "
                                 "steps",
                                 fields->path, out->steps, out->sigma_count - 1);
}

/* What changes the noise levels or a step in ways that the samplers here do not have. */
static void must_be_plain(struct fields *fields) {
    static const char *const off[] = {
        "use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas",
        "thresholding",      "use_dynamic_shifting",   "invert_sigmas"};
    for (size_t i = 0; i < sizeof off / sizeof *off; i++)
        fields_must_be_bool(fields, off[i], false);
    fields_must_be_text(fields, "final_sigmas_type", "zero");
    fields_must_be_empty(fields, "shift_terminal");
    fields_must_be_empty(fields, "solver_p");
    fields_must_be_empty(fields, "disable_corrector");
    (void)fields_int(fields, "num_train_timesteps", 1000, 1000, 1000);
}

/* What UniPC and DPM++ have in common. */
static void read_multistep(struct fields *fields, struct scheduler_config *out) {
    (void)fields_int(fields, "solver_order", 2, 2, 2);
    fields_must_be_given(fields, "prediction_type", "'epsilon'");
    fields_must_be_text(fields, "prediction_type", "flow_prediction");
    fields_must_be_given(fields, "use_flow_sigmas", "false");
    fields_must_be_bool(fields, "use_flow_sigmas", true);
    out->shift = fields_float(fields, "flow_shift", 1, 1e-3, 1e3);
}

/* Each class takes the keys that are its own, and its own defaults: files keep those of the class
 * that they were made from. Source: diffusers 0.42.1, schedulers/. */
static void read_class(struct fields *fields, struct scheduler_config *out) {
    const char *class = fields->code == ERR_OK ? json_text(fields->root, "_class_name", "") : "";
    if (strcmp(class, "UniPCMultistepScheduler") == 0) {
        out->sampler = SAMPLER_UNIPC;
        read_multistep(fields, out);
        fields_must_be_text(fields, "solver_type", "bh2");
        fields_must_be_bool(fields, "predict_x0", true);
        fields_must_be_bool(fields, "lower_order_final", true);
    } else if (strcmp(class, "DPMSolverMultistepScheduler") == 0) {
        out->sampler = SAMPLER_DPMPP;
        read_multistep(fields, out);
        fields_must_be_text(fields, "algorithm_type", "dpmsolver++");
        fields_must_be_text(fields, "solver_type", "midpoint");
    } else if (strcmp(class, "FlowMatchEulerDiscreteScheduler") == 0) {
        bool renoise = fields_bool(fields, "stochastic_sampling", false);
        out->sampler = renoise ? SAMPLER_RENOISE : SAMPLER_EULER;
        out->shift = fields_float(fields, "shift", 1, 1e-3, 1e3);
    } else if (fields->code == ERR_OK) {
        fields->code =
            error_set(fields->error, ERR_UNSUPPORTED,
                      "%s: '_class_name' is '%s'; supported are UniPCMultistepScheduler, "
                      "DPMSolverMultistepScheduler and FlowMatchEulerDiscreteScheduler",
                      fields->path, class);
    }
}

/* Steps and guidance are no part of diffusers' classes: what the file does not say of them stays as
 * it is in `out`. */
static enum error_code read_scheduler(struct scheduler_config *out, const char *folder,
                                      struct error *error) {
    struct fields fields;
    fields_open(&fields, folder, SCHEDULER, error);
    read_class(&fields, out);
    must_be_plain(&fields);
    out->shift_small = 0;
    float before = out->guidance;
    out->guidance = fields_float(&fields, "guidance_scale", (double)before, 0, 100);
    if (out->guidance != before) /* one scale for a model of two experts is for both */
        out->guidance_low = out->guidance;
    out->guidance_low =
        fields_float(&fields, "guidance_scale_2", (double)out->guidance_low, 0, 100);
    out->steps = fields_int(&fields, "num_inference_steps", out->steps, 1, CONFIG_SIGMAS_MAX - 1);
    read_sigmas(&fields, out);
    return fields_close(&fields);
}

/* -- the published models --------------------------------------------------------------------- */

/* How a model came to be published: what its files do not say. Source: wan.md's tables, from
 * Wan2.1's and Wan2.2's wan/configs. */
struct published {
    const char *type; /* model_type of the original layout */
    bool experts;
    const char *family;
    bool keyframe, window;
    enum window_condition condition;
    int width, height, fps, window_frames, steps;
    float shift, guidance, guidance_low, boundary;
    float shift_small; /* of scheduler_config */
};

static const struct published published[] = {
    {"t2v", false, "wan2.1", true, true, WINDOW_GREY_FRAMES, 832, 480, 16, 81, 50, 5, 5, 5, 0, 0},
    {"i2v", false, "wan2.1", false, true, WINDOW_GREY_FRAMES, 832, 480, 16, 81, 40, 5, 5, 5, 0, 3},
    {"flf2v", false, "wan2.1", false, true, WINDOW_GREY_FRAMES, 1280, 720, 16, 81, 50, 16, 5, 5, 0,
     0},
    {"t2v", true, "wan2.2", true, true, WINDOW_GREY_FRAMES, 832, 480, 16, 81, 40, 12, 4, 3, 0.875f,
     0},
    {"i2v", true, "wan2.2", false, true, WINDOW_GREY_FRAMES, 832, 480, 16, 81, 40, 5, 3.5f, 3.5f,
     0.9f, 0},
    {"ti2v", false, "wan2.2", true, true, WINDOW_PREFIX, 1280, 704, 24, 121, 50, 5, 5, 5, 0, 0},
};

static const struct published *find_published(const char *type, bool experts) {
    for (size_t i = 0; i < sizeof published / sizeof *published; i++)
        if (strcmp(published[i].type, type) == 0 && published[i].experts == experts)
            return &published[i];
    return NULL;
}

static void take_published(struct model_config *out, const struct published *known,
                           const char *high, const char *low) {
    struct denoiser_config denoiser = {.experts = known->experts ? 2 : 1,
                                       .boundary = known->boundary};
    (void)snprintf(denoiser.folder[0], sizeof denoiser.folder[0], "%s", high);
    (void)snprintf(denoiser.folder[1], sizeof denoiser.folder[1], "%s", known->experts ? low : "");
    (void)snprintf(out->family, sizeof out->family, "%s", known->family);
    if (known->keyframe)
        out->keyframe = denoiser;
    if (known->window)
        out->window = denoiser;
    out->condition = known->condition;
    out->width = known->width;
    out->height = known->height;
    out->fps = known->fps;
    out->window_frames = known->window_frames;
    out->overlaps[0] = 1; /* what they were trained for */
    out->overlaps[1] = 5; /* Wan2.2-Animate's; on other models an extrapolation */
    out->overlap_count = 2;
    out->text_length = TEXT_LENGTH;
    out->scheduler = (struct scheduler_config){.sampler = SAMPLER_UNIPC,
                                               .steps = known->steps,
                                               .shift = known->shift,
                                               .shift_small = known->shift_small,
                                               .guidance = known->guidance,
                                               .guidance_low = known->guidance_low};
}

static bool has_file(const char *folder, const char *name) {
    char path[FILE_PATH_BYTES];
    return file_join(path, folder, name, NULL) == ERR_OK && access(path, F_OK) == 0;
}

/* The class of image-to-video pipelines is that of first-last-frame ones, too: the transformer's
 * tensors tell, where they are there to ask. */
static const char *image_type(const char *folder) {
    struct weights *weights;
    struct error ignored;
    if (component_open(&weights, folder, "transformer", &ignored) != ERR_OK)
        return "i2v";
    const char *type = describe_transformer(weights);
    weights_close(&weights);
    return type != NULL && strcmp(type, "flf2v") == 0 ? "flf2v" : "i2v";
}

/* WanPipeline and WanImageToVideoPipeline: transformer/ and, of two experts, transformer_2/. */
static void read_pipeline(struct fields *fields, struct model_config *out, const char *folder,
                          const char *class) {
    bool image = strcmp(class, "WanImageToVideoPipeline") == 0;
    bool experts = fields_get(fields, "boundary_ratio") != NULL;
    bool prefix = fields_get(fields, "expand_timesteps") != NULL &&
                  json_bool(fields->root, "expand_timesteps", false);
    if (experts && prefix)
        fields->code =
            error_set(fields->error, ERR_UNSUPPORTED,
                      "%s: 'boundary_ratio' and 'expand_timesteps' together", fields->path);
    if (fields->code == ERR_OK && !experts && component_is_there(folder, "transformer_2"))
        fields->code = error_set(fields->error, ERR_FORMAT,
                                 "%s: there is a transformer_2, but no 'boundary_ratio' that says "
                                 "from when it is used: give that, or take the folder away",
                                 fields->path);
    const char *type = prefix ? "ti2v" : !image ? "t2v" : experts ? "i2v" : image_type(folder);
    const struct published *known = find_published(type, experts && !prefix);
    take_published(out, known, "transformer", "transformer_2");
    out->image_encoder = image && has_file(folder, "image_encoder/config.json");
    float boundary = fields_float(fields, "boundary_ratio", (double)known->boundary, 0, 1);
    if (known->keyframe)
        out->keyframe.boundary = boundary;
    out->window.boundary = boundary;
}

/* By its tensors; where they are not there to ask, `fallback`. */
static bool has_image_branch(const char *folder, const char *transformer, bool fallback) {
    struct weights *weights;
    struct error ignored;
    if (component_open(&weights, folder, transformer, &ignored) != ERR_OK)
        return fallback;
    bool has = describe_has_image_branch(weights);
    weights_close(&weights);
    return has;
}

/* The original layout, and beside it what convert found no place for in it: config.json beside the
 * weights, or one in each expert's folder. */
static enum error_code read_original(struct model_config *out, const char *folder,
                                     struct error *error) {
    struct fields fields;
    bool experts = has_file(folder, "high_noise_model/config.json");
    fields_open(&fields, folder, experts ? "high_noise_model/config.json" : "config.json", error);
    const char *type = fields.code == ERR_OK ? json_text(fields.root, "model_type", "") : "";
    const struct published *known = find_published(type, experts);
    if (known != NULL)
        take_published(out, known, experts ? "high_noise_model" : ".", "low_noise_model");
    else if (fields.code == ERR_OK)
        fields.code =
            error_set(error, ERR_UNSUPPORTED,
                      "%s: 'model_type' is '%s'%s; supported are t2v, i2v, flf2v and ti2v, "
                      "and t2v and i2v in two experts",
                      fields.path, type, experts ? " in two experts" : "");
    if (known != NULL) {
        float boundary = fields_float(&fields, "boundary_ratio", (double)known->boundary, 0, 1);
        out->window.boundary = boundary;
        out->keyframe.boundary = known->keyframe ? boundary : 0;
        bool pictured = !experts && (strcmp(type, "i2v") == 0 || strcmp(type, "flf2v") == 0);
        out->image_encoder = has_image_branch(folder, out->window.folder[0], pictured);
    }
    enum error_code code = fields_close(&fields);
    if (code == ERR_OK && has_file(folder, SCHEDULER))
        code = read_scheduler(&out->scheduler, folder, error);
    return code;
}

/* Weight files without any configuration, as they are repackaged: what the transformer's shapes
 * say. Two experts are two files. */
static enum error_code read_repackaged(struct model_config *out, const char *folder,
                                       struct error *error) {
    struct weights *weights;
    enum error_code code = component_open(&weights, folder, "transformer", error);
    if (code != ERR_OK)
        return code;
    bool experts = component_is_there(folder, "transformer_2");
    const char *type = describe_transformer(weights);
    const struct published *known = type == NULL ? NULL : find_published(type, experts);
    if (known != NULL)
        take_published(out, known, "transformer", "transformer_2");
    else
        code = error_set(error, ERR_UNSUPPORTED,
                         "%s: %s is no transformer of a model that is known%s%s%s", folder,
                         weights_path(weights), type == NULL ? "" : ": '", type == NULL ? "" : type,
                         type == NULL ? "" : "' in two experts");
    out->image_encoder = describe_has_image_branch(weights);
    weights_close(&weights);
    return code;
}

/* -- the folder ------------------------------------------------------------------------------ */

static enum error_code read_text_length(int *out, const char *folder, struct error *error) {
    struct fields fields;
    fields_open(&fields, folder, "tokenizer/tokenizer_config.json", error);
    *out = fields_int(&fields, "model_max_length", 512, 2, 4096);
    return fields_close(&fields);
}

/* The pocket family and what is built like it. */
static void read_windowed(struct fields *fields, struct model_config *out, const char *folder) {
    (void)snprintf(out->family, sizeof out->family, "pocket");
    if (has_file(folder, "keyframe"))
        out->keyframe = (struct denoiser_config){.folder = {"keyframe"}, .experts = 1};
    if (has_file(folder, "window"))
        out->window = (struct denoiser_config){.folder = {"window"}, .experts = 1};
    fields_must_be_text(fields, "window_condition", "latent_zeros");
    out->condition = WINDOW_LATENT_ZEROS;
    out->width = fields_int(fields, "width", FIELDS_REQUIRED, 16, 8192);
    out->height = fields_int(fields, "height", FIELDS_REQUIRED, 16, 8192);
    out->fps = fields_int(fields, "fps", FIELDS_REQUIRED, 1, 240);
    out->window_frames = fields_int(fields, "window_frames", FIELDS_REQUIRED, 5, 1025);
    out->window_fixed = true;
    fields_ints(fields, "window_overlaps", out->overlaps, &out->overlap_count, 4, 1, 1024);
    out->scheduler =
        (struct scheduler_config){.steps = 50, .shift = 1, .guidance = 5, .guidance_low = 5};
}

static void check_model(struct fields *fields, const struct model_config *out) {
    bool good = out->overlap_count > 0;
    for (int i = 0; i < out->overlap_count; i++)
        good = good && out->overlaps[i] % 4 == 1 && out->overlaps[i] < out->window_frames;
    if (fields->code == ERR_OK && !good)
        fields->code = error_set(fields->error, ERR_FORMAT,
                                 "%s: 'window_overlaps' must be numbers 4n+1 below window_frames",
                                 fields->path);
    if (fields->code == ERR_OK && out->window_frames % 4 != 1)
        fields->code =
            error_set(fields->error, ERR_FORMAT, "%s: 'window_frames' must be 4n+1", fields->path);
    if (fields->code == ERR_OK && (out->width % 16 != 0 || out->height % 16 != 0))
        fields->code = error_set(fields->error, ERR_FORMAT,
                                 "%s: 'width' and 'height' must be multiples of 16", fields->path);
}

static enum error_code read_index(struct model_config *out, const char *folder,
                                  struct error *error) {
    struct fields fields;
    fields_open(&fields, folder, "model_index.json", error);
    const char *class = fields.code == ERR_OK ? json_text(fields.root, "_class_name", "") : "";
    if (strcmp(class, "WanWindowPipeline") == 0)
        read_windowed(&fields, out, folder);
    else if (strcmp(class, "WanPipeline") == 0 || strcmp(class, "WanImageToVideoPipeline") == 0)
        read_pipeline(&fields, out, folder, class);
    else if (fields.code == ERR_OK)
        fields.code = error_set(error, ERR_UNSUPPORTED,
                                "%s: '_class_name' is '%s'; supported are WanWindowPipeline, "
                                "WanPipeline and WanImageToVideoPipeline",
                                fields.path, class);
    check_model(&fields, out);
    return fields_close(&fields);
}

enum error_code config_read_model(struct model_config *out, const char *folder,
                                  struct error *error) {
    memset(out, 0, sizeof *out);
    if (!has_file(folder, "."))
        return error_set(error, ERR_MISSING, "%s: there is no such model folder", folder);
    if (has_file(folder, "model_index.json")) {
        enum error_code code = read_index(out, folder, error);
        if (code == ERR_OK)
            code = read_scheduler(&out->scheduler, folder, error);
        if (code == ERR_OK && out->text_length == 0)
            code = read_text_length(&out->text_length, folder, error);
        return code;
    }
    if (has_file(folder, "config.json") || has_file(folder, "high_noise_model/config.json"))
        return read_original(out, folder, error);
    if (component_is_there(folder, "transformer"))
        return read_repackaged(out, folder, error);
    return error_set(error, ERR_MISSING,
                     "%s is no model folder: it has neither a model_index.json (the diffusers "
                     "layout), nor a config.json (the original one), nor a transformer's weights",
                     folder);
}

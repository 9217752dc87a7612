/* The models of a job, what is done to their weights, and how their windows go on. */
#include "coordinator/job_reader.h"

#include <stdio.h>
#include <string.h>

#include "coordinator/plan.h"

enum error_code job_check_ability(struct reader *reader, const struct job_model *model,
                                  struct place at, int ability, const char *what) {
    if ((model->facts.abilities & ability) == ability)
        return ERR_OK;
    return job_fail(reader, at, ERR_UNSUPPORTED, "model: %s (%s) cannot %s", model->spec,
                    model->facts.family, what);
}

enum error_code job_no_keyframe(struct reader *reader, struct place at, const char *key) {
    return job_fail(reader, at, ERR_UNSUPPORTED,
                    "%s: model %s makes a video from its text alone, without a first picture; only "
                    "an image-to-video model starts from one, as in model: {keyframe: %s, window: "
                    "AN-IMAGE-TO-VIDEO-MODEL}",
                    key, reader->job->window.spec, reader->job->window.spec);
}

static enum error_code read_one_model(struct reader *reader, struct job_model *out,
                                      const struct yaml *node) {
    struct setting spec = {0};
    enum error_code code =
        job_read_file_name(reader, &spec, node, "a model: a name under models/, or a path");
    if (code)
        return code;
    out->spec = job_keep(reader, spec.text);
    if (!out->spec)
        return job_no_memory(reader);
    code =
        reader->resolver->read_model(reader->resolver->user, &out->facts, spec.text, reader->error);
    return code ? error_prefix(reader->error, "%s:%d:%d: model: ", spec.at.file, spec.at.line,
                               spec.at.column)
                : ERR_OK;
}

static enum error_code read_names(struct reader *reader, const struct yaml *node) {
    struct job *job = reader->job;
    enum error_code code;
    const struct yaml *window = node;
    if (node->type == YAML_MAPPING) {
        code = job_check_keys(reader, node, JOB_KEYS_MODEL, "model");
        if (code)
            return code;
        window = yaml_get(node, "window");
        const struct yaml *keyframe = yaml_get(node, "keyframe");
        if (!window)
            return job_fail(reader, job_place(reader, node), ERR_USAGE,
                            "model: expected {keyframe: …, window: …}, found no window");
        if (keyframe) {
            code = read_one_model(reader, &job->keyframe, keyframe);
            if (code)
                return code;
        }
    } else if (node->type == YAML_SEQUENCE) {
        return job_wrong(reader, node, ERR_USAGE,
                         "a model: a name under models/, a path, or {keyframe: …, window: …}");
    }
    code = read_one_model(reader, &job->window, window);
    if (code)
        return code;
    const struct model_facts *facts = &job->window.facts;
    if (job->keyframe.spec && facts->from_text)
        return job_no_keyframe(reader, job_place(reader, yaml_get(node, "keyframe")), "model");
    if (!job->keyframe.spec)
        job->keyframe = job->window;
    code = job_check_ability(reader, &job->window, job_place(reader, window), MODEL_CAN_WINDOW,
                             "make windows");
    if (!code)
        code = job_check_ability(reader, &job->window, job_place(reader, window),
                                 MODEL_CAN_TEXT | MODEL_CAN_VAE, "read text and decode by itself");
    if (!code && (facts->window_frames < 1 || facts->fps < 1 || facts->size_max < facts->size_min))
        code = job_fail(reader, job_place(reader, window), ERR_UNSUPPORTED,
                        "model: %s does not say what it can make", job->window.spec);
    return code;
}

/* -- LoRA ------------------------------------------------------------------------------------- */

enum { OF_KEYFRAME, OF_WINDOW, OF_BOTH }; /* as JOB_VALUES_STAGE */

/* A model of one transformer has no experts to choose from. Of two, what the file's name says is
 * settled here: renamed, it is another job. */
static enum error_code add_lora(struct reader *reader, struct job_model *model,
                                const struct job_lora *lora, struct place at) {
    if (model->lora_count == LIMIT_LORAS)
        return job_fail(reader, at, ERR_LIMIT, "lora: more than %d for one model", LIMIT_LORAS);
    struct job_lora *added = &model->loras[model->lora_count++];
    *added = *lora;
    if (model->facts.experts < 2)
        added->expert = JOB_EXPERT_BY_NAME;
    else if (added->expert == JOB_EXPERT_BY_NAME && reader->resolver->lora_expert)
        added->expert =
            reader->resolver->lora_expert(reader->resolver->user, &added->unclear, added->spec);
    return ERR_OK;
}

static const struct job_lora *lora_at(const struct job *job, int place) {
    const struct job_model *keyframe = &job->keyframe, *window = &job->window;
    if (place < keyframe->lora_count)
        return &keyframe->loras[place];
    place -= keyframe->lora_count;
    return place < window->lora_count ? &window->loras[place] : NULL;
}

/* Of both models it is told once. */
static bool was_told(const struct job *job, int place) {
    for (int i = 0; i < place; i++)
        if (lora_at(job, i)->unclear && !strcmp(lora_at(job, i)->spec, lora_at(job, place)->spec))
            return true;
    return false;
}

bool job_next_warning(struct job_warning *warning, const struct job *job) {
    const struct job_lora *lora;
    while ((lora = lora_at(job, warning->lora)) != NULL) {
        int place = warning->lora++;
        if (!lora->unclear || was_told(job, place))
            continue;
        snprintf(warning->text, sizeof warning->text,
                 "LoRA %.256s goes to both experts: its name does not say clearly which it is for; "
                 "give it expert: high, low or both",
                 lora->spec);
        return true;
    }
    return false;
}

/* The key `expert`, for the models of the stages that the LoRA is for. */
static enum error_code read_expert(struct reader *reader, enum job_expert *out,
                                   const struct yaml *node, int64_t stage) {
    const struct job *job = reader->job;
    struct setting word = {0};
    if (!node)
        return ERR_OK;
    enum error_code code = job_read_word(reader, &word, node, JOB_VALUES_EXPERT, "an expert");
    if (code)
        return code;
    *out = (enum job_expert)(word.integer + 1);
    if ((stage != OF_WINDOW && job->keyframe.facts.experts > 1) ||
        (stage != OF_KEYFRAME && job->window.facts.experts > 1))
        return ERR_OK;
    return job_fail(reader, word.at, ERR_UNSUPPORTED,
                    "lora: expert: %s has no experts, only one transformer; leave the key out",
                    stage == OF_KEYFRAME ? job->keyframe.spec : job->window.spec);
}

/* Whether the models can be opened with what is done to them so far. */
static enum error_code check_models(struct reader *reader, bool keyframe, bool window,
                                    struct place at, const char *key) {
    const struct job_resolver *resolver = reader->resolver;
    const struct job *job = reader->job;
    enum error_code code = ERR_OK;
    keyframe = keyframe && (job->keyframe.facts.abilities & MODEL_CAN_KEYFRAME);
    if (!resolver->check_model)
        return ERR_OK;
    if (keyframe)
        code = resolver->check_model(resolver->user, &job->keyframe, MODEL_CAN_KEYFRAME,
                                     reader->error);
    if (!code && window)
        code = resolver->check_model(resolver->user, &job->window, MODEL_CAN_WINDOW, reader->error);
    return code ? error_prefix(reader->error, "%s:%d:%d: %s: ", at.file, at.line, at.column, key)
                : ERR_OK;
}

/* A LoRA of a stage that no video will have does nothing. */
static enum error_code check_stage(struct reader *reader, const struct setting *stage) {
    const struct job_model *model = &reader->job->keyframe;
    if (stage->integer != OF_KEYFRAME)
        return ERR_OK;
    if (reader->job->window.facts.from_text)
        return job_no_keyframe(reader, stage->at, "lora: stage");
    if (model->facts.abilities & MODEL_CAN_KEYFRAME)
        return ERR_OK;
    return job_fail(reader, stage->at, ERR_UNSUPPORTED,
                    "lora: stage: model %s makes no keyframes, so the LoRA would do nothing; say "
                    "stage: window, or leave the key out",
                    model->spec);
}

static enum error_code read_lora(struct reader *reader, const struct yaml *node) {
    struct job *job = reader->job;
    struct setting spec = {0}, strength = {.number = 1}, stage = {.integer = OF_BOTH};
    if (node->type != YAML_MAPPING)
        return job_wrong(reader, node, ERR_USAGE, "a LoRA, {file, strength, stage, expert}");
    enum error_code code = job_check_keys(reader, node, JOB_KEYS_LORA, "a LoRA");
    const struct yaml *file = yaml_get(node, "file"), *given_strength = yaml_get(node, "strength");
    const struct yaml *given_stage = yaml_get(node, "stage");
    if (code)
        return code;
    if (!file)
        return job_fail(reader, job_place(reader, node), ERR_USAGE, "a LoRA needs a file");
    code = job_read_file_name(reader, &spec, file, "the name of a .safetensors file");
    if (!code && given_strength)
        code = job_read_number(reader, &strength, given_strength, -LIMIT_LORA_STRENGTH, false,
                               LIMIT_LORA_STRENGTH, "a strength");
    if (!code && given_stage)
        code = job_read_word(reader, &stage, given_stage, JOB_VALUES_STAGE, "a stage");
    if (!code)
        code = check_stage(reader, &stage);
    if (code)
        return code;
    if (!reader->resolver->find_lora)
        return job_fail(reader, spec.at, ERR_UNSUPPORTED, "lora: LoRAs cannot be read here");
    struct job_file found = {0};
    code = reader->resolver->find_lora(reader->resolver->user, &found, &job->arena, spec.text,
                                       reader->error);
    if (code)
        return error_prefix(reader->error, "%s:%d:%d: lora: ", spec.at.file, spec.at.line,
                            spec.at.column);
    struct job_lora lora = {
        .spec = job_keep(reader, spec.text), .hash = found.hash, .strength = strength.number};
    if (!lora.spec)
        return job_no_memory(reader);
    code = read_expert(reader, &lora.expert, yaml_get(node, "expert"), stage.integer);
    if (!code && stage.integer != OF_WINDOW)
        code = add_lora(reader, &job->keyframe, &lora, spec.at);
    if (!code && stage.integer != OF_KEYFRAME)
        code = add_lora(reader, &job->window, &lora, spec.at);
    return code ? code
                : check_models(reader, stage.integer != OF_WINDOW, stage.integer != OF_KEYFRAME,
                               spec.at, "lora");
}

static enum error_code read_loras(struct reader *reader, const struct yaml *node) {
    if (node->type != YAML_SEQUENCE || !node->length)
        return job_wrong(reader, node, ERR_USAGE,
                         "a list of LoRAs, each {file, strength, stage, expert}");
    enum error_code code = ERR_OK;
    for (const struct yaml *item = node->child; item && !code; item = item->next)
        code = read_lora(reader, item);
    return code;
}

enum error_code job_read_models(struct reader *reader, const struct yaml *model,
                                const struct yaml *weights, const struct yaml *lora) {
    struct job *job = reader->job;
    struct setting held = {.integer = -1};
    enum error_code code = read_names(reader, model);
    if (!code && weights)
        code = job_read_word(reader, &held, weights, JOB_VALUES_WEIGHTS, "a type of weights");
    job->keyframe.weights = job->window.weights = (enum job_weights)(held.integer + 1);
    if (!code && weights)
        code = check_models(reader, true, true, held.at, "weights");
    return code || !lora ? code : read_loras(reader, lora);
}

/* -- windows ---------------------------------------------------------------------------------- */

static bool has_overlap(const struct model_facts *facts, int64_t frames) {
    if (facts->any_overlap)
        return frames < facts->window_frames;
    for (int i = 0; i < facts->overlap_count; i++)
        if (facts->overlaps[i] == frames && frames < facts->window_frames)
            return true;
    return false;
}

enum error_code job_fill_windows(struct reader *reader, struct job_video *video,
                                 const struct settings *settings) {
    const struct job_model *model = &reader->job->window;
    const struct model_facts *facts = &model->facts;
    video->windows = (enum job_windows)settings->windows.integer;
    video->overlap = video->windows == JOB_WINDOWS_LAST_FRAME ? 1
                     : video->windows == JOB_WINDOWS_OVERLAP  ? (int)settings->overlap.integer
                                                              : plan_overlap(facts);
    if (video->windows == JOB_WINDOWS_MODEL)
        return ERR_OK;
    char can[96] = "";
    for (int i = 0; i < facts->overlap_count; i++) {
        size_t used = strlen(can);
        snprintf(can + used, sizeof can - used, "%s%d", i ? " or " : "", facts->overlaps[i]);
    }
    if (!(facts->windows >> video->windows & 1))
        return job_fail(reader, settings->windows.at, ERR_UNSUPPORTED,
                        "windows: model %s cannot go on by %s; leave the key out for its own way",
                        model->spec, job_windows_name(video->windows));
    if (!has_overlap(facts, video->overlap))
        return job_fail(reader, settings->windows.at, ERR_UNSUPPORTED,
                        "windows: model %s cannot go on from %d frames%s%s", model->spec,
                        video->overlap, *can ? "; it can from " : "", can);
    return ERR_OK;
}

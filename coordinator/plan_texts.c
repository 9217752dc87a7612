/* The texts of a video: what each window and the keyframe are told. */
#include <stdlib.h>
#include <string.h>

#include "coordinator/plan_internal.h"

void plan_window_text(struct buffer *out, const char *prompt, const char *motion) {
    size_t length = strlen(prompt);
    if (*motion)
        while (length && (prompt[length - 1] == '.' || prompt[length - 1] == ' '))
            length--;
    buffer_add(out, prompt, length);
    if (*motion) {
        if (length)
            buffer_add_text(out, ". ");
        buffer_add_text(out, motion);
    }
}

int plan_shot_at(const struct job_video *video, int64_t at) {
    int shot = 0;
    int64_t end = video->shots[0].frames;
    while (shot + 1 < video->shot_count && at >= end)
        end += video->shots[++shot].frames;
    return shot;
}

bool plan_same_model(const struct job_model *a, const struct job_model *b) {
    return a == b || (hash_equal(&a->facts.hash, &b->facts.hash) && !strcmp(a->spec, b->spec));
}

static int text_add(struct texts *texts, char *text, const struct job_model *model) {
    if (!text) {
        texts->failed = true;
        return -1;
    }
    for (int i = 0; i < texts->count; i++)
        if (!strcmp(texts->text[i], text) && plan_same_model(texts->model[i], model)) {
            free(text);
            return i;
        }
    texts->text[texts->count] = text;
    texts->model[texts->count] = model;
    return texts->count++;
}

void plan_texts_close(struct texts *texts) {
    for (int i = 0; texts && i < texts->count; i++)
        free(texts->text[i]);
    if (texts) {
        free(texts->text);
        free(texts->model);
        free(texts->shot);
    }
    free(texts);
}

struct texts *plan_texts_open(const struct job *job, const struct job_video *video, int64_t windows,
                              int overlap) {
    struct texts *texts = calloc(1, sizeof *texts);
    if (!texts)
        return NULL;
    size_t room = (size_t)video->shot_count + 3;
    texts->text = calloc(room, sizeof *texts->text);
    texts->model = calloc(room, sizeof(void *));
    texts->shot = calloc(room, sizeof *texts->shot);
    if (!texts->text || !texts->model || !texts->shot) {
        plan_texts_close(texts);
        return NULL;
    }
    const struct model_facts *facts = &job->window.facts;
    texts->keyframe = texts->keyframe_negative = texts->window_negative = -1;
    if (!video->image && !facts->from_text) {
        texts->keyframe = text_add(texts, strdup(video->shots[0].prompt), &job->keyframe);
        if (job_sampling_is_guided(&video->keyframe))
            texts->keyframe_negative = text_add(texts, strdup(video->negative), &job->keyframe);
    }
    for (int i = 0; i < video->shot_count; i++)
        texts->shot[i] = -1;
    for (int64_t k = 0; k < windows; k++) {
        int64_t first = k ? overlap + k * (facts->window_frames - overlap) : 0;
        int shot = plan_shot_at(video, first);
        if (texts->shot[shot] >= 0)
            continue;
        struct buffer text = {0};
        plan_window_text(&text, video->shots[shot].prompt, video->shots[shot].motion);
        texts->shot[shot] = text_add(texts, buffer_take(&text), &job->window);
    }
    if (job_sampling_is_guided(&video->window))
        texts->window_negative = text_add(texts, strdup(video->negative), &job->window);
    if (texts->failed) {
        plan_texts_close(texts);
        return NULL;
    }
    return texts;
}

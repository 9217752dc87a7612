/* Shots that no window begins in: their texts are used by nothing, which a job's maker should hear.
 */
#include <stdio.h>

#include "coordinator/plan.h"

/* Of window k. */
static int64_t first_frame(const struct job_video *video, const struct model_facts *facts,
                           int64_t k) {
    return k == 0 ? 0 : video->overlap + k * (facts->window_frames - video->overlap);
}

static bool begins_within(const struct job *job, const struct job_video *video, int64_t start,
                          int64_t end) {
    const struct model_facts *facts = &job->window.facts;
    int64_t step = facts->window_frames - video->overlap, k = 0;
    if (start > 0)
        k = start > facts->window_frames ? (start - video->overlap + step - 1) / step : 1;
    return k < plan_windows(video->frames, facts->window_frames, video->overlap) &&
           first_frame(video, facts, k) < end;
}

static void describe(char out[PLAN_NOTE_BYTES], const struct job *job,
                     const struct job_video *video, int shot, int64_t start, int64_t end) {
    const struct model_facts *facts = &job->window.facts;
    double frame = (double)video->output.fps_denominator / video->output.fps_numerator;
    int64_t windows = plan_windows(video->frames, facts->window_frames, video->overlap);
    int used = snprintf(out, PLAN_NOTE_BYTES,
                        "shot %d of %d, %.2f to %.2f s, is not used: no window begins in it; ",
                        shot + 1, video->shot_count, (double)start * frame, (double)end * frame);
    char *rest = out + used;
    size_t room = PLAN_NOTE_BYTES - (size_t)used;
    if (windows == 1)
        (void)snprintf(rest, room, "the video is one window");
    else if (windows == 2)
        (void)snprintf(rest, room, "windows begin at 0 and %.2f s",
                       (double)facts->window_frames * frame);
    else
        (void)snprintf(rest, room, "windows begin at 0, %.2f s and every %.2f s from there",
                       (double)facts->window_frames * frame,
                       (double)(facts->window_frames - video->overlap) * frame);
}

bool plan_next_note(struct plan_note *note, const struct job *job) {
    for (; note->video < job->video_count; note->video++, note->shot = 0) {
        const struct job_video *video = &job->videos[note->video];
        int64_t start = 0, end = video->shots[0].frames;
        for (int i = 1; i < video->shot_count; i++) {
            start = end;
            end += video->shots[i].frames;
            if (i <= note->shot || begins_within(job, video, start, end))
                continue;
            note->shot = i;
            describe(note->text, job, video, i, start, end);
            return true;
        }
    }
    return false;
}

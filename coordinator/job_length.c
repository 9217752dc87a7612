/* How long a video is, in frames, and what each of its shots shows. */
#include "coordinator/job_reader.h"

#include <math.h>
#include <stdio.h>

#include "coordinator/plan.h"

/* Frames until `seconds` into the video. */
static int64_t frames_at(double seconds, const struct job_output *output) {
    return llround(seconds * output->fps_numerator / output->fps_denominator);
}

/* Whether frames and seconds can be compared: a client has no model, and leaves that to the
 * coordinator. */
static bool rate_is_known(const struct reader *reader, const struct settings *settings) {
    return settings->fps_numerator.set || !reader->job->window.facts.unknown;
}

/* From the shots, from a length, or from both, which must agree. */
static enum error_code count_frames(struct reader *reader, struct job_video *video,
                                    const struct settings *settings, struct place at) {
    double sum = 0;
    for (int i = 0; i < settings->shot_count; i++)
        sum += settings->shots[i].seconds;
    if (settings->shots && sum > LIMIT_SECONDS)
        return job_fail(reader, settings->shots_at, ERR_LIMIT,
                        "shots: they add up to %g seconds; at most %d", sum, LIMIT_SECONDS);
    int64_t frames = frames_at(sum, &video->output);
    if (settings->seconds.set) {
        double seconds = settings->seconds.number;
        video->frames = frames_at(seconds, &video->output);
        if (settings->shots && fabs(sum - seconds) > 1e-6 * (1 + sum))
            return job_fail(reader, settings->shots_at, ERR_USAGE,
                            "shots: they add up to %g seconds, but the video has %g", sum, seconds);
    } else if (settings->frames.set) {
        video->frames = settings->frames.integer;
        if (settings->shots && frames != video->frames && rate_is_known(reader, settings))
            return job_fail(reader, settings->shots_at, ERR_USAGE,
                            "shots: they add up to %g seconds (%lld frames), but the video has "
                            "%lld frames",
                            sum, (long long)frames, (long long)video->frames);
    } else if (settings->shots) {
        video->frames = frames;
    } else {
        return job_fail(reader, at, ERR_USAGE,
                        "the video has no length; give seconds (or frames), here or in defaults");
    }
    return ERR_OK;
}

/* Whether the window model can make so many frames. */
static enum error_code check_windows(struct reader *reader, const struct job_video *video,
                                     const char *key, struct place at) {
    const struct job_model *model = &reader->job->window;
    const struct model_facts *facts = &model->facts;
    int overlap = video->overlap;
    int64_t windows = plan_windows(video->frames, facts->window_frames, overlap);
    if (video->frames < 1)
        return job_fail(reader, at, ERR_USAGE,
                        "%s: that is less than one frame at %g frames a second", key,
                        (double)video->output.fps_numerator / video->output.fps_denominator);
    if (windows > 1 && facts->from_text)
        return job_fail(reader, at, ERR_UNSUPPORTED,
                        "%s: model %s makes a video from its text alone and cannot continue it, so "
                        "it is one window, of at most %d frames, not %lld; model: {keyframe: %s, "
                        "window: AN-IMAGE-TO-VIDEO-MODEL} makes longer ones",
                        key, model->spec, facts->window_frames, (long long)video->frames,
                        model->spec);
    if (windows > 1 && !overlap)
        return job_fail(reader, at, ERR_UNSUPPORTED,
                        "model: %s makes single windows of %d frames and cannot go on from one; "
                        "the video has %lld frames",
                        model->spec, facts->window_frames, (long long)video->frames);
    if (windows > LIMIT_WINDOWS)
        return job_fail(reader, at, ERR_LIMIT,
                        "%s: the video would take %lld windows of model %s; at most %d (%lld "
                        "frames)",
                        key, (long long)windows, model->spec, LIMIT_WINDOWS,
                        (long long)LIMIT_WINDOWS * (facts->window_frames - overlap) + overlap);
    return ERR_OK;
}

/* The last window is as short as the video, and ends in the picture: it has to be one that the
 * model makes. */
static enum error_code check_end(struct reader *reader, const struct job_video *video,
                                 const char *key, struct place at) {
    const struct job_model *model = &reader->job->window;
    const struct model_facts *facts = &model->facts;
    int64_t windows = plan_windows(video->frames, facts->window_frames, video->overlap);
    int64_t last = plan_last_window(video->frames, facts->window_frames, video->overlap);
    int given = windows > 1 ? video->overlap : 1; /* that the last window goes on from */
    int64_t over = (last - 1) % facts->window_step, least = given + 1;
    if (windows > 1 && facts->end == JOB_END_MUST)
        return job_fail(reader, at, ERR_UNSUPPORTED,
                        "%s: model %s makes a window between two pictures, so a video is one "
                        "window, of at most %d frames, not %lld",
                        key, model->spec, facts->window_frames, (long long)video->frames);
    if (!over && last >= least)
        return ERR_OK;
    int64_t below = video->frames - over, above = below + facts->window_step;
    char can[64];
    if (last - over >= least)
        snprintf(can, sizeof can, "%lld or %lld", (long long)below, (long long)above);
    else
        snprintf(can, sizeof can, "%lld", (long long)above);
    return job_fail(reader, at, ERR_SHAPE,
                    "%s: a video that ends in a given picture can have %s frames, not %lld: its "
                    "last window starts from %d and has more, %d·n+1 with model %s",
                    key, can, (long long)video->frames, given, facts->window_step, model->spec);
}

static enum error_code fill_shots(struct reader *reader, struct job_video *video,
                                  const struct settings *settings, struct place at) {
    int count = settings->shots ? settings->shot_count : 1;
    struct job_shot *shots = arena_array(&reader->job->arena, (size_t)count, sizeof *shots);
    const char *scene = settings->prompt.set ? job_keep(reader, settings->prompt.text) : "";
    const char *moves = settings->motion.set ? job_keep(reader, settings->motion.text) : "";
    if (!shots || !scene || !moves)
        return job_no_memory(reader);
    int64_t before = 0;
    double seconds = 0;
    for (int i = 0; i < count; i++) {
        const struct shot *given = settings->shots ? &settings->shots[i] : NULL;
        if (given)
            seconds += given->seconds;
        int64_t end = i + 1 == count ? video->frames : frames_at(seconds, &video->output);
        shots[i].frames = end - before;
        before = end;
        shots[i].prompt = given && given->prompt.set ? job_keep(reader, given->prompt.text) : scene;
        shots[i].motion = given && given->motion.set ? job_keep(reader, given->motion.text) : moves;
        if (!shots[i].prompt || !shots[i].motion)
            return job_no_memory(reader);
        if (!*shots[i].prompt)
            return job_fail(reader, at, ERR_USAGE, "the video has no prompt");
        if (shots[i].frames < 1 && rate_is_known(reader, settings))
            return job_fail(reader, settings->shots_at, ERR_USAGE,
                            "shots: shot %d lasts less than one frame", i + 1);
    }
    video->shots = shots;
    video->shot_count = count;
    return ERR_OK;
}

enum error_code job_fill_length(struct reader *reader, struct job_video *video,
                                const struct settings *settings, struct place at) {
    struct place where = settings->seconds.set  ? settings->seconds.at
                         : settings->frames.set ? settings->frames.at
                                                : at;
    const char *key = settings->seconds.set ? "seconds" : settings->frames.set ? "frames" : "shots";
    enum error_code code = count_frames(reader, video, settings, at);
    if (!code)
        code = check_windows(reader, video, key, where);
    if (!code && video->end)
        code = check_end(reader, video, key, where);
    return code ? code : fill_shots(reader, video, settings, at);
}

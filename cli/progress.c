/* Progress as text: pure functions from the state. The stream is progress_view.c's. */
#include "cli/progress.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/text.h"

#define NAME_COLUMNS_MAX 20
#define BAR_COLUMNS_MIN  10
#define BAR_COLUMNS_MAX  32
#define LINE_BYTES       512

/* A window is mostly its denoising; the rest is decoding and encoding. */
#define DENOISE_PART 0.8

static const char *const phase_names[PHASE_COUNT] = {
    [PHASE_WAITING] = "waiting", [PHASE_RUNNING] = "running",   [PHASE_DONE] = "done",
    [PHASE_FAILED] = "failed",   [PHASE_CANCELED] = "canceled",
};

const char *progress_phase_name(enum progress_phase phase) {
    return phase < PHASE_COUNT ? phase_names[phase] : "unknown";
}

/* -- sums -------------------------------------------------------------------------------------- */

static bool is_decoding(const struct progress_video *video) {
    return video->stage && strcmp(video->stage, "decode") == 0;
}

double progress_fraction(const struct progress_video *video) {
    if (video->phase == PHASE_DONE)
        return 1;
    if (video->windows <= 0)
        return 0;
    double windows = video->windows_done;
    bool denoising = video->stage && strcmp(video->stage, "window") == 0;
    if (windows < video->windows && is_decoding(video))
        windows += DENOISE_PART;
    else if (windows < video->windows && denoising && video->steps > 0)
        windows += DENOISE_PART * video->step / video->steps;
    double fraction = windows / video->windows;
    return fraction > 1 ? 1 : fraction;
}

static bool counts(const struct progress_video *video) {
    return video->phase != PHASE_FAILED && video->phase != PHASE_CANCELED;
}

double progress_done(const struct progress *state) {
    double seconds = 0;
    for (int i = 0; i < state->count; i++)
        if (counts(&state->videos[i]))
            seconds += state->videos[i].seconds * progress_fraction(&state->videos[i]);
    return seconds;
}

void progress_sum(struct progress_sums *out, const struct progress *state) {
    memset(out, 0, sizeof *out);
    for (int i = 0; i < state->count; i++) {
        const struct progress_video *video = &state->videos[i];
        out->done += video->phase == PHASE_DONE;
        out->failed += video->phase == PHASE_FAILED;
        out->canceled += video->phase == PHASE_CANCELED;
        out->running += video->phase == PHASE_RUNNING;
        out->seconds += counts(video) ? video->seconds : 0;
    }
    out->seconds_done = progress_done(state);
    double made = out->seconds_done - state->done_at_start;
    bool known = made > 0 && state->elapsed > 0.5;
    out->speed = known ? made / state->elapsed : 0;
    out->left = known ? (out->seconds - out->seconds_done) / out->speed : -1;
    if (out->seconds_done >= out->seconds)
        out->left = 0;
}

/* -- lines of a terminal ---------------------------------------------------------------------- */

/* Columns that UTF-8 text takes: one a code point, as names are plain and our marks narrow. */
static int columns_of(const char *text) {
    int columns = 0;
    for (; *text; text++)
        columns += ((unsigned char)*text & 0xC0) != 0x80;
    return columns;
}

/* Add text, cut or padded to exactly `columns`. */
static void add_columns(struct buffer *out, const char *text, int columns) {
    int used = 0;
    const char *end = text;
    while (*end && (used < columns || ((unsigned char)*end & 0xC0) == 0x80)) {
        used += ((unsigned char)*end & 0xC0) != 0x80;
        end++;
    }
    buffer_add(out, text, (size_t)(end - text));
    buffer_printf(out, "%*s", columns - used, "");
}

static void add_colour(struct buffer *out, const struct progress_style *style, const char *code) {
    if (style->colour)
        buffer_printf(out, "\x1b[%sm", code);
}

static void add_bar(struct buffer *out, double fraction, int columns,
                    const struct progress_style *style) {
    static const char *const eighths[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
    int parts = style->utf8 ? 8 : 1;
    int filled = (int)(fraction * columns * parts + 1e-9);
    int whole = filled / parts, used = whole;
    if (!style->utf8)
        buffer_add_text(out, "[");
    add_colour(out, style, "36");
    for (int i = 0; i < whole; i++)
        buffer_add_text(out, style->utf8 ? "█" : "#");
    if (filled % parts) {
        buffer_add_text(out, eighths[filled % parts]);
        used++;
    }
    add_colour(out, style, "0;2");
    for (; used < columns; used++)
        buffer_add_text(out, style->utf8 ? "─" : ".");
    add_colour(out, style, "0");
    if (!style->utf8)
        buffer_add_text(out, "]");
}

/* "12 s", "3 min 20 s": whole seconds, as tenths of a guess only flicker. */
static const char *left_text(char out[32], double seconds) {
    if (seconds < 60)
        snprintf(out, 32, "%.0f s", ceil(seconds));
    else
        text_duration(out, ceil(seconds));
    return out;
}

/* How much is told beside a bar; less where there is little room. */
enum amount { AMOUNT_ALL, AMOUNT_SHORT, AMOUNT_LITTLE, AMOUNT_NONE };

/* What a video is at: "window 12/60 step 3/4". */
static void activity(char *out, size_t bytes, const struct progress_video *video,
                     enum amount amount) {
    const char *stage = video->stage ? video->stage : "";
    bool in_window = strcmp(stage, "window") == 0 || strcmp(stage, "decode") == 0;
    int length = snprintf(out, bytes, "%s", amount < AMOUNT_NONE ? stage : "");
    if (in_window && video->windows > 0 && amount < AMOUNT_LITTLE)
        length += snprintf(out + length, bytes - (size_t)length, " %d/%d",
                           video->windows_done < video->windows ? video->windows_done + 1
                                                                : video->windows,
                           video->windows);
    if (amount == AMOUNT_ALL && video->steps > 0)
        snprintf(out + length, bytes - (size_t)length, " step %d/%d", video->step, video->steps);
}

/* "1/4 videos, 1 failed  20 s left  2.25x real time" */
static void outlook(char *out, size_t bytes, const struct progress *state, enum amount amount,
                    const struct progress_style *style) {
    struct progress_sums sums;
    struct buffer text = {0};
    char left[32];
    progress_sum(&sums, state);
    if (amount < AMOUNT_LITTLE)
        buffer_printf(&text, "%d/%d videos", sums.done, state->count);
    if (amount < AMOUNT_LITTLE && sums.failed)
        buffer_printf(&text, ", %d failed", sums.failed);
    const char *gap = text.length ? "  " : "";
    if (amount < AMOUNT_NONE && state->paused)
        buffer_printf(&text, "%spaused", gap);
    else if (amount < AMOUNT_NONE && sums.left >= 0)
        buffer_printf(&text, "%s%s left", gap, left_text(left, sums.left));
    if (amount == AMOUNT_ALL && sums.speed > 0)
        buffer_printf(&text, "  %.2f%s real time", sums.speed, style->utf8 ? "×" : "x");
    snprintf(out, bytes, "%s", text.data ? text.data : "");
    buffer_close(&text);
}

/* Columns of the block: names, bars of one width, percentages, and what is told beside them. */
struct layout {
    int names, bars, tails;
    enum amount amount;
};

/* "name  [bar] 100%": what is not the bar. */
static int fixed_columns(const struct layout *layout, const struct progress_style *style) {
    return layout->names + 2 + (style->utf8 ? 0 : 2) + 5;
}

static void add_bar_line(struct buffer *out, const char *name, double fraction, const char *tail,
                         const struct layout *layout, const struct progress_style *style) {
    int room = style->columns - fixed_columns(layout, style) - layout->bars - 2;
    if (layout->bars < 1) { /* a very narrow terminal: the percentage alone */
        buffer_printf(out, "%3d%%\n", (int)(100 * fraction + 1e-9));
        return;
    }
    add_columns(out, name, layout->names);
    buffer_add_text(out, "  ");
    add_bar(out, fraction, layout->bars, style);
    /* 100 % is for what is done, so round down. */
    buffer_printf(out, " %3d%%", (int)(100 * fraction + 1e-9));
    if (*tail && room > 0) {
        buffer_add_text(out, "  ");
        add_columns(out, tail, columns_of(tail) < room ? columns_of(tail) : room);
    }
    buffer_add_text(out, "\n");
}

static int widest_tail(const struct progress *state, enum amount amount,
                       const struct progress_style *style) {
    char tail[LINE_BYTES];
    outlook(tail, sizeof tail, state, amount, style);
    int widest = columns_of(tail);
    for (int i = 0; i < state->count; i++) {
        if (state->videos[i].phase != PHASE_RUNNING)
            continue;
        activity(tail, sizeof tail, &state->videos[i], amount);
        widest = columns_of(tail) > widest ? columns_of(tail) : widest;
    }
    return widest ? widest + 2 : 0;
}

/* Tell as much as leaves room for bars that one can read. */
static struct layout lay_out(const struct progress *state, const struct progress_style *style) {
    struct layout layout = {.names = columns_of("total")};
    for (int i = 0; i < state->count; i++) {
        int columns = columns_of(state->videos[i].name);
        if (state->videos[i].phase == PHASE_RUNNING && columns > layout.names)
            layout.names = columns;
    }
    int most = style->columns / 4 < NAME_COLUMNS_MAX ? style->columns / 4 : NAME_COLUMNS_MAX;
    layout.names = layout.names < most ? layout.names : most;
    for (int amount = AMOUNT_ALL; amount <= AMOUNT_NONE; amount++) {
        layout.amount = (enum amount)amount;
        layout.tails = widest_tail(state, layout.amount, style);
        layout.bars = style->columns - fixed_columns(&layout, style) - layout.tails;
        if (layout.bars >= BAR_COLUMNS_MIN)
            break;
    }
    layout.bars = layout.bars > BAR_COLUMNS_MAX ? BAR_COLUMNS_MAX : layout.bars;
    return layout;
}

void progress_bars(struct buffer *out, int *lines, const struct progress *state,
                   const struct progress_style *style) {
    struct layout layout = lay_out(state, style);
    struct progress_sums sums;
    char tail[LINE_BYTES];
    int shown = 0, hidden = 0;
    int most = style->rows > 4 ? style->rows - 3 : 1;
    for (int i = 0; i < state->count; i++) {
        const struct progress_video *video = &state->videos[i];
        if (video->phase == PHASE_RUNNING && shown == most)
            hidden++;
        if (video->phase != PHASE_RUNNING || shown == most)
            continue;
        activity(tail, sizeof tail, video, layout.amount);
        add_bar_line(out, video->name, progress_fraction(video), tail, &layout, style);
        shown++;
    }
    bool tell_hidden = hidden && style->columns >= 32;
    if (tell_hidden)
        buffer_printf(out, "%s and %d more\n", style->utf8 ? "…" : "...", hidden);
    progress_sum(&sums, state);
    outlook(tail, sizeof tail, state, layout.amount, style);
    add_bar_line(out, "total", sums.seconds > 0 ? sums.seconds_done / sums.seconds : 0, tail,
                 &layout, style);
    if (lines)
        *lines = shown + 1 + tell_hidden;
}

/* -- lines that stay -------------------------------------------------------------------------- */

static const char *speed_text(char out[64], const struct progress_video *video) {
    double ratio = video->took > 0 ? video->seconds / video->took : 0;
    if (ratio >= 1)
        snprintf(out, 64, "%.1f times faster than real time", ratio);
    else if (ratio > 0)
        snprintf(out, 64, "%.1f times slower than real time", 1 / ratio);
    else
        snprintf(out, 64, "nothing to do");
    return out;
}

void progress_ended(struct buffer *out, const struct progress_video *video,
                    const struct progress_style *style) {
    char took[32], seconds[32], speed[64];
    bool done = video->phase == PHASE_DONE;
    const char *mark = style->utf8 ? (done ? "✓ " : "✗ ") : "";
    if (video->phase != PHASE_DONE && video->phase != PHASE_FAILED &&
        video->phase != PHASE_CANCELED)
        return;
    add_colour(out, style, done ? "32" : "31");
    buffer_add_text(out, mark);
    add_colour(out, style, "0");
    if (video->phase == PHASE_CANCELED)
        buffer_printf(out, "%s: canceled\n", video->name);
    else if (!done)
        buffer_printf(out, "%s: failed: %s\n", video->name,
                      video->error && *video->error ? video->error : "no reason was given");
    else if (!video->before)
        buffer_printf(out, "%s: %s of video in %s, %s: %s\n", video->name,
                      text_duration(seconds, video->seconds), text_duration(took, video->took),
                      speed_text(speed, video), video->path ? video->path : "");
    else
        buffer_printf(out, "%s: %s of video, already there: %s\n", video->name,
                      text_duration(seconds, video->seconds), video->path ? video->path : "");
}

void progress_line(struct buffer *out, const struct progress *state) {
    struct progress_sums sums;
    char left[32];
    progress_sum(&sums, state);
    buffer_printf(out, "%s: %d of %d videos done", state->job, sums.done, state->count);
    if (sums.failed)
        buffer_printf(out, ", %d failed", sums.failed);
    buffer_printf(out, ", %.0f %% of %.1f s",
                  sums.seconds > 0 ? 100 * sums.seconds_done / sums.seconds : 0, sums.seconds);
    if (state->paused)
        buffer_add_text(out, ", paused");
    else if (sums.left >= 0)
        buffer_printf(out, ", %s left", left_text(left, sums.left));
    if (sums.speed > 0)
        buffer_printf(out, ", %.2f times real time", sums.speed);
    for (int i = 0, shown = 0; i < state->count && shown < 3; i++) {
        if (state->videos[i].phase != PHASE_RUNNING)
            continue;
        char what[LINE_BYTES];
        activity(what, sizeof what, &state->videos[i], AMOUNT_ALL);
        buffer_printf(out, "%s%s %s", shown ? ", " : "; ", state->videos[i].name, what);
        shown++;
    }
    buffer_add_text(out, "\n");
}

/* -- JSON ------------------------------------------------------------------------------------- */

static void put_video(struct json_writer *writer, const struct progress_video *video) {
    json_put_text(writer, "name", video->name);
    json_put_text(writer, "state", progress_phase_name(video->phase));
    json_put_text(writer, "stage", video->stage ? video->stage : "");
    json_put_int(writer, "windows", video->windows);
    json_put_int(writer, "windows_done", video->windows_done);
    json_put_int(writer, "step", video->step);
    json_put_int(writer, "steps", video->steps);
    json_put_double(writer, "fraction", progress_fraction(video));
    json_put_double(writer, "seconds", video->seconds);
    json_put_double(writer, "took_s", video->took);
    quality_put_json(writer, &video->quality, quality_past(&video->quality));
    if (video->path && *video->path)
        json_put_text(writer, "path", video->path);
    if (video->error && *video->error)
        json_put_text(writer, "error", video->error);
}

void progress_json_video(struct buffer *out, const struct progress_video *video) {
    struct json_writer writer = {.buffer = out};
    json_begin_object(&writer, NULL);
    json_put_text(&writer, "event", "video");
    put_video(&writer, video);
    json_end_object(&writer);
    buffer_add_text(out, "\n");
}

void progress_json(struct buffer *out, const struct progress *state) {
    struct json_writer writer = {.buffer = out};
    struct progress_sums sums;
    progress_sum(&sums, state);
    json_begin_object(&writer, NULL);
    json_put_text(&writer, "event", "progress");
    json_put_text(&writer, "job", state->job);
    json_put_int(&writer, "videos", state->count);
    json_put_int(&writer, "done", sums.done);
    json_put_int(&writer, "failed", sums.failed);
    json_put_int(&writer, "canceled", sums.canceled);
    json_put_double(&writer, "seconds", sums.seconds);
    json_put_double(&writer, "seconds_done", sums.seconds_done);
    json_put_double(&writer, "elapsed_s", state->elapsed);
    json_put_double(&writer, "left_s", sums.left);
    json_put_double(&writer, "speed", sums.speed);
    json_put_bool(&writer, "paused", state->paused);
    json_begin_array(&writer, "running");
    for (int i = 0; i < state->count; i++) {
        if (state->videos[i].phase != PHASE_RUNNING)
            continue;
        json_begin_object(&writer, NULL);
        put_video(&writer, &state->videos[i]);
        json_end_object(&writer);
    }
    json_end_array(&writer);
    json_end_object(&writer);
    buffer_add_text(out, "\n");
}

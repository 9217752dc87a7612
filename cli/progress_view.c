/* The stream behind progress: when to draw, where the cursor is, what was said already. */
#include <langinfo.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/progress.h"

#define DRAW_INTERVAL (100 * CLOCK_MS)
#define JSON_INTERVAL (1 * CLOCK_S)
/* In a log the lines come ever more rarely: 5 s, 10 s, 20 s, … up to a minute apart. */
#define LINE_INTERVAL_FIRST (5 * CLOCK_S)
#define LINE_INTERVAL_LAST  (60 * CLOCK_S)

struct progress_view {
    enum progress_form form;
    FILE *stream;
    struct progress_style style;
    int lines; /* of bars on the screen, above the cursor */
    bool cursor_hidden;
    bool drawn;            /* at least once */
    int64_t drawn_at;      /* monotonic ns */
    int64_t line_interval; /* ns */
    unsigned char *said;   /* a video's end was shown; [count] */
    int count;
};

static void measure_terminal(struct progress_view *view) {
    struct winsize size;
    view->style.columns = 80;
    view->style.rows = 24;
    if (ioctl(fileno(view->stream), TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
        view->style.columns = size.ws_col;
        view->style.rows = size.ws_row > 0 ? size.ws_row : 24;
    }
}

static bool wants_colour(FILE *stream) {
    const char *no_color = getenv("NO_COLOR"); /* https://no-color.org: the one variable we read */
    return isatty(fileno(stream)) && !(no_color && *no_color);
}

enum error_code progress_open(struct progress_view **out_view, enum progress_form form, FILE *out,
                              FILE *err, struct error *error) {
    struct progress_view *view = calloc(1, sizeof *view);
    if (!view)
        return error_set(error, ERR_MEMORY, "no memory for the progress display");
    if (form == PROGRESS_AUTO)
        form = isatty(fileno(err)) ? PROGRESS_BAR : PROGRESS_LINES;
    view->form = form;
    view->stream = form == PROGRESS_JSON ? out : err;
    view->line_interval = LINE_INTERVAL_FIRST;
    view->style.utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
    view->style.colour = wants_colour(view->stream);
    measure_terminal(view);
    *out_view = view;
    return ERR_OK;
}

static void write_whole(struct progress_view *view, struct buffer *text) {
    if (text->data && !text->failed) {
        fwrite(text->data, 1, text->length, view->stream);
        fflush(view->stream);
    }
    buffer_close(text);
}

/* The sequence that takes the bars off the screen; the cursor is then where they began. */
static void add_erase(struct buffer *out, struct progress_view *view) {
    if (view->lines > 0)
        buffer_printf(out, "\x1b[%dA\r\x1b[J", view->lines);
    view->lines = 0;
}

/* The ends of videos that were not told yet. A video that was done before this program came is told
 * once, with the others. */
static bool add_news(struct buffer *out, struct progress_view *view, const struct progress *state) {
    bool any = false;
    for (int i = 0; i < state->count && i < view->count; i++) {
        const struct progress_video *video = &state->videos[i];
        if (view->said[i] || video->phase == PHASE_WAITING || video->phase == PHASE_RUNNING)
            continue;
        if (view->form == PROGRESS_JSON)
            progress_json_video(out, video);
        else
            progress_ended(out, video, &view->style);
        view->said[i] = 1;
        any = true;
    }
    return any;
}

static bool know_videos(struct progress_view *view, const struct progress *state) {
    if (view->count != state->count) {
        free(view->said);
        view->said = calloc((size_t)state->count + 1, 1);
        view->count = view->said ? state->count : 0;
    }
    return view->said != NULL;
}

static int64_t interval(const struct progress_view *view) {
    switch (view->form) {
    case PROGRESS_BAR:
        return DRAW_INTERVAL;
    case PROGRESS_JSON:
        return JSON_INTERVAL;
    default:
        return view->line_interval;
    }
}

/* The part that changes: bars, or a line of totals. */
static void add_state(struct buffer *out, struct progress_view *view,
                      const struct progress *state) {
    if (view->form == PROGRESS_JSON) {
        progress_json(out, state);
    } else if (view->form == PROGRESS_LINES) {
        progress_line(out, state);
        view->line_interval *= view->line_interval < LINE_INTERVAL_LAST ? 2 : 1;
    } else {
        measure_terminal(view);
        progress_bars(out, &view->lines, state, &view->style);
    }
}

void progress_show(struct progress_view *view, const struct progress *state, int64_t now) {
    struct buffer text = {0}, news = {0};
    if (view->form == PROGRESS_QUIET || !know_videos(view, state))
        return;
    bool due = !view->drawn || now - view->drawn_at >= interval(view);
    bool any = add_news(&news, view, state);
    if (!due && !any) {
        buffer_close(&news);
        return;
    }
    if (view->form == PROGRESS_BAR && !view->cursor_hidden)
        buffer_add_text(&text, "\x1b[?25l");
    view->cursor_hidden = view->form == PROGRESS_BAR;
    add_erase(&text, view);
    buffer_add(&text, news.data ? news.data : "", news.length);
    if (due || view->form == PROGRESS_BAR) {
        add_state(&text, view, state);
        view->drawn_at = now;
        view->drawn = true;
    }
    buffer_close(&news);
    write_whole(view, &text);
}

void progress_close(struct progress_view **view) {
    struct buffer text = {0};
    if (!*view)
        return;
    add_erase(&text, *view);
    if ((*view)->cursor_hidden)
        buffer_add_text(&text, "\x1b[?25h");
    write_whole(*view, &text);
    free((*view)->said);
    free(*view);
    *view = NULL;
}

/* Windows drawn again: as soon as a window's decode has told its measures, the window is kept,
 * drawn again, or an earlier draw of it taken. What comes after it waits for that. */
#include "coordinator/scheduler_internal.h"

#include <math.h>

/* The window's next draw takes the place of this one, and with it all that comes after it. */
static void draw(struct scheduler *self, struct active *active, int window, int which) {
    struct error error = {0};
    int first = active->plan->chain + 2 * window, mux = active->plan->task_count - 1;
    if (plan_redraw(&active->plan, window, which, &error)) {
        self->actions->failed = true;
        return;
    }
    active->cursor = first;
    for (int i = first; i < mux; i++) {
        node_leave(self, active->nodes[i], active, i);
        active->nodes[i] = node_take(self, &active->plan->tasks[i], active_entry(active)->class);
        if (!active->nodes[i] || !node_add_user(active->nodes[i], active, i)) {
            self->actions->failed = true;
            return;
        }
    }
}

static void settle(struct active *active, const struct measures *measures) {
    struct video_entry *entry = active_entry(active);
    entry->drift = fmax(entry->drift, measures_drift(measures));
    entry->seam = fmax(entry->seam, measures->seam);
    active->judged++;
}

static void judge(struct scheduler *self, struct active *active) {
    const struct node *node = active->nodes[active->cursor];
    const struct measures measures = node->result.measures;
    const struct job_limits *limits = &active->plan->video->limits;
    int window = active->judged, drawn = active->plan->draws[window];
    double excess = measures_excess(&measures, limits);
    bool told = node->found;
    if (drawn == 0 || excess < active->best_excess) {
        active->best = drawn;
        active->best_excess = excess;
        active->best_measures = measures;
    }
    bool again = excess > 0 && drawn < limits->redraws;
    if (excess > 0 && limits->redraws && !told)
        event_add(
            self, active->job->id, active->video,
            "window %d: drift %.4f (colour %.4f, luminance %+.4f, sharpness %+.4f), seam %.4f "
            "are past the limits; %s",
            window, measures_drift(&measures), measures.colour, measures.luminance,
            measures.sharpness, measures.seam,
            again ? "it is drawn again" : "the draw that is least past them is taken");
    if (again) {
        active_entry(active)->redraws++;
        draw(self, active, window, drawn + 1);
        return;
    }
    settle(active, &active->best_measures);
    if (active->best != drawn)
        draw(self, active, window, active->best);
}

void active_settle(struct scheduler *self, struct active *active) {
    for (active_advance(active); !self->actions->failed; active_advance(active)) {
        const struct plan_task *task = &active->plan->tasks[active->cursor];
        if (task->kind != PLAN_DECODE || active->nodes[active->cursor]->state != NODE_DONE)
            return;
        judge(self, active);
    }
}

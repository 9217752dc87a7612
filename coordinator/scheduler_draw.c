/* Windows drawn again: as soon as a window's decode has told its measures, the window is kept,
 * drawn again, or an earlier draw of it taken. What comes after it waits for that. */
#include "coordinator/scheduler_internal.h"

#include <math.h>
#include <stdio.h>

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

/* A draw that is past the limits: it is drawn again, or the one least past them is taken. */
static void tell(struct scheduler *self, const struct active *active,
                 const struct measures *measures, bool again) {
    const struct measures *told = again ? measures : &active->best_measures;
    char then[96] = "it is drawn again";
    if (!again && active->plan->video->limits.redraws)
        snprintf(then, sizeof then,
                 "they stay so after %d redraws: draw %d, the least past them, is taken",
                 active->plan->video->limits.redraws, active->best + 1);
    else if (!again)
        snprintf(then, sizeof then, "the job asks for no redraws");
    event_add(self, active->job->id, active->video,
              "window %d: drift %.4f (colour %.4f, luminance %+.4f, sharpness %+.4f), seam %.4f "
              "are past the limits; %s",
              active->judged, measures_drift(told), told->colour, told->luminance, told->sharpness,
              told->seam, then);
}

static void judge(struct scheduler *self, struct active *active) {
    const struct node *node = active->nodes[active->cursor];
    const struct measures measures = node->result.measures;
    const struct job_limits *limits = &active->plan->video->limits;
    int window = active->judged, drawn = active->plan->draws[window];
    double excess = measures_excess(&measures, limits);
    bool is_known = node->found;
    if (drawn == 0 || excess < active->best_excess) {
        active->best = drawn;
        active->best_excess = excess;
        active->best_measures = measures;
    }
    bool again = excess > 0 && drawn < limits->redraws;
    if (excess > 0 && !is_known)
        tell(self, active, &measures, again);
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

/* What the plan's files share: plan.c (windows, counts, a plan's life), plan_texts.c, plan_tasks.c.
 * Any thread; nothing is kept between calls. */
#ifndef VIDLOOM_COORDINATOR_PLAN_INTERNAL_H
#define VIDLOOM_COORDINATOR_PLAN_INTERNAL_H

#include "base/arena.h"
#include "coordinator/plan.h"

/* The shot in which frame `at` of the video lies. */
int plan_shot_at(const struct job_video *video, int64_t at);

/* The distinct texts of a video, in order of first use; which of them each thing wants. */
struct texts {
    char **text; /* room for one a shot and three more */
    const struct job_model **model;
    int count;
    int keyframe, keyframe_negative, window_negative; /* -1: none */
    int *shot;                                        /* -1: no window starts in it */
    bool failed;
};

/* Whether both encode a text alike. */
bool plan_same_model(const struct job_model *a, const struct job_model *b);

/* NULL: no memory. */
struct texts *plan_texts_open(const struct job *job, const struct job_video *video, int64_t windows,
                              int overlap);
void plan_texts_close(struct texts *texts); /* NULL is fine */

/* A plan that is being made. */
struct planner {
    struct plan *plan;
    const struct plan_counts *counts;
    const struct texts *texts;
    struct plan_task *next; /* to be planned */
    struct arena arena;
    struct plan_input *inputs; /* all tasks', one after another */
    int input_count;
    struct buffer body; /* parameters without braces and without the model */
    bool failed;
};

/* All of the plan's tasks, from planner->next on: texts, pictures, windows, mux. */
void plan_tasks(struct planner *planner);

#endif

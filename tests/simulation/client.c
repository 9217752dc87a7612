#include "world.h"

#include <string.h>

#include "tests/coordinator/fake.h"

static enum error_code sim_model(void *user, struct model_facts *out, const char *spec,
                                 struct error *error) {
    *out = fake_pocket(spec);
    return ERR_OK;
}

void make_job(struct world *world, int index) {
    struct buffer text = {0};
    struct error error = {0};
    struct job_resolver resolver = {.read_model = sim_model};
    int videos = 1 + (int)roll(&world->dice, 4);
    buffer_printf(&text, "job: j%d\nmodel: pocket\nvideos:\n", index);
    for (int i = 0; i < videos; i++)
        buffer_printf(&text,
                      "  - {name: v%d, prompt: a p%u, seed: %u, frames: %u, guidance: %u, "
                      "limits: {drift: 0.5, seam: 0.7, redraws: %u}}\n",
                      i, roll(&world->dice, 2), roll(&world->dice, 2), 1 + roll(&world->dice, 60),
                      1 + roll(&world->dice, 2), roll(&world->dice, 4));
    enum error_code code =
        job_parse(&world->templates[index], "j.yaml", text.data, text.length, &resolver, &error);
    SIM_CHECK(world, !code, "job: %s", error.detail);
    buffer_close(&text);
    struct buffer document = {0};
    job_write(&document, world->templates[index]);
    world->documents[index] = buffer_take(&document);
    world->jobs[index].videos = videos;
    snprintf(world->jobs[index].submission, sizeof world->jobs[index].submission, "s%d", index);
}

static bool submit(struct world *world, int index) {
    struct sim_job *job = &world->jobs[index];
    const char *document = world->documents[index];
    size_t length = strlen(document);
    struct error error = {0};
    struct job *copy;
    uint64_t id = 0;
    enum error_code code = job_load(&copy, document, length, &error);
    SIM_CHECK(world, !code, "document: %s", error.detail);
    struct scheduler_submission submission = {.document = document,
                                              .document_length = length,
                                              .submission = job->submission,
                                              .priority = (int)roll(&world->dice, 2)};
    code = scheduler_add_job(world->scheduler, &id, &copy, &submission, world->now, &world->actions,
                             &error);
    SIM_CHECK(world, !code, "submit: %s", error.detail);
    for (int i = 0; i < JOBS; i++) /* a number that was never committed is given again */
        if (world->jobs[i].submitted == id)
            world->jobs[i].submitted = 0;
    job->submitted = id;
    if (!carry_out(world))
        return false;
    /* Acknowledged after the commit, if that was possible, and if the answer arrives. */
    if (!world->actions.count && (world->calm || roll(&world->dice, 4))) {
        job->id = id;
        say(world, "job %d is %llu", index, (unsigned long long)id);
    }
    return true;
}

static void control(struct world *world, uint64_t id) {
    static const enum scheduler_control controls[] = {CONTROL_PAUSE, CONTROL_RESUME, CONTROL_CANCEL,
                                                      CONTROL_RETRY};
    enum scheduler_control control = controls[roll(&world->dice, 4)];
    struct error error = {0};
    if (world->calm)
        control = CONTROL_RESUME;
    else if (control == CONTROL_CANCEL && roll(&world->dice, 4))
        return;
    enum error_code code =
        scheduler_control_job(world->scheduler, id, control, world->now, &world->actions, &error);
    SIM_CHECK(world, code == ERR_OK || code == ERR_USAGE, "control: %s", error.detail);
}

bool client_turn(struct world *world) {
    int index = (int)roll(&world->dice, JOBS);
    if (!world->jobs[index].id)
        return submit(world, index);
    control(world, world->jobs[index].id);
    return true;
}

#include "cli/crew.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "worker/compute.h"

#define NAME_BYTES 128

#define FRAME_KINDS (1u << WORK_DECODE | 1u << WORK_MUX)
#define ALL_KINDS   ((1u << WORK_KIND_COUNT) - 1)

struct hand {
    struct crew *crew;
    const struct backend_device *device;
    struct agent *agent;
    pthread_t thread;
    bool started;
    bool divided; /* others do not take what this one does */
    char name[NAME_BYTES];
};

struct crew {
    struct crew_config config;
    struct hand hands[CREW_MAX];
    int count;
    atomic_int left;      /* workers that can still work */
    pthread_mutex_t lock; /* guards failure */
    struct error failure; /* the first: later ones often follow from it */
};

static void note_failure(struct hand *hand, const struct error *error, bool last) {
    struct crew *crew = hand->crew;
    pthread_mutex_lock(&crew->lock);
    if (crew->failure.code == ERR_OK)
        crew->failure = *error;
    pthread_mutex_unlock(&crew->lock);
    if (crew->config.failed && last)
        crew->config.failed(crew->config.user, error);
    else if (!last)
        log_line(crew->config.agent.log, LOG_ERROR, "worker", "%s on %s has ended: %s", hand->name,
                 hand->device->name, error->detail);
}

static void *work(void *argument) {
    struct hand *hand = argument;
    struct error error = {0};
    enum error_code code = agent_run(hand->agent, &error);
    bool last = atomic_fetch_sub(&hand->crew->left, 1) == 1;
    if (code != ERR_OK)
        note_failure(hand, &error, last || hand->divided);
    return NULL;
}

/* Cores shared out among the workers that compute on them: the first get one more when it does not
 * come out even. `index` counts these workers. */
static int threads_of(const struct crew_config *config, int index) {
    int workers = 0;
    for (int i = 0; i < config->devices->count; i++)
        workers += config->devices->items[i].ops == ops_cpu() ? config->each : 0;
    if (config->agent.device.threads || workers <= 1)
        return config->agent.device.threads;
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    int share = (int)cores / workers + (index < (int)cores % workers);
    return share > 0 ? share : 1;
}

/* Of several workers on a GPU the last makes frames and files, beside what the others denoise: with
 * a stream of its own, and without a second transformer. */
static unsigned kinds_of(const struct hand *hand, int place) {
    const struct crew_config *config = &hand->crew->config;
    if (!hand->divided)
        return config->agent.kinds;
    return place == config->each - 1 ? FRAME_KINDS : ALL_KINDS & ~FRAME_KINDS;
}

static enum error_code open_hand(struct crew *crew, const struct backend_device *device, bool alone,
                                 int on_cpu, struct error *error) {
    struct hand *hand = &crew->hands[crew->count];
    struct agent_config agent = crew->config.agent;
    hand->divided =
        crew->config.each > 1 && device->ops != ops_cpu() && crew->config.agent.kinds == 0;
    hand->crew = crew;
    hand->device = device;
    if (alone)
        snprintf(hand->name, sizeof hand->name, "%s", agent.name);
    else
        snprintf(hand->name, sizeof hand->name, "%s-%d", agent.name, crew->count + 1);
    agent.name = hand->name;
    agent.kinds = kinds_of(hand, crew->count % crew->config.each);
    agent.ops = device->ops;
    agent.device.index = device->index;
    agent.device.threads = threads_of(&crew->config, on_cpu);
    enum error_code code = agent_open(&hand->agent, &agent, error);
    if (code != ERR_OK)
        return error_prefix(error, "%s: ", device->name);
    if (hand->divided)
        log_line(agent.log, LOG_INFO, "worker", "%s on %s takes %s", hand->name, device->name,
                 agent.kinds == FRAME_KINDS ? "decode and mux" : "all but decode and mux");
    crew->count++;
    return ERR_OK;
}

static enum error_code open_hands(struct crew *crew, struct error *error) {
    const struct backend_devices *devices = crew->config.devices;
    int total = devices->count * crew->config.each, on_cpu = 0;
    enum error_code code = ERR_OK;
    if (total > CREW_MAX)
        return error_set(error, ERR_LIMIT, "%d workers on each of %d devices: at most %d in all",
                         crew->config.each, devices->count, CREW_MAX);
    for (int i = 0; i < total && code == ERR_OK; i++) {
        const struct backend_device *device = &devices->items[i / crew->config.each];
        code = open_hand(crew, device, total == 1, on_cpu, error);
        on_cpu += device->ops == ops_cpu();
    }
    return code;
}

static enum error_code start(struct crew *crew, struct error *error) {
    atomic_store(&crew->left, crew->count);
    for (int i = 0; i < crew->count; i++) {
        struct hand *hand = &crew->hands[i];
        if (pthread_create(&hand->thread, NULL, work, hand) != 0)
            return error_set(error, ERR_MEMORY, "no thread for worker %d", i + 1);
        hand->started = true;
    }
    return ERR_OK;
}

enum error_code crew_open(struct crew **out, const struct crew_config *config,
                          struct error *error) {
    struct crew *crew = calloc(1, sizeof *crew);
    *out = crew;
    if (!crew)
        return error_set(error, ERR_MEMORY, "no memory for workers");
    crew->config = *config;
    pthread_mutex_init(&crew->lock, NULL);
    enum error_code code = open_hands(crew, error);
    return code == ERR_OK ? start(crew, error) : code;
}

static void join(struct crew *crew) {
    for (int i = 0; i < crew->count; i++) {
        if (crew->hands[i].started)
            pthread_join(crew->hands[i].thread, NULL);
        crew->hands[i].started = false;
    }
}

enum error_code crew_wait(struct crew *crew, struct error *error) {
    join(crew);
    if (crew->failure.code != ERR_OK)
        *error = crew->failure;
    return crew->failure.code;
}

void crew_close(struct crew **out) {
    struct crew *crew = *out;
    if (!crew)
        return;
    join(crew);
    for (int i = 0; i < crew->count; i++)
        agent_close(&crew->hands[i].agent);
    pthread_mutex_destroy(&crew->lock);
    free(crew);
    *out = NULL;
}

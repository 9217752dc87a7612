#include "coordinator/scheduler.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

enum {
    EPOCHS_KEPT = 1024, /* accepted results whose repetition is recognised */
    LOSSES_MAX = 10,    /* of one task's artifact: then the store is broken */
    AVOID_MAX = 8,
};

struct worker;
struct active;
struct job_entry;

struct class_entry {
    char name[LIMIT_CLASS_BYTES];
    int workers;
    int64_t absent_since; /* core time; while workers is 0 */
};

/* One user of a task: a started video and the task's place in its plan. */
struct user {
    struct active *active;
    int task;
};

enum node_state { NODE_WAITING, NODE_LEASED, NODE_DONE };

/* A task of one or more started videos. */
struct node {
    struct hash key;
    int class;
    enum node_state state;
    enum plan_kind kind;
    bool looked_up; /* in the ledger, since it last became ready */
    bool private;   /* mux: not shared, not in the table */
    int attempts, deaths, losses;
    int64_t not_before;        /* core time */
    uint64_t avoid[AVOID_MAX]; /* hashes of the names of workers that it failed on */
    int avoid_count;
    struct task_result result;
    struct lease_entry *lease;
    struct user *users;
    int user_count, user_capacity;
    struct node *next; /* in its bucket */
};

struct lease_entry {
    uint64_t epoch;
    struct node *node;
    struct worker *worker;
    int64_t deadline, granted; /* core time */
    int step, steps;
    double fraction;
    char *staged; /* mux */
    uint64_t job;
    int video, task, index;
    struct lease_entry *previous, *next; /* of its worker */
};

/* A video that has been started: its plan and tasks are in memory. */
struct active {
    struct job_entry *job;
    int video;
    struct plan *plan;
    struct node **nodes;
    int cursor; /* the first task of the chain that is not done */
    struct active *previous, *next;
};

struct publishing {
    struct ledger_publication publication; /* texts are its own */
    double seconds;
};

struct video_entry {
    uint8_t state; /* enum video_state */
    uint8_t publish_failures;
    int class; /* -1: not pinned */
    enum error_code code;
    char *detail; /* NULL: none */
    double seconds;
    int64_t not_before;
    struct active *active;
    struct publishing *publishing;
};

struct job_entry {
    uint64_t id;
    struct job *job;
    enum job_state state;
    int priority;
    int64_t submitted_ns;
    char submission[LIMIT_SUBMISSION];
    struct video_entry *videos;
    int by_state[VIDEO_STATE_COUNT];
    int first_pending; /* no video before it is pending */
    double kind_seconds[PLAN_KIND_COUNT];
    int64_t kind_count[PLAN_KIND_COUNT];
    int leases;
};

struct worker {
    uint64_t id;
    uint64_t name_hash;
    char name[LIMIT_WORKER_BYTES];
    int class;
    unsigned kinds;
    int slots, held;
    bool draining, stopped;
    int64_t seen; /* core time */
    int64_t done, failed;
    struct lease_entry *leases;
};

/* From a number that is not 0 to a pointer; open addressing. */
struct map {
    uint64_t *keys;
    void **values;
    size_t mask, count;
};

struct scheduler {
    struct scheduler_config config;
    char *output_root;
    int64_t last_now, core; /* core: time that counts, see scheduler.h */
    bool clock_started;
    int64_t wall, wall_core; /* the wall clock last told, and when that was */
    uint64_t last_job;
    uint32_t last_lease;
    struct job_entry **jobs; /* by (priority, id) */
    int job_count, job_capacity;
    struct map jobs_by_id, workers_by_id, leases;
    struct worker **workers; /* in order of hello */
    int worker_count, worker_capacity;
    struct class_entry *classes;
    int class_count;
    struct active *first_active, *last_active;
    int64_t active_tasks;
    struct node **buckets;
    size_t bucket_count, node_count;
    uint64_t accepted[EPOCHS_KEPT];
    int accepted_at;
    int publishing_count;
    struct scheduler_actions *actions;   /* of the event in hand */
    struct ledger_publication *restored; /* until scheduler_start */
    int restored_count;
};

/* -- maps ------------------------------------------------------------------------------------- */

static size_t map_slot(const struct map *map, uint64_t key) {
    uint64_t mixed = key * UINT64_C(0x9E3779B97F4A7C15);
    size_t at = (size_t)(mixed >> 32) & map->mask;
    while (map->keys[at] && map->keys[at] != key)
        at = (at + 1) & map->mask;
    return at;
}

static void *map_get(const struct map *map, uint64_t key) {
    if (!map->keys || !key)
        return NULL;
    size_t at = map_slot(map, key);
    return map->keys[at] ? map->values[at] : NULL;
}

static bool map_put(struct map *map, uint64_t key, void *value) {
    if (!map->keys || map->count * 2 > map->mask) {
        struct map grown = {.mask = map->keys ? 2 * map->mask + 1 : 63};
        grown.keys = calloc(grown.mask + 1, sizeof *grown.keys);
        grown.values = calloc(grown.mask + 1, sizeof *grown.values);
        if (!grown.keys || !grown.values) {
            free(grown.keys);
            free(grown.values);
            return false;
        }
        for (size_t i = 0; map->keys && i <= map->mask; i++)
            if (map->keys[i]) {
                size_t at = map_slot(&grown, map->keys[i]);
                grown.keys[at] = map->keys[i];
                grown.values[at] = map->values[i];
            }
        grown.count = map->count;
        free(map->keys);
        free(map->values);
        *map = grown;
    }
    size_t at = map_slot(map, key);
    map->count += !map->keys[at];
    map->keys[at] = key;
    map->values[at] = value;
    return true;
}

static void map_remove(struct map *map, uint64_t key) {
    if (!map->keys)
        return;
    size_t at = map_slot(map, key);
    if (!map->keys[at])
        return;
    map->keys[at] = 0;
    map->count--;
    /* What follows may have stood where it stands only because of this one. */
    for (at = (at + 1) & map->mask; map->keys[at]; at = (at + 1) & map->mask) {
        uint64_t moved = map->keys[at];
        void *value = map->values[at];
        map->keys[at] = 0;
        size_t to = map_slot(map, moved);
        map->keys[to] = moved;
        map->values[to] = value;
    }
}

static void map_close(struct map *map) {
    free(map->keys);
    free(map->values);
}

/* -- actions ---------------------------------------------------------------------------------- */

struct chunk {
    struct chunk *next;
    size_t used, capacity;
    _Alignas(16) char bytes[];
};

static void *action_alloc(struct scheduler *self, size_t bytes) {
    struct scheduler_actions *actions = self->actions;
    struct chunk *chunk = actions->texts;
    bytes = (bytes + 15) & ~(size_t)15;
    if (!chunk || chunk->capacity - chunk->used < bytes) {
        size_t capacity = bytes > 16384 ? bytes : 16384;
        chunk = malloc(sizeof *chunk + capacity);
        if (!chunk) {
            actions->failed = true;
            return NULL;
        }
        *chunk = (struct chunk){.next = actions->texts, .capacity = capacity};
        actions->texts = chunk;
    }
    void *made = chunk->bytes + chunk->used;
    chunk->used += bytes;
    return made;
}

static const char *action_bytes(struct scheduler *self, const char *text, size_t length) {
    char *made = action_alloc(self, length + 1);
    if (!made)
        return "";
    if (length)
        memcpy(made, text, length);
    made[length] = '\0';
    return made;
}

static const char *action_text(struct scheduler *self, const char *text) {
    return text ? action_bytes(self, text, strlen(text)) : "";
}

/* Where an action that cannot be stored goes: failed is set and the edge stops. */
static struct scheduler_action *action_add(struct scheduler *self,
                                           enum scheduler_action_kind kind) {
    struct scheduler_actions *actions = self->actions;
    if (actions->count == actions->capacity) {
        size_t capacity = actions->capacity ? 2 * actions->capacity : 64;
        struct scheduler_action *items = realloc(actions->items, capacity * sizeof *items);
        if (!items) {
            actions->failed = true;
            return NULL;
        }
        actions->items = items;
        actions->capacity = capacity;
    }
    struct scheduler_action *action = &actions->items[actions->count++];
    memset(action, 0, sizeof *action);
    action->kind = kind;
    return action;
}

static void free_texts(struct scheduler_actions *actions) {
    struct chunk *chunk = actions->texts;
    while (chunk) {
        struct chunk *next = chunk->next;
        free(chunk);
        chunk = next;
    }
    actions->texts = NULL;
}

void scheduler_actions_clear(struct scheduler_actions *actions) {
    free_texts(actions);
    actions->count = 0;
}

void scheduler_actions_close(struct scheduler_actions *actions) {
    free_texts(actions);
    free(actions->items);
    *actions = (struct scheduler_actions){0};
}

static struct ledger_record *record_add(struct scheduler *self, enum ledger_record_kind kind) {
    static const struct ledger_record none;
    struct scheduler_action *action = action_add(self, ACTION_RECORD);
    if (!action)
        return NULL;
    action->record = none;
    action->record.kind = kind;
    return &action->record;
}

static int64_t wall_now(const struct scheduler *self) {
    return self->wall + (self->core - self->wall_core);
}

static void tell_wall(struct scheduler *self, int64_t wall_ns) {
    if (wall_ns) {
        self->wall = wall_ns;
        self->wall_core = self->core;
    }
}

static void event_add(struct scheduler *self, uint64_t job, int video, const char *format, ...)
    PRINTF_LIKE(4, 5);
static void event_add(struct scheduler *self, uint64_t job, int video, const char *format, ...) {
    char text[ERROR_DETAIL_BYTES + 256];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    struct ledger_record *record = record_add(self, LEDGER_EVENT);
    if (record)
        record->event = (struct ledger_event){
            .job = job, .video = video, .text = action_text(self, text), .wall_ns = wall_now(self)};
}

static void worker_action(struct scheduler *self, enum scheduler_action_kind kind, uint64_t worker,
                          uint64_t epoch, enum error_code code) {
    struct scheduler_action *action = action_add(self, kind);
    if (action) {
        action->worker.worker = worker;
        action->worker.epoch = epoch;
        action->worker.code = code;
    }
}

static void news(struct scheduler *self, uint64_t job, int video, int state, enum error_code code,
                 const char *detail) {
    struct scheduler_action *action = action_add(self, video < 0 ? ACTION_JOB : ACTION_VIDEO);
    if (action) {
        action->news.job = job;
        action->news.video = video;
        action->news.state = state;
        action->news.code = code;
        action->news.detail = action_text(self, detail);
    }
}

static void begin(struct scheduler *self, int64_t now, struct scheduler_actions *actions) {
    self->actions = actions;
    int64_t gap = self->clock_started ? now - self->last_now : 0;
    self->clock_started = true;
    self->last_now = now;
    self->core += gap < 0 ? 0 : gap > self->config.gap_max_ns ? self->config.gap_max_ns : gap;
}

/* -- classes ---------------------------------------------------------------------------------- */

static int class_find(const struct scheduler *self, const char *name) {
    for (int i = 0; i < self->class_count; i++)
        if (!strcmp(self->classes[i].name, name))
            return i;
    return -1;
}

static int class_add(struct scheduler *self, const char *name) {
    int at = class_find(self, name);
    if (at >= 0)
        return at;
    struct class_entry *classes =
        realloc(self->classes, (size_t)(self->class_count + 1) * sizeof *classes);
    if (!classes)
        return -1;
    self->classes = classes;
    classes[self->class_count] = (struct class_entry){.absent_since = self->core};
    (void)snprintf(classes[self->class_count].name, LIMIT_CLASS_BYTES, "%s", name);
    return self->class_count++;
}

static const char *class_name(const struct scheduler *self, int class) {
    return class < 0 ? "" : self->classes[class].name;
}

static bool worker_takes_leases(const struct worker *worker) {
    return worker->slots > 0 && !worker->draining && !worker->stopped;
}

/* Every kind that the class's workers do between them. */
static unsigned class_kinds(const struct scheduler *self, int class) {
    unsigned kinds = 0;
    for (int i = 0; i < self->worker_count; i++)
        if (self->workers[i]->class == class && !self->workers[i]->draining &&
            !self->workers[i]->stopped)
            kinds |= self->workers[i]->kinds;
    return kinds;
}

/* -- nodes ------------------------------------------------------------------------------------ */

static size_t node_bucket(const struct scheduler *self, const struct hash *key, int class) {
    uint64_t number;
    memcpy(&number, key->bytes, sizeof number);
    return (size_t)(number + (uint64_t) class * UINT64_C(0x9E3779B97F4A7C15)) &
           (self->bucket_count - 1);
}

static struct node *node_find(const struct scheduler *self, const struct hash *key, int class) {
    if (!self->bucket_count)
        return NULL;
    struct node *node = self->buckets[node_bucket(self, key, class)];
    while (node && (node->class != class || !hash_equal(&node->key, key)))
        node = node->next;
    return node;
}

static bool node_insert(struct scheduler *self, struct node *node) {
    if (self->node_count >= self->bucket_count) {
        size_t old_count = self->bucket_count, count = old_count ? 2 * old_count : 256;
        struct node **old = self->buckets, **buckets = calloc(count, sizeof(struct node *));
        if (!buckets)
            return false;
        self->buckets = buckets;
        self->bucket_count = count;
        for (size_t i = 0; i < old_count; i++)
            for (struct node *moved = old[i], *next; moved; moved = next) {
                next = moved->next;
                size_t at = node_bucket(self, &moved->key, moved->class);
                moved->next = buckets[at];
                buckets[at] = moved;
            }
        free(old);
    }
    size_t at = node_bucket(self, &node->key, node->class);
    node->next = self->buckets[at];
    self->buckets[at] = node;
    self->node_count++;
    return true;
}

static void node_free(struct scheduler *self, struct node *node) {
    if (!node->private && self->bucket_count) {
        struct node **link = &self->buckets[node_bucket(self, &node->key, node->class)];
        while (*link && *link != node)
            link = &(*link)->next;
        if (*link) {
            *link = node->next;
            self->node_count--;
        }
    }
    free(node->users);
    free(node);
}

static bool node_add_user(struct node *node, struct active *active, int task) {
    if (node->user_count == node->user_capacity) {
        int capacity = node->user_capacity ? 2 * node->user_capacity : 1;
        struct user *users = realloc(node->users, (size_t)capacity * sizeof *users);
        if (!users)
            return false;
        node->users = users;
        node->user_capacity = capacity;
    }
    node->users[node->user_count++] = (struct user){active, task};
    return true;
}

/* -- leases ----------------------------------------------------------------------------------- */

/* The lease is no more; its node waits. */
static void lease_end(struct scheduler *self, struct lease_entry *lease, bool remove_staged) {
    struct worker *worker = lease->worker;
    if (lease->previous)
        lease->previous->next = lease->next;
    else
        worker->leases = lease->next;
    if (lease->next)
        lease->next->previous = lease->previous;
    worker->held--;
    struct job_entry *job = map_get(&self->jobs_by_id, lease->job);
    if (job)
        job->leases--;
    if (remove_staged && lease->staged) {
        struct scheduler_action *action = action_add(self, ACTION_REMOVE_STAGED);
        if (action)
            action->path = action_text(self, lease->staged);
    }
    lease->node->lease = NULL;
    lease->node->state = NODE_WAITING;
    map_remove(&self->leases, lease->epoch);
    free(lease->staged);
    free(lease);
}

static void attempt_add(struct scheduler *self, const struct lease_entry *lease,
                        enum error_code code, const char *detail) {
    struct ledger_record *record = record_add(self, LEDGER_ATTEMPT);
    if (record)
        record->attempt = (struct ledger_attempt){
            .job = lease->job,
            .video = lease->video,
            .task = lease->task,
            .key = lease->node->key,
            .kind = lease->node->kind,
            .index = lease->index,
            .epoch = lease->epoch,
            .worker = action_text(self, lease->worker->name),
            .class = action_text(self, class_name(self, lease->node->class)),
            .code = code,
            .detail = action_text(self, detail),
            .seconds = (double)(self->core - lease->granted) / (double)CLOCK_S,
            .wall_ns = wall_now(self)};
}

/* -- videos ----------------------------------------------------------------------------------- */

static struct video_entry *entry_of(const struct active *active) {
    return &active->job->videos[active->video];
}

static void video_set_state(struct job_entry *job, int video, enum video_state state) {
    job->by_state[job->videos[video].state]--;
    job->by_state[state]++;
    job->videos[video].state = (uint8_t)state;
}

static void video_record(struct scheduler *self, const struct job_entry *job, int video) {
    const struct video_entry *entry = &job->videos[video];
    struct ledger_record *record = record_add(self, LEDGER_VIDEO);
    if (record)
        record->video =
            (struct ledger_video){.job = job->id,
                                  .video = video,
                                  .state = (enum video_state)entry->state,
                                  .class = action_text(self, class_name(self, entry->class)),
                                  .code = entry->code,
                                  .detail = action_text(self, entry->detail),
                                  .seconds = entry->seconds};
}

/* Give up everything that the started video holds. Tasks that only it wanted are revoked. */
static void active_close(struct scheduler *self, struct active *active) {
    for (int i = 0; i < active->plan->task_count; i++) {
        struct node *node = active->nodes[i];
        if (!node)
            continue;
        for (int j = 0; j < node->user_count; j++)
            if (node->users[j].active == active && node->users[j].task == i) {
                node->users[j] = node->users[--node->user_count];
                break;
            }
        if (node->user_count)
            continue;
        if (node->lease) {
            worker_action(self, ACTION_REVOKE, node->lease->worker->id, node->lease->epoch, ERR_OK);
            lease_end(self, node->lease, true);
        }
        node_free(self, node);
    }
    if (active->previous)
        active->previous->next = active->next;
    else
        self->first_active = active->next;
    if (active->next)
        active->next->previous = active->previous;
    else
        self->last_active = active->previous;
    self->active_tasks -= active->plan->task_count;
    entry_of(active)->active = NULL;
    plan_close(&active->plan);
    free(active->nodes);
    free(active);
}

static void publishing_close(struct scheduler *self, struct video_entry *entry) {
    if (!entry->publishing)
        return;
    free((char *)entry->publishing->publication.path);
    free((char *)entry->publishing->publication.staged);
    free(entry->publishing);
    entry->publishing = NULL;
    self->publishing_count--;
}

static void job_set_state(struct scheduler *self, struct job_entry *job, enum job_state state) {
    job->state = state;
    struct ledger_record *record = record_add(self, LEDGER_JOB_STATE);
    if (record) {
        record->job.id = job->id;
        record->job.state = state;
    }
    event_add(self, job->id, -1, "job %s: %s", job->job->name, job_state_name(state));
    news(self, job->id, -1, state, ERR_OK, NULL);
}

static void job_check_end(struct scheduler *self, struct job_entry *job) {
    if (job_state_is_final(job->state))
        return;
    int ended =
        job->by_state[VIDEO_DONE] + job->by_state[VIDEO_FAILED] + job->by_state[VIDEO_CANCELED];
    if (ended == job->job->video_count)
        job_set_state(self, job, ended == job->by_state[VIDEO_DONE] ? JOB_DONE : JOB_FAILED);
}

/* The video has come to an end, or goes back to waiting. */
static void video_leave(struct scheduler *self, struct job_entry *job, int video,
                        enum video_state state, enum error_code code, const char *detail) {
    struct video_entry *entry = &job->videos[video];
    char *kept = detail && *detail ? strdup(detail) : NULL; /* detail may be the old one */
    if (entry->active)
        active_close(self, entry->active);
    free(entry->detail);
    entry->detail = kept;
    entry->code = code;
    video_set_state(job, video, state);
    video_record(self, job, video);
    if (state == VIDEO_WAITING) {
        if (video < job->first_pending)
            job->first_pending = video;
        return;
    }
    event_add(self, job->id, video, "video %s: %s%s%s", job->job->videos[video].name,
              video_state_name(state), kept ? ": " : "", kept ? kept : "");
    news(self, job->id, video, (int)state, code, kept);
    job_check_end(self, job);
}

/* Every video that wants the task fails. */
static void node_fail(struct scheduler *self, struct node *node, enum error_code code,
                      const char *detail) {
    int index = node->users[0].active->plan->tasks[node->users[0].task].index;
    char reason[ERROR_DETAIL_BYTES];
    if (node->kind == PLAN_WINDOW || node->kind == PLAN_DECODE)
        (void)snprintf(reason, sizeof reason, "%s %d: %s: %s", plan_kind_name(node->kind), index,
                       error_name(code), detail && *detail ? detail : error_sentence(code));
    else
        (void)snprintf(reason, sizeof reason, "%s: %s: %s", plan_kind_name(node->kind),
                       error_name(code), detail && *detail ? detail : error_sentence(code));
    /* The last user's going frees the node. One video may use it at two places. */
    for (bool last = false; !last;) {
        struct active *active = node->users[0].active;
        last = true;
        for (int i = 1; i < node->user_count && last; i++)
            last = node->users[i].active == active;
        video_leave(self, active->job, active->video, VIDEO_FAILED, code, reason);
    }
}

static void active_advance(struct active *active) {
    int last = active->plan->task_count - 1;
    while (active->cursor < last && active->nodes[active->cursor]->state == NODE_DONE)
        active->cursor++;
}

static void node_done(struct scheduler *self, struct node *node, const struct task_result *result) {
    node->state = NODE_DONE;
    node->result = *result;
    for (int i = 0; i < node->user_count; i++)
        active_advance(node->users[i].active);
}

/* Its artifact is gone: it has to be made again. */
static void node_undone(struct scheduler *self, struct node *node, uint64_t job) {
    struct ledger_record *record = record_add(self, LEDGER_RESULT_GONE);
    if (record) {
        record->result.key = node->key;
        record->result.class = action_text(self, class_name(self, node->class));
        record->result.job = job;
    }
    node->state = NODE_WAITING;
    node->looked_up = true; /* what the ledger has is what was lost */
    for (int i = 0; i < node->user_count; i++) {
        struct user *user = &node->users[i];
        if (user->task >= user->active->plan->text_count && user->task < user->active->cursor)
            user->active->cursor = user->task;
    }
}

/* -- failures --------------------------------------------------------------------------------- */

static uint64_t hash_name(const char *name) {
    uint64_t hash = UINT64_C(14695981039346656037);
    for (; *name; name++)
        hash = (hash ^ (unsigned char)*name) * UINT64_C(1099511628211);
    return hash;
}

static bool node_avoids(const struct node *node, const struct worker *worker) {
    for (int i = 0; i < node->avoid_count; i++)
        if (node->avoid[i] == worker->name_hash)
            return true;
    return false;
}

/* Whether a worker could take it that it has not failed on. */
static bool node_has_elsewhere(const struct scheduler *self, const struct node *node) {
    for (int i = 0; i < self->worker_count; i++) {
        const struct worker *worker = self->workers[i];
        if (worker->class == node->class && worker_takes_leases(worker) &&
            (worker->kinds & PLAN_KIND_BIT(node->kind)) && !node_avoids(node, worker))
            return true;
    }
    return false;
}

static void node_back_off(struct scheduler *self, struct node *node, const struct worker *worker,
                          int failures) {
    int shift = failures > 6 ? 6 : failures > 0 ? failures - 1 : 0;
    node->not_before = self->core + (self->config.backoff_ns << shift);
    if (!node_avoids(node, worker) && node->avoid_count < AVOID_MAX)
        node->avoid[node->avoid_count++] = worker->name_hash;
}

/* An attempt failed. The lease has been ended. */
static void node_failed_once(struct scheduler *self, struct node *node, struct worker *worker,
                             enum error_code code, const char *detail) {
    enum error_class class = error_class_of(code);
    node->attempts++;
    worker->failed++;
    if (class == ERROR_CLASS_STOP_WORKER)
        worker->stopped = true;
    node_back_off(self, node, worker, node->attempts);
    bool hopeless = class == ERROR_CLASS_FAIL_JOB;
    if (code == ERR_MISSING || code == ERR_DENIED || code == ERR_UNSUPPORTED)
        hopeless = !node_has_elsewhere(self, node);
    if (hopeless || node->attempts >= self->config.attempts_max)
        node_fail(self, node, code, detail);
}

/* A worker died with it, or was never heard of again. */
static void node_died_once(struct scheduler *self, struct node *node, struct worker *worker) {
    char detail[LIMIT_WORKER_BYTES + 160];
    node->deaths++;
    node_back_off(self, node, worker, node->deaths);
    if (node->deaths >= self->config.deaths_max) {
        (void)snprintf(detail, sizeof detail,
                       "%d workers were lost while they worked on it, the last one was %s",
                       node->deaths, worker->name);
        node_fail(self, node, ERR_NETWORK, detail);
    }
}

/* -- starting videos -------------------------------------------------------------------------- */

static bool video_is_pending(const struct video_entry *entry) {
    return (entry->state == VIDEO_WAITING || entry->state == VIDEO_RUNNING) && !entry->active;
}

/* The final path, malloc'ed. */
static char *final_path(const struct scheduler *self, const struct job_video *video) {
    const char *root = self->output_root ? self->output_root : "", *path = video->output.path;
    size_t length = strlen(root), bytes = length + strlen(path) + 2;
    char *out = malloc(bytes);
    if (!out)
        return NULL;
    if (*path == '/' || !length)
        (void)snprintf(out, bytes, "%s", path);
    else
        (void)snprintf(out, bytes, "%s%s%s", root, root[length - 1] == '/' ? "" : "/", path);
    return out;
}

/* Make the video's tasks. NULL: it ended at once (published before, or a plan that cannot be made),
 * or there is no memory. */
static struct active *video_start(struct scheduler *self, struct job_entry *job, int video,
                                  int class) {
    struct video_entry *entry = &job->videos[video];
    const struct job_video *source = &job->job->videos[video];
    struct error error = {0};
    struct plan *plan;
    enum error_code code = plan_open(&plan, job->job, source, &error);
    if (code == ERR_MEMORY) {
        self->actions->failed = true;
        return NULL;
    }
    if (code) {
        video_leave(self, job, video, VIDEO_FAILED, code, error.detail);
        return NULL;
    }
    if (self->config.is_published) {
        char *path = final_path(self, source);
        bool published = path && self->config.is_published(self->config.user, path,
                                                           &plan->tasks[plan->task_count - 1].key);
        free(path);
        if (published) {
            plan_close(&plan);
            video_leave(self, job, video, VIDEO_DONE, ERR_OK, NULL);
            return NULL;
        }
    }
    struct active *active = calloc(1, sizeof *active);
    struct node **nodes = calloc((size_t)plan->task_count, sizeof(struct node *));
    if (!active || !nodes) {
        free(active);
        free(nodes);
        plan_close(&plan);
        self->actions->failed = true;
        return NULL;
    }
    *active = (struct active){.job = job,
                              .video = video,
                              .plan = plan,
                              .nodes = nodes,
                              .cursor = plan->text_count,
                              .previous = self->last_active};
    if (self->last_active)
        self->last_active->next = active;
    else
        self->first_active = active;
    self->last_active = active;
    self->active_tasks += plan->task_count;
    bool anew = entry->state != VIDEO_RUNNING || entry->class != class;
    entry->active = active;
    entry->class = class;
    for (int i = 0; i < plan->task_count; i++) {
        const struct plan_task *task = &plan->tasks[i];
        bool private = task->kind == PLAN_MUX;
        struct node *node = private ? NULL : node_find(self, &task->key, class);
        if (!node) {
            node = calloc(1, sizeof *node);
            if (!node)
                goto no_memory;
            node->key = task->key;
            node->class = class;
            node->kind = task->kind;
            node->private = private;
            node->looked_up = private;
            if (!private && !node_insert(self, node)) {
                free(node);
                goto no_memory;
            }
        }
        active->nodes[i] = node;
        if (!node_add_user(node, active, i))
            goto no_memory;
    }
    active_advance(active);
    if (anew) {
        video_set_state(job, video, VIDEO_RUNNING);
        video_record(self, job, video);
        news(self, job->id, video, VIDEO_RUNNING, ERR_OK, NULL);
    }
    return active;
no_memory:
    self->actions->failed = true;
    active_close(self, active);
    return NULL;
}

/* Whether as many videos of the class are under way as its workers can be busy with. Twice that,
 * for those that wait: for a pause to end, or for a task that another video has under way. */
static bool class_is_full(const struct scheduler *self, int class) {
    int64_t room = 2;
    for (int i = 0; i < self->worker_count; i++)
        if (self->workers[i]->class == class && worker_takes_leases(self->workers[i]))
            room += 2 * (int64_t)self->workers[i]->slots;
    for (const struct active *active = self->first_active; active && room > 0;
         active = active->next)
        room -= active->job->state == JOB_RUNNING && entry_of(active)->class == class;
    return room <= 0;
}

/* Start the next video that this worker's class may work on. False: there is none. */
static bool start_next(struct scheduler *self, const struct worker *worker) {
    if (class_is_full(self, worker->class))
        return false;
    unsigned kinds = class_kinds(self, worker->class);
    for (int i = 0; i < self->job_count; i++) {
        struct job_entry *job = self->jobs[i];
        if (job->state != JOB_RUNNING)
            continue;
        int count = job->job->video_count;
        while (job->first_pending < count && !video_is_pending(&job->videos[job->first_pending]))
            job->first_pending++;
        for (int video = job->first_pending; video < count; video++) {
            struct video_entry *entry = &job->videos[video];
            if (!video_is_pending(entry) || entry->not_before > self->core ||
                (entry->class >= 0 && entry->class != worker->class))
                continue;
            struct plan_counts counts;
            struct error error = {0};
            enum error_code code = plan_count(&counts, job->job, &job->job->videos[video], &error);
            if (code && code != ERR_MEMORY) {
                video_leave(self, job, video, VIDEO_FAILED, code, error.detail);
                return true;
            }
            if (code || (counts.kinds & ~kinds))
                continue;
            if (self->first_active && self->active_tasks + counts.tasks > LIMIT_ACTIVE_TASKS)
                return false;
            (void)video_start(self, job, video, worker->class);
            return !self->actions->failed;
        }
    }
    return false;
}

/* -- giving out ------------------------------------------------------------------------------- */

/* The staged path beside the final one: folder/.NAME.<epoch>.part */
static char *staged_path(const char *path, uint64_t epoch) {
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    size_t bytes = strlen(path) + 32;
    char *out = malloc(bytes);
    if (out)
        (void)snprintf(out, bytes, "%.*s.%s.%llu.part", (int)(name - path), path, name,
                       (unsigned long long)epoch);
    return out;
}

static const char *action_model_text(struct scheduler *self, const char *text) {
    return action_text(self, text);
}

static void lease_action(struct scheduler *self, const struct lease_entry *entry,
                         const struct active *active, int at) {
    const struct plan_task *task = &active->plan->tasks[at];
    struct lease_input *inputs =
        action_alloc(self, ((size_t)task->input_count + 1) * sizeof *inputs);
    struct job_file *file = task->file ? action_alloc(self, sizeof *file) : NULL;
    struct job_model *model = task->model ? action_alloc(self, sizeof *model) : NULL;
    struct scheduler_action *action = action_add(self, ACTION_LEASE);
    if (!action || !inputs || self->actions->failed)
        return;
    for (int i = 0; i < task->input_count; i++) {
        const struct plan_input *input = &task->inputs[i];
        const struct task_output *output =
            task_result_find(&active->nodes[input->task]->result, input->output);
        inputs[i].name = action_text(self, input->name);
        assert(output); /* results are checked before they are accepted */
        inputs[i].object = *output;
    }
    if (file) {
        *file = *task->file;
        file->path = action_model_text(self, file->path);
    }
    if (model) {
        *model = *task->model;
        model->spec = action_model_text(self, model->spec);
    }
    action->lease = (struct lease){
        .worker = entry->worker->id,
        .epoch = entry->epoch,
        .lease_ns = self->config.lease_ns,
        .kind = task->kind,
        .index = task->index,
        .key = task->key,
        .class = action_text(self, class_name(self, entry->node->class)),
        .job = active->job->id,
        .video = active->video,
        .job_name = action_text(self, active->job->job->name),
        .video_name = action_text(self, active->plan->video->name),
        .parameters = action_bytes(self, task->parameters, task->parameters_length),
        .parameters_length = task->parameters_length,
        .inputs = inputs,
        .input_count = task->input_count,
        .file = file,
        .model = model,
        .staged = entry->staged ? action_text(self, entry->staged) : NULL,
        .steps = task->steps,
    };
}

static void lease_give(struct scheduler *self, struct worker *worker, struct active *active,
                       int at) {
    struct node *node = active->nodes[at];
    const struct plan_task *task = &active->plan->tasks[at];
    struct lease_entry *lease = calloc(1, sizeof *lease);
    if (!lease) {
        self->actions->failed = true;
        return;
    }
    lease->epoch = self->config.leader << 32 | ++self->last_lease;
    if (task->kind == PLAN_MUX) {
        char *path = final_path(self, active->plan->video);
        lease->staged = path ? staged_path(path, lease->epoch) : NULL;
        free(path);
        if (!lease->staged) {
            self->actions->failed = true;
            free(lease);
            return;
        }
    }
    if (!map_put(&self->leases, lease->epoch, lease)) {
        self->actions->failed = true;
        free(lease->staged);
        free(lease);
        return;
    }
    lease->node = node;
    lease->worker = worker;
    lease->granted = self->core;
    lease->deadline = self->core + self->config.lease_ns;
    lease->steps = task->steps;
    lease->job = active->job->id;
    lease->video = active->video;
    lease->task = at;
    lease->index = task->index;
    lease->next = worker->leases;
    if (worker->leases)
        worker->leases->previous = lease;
    worker->leases = lease;
    worker->held++;
    active->job->leases++;
    node->lease = lease;
    node->state = NODE_LEASED;
    lease_action(self, lease, active, at);
}

enum readiness { NOT_READY, READY, FOUND, AVOIDED };

static enum readiness task_readiness(struct scheduler *self, const struct worker *worker,
                                     const struct active *active, int at) {
    struct node *node = active->nodes[at];
    const struct plan_task *task = &active->plan->tasks[at];
    if (node->state != NODE_WAITING || node->class != worker->class)
        return NOT_READY;
    /* Of a mux, everything before the cursor is done, and it is at the cursor. */
    if (task->kind != PLAN_MUX)
        for (int i = 0; i < task->input_count; i++)
            if (active->nodes[task->inputs[i].task]->state != NODE_DONE)
                return NOT_READY;
    if (!node->looked_up) {
        struct task_result result;
        node->looked_up = true;
        if (self->config.find_result &&
            self->config.find_result(self->config.user, &result, &node->key,
                                     class_name(self, node->class))) {
            node_done(self, node, &result);
            return FOUND;
        }
    }
    if (node->not_before > self->core || !(worker->kinds & PLAN_KIND_BIT(node->kind)))
        return NOT_READY;
    if (node_avoids(node, worker) && node_has_elsewhere(self, node))
        return AVOIDED;
    return READY;
}

/* Give the worker one lease. False: there is nothing for it; *avoided: only because of its past. */
static bool give_one(struct scheduler *self, struct worker *worker, bool *avoided) {
    for (struct active *active = self->first_active; active; active = active->next) {
        if (active->job->state != JOB_RUNNING || entry_of(active)->class != worker->class)
            continue;
        for (int at = 0;; at++) {
            /* All texts, then the one place where the chain is. */
            if (at >= active->plan->text_count)
                at = active->cursor;
            enum readiness readiness = task_readiness(self, worker, active, at);
            if (readiness == READY) {
                lease_give(self, worker, active, at);
                return !self->actions->failed;
            }
            *avoided |= readiness == AVOIDED;
            if (at >= active->plan->text_count && readiness != FOUND)
                break;
        }
    }
    return false;
}

/* Give out what can be given. Workers of equal class and abilities get equal answers, so that after
 * one of them got nothing the others need not ask. */
static void schedule(struct scheduler *self) {
    struct {
        int class;
        unsigned kinds;
    } idle[16];
    int idle_count = 0;
    for (int i = 0; i < self->worker_count && !self->actions->failed; i++) {
        struct worker *worker = self->workers[i];
        if (!worker_takes_leases(worker) || worker->held >= worker->slots)
            continue;
        bool known = false;
        for (int j = 0; j < idle_count && !known; j++)
            known = idle[j].class == worker->class && idle[j].kinds == worker->kinds;
        if (known)
            continue;
        bool avoided = false, more = true;
        while (worker->held < worker->slots && more && !self->actions->failed)
            more = give_one(self, worker, &avoided) || start_next(self, worker);
        if (!more && !avoided && idle_count < 16) {
            idle[idle_count].class = worker->class;
            idle[idle_count++].kinds = worker->kinds;
        }
    }
}

/* -- life
 * ------------------------------------------------------------------------------------------------
 */

enum error_code scheduler_open(struct scheduler **out, const struct scheduler_config *config,
                               struct error *error) {
    *out = NULL;
    struct scheduler *self = calloc(1, sizeof *self);
    if (!self)
        return error_set(error, ERR_MEMORY, "no memory for the scheduler");
    self->config = *config;
    struct scheduler_config *mine = &self->config;
    mine->lease_ns = mine->lease_ns ? mine->lease_ns : 30 * CLOCK_S;
    mine->worker_ns = mine->worker_ns ? mine->worker_ns : 30 * CLOCK_S;
    mine->gap_max_ns = mine->gap_max_ns ? mine->gap_max_ns : 5 * CLOCK_S;
    mine->backoff_ns = mine->backoff_ns ? mine->backoff_ns : CLOCK_S;
    mine->class_absent_ns = mine->class_absent_ns ? mine->class_absent_ns : 60 * CLOCK_S;
    mine->attempts_max = mine->attempts_max ? mine->attempts_max : 3;
    mine->deaths_max = mine->deaths_max ? mine->deaths_max : 3;
    self->output_root = strdup(config->output_root ? config->output_root : "");
    mine->output_root = NULL;
    if (!self->output_root || config->leader >= UINT64_C(1) << 31) {
        enum error_code code = self->output_root ? ERR_LIMIT : ERR_MEMORY;
        scheduler_close(&self);
        return error_set(error, code, "the ledger was opened too often, or there is no memory");
    }
    *out = self;
    return ERR_OK;
}

static void job_close_entry(struct scheduler *self, struct job_entry *job) {
    for (int i = 0; job->videos && i < job->job->video_count; i++) {
        publishing_close(self, &job->videos[i]);
        free(job->videos[i].detail);
    }
    free(job->videos);
    job_close(&job->job);
    free(job);
}

static void restored_close(struct scheduler *self) {
    for (int i = 0; i < self->restored_count; i++) {
        free((char *)self->restored[i].path);
        free((char *)self->restored[i].staged);
    }
    free(self->restored);
    self->restored = NULL;
    self->restored_count = 0;
}

void scheduler_close(struct scheduler **scheduler) {
    struct scheduler *self = *scheduler;
    if (!self)
        return;
    struct scheduler_actions ignored = {0};
    self->actions = &ignored;
    while (self->first_active)
        active_close(self, self->first_active);
    scheduler_actions_close(&ignored);
    for (int i = 0; i < self->worker_count; i++)
        free(self->workers[i]);
    for (int i = 0; i < self->job_count; i++)
        job_close_entry(self, self->jobs[i]);
    restored_close(self);
    free(self->workers);
    free(self->jobs);
    free(self->classes);
    free(self->buckets);
    free(self->output_root);
    map_close(&self->jobs_by_id);
    map_close(&self->workers_by_id);
    map_close(&self->leases);
    free(self);
    *scheduler = NULL;
}

/* Takes the job over on success. */
static enum error_code job_insert(struct scheduler *self, struct job **job,
                                  const struct ledger_job *row, struct error *error) {
    if (self->job_count >= LIMIT_JOBS)
        return error_set(error, ERR_LIMIT, "more than %d jobs in memory; forget finished ones",
                         LIMIT_JOBS);
    if (self->job_count == self->job_capacity) {
        int capacity = self->job_capacity ? 2 * self->job_capacity : 16;
        struct job_entry **jobs =
            realloc(self->jobs, (size_t)capacity * sizeof(struct job_entry *));
        if (!jobs)
            return error_set(error, ERR_MEMORY, "no memory for a job");
        self->jobs = jobs;
        self->job_capacity = capacity;
    }
    struct job_entry *entry = calloc(1, sizeof *entry);
    struct video_entry *videos = calloc((size_t)(*job)->video_count + 1, sizeof *videos);
    if (!entry || !videos || !map_put(&self->jobs_by_id, row->id, entry)) {
        free(entry);
        free(videos);
        return error_set(error, ERR_MEMORY, "no memory for a job");
    }
    entry->id = row->id;
    entry->job = *job;
    *job = NULL;
    entry->state = row->state;
    entry->priority = row->priority;
    entry->submitted_ns = row->submitted_ns;
    (void)snprintf(entry->submission, sizeof entry->submission, "%s",
                   row->submission ? row->submission : "");
    entry->videos = videos;
    for (int i = 0; i < entry->job->video_count; i++)
        videos[i].class = -1;
    entry->by_state[VIDEO_WAITING] = entry->job->video_count;
    int at = self->job_count++;
    while (at > 0 && (self->jobs[at - 1]->priority < entry->priority ||
                      (self->jobs[at - 1]->priority == entry->priority &&
                       self->jobs[at - 1]->id > entry->id))) {
        self->jobs[at] = self->jobs[at - 1];
        at--;
    }
    self->jobs[at] = entry;
    if (row->id > self->last_job)
        self->last_job = row->id;
    return ERR_OK;
}

enum error_code scheduler_restore_job(struct scheduler *self, struct job **job,
                                      const struct ledger_job *row, struct error *error) {
    if (!row->id || map_get(&self->jobs_by_id, row->id))
        return error_set(error, ERR_FORMAT, "the ledger has job %llu twice",
                         (unsigned long long)row->id);
    enum error_code code = job_insert(self, job, row, error);
    if (code)
        return code;
    /* Videos without a row are as the end of the job says; others are told one by one. */
    struct job_entry *entry = map_get(&self->jobs_by_id, row->id);
    enum video_state state = row->state == JOB_CANCELED ? VIDEO_CANCELED
                             : row->state == JOB_DONE   ? VIDEO_DONE
                             : row->state == JOB_FAILED ? VIDEO_FAILED
                                                        : VIDEO_WAITING;
    for (int i = 0; i < entry->job->video_count && state != VIDEO_WAITING; i++)
        video_set_state(entry, i, state);
    return ERR_OK;
}

enum error_code scheduler_restore_video(struct scheduler *self, const struct ledger_video *row,
                                        struct error *error) {
    struct job_entry *job = map_get(&self->jobs_by_id, row->job);
    if (!job || row->video < 0 || row->video >= job->job->video_count)
        return error_set(error, ERR_FORMAT,
                         "the ledger has a row for video %d of job %llu, which "
                         "has none of that number",
                         row->video, (unsigned long long)row->job);
    struct video_entry *entry = &job->videos[row->video];
    enum video_state state = row->state;
    if (job->state == JOB_CANCELED && (state == VIDEO_WAITING || state == VIDEO_RUNNING))
        state = VIDEO_CANCELED;
    video_set_state(job, row->video, state);
    entry->code = row->code;
    entry->seconds = row->seconds;
    if (*row->class && state == VIDEO_RUNNING) {
        entry->class = class_add(self, row->class);
        if (entry->class < 0)
            return error_set(error, ERR_MEMORY, "no memory for a video");
    }
    if (*row->detail) {
        entry->detail = strdup(row->detail);
        if (!entry->detail)
            return error_set(error, ERR_MEMORY, "no memory for a video");
    }
    return ERR_OK;
}

static bool copy_publication(struct ledger_publication *out, const struct ledger_publication *in) {
    *out = *in;
    out->path = strdup(in->path);
    out->staged = strdup(in->staged);
    if (out->path && out->staged)
        return true;
    free((char *)out->path);
    free((char *)out->staged);
    return false;
}

enum error_code scheduler_restore_publication(struct scheduler *self,
                                              const struct ledger_publication *row,
                                              struct error *error) {
    struct ledger_publication *rows =
        realloc(self->restored, (size_t)(self->restored_count + 1) * sizeof *rows);
    if (rows)
        self->restored = rows;
    if (!rows || !copy_publication(&rows[self->restored_count], row))
        return error_set(error, ERR_MEMORY, "no memory for a publication");
    self->restored_count++;
    return ERR_OK;
}

static void publish_action(struct scheduler *self, const struct job_entry *job, int video) {
    const struct publishing *publishing = job->videos[video].publishing;
    struct scheduler_action *action = action_add(self, ACTION_PUBLISH);
    if (!action)
        return;
    action->publish.publication = publishing->publication;
    action->publish.publication.path = action_text(self, publishing->publication.path);
    action->publish.publication.staged = action_text(self, publishing->publication.staged);
    action->publish.overwrite = job->job->videos[video].output.overwrite;
}

void scheduler_start(struct scheduler *self, int64_t now, struct scheduler_actions *actions) {
    begin(self, now, actions);
    for (int i = 0; i < self->restored_count; i++) {
        const struct ledger_publication *row = &self->restored[i];
        struct job_entry *job = map_get(&self->jobs_by_id, row->job);
        if (job && row->video >= 0 && row->video < job->job->video_count &&
            job->videos[row->video].state == VIDEO_PUBLISHING &&
            !job->videos[row->video].publishing) {
            struct publishing *publishing = calloc(1, sizeof *publishing);
            if (!publishing || !copy_publication(&publishing->publication, row)) {
                free(publishing);
                actions->failed = true;
                return;
            }
            job->videos[row->video].publishing = publishing;
            self->publishing_count++;
            publish_action(self, job, row->video);
        } else {
            struct scheduler_action *action = action_add(self, ACTION_REMOVE_STAGED);
            if (action)
                action->path = action_text(self, row->staged);
        }
    }
    restored_close(self);
    for (int i = 0; i < self->job_count; i++) {
        struct job_entry *job = self->jobs[i];
        for (int video = 0; video < job->job->video_count; video++)
            if (job->videos[video].state == VIDEO_PUBLISHING && !job->videos[video].publishing)
                video_set_state(job, video,
                                job->state == JOB_CANCELED ? VIDEO_CANCELED : VIDEO_WAITING);
        job_check_end(self, job);
    }
    schedule(self);
}

/* -- jobs
 * ------------------------------------------------------------------------------------------------
 */

enum error_code scheduler_add_job(struct scheduler *self, uint64_t *id, struct job **job,
                                  const struct scheduler_submission *submission, int64_t now,
                                  struct scheduler_actions *actions, struct error *error) {
    begin(self, now, actions);
    tell_wall(self, submission->wall_ns);
    const char *key = submission->submission ? submission->submission : "";
    if (strlen(key) >= LIMIT_SUBMISSION)
        return error_set(error, ERR_LIMIT, "a submission key of %zu bytes; at most %d", strlen(key),
                         LIMIT_SUBMISSION - 1);
    for (int i = 0; i < self->job_count && *key; i++)
        if (!strcmp(self->jobs[i]->submission, key)) {
            *id = self->jobs[i]->id;
            job_close(job);
            return ERR_OK;
        }
    struct ledger_job row = {
        .id = self->last_job + 1,
        .name = action_text(self, (*job)->name),
        .yaml = action_bytes(self, submission->yaml ? submission->yaml : "",
                             submission->yaml ? submission->yaml_length : 0),
        .yaml_length = submission->yaml ? submission->yaml_length : 0,
        .document = action_bytes(self, submission->document ? submission->document : "",
                                 submission->document ? submission->document_length : 0),
        .document_length = submission->document ? submission->document_length : 0,
        .submission = action_text(self, key),
        .state = JOB_RUNNING,
        .priority = submission->priority,
        .submitted_ns = submission->wall_ns,
    };
    if (actions->failed)
        return error_set(error, ERR_MEMORY, "no memory for a job");
    enum error_code code = job_insert(self, job, &row, error);
    if (code)
        return code;
    *id = row.id;
    struct ledger_record *record = record_add(self, LEDGER_JOB);
    if (record)
        record->job = row;
    struct job_entry *entry = map_get(&self->jobs_by_id, row.id);
    event_add(self, row.id, -1, "job %s: accepted, %d video%s", entry->job->name,
              entry->job->video_count, entry->job->video_count == 1 ? "" : "s");
    news(self, row.id, -1, JOB_RUNNING, ERR_OK, NULL);
    job_check_end(self, entry);
    schedule(self);
    return ERR_OK;
}

static enum error_code does_not_apply(const struct job_entry *job, const char *verb,
                                      struct error *error) {
    return error_set(error, ERR_USAGE, "job %llu (%s) is %s: there is nothing to %s",
                     (unsigned long long)job->id, job->job->name, job_state_name(job->state), verb);
}

enum error_code scheduler_control_job(struct scheduler *self, uint64_t id,
                                      enum scheduler_control control, int64_t now,
                                      struct scheduler_actions *actions, struct error *error) {
    begin(self, now, actions);
    struct job_entry *job = map_get(&self->jobs_by_id, id);
    if (!job)
        return error_set(error, ERR_MISSING, "there is no job %llu", (unsigned long long)id);
    int count = job->job->video_count;
    switch (control) {
    case CONTROL_PAUSE:
        if (job->state == JOB_PAUSED)
            return ERR_OK;
        if (job->state != JOB_RUNNING)
            return does_not_apply(job, "pause", error);
        job_set_state(self, job, JOB_PAUSED);
        break;
    case CONTROL_RESUME:
        if (job->state == JOB_RUNNING)
            return ERR_OK;
        if (job->state != JOB_PAUSED)
            return does_not_apply(job, "resume", error);
        job_set_state(self, job, JOB_RUNNING);
        break;
    case CONTROL_CANCEL:
        if (job->state == JOB_CANCELED)
            return ERR_OK;
        if (job_state_is_final(job->state))
            return does_not_apply(job, "cancel", error);
        /* The job's state says it for all its videos: no rows. One whose rename is due ends as that
         * ends. */
        for (int i = 0; i < count; i++) {
            struct video_entry *entry = &job->videos[i];
            if (video_state_is_final((enum video_state)entry->state) || entry->publishing)
                continue;
            if (entry->active)
                active_close(self, entry->active);
            video_set_state(job, i, VIDEO_CANCELED);
            news(self, job->id, i, VIDEO_CANCELED, ERR_OK, NULL);
        }
        job_set_state(self, job, JOB_CANCELED);
        break;
    case CONTROL_RETRY: {
        int again = job->by_state[VIDEO_FAILED] + job->by_state[VIDEO_CANCELED];
        if (!again)
            return does_not_apply(job, "retry", error);
        for (int i = 0; i < count; i++) {
            struct video_entry *entry = &job->videos[i];
            if (entry->state != VIDEO_FAILED && entry->state != VIDEO_CANCELED)
                continue;
            entry->class = -1;
            entry->publish_failures = 0;
            entry->not_before = 0;
            video_leave(self, job, i, VIDEO_WAITING, ERR_OK, NULL);
            news(self, job->id, i, VIDEO_WAITING, ERR_OK, NULL);
        }
        if (job->state != JOB_PAUSED && job->state != JOB_RUNNING)
            job_set_state(self, job, JOB_RUNNING);
        break;
    }
    }
    schedule(self);
    return ERR_OK;
}

enum error_code scheduler_forget_job(struct scheduler *self, uint64_t id, struct error *error) {
    struct job_entry *job = map_get(&self->jobs_by_id, id);
    if (!job)
        return error_set(error, ERR_MISSING, "there is no job %llu", (unsigned long long)id);
    if (!job_state_is_final(job->state) || job->by_state[VIDEO_PUBLISHING])
        return error_set(error, ERR_USAGE, "job %llu has not ended", (unsigned long long)id);
    for (int i = 0; i < self->job_count; i++)
        if (self->jobs[i] == job) {
            memmove(&self->jobs[i], &self->jobs[i + 1],
                    (size_t)(self->job_count - i - 1) * sizeof(struct job_entry *));
            break;
        }
    self->job_count--;
    map_remove(&self->jobs_by_id, id);
    job_close_entry(self, job);
    return ERR_OK;
}

void scheduler_published(struct scheduler *self, uint64_t id, int video, enum error_code code,
                         const char *detail, int64_t wall_ns, int64_t now,
                         struct scheduler_actions *actions) {
    begin(self, now, actions);
    tell_wall(self, wall_ns);
    struct job_entry *job = map_get(&self->jobs_by_id, id);
    if (!job || video < 0 || video >= job->job->video_count || !job->videos[video].publishing)
        return;
    struct video_entry *entry = &job->videos[video];
    if (code == ERR_OK) {
        struct ledger_record *record = record_add(self, LEDGER_PUBLICATION);
        if (record) {
            record->publication = entry->publishing->publication;
            record->publication.path = action_text(self, entry->publishing->publication.path);
            record->publication.staged = action_text(self, entry->publishing->publication.staged);
            record->publication.done = true;
        }
        publishing_close(self, entry);
        video_leave(self, job, video, VIDEO_DONE, ERR_OK, NULL);
    } else {
        char reason[ERROR_DETAIL_BYTES];
        (void)snprintf(reason, sizeof reason, "publish: %s: %s", error_name(code),
                       detail && *detail ? detail : error_sentence(code));
        struct scheduler_action *action = action_add(self, ACTION_REMOVE_STAGED);
        if (action)
            action->path = action_text(self, entry->publishing->publication.staged);
        publishing_close(self, entry);
        bool hopeless = error_class_of(code) == ERROR_CLASS_FAIL_JOB && code != ERR_MISSING;
        if (job->state == JOB_CANCELED) {
            video_leave(self, job, video, VIDEO_CANCELED, ERR_OK, NULL);
        } else if (hopeless || ++entry->publish_failures >= self->config.attempts_max) {
            video_leave(self, job, video, VIDEO_FAILED, code, reason);
        } else {
            entry->not_before =
                self->core + (self->config.backoff_ns << (entry->publish_failures - 1));
            event_add(self, job->id, video, "video %s: %s; trying again",
                      job->job->videos[video].name, reason);
            video_leave(self, job, video, VIDEO_WAITING, ERR_OK, NULL);
        }
    }
    schedule(self);
}

/* -- workers ---------------------------------------------------------------------------------- */

enum error_code scheduler_worker_hello(struct scheduler *self, uint64_t id, const char *name,
                                       const char *class, unsigned kinds, int64_t now,
                                       struct scheduler_actions *actions, struct error *error) {
    begin(self, now, actions);
    struct worker *worker = map_get(&self->workers_by_id, id);
    if (worker) {
        worker->kinds = kinds & PLAN_KINDS_ALL;
        worker->seen = self->core;
        schedule(self);
        return ERR_OK;
    }
    if (!id || !class || !*class || strlen(class) >= LIMIT_CLASS_BYTES || !name ||
        strlen(name) >= LIMIT_WORKER_BYTES)
        return error_set(error, ERR_USAGE,
                         "a worker says its name and device class, each of 1 to %d bytes",
                         LIMIT_CLASS_BYTES - 1);
    if (self->worker_count >= LIMIT_WORKERS)
        return error_set(error, ERR_LIMIT, "more than %d workers", LIMIT_WORKERS);
    if (self->worker_count == self->worker_capacity) {
        int capacity = self->worker_capacity ? 2 * self->worker_capacity : 16;
        struct worker **workers =
            realloc(self->workers, (size_t)capacity * sizeof(struct worker *));
        if (!workers)
            return error_set(error, ERR_MEMORY, "no memory for a worker");
        self->workers = workers;
        self->worker_capacity = capacity;
    }
    worker = calloc(1, sizeof *worker);
    int class_at = class_add(self, class);
    if (!worker || class_at < 0 || !map_put(&self->workers_by_id, id, worker)) {
        free(worker);
        return error_set(error, ERR_MEMORY, "no memory for a worker");
    }
    worker->id = id;
    (void)snprintf(worker->name, sizeof worker->name, "%s", name);
    worker->name_hash = hash_name(name);
    worker->class = class_at;
    worker->kinds = kinds & PLAN_KINDS_ALL;
    worker->seen = self->core;
    self->classes[class_at].workers++;
    self->workers[self->worker_count++] = worker;
    event_add(self, 0, -1, "worker %s: connected, class %s", name, class);
    return ERR_OK;
}

void scheduler_worker_request(struct scheduler *self, uint64_t id, int slots, int64_t now,
                              struct scheduler_actions *actions) {
    begin(self, now, actions);
    struct worker *worker = map_get(&self->workers_by_id, id);
    if (!worker)
        return;
    worker->seen = self->core;
    worker->slots = slots < 0 ? 0 : slots > LIMIT_SLOTS ? LIMIT_SLOTS : slots;
    schedule(self);
}

void scheduler_worker_alive(struct scheduler *self, uint64_t id, int64_t now) {
    begin(self, now, NULL);
    struct worker *worker = map_get(&self->workers_by_id, id);
    if (worker)
        worker->seen = self->core;
}

void scheduler_worker_progress(struct scheduler *self, uint64_t id, uint64_t epoch, int step,
                               double fraction, int64_t now, struct scheduler_actions *actions) {
    begin(self, now, actions);
    struct worker *worker = map_get(&self->workers_by_id, id);
    struct lease_entry *lease = map_get(&self->leases, epoch);
    if (worker)
        worker->seen = self->core;
    if (!worker || !lease || lease->worker != worker) {
        worker_action(self, ACTION_REVOKE, id, epoch, ERR_STALE);
        return;
    }
    lease->deadline = self->core + self->config.lease_ns;
    if (step > lease->step)
        lease->step = step < lease->steps ? step : lease->steps;
    if (fraction > lease->fraction && fraction <= 1)
        lease->fraction = fraction;
}

/* What a result of this task must hold; the name of what it lacks, or NULL. */
static const char *result_lacks(const struct lease_entry *lease, const struct task_result *result) {
    static const char *const names[PLAN_KIND_COUNT] = {"rows",    "frames",  "frames",
                                                       "latents", "segment", "file"};
    if (result->output_count < 0 || result->output_count > LIMIT_OUTPUTS)
        return "outputs";
    for (int i = 0; i < result->output_count; i++)
        if (!memchr(result->outputs[i].name, 0, LIMIT_OUTPUT_NAME) || result->outputs[i].bytes < 0)
            return "outputs";
    if (!task_result_find(result, names[lease->node->kind]))
        return names[lease->node->kind];
    if (lease->node->kind == PLAN_DECODE) {
        /* Every decode but the last is followed by a window that starts from its tail. */
        const struct user *user = &lease->node->users[0];
        if (user->task + 2 < user->active->plan->task_count && !task_result_find(result, "frames"))
            return "frames";
    }
    return NULL;
}

static void video_publish(struct scheduler *self, struct job_entry *job, int video,
                          const struct lease_entry *lease, const struct task_output *file) {
    struct video_entry *entry = &job->videos[video];
    struct publishing *publishing = calloc(1, sizeof *publishing);
    char *path = final_path(self, &job->job->videos[video]);
    char *staged = strdup(lease->staged);
    if (!publishing || !path || !staged) {
        free(publishing);
        free(path);
        free(staged);
        self->actions->failed = true;
        return;
    }
    publishing->publication = (struct ledger_publication){.path = path,
                                                          .staged = staged,
                                                          .job = job->id,
                                                          .video = video,
                                                          .key = lease->node->key,
                                                          .hash = file->hash,
                                                          .bytes = file->bytes};
    entry->publishing = publishing;
    self->publishing_count++;
    struct ledger_record *record = record_add(self, LEDGER_PUBLICATION);
    if (record) {
        record->publication = publishing->publication;
        record->publication.path = action_text(self, path);
        record->publication.staged = action_text(self, staged);
    }
    video_set_state(job, video, VIDEO_PUBLISHING);
    video_record(self, job, video);
    publish_action(self, job, video);
    news(self, job->id, video, VIDEO_PUBLISHING, ERR_OK, NULL);
}

static double work_seconds(const struct scheduler *self, const struct lease_entry *lease,
                           const struct scheduler_outcome *outcome) {
    double age = (double)(self->core - lease->granted) / (double)CLOCK_S;
    return outcome->seconds > 0 && outcome->seconds < age ? outcome->seconds : age;
}

static void accept_result(struct scheduler *self, struct lease_entry *lease,
                          const struct scheduler_outcome *outcome) {
    struct node *node = lease->node;
    struct worker *worker = lease->worker;
    struct job_entry *job = map_get(&self->jobs_by_id, lease->job);
    double seconds = work_seconds(self, lease, outcome);
    worker->done++;
    attempt_add(self, lease, ERR_OK, NULL);
    self->accepted[self->accepted_at++ % EPOCHS_KEPT] = lease->epoch;
    self->accepted_at %= EPOCHS_KEPT;
    if (job) {
        job->kind_seconds[node->kind] += seconds;
        job->kind_count[node->kind]++;
    }
    for (int i = 0; i < node->user_count; i++)
        entry_of(node->users[i].active)->seconds += seconds / node->user_count;
    if (node->kind == PLAN_MUX) {
        struct active *active = node->users[0].active;
        struct job_entry *owner = active->job;
        int video = active->video;
        const struct task_output *file = task_result_find(&outcome->result, "file");
        video_publish(self, owner, video, lease, file);
        lease_end(self, lease, false);
        active_close(self, owner->videos[video].active);
        return;
    }
    struct ledger_record *record = record_add(self, LEDGER_RESULT);
    if (record)
        record->result =
            (struct ledger_result){.key = node->key,
                                   .class = action_text(self, class_name(self, node->class)),
                                   .job = lease->job,
                                   .result = outcome->result};
    lease_end(self, lease, false);
    node_done(self, node, &outcome->result);
}

/* An input of the leased task was not in the store: the task that made it is done again. */
static bool input_lost(struct scheduler *self, struct lease_entry *lease,
                       const struct hash *object) {
    const struct user *user = &lease->node->users[0];
    const struct plan_task *task = &user->active->plan->tasks[user->task];
    for (int i = 0; i < task->input_count; i++) {
        struct node *input = user->active->nodes[task->inputs[i].task];
        const struct task_output *output =
            input->state == NODE_DONE ? task_result_find(&input->result, task->inputs[i].output)
                                      : NULL;
        if (input->state == NODE_DONE && output && !hash_equal(&output->hash, object))
            continue;
        if (input->state != NODE_DONE)
            continue;
        if (++input->losses > LOSSES_MAX)
            return false;
        event_add(self, lease->job, lease->video,
                  "%s %d: its artifact is gone from the store; it is "
                  "made again",
                  plan_kind_name(input->kind), task->inputs[i].task);
        uint64_t job = lease->job;
        lease_end(self, lease, true);
        node_undone(self, input, job);
        return true;
    }
    /* Already being made again, since another task missed it too? Then this one just waits. */
    for (int i = 0; i < task->input_count; i++)
        if (user->active->nodes[task->inputs[i].task]->state != NODE_DONE) {
            lease_end(self, lease, true);
            return true;
        }
    return false;
}

void scheduler_worker_result(struct scheduler *self, uint64_t id,
                             const struct scheduler_outcome *outcome, int64_t now,
                             struct scheduler_actions *actions) {
    begin(self, now, actions);
    tell_wall(self, outcome->wall_ns);
    struct worker *worker = map_get(&self->workers_by_id, id);
    struct lease_entry *lease = map_get(&self->leases, outcome->epoch);
    if (worker)
        worker->seen = self->core;
    if (!worker || !lease || lease->worker != worker ||
        !hash_equal(&lease->node->key, &outcome->key)) {
        bool repeated = false;
        for (int i = 0; i < EPOCHS_KEPT && outcome->epoch; i++)
            repeated |= self->accepted[i] == outcome->epoch;
        worker_action(self, ACTION_REPLY, id, outcome->epoch, repeated ? ERR_OK : ERR_STALE);
        return;
    }
    struct node *node = lease->node;
    enum error_code code = outcome->code;
    const char *detail = outcome->detail ? outcome->detail : "";
    char lacks[80];
    if (code == ERR_OK) {
        const char *name = result_lacks(lease, &outcome->result);
        if (name) {
            code = ERR_INTERNAL;
            (void)snprintf(lacks, sizeof lacks, "the worker's result has no \"%s\"", name);
            detail = lacks;
        }
    }
    if ((unsigned)code >= ERROR_CODE_COUNT)
        code = ERR_INTERNAL;
    /* An answer to the failure of a lease, too, is that it was understood. */
    worker_action(self, ACTION_REPLY, id, outcome->epoch, ERR_OK);
    if (code == ERR_OK) {
        accept_result(self, lease, outcome);
    } else if (code == ERR_INTERRUPTED || code == ERR_STALE) {
        self->accepted[self->accepted_at] = lease->epoch;
        self->accepted_at = (self->accepted_at + 1) % EPOCHS_KEPT;
        lease_end(self, lease, true);
    } else {
        self->accepted[self->accepted_at] = lease->epoch;
        self->accepted_at = (self->accepted_at + 1) % EPOCHS_KEPT;
        attempt_add(self, lease, code, detail);
        event_add(self, lease->job, lease->video, "%s %d: %s on worker %s: %s",
                  plan_kind_name(node->kind), lease->index, error_name(code), worker->name, detail);
        if (!(outcome->object_missing && input_lost(self, lease, &outcome->object))) {
            lease_end(self, lease, true);
            node_failed_once(self, node, worker, code, detail);
        }
    }
    schedule(self);
}

/* The worker is gone; `blame`: what it held counts as a death. */
static void worker_close(struct scheduler *self, struct worker *worker, bool blame) {
    struct node *nodes[LIMIT_SLOTS];
    int count = 0;
    while (worker->leases) {
        struct lease_entry *lease = worker->leases;
        if (blame) {
            attempt_add(self, lease, ERR_NETWORK, "the worker was lost");
            event_add(self, lease->job, lease->video, "%s %d: worker %s was lost",
                      plan_kind_name(lease->node->kind), lease->index, worker->name);
            nodes[count++] = lease->node;
        }
        lease_end(self, lease, true);
    }
    map_remove(&self->workers_by_id, worker->id);
    for (int i = 0; i < self->worker_count; i++)
        if (self->workers[i] == worker) {
            memmove(&self->workers[i], &self->workers[i + 1],
                    (size_t)(self->worker_count - i - 1) * sizeof(struct worker *));
            break;
        }
    self->worker_count--;
    struct class_entry *class = &self->classes[worker->class];
    if (--class->workers == 0)
        class->absent_since = self->core;
    event_add(self, 0, -1, "worker %s: %s", worker->name, blame ? "lost" : "left");
    /* A task that fails takes its videos' other tasks along, which may be among these. */
    for (int i = 0; i < count; i++) {
        bool still = i == 0;
        for (struct active *active = self->first_active; active && !still; active = active->next)
            for (int task = 0; task < active->plan->task_count && !still; task++)
                still = active->nodes[task] == nodes[i];
        if (still)
            node_died_once(self, nodes[i], worker);
    }
    free(worker);
}

void scheduler_worker_bye(struct scheduler *self, uint64_t id, int64_t now,
                          struct scheduler_actions *actions) {
    begin(self, now, actions);
    struct worker *worker = map_get(&self->workers_by_id, id);
    if (!worker)
        return;
    worker_close(self, worker, false);
    schedule(self);
}

void scheduler_worker_lost(struct scheduler *self, uint64_t id, int64_t wall_ns, int64_t now,
                           struct scheduler_actions *actions) {
    begin(self, now, actions);
    tell_wall(self, wall_ns);
    struct worker *worker = map_get(&self->workers_by_id, id);
    if (!worker)
        return;
    worker_close(self, worker, true);
    schedule(self);
}

enum error_code scheduler_drain_worker(struct scheduler *self, const char *name, bool now_too,
                                       int64_t now, struct scheduler_actions *actions,
                                       struct error *error) {
    begin(self, now, actions);
    bool found = false;
    for (int i = 0; i < self->worker_count; i++) {
        struct worker *worker = self->workers[i];
        if (strcmp(worker->name, name) != 0)
            continue;
        found = true;
        worker->draining = true;
        while (now_too && worker->leases) {
            worker_action(self, ACTION_REVOKE, worker->id, worker->leases->epoch, ERR_OK);
            lease_end(self, worker->leases, true);
        }
    }
    if (!found)
        return error_set(error, ERR_MISSING, "no worker is called %s", name);
    schedule(self);
    return ERR_OK;
}

void scheduler_tick(struct scheduler *self, int64_t wall_ns, int64_t now,
                    struct scheduler_actions *actions) {
    begin(self, now, actions);
    tell_wall(self, wall_ns);
    for (int i = 0; i < self->worker_count;) {
        struct worker *worker = self->workers[i];
        if (self->core - worker->seen > self->config.worker_ns) {
            worker_close(self, worker, true);
            continue; /* the next one has its place now */
        }
        i++;
        for (bool again = true; again;) {
            /* Failing a task may end other leases of this worker, so look from the start. */
            again = false;
            for (struct lease_entry *lease = worker->leases; lease; lease = lease->next) {
                if (self->core < lease->deadline)
                    continue;
                struct node *node = lease->node;
                char detail[128];
                (void)snprintf(detail, sizeof detail, "worker %s reported no progress for %lld s",
                               worker->name, (long long)(self->config.lease_ns / CLOCK_S));
                attempt_add(self, lease, ERR_NETWORK, detail);
                event_add(self, lease->job, lease->video, "%s %d: %s", plan_kind_name(node->kind),
                          lease->index, detail);
                worker_action(self, ACTION_REVOKE, worker->id, lease->epoch, ERR_STALE);
                lease_end(self, lease, true);
                node_failed_once(self, node, worker, ERR_NETWORK, detail);
                again = true;
                break;
            }
        }
    }
    /* Videos whose class has no worker any more go to one that has. */
    for (int class = 0; class < self->class_count; class ++) {
        struct class_entry *entry = &self->classes[class];
        if (entry->workers || self->core - entry->absent_since < self->config.class_absent_ns ||
            !self->worker_count)
            continue;
        for (int i = 0; i < self->job_count; i++) {
            struct job_entry *job = self->jobs[i];
            for (int video = 0; video < job->job->video_count && !job_state_is_final(job->state);
                 video++) {
                struct video_entry *pinned = &job->videos[video];
                if (pinned->class != class ||
                    (pinned->state != VIDEO_RUNNING && pinned->state != VIDEO_WAITING))
                    continue;
                event_add(self, job->id, video,
                          "video %s: no worker of class %s is left; starting again elsewhere",
                          job->job->videos[video].name, entry->name);
                pinned->class = -1;
                video_leave(self, job, video, VIDEO_WAITING, ERR_OK, NULL);
            }
        }
        entry->absent_since = self->core;
    }
    schedule(self);
}

/* -- questions -------------------------------------------------------------------------------- */

static double mean_seconds(const struct job_entry *job, enum plan_kind kind) {
    return job->kind_count[kind] ? job->kind_seconds[kind] / (double)job->kind_count[kind] : 0;
}

/* What one more window takes, decoded; -1 when none has been measured. */
static double window_seconds(const struct job_entry *job) {
    if (!job->kind_count[PLAN_WINDOW])
        return -1;
    return mean_seconds(job, PLAN_WINDOW) + mean_seconds(job, PLAN_DECODE);
}

static void video_windows(const struct job_entry *job, int video, int *windows, int *done) {
    const struct model_facts *facts = &job->job->window.facts;
    const struct video_entry *entry = &job->videos[video];
    *windows = (int)plan_windows(job->job->videos[video].frames, facts->window_frames,
                                 plan_overlap(facts));
    *done = 0;
    if (entry->state == VIDEO_DONE || entry->state == VIDEO_PUBLISHING)
        *done = *windows;
    else if (entry->active && entry->active->cursor > entry->active->plan->text_count)
        *done = (entry->active->cursor - entry->active->plan->text_count - 1) / 2;
}

bool scheduler_job_status(const struct scheduler *self, uint64_t id, struct job_status *out) {
    const struct job_entry *job = map_get(&self->jobs_by_id, id);
    if (!job)
        return false;
    *out = (struct job_status){.id = id,
                               .job = job->job,
                               .state = job->state,
                               .priority = job->priority,
                               .submitted_ns = job->submitted_ns,
                               .videos = job->job->video_count};
    memcpy(out->by_state, job->by_state, sizeof out->by_state);
    double left = 0;
    for (int i = 0; i < job->job->video_count; i++) {
        int windows, done;
        video_windows(job, i, &windows, &done);
        out->windows += windows;
        out->windows_done += done;
        out->frames += job->job->videos[i].frames;
        out->frames_done += done == windows ? job->job->videos[i].frames
                                            : job->job->videos[i].frames * done / windows;
        if (!video_state_is_final((enum video_state)job->videos[i].state))
            left += windows - done;
    }
    double each = window_seconds(job);
    int parallel = job->leases > 1 ? job->leases : 1;
    out->seconds_left = left == 0 ? 0 : each < 0 ? -1 : left * each / parallel;
    return true;
}

bool scheduler_video_status(const struct scheduler *self, uint64_t id, int video,
                            struct video_status *out) {
    const struct job_entry *job = map_get(&self->jobs_by_id, id);
    if (!job || video < 0 || video >= job->job->video_count)
        return false;
    const struct video_entry *entry = &job->videos[video];
    *out = (struct video_status){.state = (enum video_state)entry->state,
                                 .class = class_name(self, entry->class),
                                 .code = entry->code,
                                 .detail = entry->detail ? entry->detail : "",
                                 .kind = PLAN_KIND_COUNT,
                                 .worker = "",
                                 .seconds = entry->seconds};
    video_windows(job, video, &out->windows, &out->windows_done);
    const struct active *active = entry->active;
    double part = 0;
    if (active) {
        const struct node *node = active->nodes[active->cursor];
        int at = active->cursor;
        for (int i = 0; !node->lease && i < active->plan->text_count; i++) {
            node = active->nodes[i];
            at = i;
        }
        if (node->lease) {
            out->kind = node->kind;
            out->index = active->plan->tasks[at].index;
            out->step = node->lease->step;
            out->steps = node->lease->steps;
            out->attempt = node->attempts + node->deaths + 1;
            out->worker = node->lease->worker->name;
            if (node->kind == PLAN_WINDOW)
                part = node->lease->fraction * mean_seconds(job, PLAN_WINDOW);
            else if (node->kind == PLAN_DECODE)
                part = mean_seconds(job, PLAN_WINDOW) +
                       node->lease->fraction * mean_seconds(job, PLAN_DECODE);
        }
    }
    double each = window_seconds(job), left = (out->windows - out->windows_done) * each - part;
    out->seconds_left = video_state_is_final(out->state) ? 0 : each < 0 ? -1 : left > 0 ? left : 0;
    return true;
}

int scheduler_job_count(const struct scheduler *self) {
    return self->job_count;
}

uint64_t scheduler_job_at(const struct scheduler *self, int place) {
    return place >= 0 && place < self->job_count ? self->jobs[place]->id : 0;
}

int scheduler_worker_count(const struct scheduler *self) {
    return self->worker_count;
}

bool scheduler_worker_at(const struct scheduler *self, int place, int64_t now,
                         struct worker_status *out) {
    if (place < 0 || place >= self->worker_count)
        return false;
    const struct worker *worker = self->workers[place];
    int64_t since = now - self->last_now;
    *out = (struct worker_status){
        .id = worker->id,
        .name = worker->name,
        .class = class_name(self, worker->class),
        .kinds = worker->kinds,
        .slots = worker->slots,
        .leases = worker->held,
        .draining = worker->draining,
        .stopped = worker->stopped,
        .done = worker->done,
        .failed = worker->failed,
        .seconds_silent =
            (double)(self->core - worker->seen + (since > 0 ? since : 0)) / (double)CLOCK_S,
        .kind = PLAN_KIND_COUNT,
    };
    const struct lease_entry *oldest = worker->leases;
    while (oldest && oldest->next)
        oldest = oldest->next;
    if (oldest) {
        out->job = oldest->job;
        out->video = oldest->video;
        out->kind = oldest->node->kind;
        out->index = oldest->index;
    }
    return true;
}

bool scheduler_uses(const struct scheduler *self, const struct hash *key, const char *class) {
    int at = class_find(self, class);
    return at >= 0 && node_find(self, key, at);
}

bool scheduler_is_idle(const struct scheduler *self) {
    if (self->leases.count || self->publishing_count)
        return false;
    for (int i = 0; i < self->job_count; i++)
        if (!job_state_is_final(self->jobs[i]->state))
            return false;
    return true;
}

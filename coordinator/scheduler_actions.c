/* What is to be done about the event in hand, and the time that it brought. */
#include "coordinator/scheduler_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/grow.h"

struct chunk {
    struct chunk *next;
    size_t used, capacity;
    _Alignas(16) char bytes[];
};

void *action_alloc(struct scheduler *self, size_t bytes) {
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

const char *action_bytes(struct scheduler *self, const char *text, size_t length) {
    char *made = action_alloc(self, length + 1);
    if (!made)
        return "";
    if (length)
        memcpy(made, text, length);
    made[length] = '\0';
    return made;
}

const char *action_text(struct scheduler *self, const char *text) {
    return text ? action_bytes(self, text, strlen(text)) : "";
}

struct scheduler_action *action_add(struct scheduler *self, enum scheduler_action_kind kind) {
    struct scheduler_actions *actions = self->actions;
    struct scheduler_action *items =
        grow(actions->items, &actions->capacity, actions->count, sizeof *items);
    if (!items) {
        actions->failed = true;
        return NULL;
    }
    actions->items = items;
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

struct ledger_record *record_add(struct scheduler *self, enum ledger_record_kind kind) {
    static const struct ledger_record none;
    struct scheduler_action *action = action_add(self, ACTION_RECORD);
    if (!action)
        return NULL;
    action->record = none;
    action->record.kind = kind;
    return &action->record;
}

int64_t scheduler_wall(const struct scheduler *self) {
    return self->wall + (self->core - self->wall_core);
}

void scheduler_tell_wall(struct scheduler *self, int64_t wall_ns) {
    if (wall_ns) {
        self->wall = wall_ns;
        self->wall_core = self->core;
    }
}

void event_add(struct scheduler *self, uint64_t job, int video, const char *format, ...) {
    char text[ERROR_DETAIL_BYTES + 256];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    struct ledger_record *record = record_add(self, LEDGER_EVENT);
    if (record)
        record->event = (struct ledger_event){.job = job,
                                              .video = video,
                                              .text = action_text(self, text),
                                              .wall_ns = scheduler_wall(self)};
}

void worker_action(struct scheduler *self, enum scheduler_action_kind kind, uint64_t worker,
                   uint64_t epoch, enum error_code code) {
    struct scheduler_action *action = action_add(self, kind);
    if (action) {
        action->worker.worker = worker;
        action->worker.epoch = epoch;
        action->worker.code = code;
    }
}

void news_add(struct scheduler *self, uint64_t job, int video, int state, enum error_code code,
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

void scheduler_begin(struct scheduler *self, int64_t now, struct scheduler_actions *actions) {
    self->actions = actions;
    int64_t gap = self->clock_started ? now - self->last_now : 0;
    self->clock_started = true;
    self->last_now = now;
    self->core += gap < 0 ? 0 : gap > self->config.gap_max_ns ? self->config.gap_max_ns : gap;
}

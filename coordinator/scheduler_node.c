/* Tasks as videos share them, and the classes of workers that do them. */
#include "coordinator/scheduler_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/grow.h"

int class_find(const struct scheduler *self, const char *name) {
    for (int i = 0; i < self->class_count; i++)
        if (!strcmp(self->classes[i].name, name))
            return i;
    return -1;
}

int class_add(struct scheduler *self, const char *name) {
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

const char *class_name(const struct scheduler *self, int class) {
    return class < 0 ? "" : self->classes[class].name;
}

unsigned class_kinds(const struct scheduler *self, int class) {
    unsigned kinds = 0;
    for (int i = 0; i < self->worker_count; i++)
        if (self->workers[i]->class == class && !self->workers[i]->draining &&
            !self->workers[i]->stopped)
            kinds |= self->workers[i]->kinds;
    return kinds;
}

bool worker_takes_leases(const struct worker *worker) {
    return worker->slots > 0 && !worker->draining && !worker->stopped;
}

static size_t node_bucket(const struct scheduler *self, const struct hash *key, int class) {
    uint64_t number;
    memcpy(&number, key->bytes, sizeof number);
    return (size_t)(number + (uint64_t) class * UINT64_C(0x9E3779B97F4A7C15)) &
           (self->bucket_count - 1);
}

struct node *node_find(const struct scheduler *self, const struct hash *key, int class) {
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

struct node *node_take(struct scheduler *self, const struct plan_task *task, int class) {
    bool private = task->kind == PLAN_MUX;
    struct node *node = private ? NULL : node_find(self, &task->key, class);
    if (node)
        return node;
    node = calloc(1, sizeof *node);
    if (!node)
        return NULL;
    node->key = task->key;
    node->class = class;
    node->kind = task->kind;
    node->private = private;
    node->looked_up = private;
    if (!private && !node_insert(self, node)) {
        free(node);
        return NULL;
    }
    return node;
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

bool node_add_user(struct node *node, struct active *active, int task) {
    struct user *users =
        grow(node->users, &node->user_capacity, (size_t)node->user_count, sizeof *users);
    if (!users)
        return false;
    node->users = users;
    node->users[node->user_count++] = (struct user){active, task};
    return true;
}

void node_leave(struct scheduler *self, struct node *node, const struct active *active, int task) {
    for (int i = 0; i < node->user_count; i++)
        if (node->users[i].active == active && node->users[i].task == task) {
            node->users[i] = node->users[--node->user_count];
            break;
        }
    if (node->user_count)
        return;
    if (node->lease) {
        worker_action(self, ACTION_REVOKE, node->lease->worker->id, node->lease->epoch, ERR_OK);
        lease_end(self, node->lease, true);
    }
    node_free(self, node);
}

static bool is_settled(const struct active *active, int at) {
    const struct plan_task *task = &active->plan->tasks[at];
    return task->kind != PLAN_DECODE || task->index < active->judged;
}

void active_advance(struct active *active) {
    int last = active->plan->task_count - 1;
    while (active->cursor < last && active->nodes[active->cursor]->state == NODE_DONE &&
           is_settled(active, active->cursor))
        active->cursor++;
}

void node_done(struct scheduler *self, struct node *node, const struct task_result *result) {
    node->state = NODE_DONE;
    node->result = *result;
    for (int i = 0; i < node->user_count; i++)
        active_advance(node->users[i].active);
}

void node_undone(struct scheduler *self, struct node *node, uint64_t job) {
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
        if (user->task >= user->active->plan->first && user->task < user->active->cursor)
            user->active->cursor = user->task;
    }
}

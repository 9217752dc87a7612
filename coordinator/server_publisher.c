/* A thread that publishes, in the order of what was asked. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/server_publish.h"

struct order {
    struct published result;
    struct publish publish; /* its texts are ours */
    struct order *next;
};

struct publisher {
    pthread_t thread;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    struct order *waiting, **waiting_end;
    struct order *done, **done_end;
    size_t count; /* added and not taken */
    bool quit;
};

static void order_free(struct order *order) {
    if (!order)
        return;
    free((char *)order->publish.staged);
    free((char *)order->publish.path);
    free(order);
}

static void list_free(struct order *order) {
    while (order) {
        struct order *next = order->next;
        order_free(order);
        order = next;
    }
}

static void *publisher_main(void *argument) {
    struct publisher *publisher = argument;
    pthread_mutex_lock(&publisher->lock);
    while (!publisher->quit) {
        struct order *order = publisher->waiting;
        if (!order) {
            pthread_cond_wait(&publisher->changed, &publisher->lock);
            continue;
        }
        publisher->waiting = order->next;
        if (!publisher->waiting)
            publisher->waiting_end = &publisher->waiting;
        order->next = NULL;
        pthread_mutex_unlock(&publisher->lock);
        order->result.code = publish_file(&order->publish, &order->result.error);
        pthread_mutex_lock(&publisher->lock);
        *publisher->done_end = order;
        publisher->done_end = &order->next;
    }
    pthread_mutex_unlock(&publisher->lock);
    return NULL;
}

enum error_code publisher_open(struct publisher **out, struct error *error) {
    struct publisher *publisher = calloc(1, sizeof *publisher);
    if (!publisher)
        return error_set(error, ERR_MEMORY, "no memory to publish");
    publisher->waiting_end = &publisher->waiting;
    publisher->done_end = &publisher->done;
    pthread_mutex_init(&publisher->lock, NULL);
    pthread_cond_init(&publisher->changed, NULL);
    if (pthread_create(&publisher->thread, NULL, publisher_main, publisher) != 0) {
        pthread_cond_destroy(&publisher->changed);
        pthread_mutex_destroy(&publisher->lock);
        free(publisher);
        return error_set(error, ERR_MEMORY, "no thread to publish");
    }
    *out = publisher;
    return ERR_OK;
}

void publisher_close(struct publisher **out) {
    struct publisher *publisher = *out;
    if (!publisher)
        return;
    pthread_mutex_lock(&publisher->lock);
    publisher->quit = true;
    pthread_cond_signal(&publisher->changed);
    pthread_mutex_unlock(&publisher->lock);
    pthread_join(publisher->thread, NULL);
    list_free(publisher->waiting);
    list_free(publisher->done);
    pthread_cond_destroy(&publisher->changed);
    pthread_mutex_destroy(&publisher->lock);
    free(publisher);
    *out = NULL;
}

enum error_code publisher_add(struct publisher *publisher, uint64_t job, int video,
                              const struct publish *publish, struct error *error) {
    struct order *order = calloc(1, sizeof *order);
    if (order) {
        order->result = (struct published){.job = job, .video = video};
        order->publish = *publish;
        order->publish.staged = strdup(publish->staged);
        order->publish.path = strdup(publish->path);
    }
    if (!order || !order->publish.staged || !order->publish.path) {
        order_free(order);
        return error_set(error, ERR_MEMORY, "no memory to publish %.512s", publish->path);
    }
    pthread_mutex_lock(&publisher->lock);
    *publisher->waiting_end = order;
    publisher->waiting_end = &order->next;
    publisher->count++;
    pthread_cond_signal(&publisher->changed);
    pthread_mutex_unlock(&publisher->lock);
    return ERR_OK;
}

bool publisher_take(struct publisher *publisher, struct published *out) {
    pthread_mutex_lock(&publisher->lock);
    struct order *order = publisher->done;
    if (order) {
        publisher->done = order->next;
        if (!publisher->done)
            publisher->done_end = &publisher->done;
        publisher->count--;
    }
    pthread_mutex_unlock(&publisher->lock);
    if (!order)
        return false;
    *out = order->result;
    snprintf(out->path, sizeof out->path, "%s", order->publish.path);
    order_free(order);
    return true;
}

bool publisher_is_busy(struct publisher *publisher) {
    pthread_mutex_lock(&publisher->lock);
    bool busy = publisher->count > 0;
    pthread_mutex_unlock(&publisher->lock);
    return busy;
}

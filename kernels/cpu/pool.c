#include "kernels/cpu/pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

/* Turns of a waiting loop before a thread sleeps: about 20 us, longer than the gap between two
 * operations of a model, shorter than anything a person or a neighbour would notice. */
#define SPINS 2000

struct worker {
    struct pool *pool;
    pthread_t thread;
    int index;
};

struct pool {
    int threads;
    struct worker workers[POOL_THREADS_MAX];
    int started; /* workers 1..started run */

    /* The loop in hand. Written by the caller before `round` goes up. */
    pool_function *function;
    const void *context;
    int64_t pieces;
    _Alignas(64) _Atomic int64_t next; /* first piece nobody has taken */
    _Alignas(64) _Atomic int running;  /* workers that have not finished this round */
    _Alignas(64) _Atomic unsigned round;
    _Atomic int stop;

    pthread_mutex_t mutex;
    pthread_cond_t wake; /* round went up */
    pthread_cond_t done; /* running came to 0 */
};

static void pause_briefly(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void take_pieces(struct pool *pool, int worker) {
    for (;;) {
        int64_t piece = atomic_fetch_add_explicit(&pool->next, 1, memory_order_relaxed);
        if (piece >= pool->pieces) {
            return;
        }
        pool->function(pool->context, piece, worker);
    }
}

static void *work(void *argument) {
    struct worker *self = argument;
    struct pool *pool = self->pool;
    unsigned seen = 0;
    for (;;) {
        for (int i = 0; i < SPINS && atomic_load(&pool->round) == seen; i++) {
            pause_briefly();
        }
        if (atomic_load(&pool->round) == seen) {
            pthread_mutex_lock(&pool->mutex);
            while (atomic_load(&pool->round) == seen) {
                pthread_cond_wait(&pool->wake, &pool->mutex);
            }
            pthread_mutex_unlock(&pool->mutex);
        }
        seen++;
        if (atomic_load(&pool->stop)) {
            return NULL;
        }
        take_pieces(pool, self->index);
        if (atomic_fetch_sub(&pool->running, 1) == 1) {
            pthread_mutex_lock(&pool->mutex);
            pthread_cond_signal(&pool->done);
            pthread_mutex_unlock(&pool->mutex);
        }
    }
}

static void start_round(struct pool *pool) {
    pthread_mutex_lock(&pool->mutex);
    atomic_fetch_add(&pool->round, 1);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->mutex);
}

enum error_code pool_open(struct pool **out, int threads, struct error *error) {
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    int cores = 0;
    if (sched_getaffinity(0, sizeof allowed, &allowed) == 0) {
        cores = CPU_COUNT(&allowed);
    }
    if (cores < 1) {
        cores = 1;
    }
    if (threads <= 0) {
        threads = cores;
    }
    if (threads > POOL_THREADS_MAX) {
        threads = POOL_THREADS_MAX;
    }
    struct pool *pool = aligned_alloc(64, (sizeof *pool + 63) / 64 * 64);
    if (pool == NULL) {
        return error_set(error, ERR_MEMORY, "no memory for %d compute threads", threads);
    }
    *pool = (struct pool){.threads = threads};
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->wake, NULL);
    pthread_cond_init(&pool->done, NULL);
    int core = -1;
    for (int i = 1; i < threads; i++) {
        struct worker *worker = &pool->workers[i];
        *worker = (struct worker){.pool = pool, .index = i};
        if (pthread_create(&worker->thread, NULL, work, worker) != 0) {
            pool_close(&pool);
            return error_set(error, ERR_MEMORY, "cannot start compute thread %d of %d", i + 1,
                             threads);
        }
        pool->started = i;
        /* Worker i to the i-th allowed core. The caller's own thread is not ours to pin; more
         * threads than cores (a test) are left to the kernel. */
        if (threads <= cores) {
            do {
                core++;
            } while (core < CPU_SETSIZE && !CPU_ISSET(core, &allowed));
            if (i == 1) { /* core 0 of the allowed ones is left to the caller */
                do {
                    core++;
                } while (core < CPU_SETSIZE && !CPU_ISSET(core, &allowed));
            }
            cpu_set_t one;
            CPU_ZERO(&one);
            if (core < CPU_SETSIZE) {
                CPU_SET(core, &one);
                (void)pthread_setaffinity_np(worker->thread, sizeof one, &one);
            }
        }
    }
    *out = pool;
    return ERR_OK;
}

void pool_close(struct pool **pool_pointer) {
    struct pool *pool = *pool_pointer;
    if (pool == NULL) {
        return;
    }
    atomic_store(&pool->stop, 1);
    start_round(pool);
    for (int i = 1; i <= pool->started; i++) {
        pthread_join(pool->workers[i].thread, NULL);
    }
    pthread_cond_destroy(&pool->done);
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->mutex);
    free(pool);
    *pool_pointer = NULL;
}

int pool_threads(const struct pool *pool) {
    return pool->threads;
}

void pool_run(struct pool *pool, int64_t pieces, pool_function *function, const void *context) {
    if (pieces <= 1 || pool->started == 0) {
        for (int64_t i = 0; i < pieces; i++) {
            function(context, i, 0);
        }
        return;
    }
    pool->function = function;
    pool->context = context;
    pool->pieces = pieces;
    atomic_store(&pool->next, 0);
    atomic_store(&pool->running, pool->started);
    start_round(pool);
    take_pieces(pool, 0);
    for (int i = 0; i < SPINS && atomic_load(&pool->running) > 0; i++) {
        pause_briefly();
    }
    if (atomic_load(&pool->running) > 0) {
        pthread_mutex_lock(&pool->mutex);
        while (atomic_load(&pool->running) > 0) {
            pthread_cond_wait(&pool->done, &pool->mutex);
        }
        pthread_mutex_unlock(&pool->mutex);
    }
}

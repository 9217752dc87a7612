#include "worker/model/stream.h"

#include <assert.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/grow.h"

#define PIECE        ((size_t)1 << 20) /* bytes that are asked for at once */
#define PIECES_AHEAD 8                 /* that the disk has to do */

#define MOVING_THERE 2  /* blocks in memory at once of those that do not stay */
#define SAMPLES      16 /* pieces that the disk is timed with */

/* Whole pages. */
struct range {
    uint8_t *begin;
    size_t bytes;
};

struct block {
    struct range *range;
    int count;
    size_t room;
    size_t bytes; /* of weights, not of pages */
    bool stays;   /* under the limit */
    bool there;
};

struct stream {
    struct streamer *streamer;
    struct stream *next; /* of the streamer's */
    int blocks;
    int entered; /* -1: none */
    int moving;  /* blocks that do not stay */
    size_t bytes, told;
    struct block table; /* neither counted nor brought in */
    struct block block[];
};

struct streamer {
    struct stream *streams;
    struct stream *current; /* that is in memory */
    size_t limit, page;
    stream_notice notice;
    void *user;

    pthread_t thread;
    bool started;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    struct block *wanted; /* being brought in */
    bool quit;
};

/* -- pages ------------------------------------------------------------------------------------- */

static size_t at_most(size_t a, size_t b) {
    return a < b ? a : b;
}

static void advise(const struct range *range, size_t at, size_t bytes, int advice) {
    if (at < range->bytes) /* advice only: a failure costs time */
        (void)madvise(range->begin + at, at_most(bytes, range->bytes - at), advice);
}

static void touch(const struct range *range, size_t at, size_t bytes, size_t page) {
    const volatile uint8_t *pages = range->begin;
    for (size_t end = at_most(at + bytes, range->bytes); at < end; at += page)
        (void)pages[at];
}

/* Requests to the system are cut to what a disk takes at once, so there are several under way. */
static void bring_in(const struct block *block, size_t page) {
    for (int i = 0; i < block->count; i++) {
        const struct range *range = &block->range[i];
        for (size_t ahead = 0; ahead < PIECES_AHEAD * PIECE; ahead += PIECE)
            advise(range, ahead, PIECE, MADV_WILLNEED);
        for (size_t at = 0; at < range->bytes; at += PIECE) {
            advise(range, at + PIECES_AHEAD * PIECE, PIECE, MADV_WILLNEED);
            touch(range, at, PIECE, page);
        }
    }
}

/* Cold first: when the system itself is short of memory, these pages go before those that stay. */
static void give_back(struct block *block) {
    for (int i = 0; i < block->count; i++) {
        advise(&block->range[i], 0, SIZE_MAX, MADV_COLD);
        advise(&block->range[i], 0, SIZE_MAX, MADV_DONTNEED);
    }
    block->there = false;
}

/* -- the reading thread ------------------------------------------------------------------------ */

static void *read_blocks(void *user) {
    struct streamer *streamer = user;
    pthread_mutex_lock(&streamer->lock);
    while (!streamer->quit) {
        const struct block *block = streamer->wanted;
        if (block == NULL) {
            pthread_cond_wait(&streamer->changed, &streamer->lock);
            continue;
        }
        pthread_mutex_unlock(&streamer->lock);
        bring_in(block, streamer->page);
        pthread_mutex_lock(&streamer->lock);
        streamer->wanted = NULL;
        pthread_cond_broadcast(&streamer->changed);
    }
    pthread_mutex_unlock(&streamer->lock);
    return NULL;
}

/* Until it is not being brought in; NULL: nothing is. */
static void wait_for(struct streamer *streamer, const struct block *block) {
    pthread_mutex_lock(&streamer->lock);
    while (streamer->wanted != NULL && (block == NULL || streamer->wanted == block))
        pthread_cond_wait(&streamer->changed, &streamer->lock);
    pthread_mutex_unlock(&streamer->lock);
}

/* Nothing while another is on its way. Without a thread the pages come when they are touched. */
static void ask_for(struct streamer *streamer, struct block *block) {
    if (!streamer->started)
        streamer->started = pthread_create(&streamer->thread, NULL, read_blocks, streamer) == 0;
    pthread_mutex_lock(&streamer->lock);
    if (streamer->wanted == NULL || !streamer->started) {
        block->there = true;
        streamer->wanted = streamer->started ? block : NULL;
        pthread_cond_broadcast(&streamer->changed);
    }
    pthread_mutex_unlock(&streamer->lock);
}

/* -- which blocks stay ------------------------------------------------------------------------- */

/* Whether block i is one of `moving` that are evenly spread. */
static bool is_moving(const struct stream *stream, int i, int moving) {
    return (i + 1) * moving / stream->blocks > i * moving / stream->blocks;
}

/* Bytes in memory at once, if so many blocks move: the others, and MOVING_THERE of these. */
static size_t held(const struct stream *stream, int moving) {
    size_t sum = 0, first = 0, second = 0;
    for (int i = 0; i < stream->blocks; i++) {
        size_t bytes = stream->block[i].bytes;
        if (!is_moving(stream, i, moving)) {
            sum += bytes;
        } else if (bytes > first) {
            second = first;
            first = bytes;
        } else if (bytes > second) {
            second = bytes;
        }
    }
    return sum + first + second;
}

static int choose_moving(const struct stream *stream, size_t limit) {
    int moving = 0;
    if (limit == 0 || stream->bytes <= limit)
        return 0;
    while (moving < stream->blocks && held(stream, moving) > limit)
        moving++;
    return moving;
}

/* -- the streamer ------------------------------------------------------------------------------ */

enum error_code streamer_open(struct streamer **out, struct error *error) {
    struct streamer *streamer = *out = calloc(1, sizeof *streamer);
    if (streamer == NULL)
        return error_set(error, ERR_MEMORY, "no memory to read weights ahead");
    streamer->page = (size_t)sysconf(_SC_PAGESIZE);
    pthread_mutex_init(&streamer->lock, NULL);
    pthread_cond_init(&streamer->changed, NULL);
    return ERR_OK;
}

void streamer_close(struct streamer **owner) {
    struct streamer *streamer = *owner;
    if (streamer == NULL)
        return;
    assert(streamer->streams == NULL);
    if (streamer->started) {
        pthread_mutex_lock(&streamer->lock);
        streamer->quit = true;
        pthread_cond_broadcast(&streamer->changed);
        pthread_mutex_unlock(&streamer->lock);
        pthread_join(streamer->thread, NULL);
    }
    pthread_cond_destroy(&streamer->changed);
    pthread_mutex_destroy(&streamer->lock);
    free(streamer);
    *owner = NULL;
}

static void leave(struct stream *stream) {
    wait_for(stream->streamer, NULL);
    for (int i = 0; i < stream->blocks; i++)
        give_back(&stream->block[i]);
    give_back(&stream->table);
    stream->entered = -1;
}

/* Which blocks stay is chosen anew, unless it would be the same. */
void streamer_set_limit(struct streamer *streamer, size_t bytes) {
    struct stream *current = streamer->current;
    bool same = (bytes == 0) == (streamer->limit == 0) &&
                (current == NULL || choose_moving(current, bytes) == current->moving);
    streamer->limit = bytes;
    if (same)
        return;
    streamer->current = NULL;
    for (struct stream *s = streamer->streams; s != NULL; s = s->next)
        if (bytes != 0)
            leave(s);
        else
            s->entered = -1;
}

void streamer_rest(struct streamer *streamer) {
    streamer->current = NULL;
    for (struct stream *s = streamer->streams; s != NULL; s = s->next)
        leave(s);
}

void streamer_set_notice(struct streamer *streamer, stream_notice notice, void *user) {
    streamer->notice = notice;
    streamer->user = user;
}

size_t streamer_bytes(const struct streamer *streamer) {
    size_t bytes = 0;
    for (const struct stream *s = streamer == NULL ? NULL : streamer->streams; s != NULL;
         s = s->next)
        bytes += s->bytes;
    return bytes;
}

size_t streamer_least(const struct streamer *streamer) {
    size_t least = 0;
    for (const struct stream *s = streamer->streams; s != NULL; s = s->next)
        if (held(s, s->blocks) > least)
            least = held(s, s->blocks);
    return least;
}

static size_t moving_bytes(const struct stream *stream, int moving) {
    size_t bytes = 0;
    for (int i = 0; i < stream->blocks; i++)
        bytes += is_moving(stream, i, moving) ? stream->block[i].bytes : 0;
    return bytes;
}

size_t streamer_pass_bytes(const struct streamer *streamer, size_t limit) {
    size_t most = 0;
    for (const struct stream *s = streamer->streams; s != NULL; s = s->next) {
        size_t bytes = moving_bytes(s, choose_moving(s, limit));
        most = bytes > most ? bytes : most;
    }
    return most;
}

/* -- a stream ---------------------------------------------------------------------------------- */

enum error_code stream_open(struct stream **out, struct streamer *streamer, int blocks,
                            struct error *error) {
    assert(blocks > 0);
    struct stream *stream = *out =
        calloc(1, sizeof *stream + (size_t)blocks * sizeof *stream->block);
    if (stream == NULL)
        return error_set(error, ERR_MEMORY, "no memory to read weights ahead");
    stream->streamer = streamer;
    stream->blocks = blocks;
    stream->entered = -1;
    stream->next = streamer->streams;
    streamer->streams = stream;
    return ERR_OK;
}

void stream_close(struct stream **owner) {
    struct stream *stream = *owner;
    if (stream == NULL)
        return;
    struct streamer *streamer = stream->streamer;
    struct stream **at = &streamer->streams;
    wait_for(streamer, NULL);
    if (streamer->limit != 0)
        leave(stream);
    while (*at != stream)
        at = &(*at)->next;
    *at = stream->next;
    if (streamer->current == stream)
        streamer->current = NULL;
    for (int i = 0; i < stream->blocks; i++)
        free(stream->block[i].range);
    free(stream->table.range);
    free(stream);
    *owner = NULL;
}

static enum error_code add_range(struct block *block, const void *data, size_t bytes, size_t page,
                                 struct error *error) {
    uintptr_t begin = (uintptr_t)data / page * page;
    struct range *range = grow(block->range, &block->room, (size_t)block->count, sizeof *range);
    if (range == NULL)
        return error_set(error, ERR_MEMORY, "no memory to read weights ahead");
    block->range = range;
    size_t end = ((uintptr_t)data + bytes + page - 1) / page * page;
    block->range[block->count++] = (struct range){(uint8_t *)begin, end - begin};
    block->bytes += bytes;
    return ERR_OK;
}

enum error_code stream_add(struct stream *stream, int block, const void *data, size_t bytes,
                           struct error *error) {
    assert(block >= 0 && block < stream->blocks);
    stream->bytes += bytes;
    return add_range(&stream->block[block], data, bytes, stream->streamer->page, error);
}

enum error_code stream_add_table(struct stream *stream, const void *data, size_t bytes,
                                 struct error *error) {
    return add_range(&stream->table, data, bytes, stream->streamer->page, error);
}

/* Pieces from all over what is read in every pass. */
static double sample_rate(const struct stream *stream) {
    size_t page = stream->streamer->page, read = 0;
    int64_t start = clock_monotonic_ns();
    for (int i = 0; i < SAMPLES; i++) {
        const struct block *block = &stream->block[i * stream->blocks / SAMPLES];
        if (block->stays || block->count == 0)
            continue;
        const struct range *range = &block->range[block->count - 1];
        size_t at = range->bytes / 2 / page * page, bytes = at_most(PIECES_AHEAD * PIECE, at);
        const struct range piece = {range->begin + at, bytes};
        bring_in(&(const struct block){.range = (struct range[]){piece}, .count = 1}, page);
        advise(&piece, 0, bytes, MADV_DONTNEED);
        read += bytes;
    }
    int64_t took = clock_monotonic_ns() - start;
    return took > 0 ? (double)read * 1e9 / (double)took : 0;
}

static void tell(struct stream *stream) {
    struct stream_cost cost = {.bytes = stream->bytes,
                               .pass_bytes = moving_bytes(stream, stream->moving)};
    if (stream->streamer->notice == NULL || cost.pass_bytes == stream->told)
        return;
    stream->told = cost.pass_bytes;
    if (cost.pass_bytes == 0)
        return;
    cost.bytes_per_second = sample_rate(stream);
    stream->streamer->notice(stream->streamer->user, &cost);
}

/* The stream becomes the one that is in memory. */
static void begin(struct stream *stream) {
    struct streamer *streamer = stream->streamer;
    if (streamer->current != NULL && streamer->limit != 0)
        leave(streamer->current);
    streamer->current = stream;
    stream->moving = choose_moving(stream, streamer->limit);
    for (int i = 0; i < stream->blocks; i++)
        stream->block[i].stays = !is_moving(stream, i, stream->moving);
    tell(stream);
}

/* Beside this block, which is in use, all that stay are kept and the next ones of the others as far
 * as there is room; the rest is given back: what was in use before, or what a pass that was broken
 * off has left. The next one to bring in; NULL: none. */
static struct block *make_room(struct stream *stream, int block) {
    int room = stream->block[block].stays ? MOVING_THERE : MOVING_THERE - 1;
    struct block *missing = NULL;
    for (int i = 1; i < stream->blocks; i++) {
        struct block *other = &stream->block[(block + i) % stream->blocks];
        bool kept = other->stays || room-- > 0;
        if (!kept && other->there) {
            wait_for(stream->streamer, other);
            give_back(other);
        } else if (kept && !other->there && other->count > 0 && missing == NULL) {
            missing = other;
        }
    }
    return missing;
}

void stream_enter(struct stream *stream, int block) {
    struct streamer *streamer = stream->streamer;
    assert(block >= 0 && block < stream->blocks);
    if (streamer->current != stream)
        begin(stream);
    if (stream->entered == block)
        return;
    stream->entered = block;
    struct block *entered = &stream->block[block], *next = make_room(stream, block);
    if (streamer->limit != 0 && block == 0)
        give_back(&stream->table);
    if (!entered->there && entered->count > 0) {
        wait_for(streamer, NULL);
        ask_for(streamer, entered);
    }
    wait_for(streamer, entered);
    if (next != NULL)
        ask_for(streamer, next);
}

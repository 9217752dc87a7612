#include "worker/model/noise.h"

#include <pthread.h>
#include <stdbool.h>

#include "base/random.h"

/* A window's noise, two million numbers, takes one thread 80 ms, in which a GPU has nothing to do.
 */
#define PARTS_MAX 8
#define PART_MIN  ((size_t)1 << 16)

struct part {
    const struct noise_source *source;
    float *out;
    size_t first, count;
};

static void *draw_part(void *argument) {
    const struct part *part = argument;
    random_normal(part->out + part->first, part->count, part->source->seed, part->source->stream,
                  part->source->drawn + part->first);
    return NULL;
}

/* Every number depends on its place alone, so parts can be drawn beside each other. */
static void draw_parts(const struct noise_source *source, float *out, size_t count) {
    struct part part[PARTS_MAX];
    pthread_t thread[PARTS_MAX];
    bool started[PARTS_MAX];
    size_t wanted = count / PART_MIN + 1, parts = wanted < PARTS_MAX ? wanted : PARTS_MAX;
    for (size_t i = 0; i < parts; i++) {
        size_t first = count * i / parts;
        part[i] = (struct part){source, out, first, count * (i + 1) / parts - first};
        started[i] = i > 0 && pthread_create(&thread[i], NULL, draw_part, &part[i]) == 0;
    }
    for (size_t i = 0; i < parts; i++) {
        if (started[i])
            (void)pthread_join(thread[i], NULL);
        else
            (void)draw_part(&part[i]);
    }
}

void noise_draw(struct noise_source *source, float *out, size_t count) {
    if (source->noise == NOISE_TORCH) {
        if (source->drawn == 0)
            torch_noise_seed(&source->torch, source->seed);
        torch_noise_normal(&source->torch, out, count);
    } else {
        draw_parts(source, out, count);
    }
    source->drawn += count;
}

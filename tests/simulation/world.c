#include "world.h"

#include <string.h>

uint32_t roll(struct dice *dice, uint32_t bound) {
    return random_below(bound, dice->seed, 7, dice->at++);
}

const char *const sim_classes[2] = {"cpu-a", "gpu-b"};

void say(const struct world *world, const char *format, ...) {
    if (!world->loud)
        return;
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "%8.3f ", (double)world->now / 1e9);
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n");
    va_end(arguments);
}

void epochs_add(struct world *world, struct epochs *epochs, uint64_t epoch) {
    SIM_CHECK(world, epochs->count < EPOCHS, "too many epochs");
    epochs->items[epochs->count++] = epoch;
}
bool epochs_have(const struct epochs *epochs, uint64_t epoch) {
    for (int i = epochs->count; i > 0; i--)
        if (epochs->items[i - 1] == epoch)
            return true;
    return false;
}

/* -- what the store and the file system would say --------------------------------------------- */

void artifact(struct hash *out, const struct hash *key, int class, const char *name) {
    struct hash_state state;
    hash_start(&state);
    hash_add(&state, key->bytes, HASH_BYTES);
    hash_add_u64(&state, (uint64_t) class);
    hash_add_text(&state, name);
    hash_finish(&state, out);
}

bool is_lost(const struct world *world, const struct hash *object) {
    for (int i = 0; i < world->lost_count; i++)
        if (hash_equal(&world->lost[i], object))
            return true;
    return false;
}

void found_again(struct world *world, const struct hash *object) {
    for (int i = 0; i < world->lost_count; i++)
        if (hash_equal(&world->lost[i], object)) {
            world->lost[i] = world->lost[--world->lost_count];
            return;
        }
}

struct sim_file *find_file(struct world *world, const char *path) {
    for (int i = 0; i < world->file_count; i++)
        if (!strcmp(world->files[i].path, path))
            return &world->files[i];
    return NULL;
}

void put_file(struct world *world, const char *path, const struct hash *hash, uint64_t epoch) {
    struct sim_file *file = find_file(world, path);
    if (!file) {
        SIM_CHECK(world, world->file_count < FILES, "too many files are left over");
        file = &world->files[world->file_count++];
    }
    snprintf(file->path, sizeof file->path, "%s", path);
    file->hash = *hash;
    file->epoch = epoch;
}

void remove_file(struct world *world, const char *path) {
    struct sim_file *file = find_file(world, path);
    if (file)
        *file = world->files[--world->file_count];
}

/* -- network ---------------------------------------------------------------------------------- */

void send_message(struct world *world, const struct message *message) {
    int copies = 1;
    if (!world->calm && world->mode != QUIET) {
        uint32_t fate = roll(&world->dice, 100);
        copies = fate < 4 ? 0 : fate < 8 ? 2 : 1;
    }
    for (int copy = 0; copy < copies; copy++)
        for (int i = 0; i < MESSAGES; i++)
            if (!world->messages[i].there) {
                world->messages[i] = *message;
                world->messages[i].there = true;
                int64_t delay = roll(&world->dice, 20);
                if (!world->calm && world->mode != QUIET && roll(&world->dice, 50) == 0)
                    delay = roll(&world->dice, 60000); /* up to a minute: past any lease */
                world->messages[i].at = world->now + delay * CLOCK_MS;
                break;
            }
}

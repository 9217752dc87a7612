/* Weights larger than memory: blocks that are brought in and given back, what is in memory
 * meanwhile, and that results are the same bits. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/random.h"
#include "tests/worker/model/holes.h"
#include "tests/worker/model/model_test.h"

#define BLOCKS 12
#define BLOCK  ((size_t)4 << 20)
#define SLACK  ((size_t)2 << 20) /* pages beside those asked for, that the system maps with them */

struct mapped {
    uint8_t *bytes;
    struct streamer *streamer;
    struct stream *stream;
    size_t before; /* file pages of the process when nothing of it was touched */
};

/* Bytes of files that are mapped and there. */
static size_t file_bytes(void) {
    double bytes = process_bytes("RssFile:");
    assert_true(bytes > 0);
    return (size_t)bytes;
}

static uint8_t *map_numbers(void) {
    char name[] = "/tmp/vidloom-test-XXXXXX";
    int fd = mkstemp(name);
    assert_true(fd >= 0);
    assert_int_equal(unlink(name), 0);
    static uint8_t block[BLOCK];
    for (int i = 0; i < BLOCKS; i++) {
        memset(block, i + 1, sizeof block);
        assert_int_equal(write(fd, block, sizeof block), sizeof block);
    }
    uint8_t *bytes = mmap(NULL, BLOCKS * BLOCK, PROT_READ, MAP_SHARED, fd, 0);
    assert_true(bytes != MAP_FAILED);
    assert_int_equal(close(fd), 0);
    return bytes;
}

static void open_mapped(struct mapped *m) {
    struct error error = {0};
    m->bytes = map_numbers();
    ok(streamer_open(&m->streamer, &error), &error);
    ok(stream_open(&m->stream, m->streamer, BLOCKS, &error), &error);
    for (int i = 0; i < BLOCKS; i++) /* in two tensors, not at pages' bounds */
        for (int half = 0; half < 2; half++) {
            size_t begin = (size_t)i * BLOCK + (size_t)half * (BLOCK / 2) + 100;
            ok(stream_add(m->stream, i, m->bytes + begin, BLOCK / 2 - 200, &error), &error);
        }
    m->before = file_bytes();
}

static void close_mapped(struct mapped *m) {
    stream_close(&m->stream);
    streamer_close(&m->streamer);
    assert_int_equal(munmap(m->bytes, BLOCKS * BLOCK), 0);
}

/* Use all blocks in order; the most that was there at once. */
static size_t pass(struct mapped *m) {
    size_t most = 0;
    for (int i = 0; i < BLOCKS; i++) {
        stream_enter(m->stream, i);
        for (size_t at = 0; at < BLOCK; at += 4096)
            assert_int_equal(m->bytes[(size_t)i * BLOCK + at], i + 1);
        size_t now = file_bytes() - m->before;
        most = now > most ? now : most;
    }
    return most;
}

static void keep_cost(void *user, const struct stream_cost *cost) {
    struct stream_cost *last = user;
    assert_int_equal(last->bytes, 0); /* told once */
    *last = *cost;
}

static void stays_under_the_limit(void **state) {
    struct mapped m;
    struct stream_cost cost = {0};
    open_mapped(&m);
    size_t block = BLOCK - 400, limit = 5 * BLOCK + BLOCK / 2; /* 3 stay, 2 move */
    assert_int_equal(streamer_bytes(m.streamer), BLOCKS * block);
    assert_int_equal(streamer_least(m.streamer), 2 * block);
    streamer_set_limit(m.streamer, limit);
    streamer_set_notice(m.streamer, keep_cost, &cost);
    for (int i = 0; i < 4; i++) {
        size_t most = pass(&m);
        print_message("pass %d: %.1f MiB at most of %.1f allowed\n", i, (double)most / 0x1p20,
                      (double)limit / 0x1p20);
        assert_true(most <= limit + SLACK);
        assert_true(most >= 3 * BLOCK);
    }
    assert_int_equal(cost.bytes, BLOCKS * block);
    assert_int_equal(cost.pass_bytes, (BLOCKS - 3) * block);
    assert_true(cost.bytes_per_second > 0);
    close_mapped(&m);
}

static void all_stay_without_one(void **state) {
    struct mapped m;
    struct stream_cost cost = {0};
    open_mapped(&m);
    streamer_set_notice(m.streamer, keep_cost, &cost);
    pass(&m);
    assert_true(file_bytes() - m.before >= (BLOCKS - 1) * BLOCK);
    streamer_set_limit(m.streamer, 2 * BLOCK); /* what is there is given back */
    assert_true(file_bytes() - m.before <= SLACK);
    assert_true(pass(&m) <= 2 * BLOCK + SLACK);
    assert_int_equal(cost.pass_bytes, streamer_bytes(m.streamer));
    streamer_set_limit(m.streamer, 0);
    pass(&m);
    assert_true(file_bytes() - m.before >= (BLOCKS - 1) * BLOCK);
    close_mapped(&m);
}

/* A pass that ends early, and one that begins with a block from the middle. */
static void any_order(void **state) {
    struct mapped m;
    open_mapped(&m);
    size_t limit = 4 * BLOCK;
    streamer_set_limit(m.streamer, limit);
    for (int i = 0; i < 200; i++) {
        stream_enter(m.stream, i * 7 % BLOCKS);
        assert_int_equal(m.bytes[(size_t)(i * 7 % BLOCKS) * BLOCK + BLOCK / 2], i * 7 % BLOCKS + 1);
        assert_true(file_bytes() - m.before <= limit + SLACK);
    }
    close_mapped(&m);
}

/* Of two streams the one that is used is in memory. */
static void one_at_a_time(void **state) {
    struct mapped m;
    struct stream *other;
    struct error error = {0};
    open_mapped(&m);
    uint8_t *bytes = map_numbers();
    ok(stream_open(&other, m.streamer, 1, &error), &error);
    ok(stream_add(other, 0, bytes, BLOCKS / 2 * BLOCK, &error), &error);
    ok(stream_add_table(other, bytes + BLOCKS / 2 * BLOCK, BLOCK, &error), &error);
    assert_int_equal(streamer_least(m.streamer), BLOCKS / 2 * BLOCK);
    size_t limit = BLOCKS / 2 * BLOCK;
    streamer_set_limit(m.streamer, limit);
    for (int i = 0; i < 3; i++) {
        assert_true(pass(&m) <= limit + SLACK);
        stream_enter(other, 0);
        assert_int_equal(bytes[BLOCKS / 2 * BLOCK], BLOCKS / 2 + 1);
        assert_true(file_bytes() - m.before <= limit + SLACK);
    }
    stream_close(&other);
    close_mapped(&m);
    assert_int_equal(munmap(bytes, BLOCKS * BLOCK), 0);
}

/* -- a model ----------------------------------------------------------------------------------- */

#define SIDE  32
#define COUNT (16 * 2 * (SIDE / 8) * (SIDE / 8))

/* What the process takes beyond what is counted against the limit: threads, tables of tensors, the
 * pages that the system maps beside those that are asked for. */
#define BESIDE ((size_t)12 << 20)

struct outcome {
    struct stream_cost cost;
    size_t work; /* of the task */
    /* Bytes of the process, once open and at most in the task; 0: not known. */
    double anonymous, peak;
};

/* From now on VmHWM is the most since now. False where the system does not let us, or where a
 * sanitizer's memory is among the process's. */
static bool forget_peak(void) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return false;
#else
    FILE *file = fopen("/proc/self/clear_refs", "w");
    bool good = file != NULL && fputs("5", file) >= 0;
    if (file != NULL)
        good = fclose(file) == 0 && good;
    return good;
#endif
}

/* What a window comes out as under a limit of memory; ERR_MEMORY of opening, or of the task. */
static enum error_code make_window(float *latents, struct outcome *out, const char *folder,
                                   size_t memory) {
    struct error error = {0};
    struct device *device;
    struct model *model;
    static float rows[8 * 4096];
    const struct device_config config = {.threads = 2};
    const struct model_options options = {.stages = STAGE_WINDOW,
                                          .dtype = DTYPE_BF16,
                                          .memory = memory,
                                          .streaming = keep_cost,
                                          .user = &out->cost};
    random_normal(rows, 8 * 4096, 1, 2, 0);
    *out = (struct outcome){.work = 0};
    double anonymous = process_bytes("RssAnon:"), before = process_bytes("VmRSS:");
    ok(ops_cpu()->device_open(&device, &config, &error), &error);
    enum error_code code = model_open(&model, ops_cpu(), device, folder, &options, &error);
    const struct denoise_request request = {.size = {SIDE, SIDE, 5},
                                            .positive = {rows, 8},
                                            .negative = {rows, 1},
                                            .sampler = SAMPLER_EULER,
                                            .steps = 3,
                                            .guidance = 3,
                                            .shift = 5};
    const struct window_source text = {.tail_frames = 0};
    anonymous = process_bytes("RssAnon:") - anonymous;
    bool known = forget_peak(); /* hashing has read every page of the file before */
    if (code == ERR_OK)
        code = model_window(model, latents, &text, &request, &error);
    if (known) {
        out->anonymous = anonymous;
        out->peak = process_bytes("VmHWM:") - before;
    }
    if (code == ERR_OK)
        out->work = model_work_peak(model);
    else
        print_message("%s\n", error.detail);
    model_close(&model);
    ops_cpu()->device_close(&device);
    return code;
}

static void same_bits(void **state) {
    char folder[64];
    struct error error = {0};
    struct model_cost plan;
    struct outcome all, some;
    const struct model_size size = {SIDE, SIDE, 5};
    static float whole[COUNT], streamed[COUNT];
    holes_folder(folder, &(struct transformer_config){.width = 1024, .ffn = 2048, .layers = 6});
    holes_fill(folder, "transformer/diffusion_pytorch_model.safetensors");
    ok(model_plan(&plan, folder, STAGE_WINDOW, &size, &(struct model_options){.dtype = DTYPE_BF16},
                  &error),
       &error);
    assert_true(plan.weight_bytes_least < plan.weight_bytes / 2);
    assert_int_equal(make_window(whole, &all, folder, 0), ERR_OK);
    assert_int_equal(all.cost.bytes, 0);
    /* Opened, weights are mapped and not copied: a start costs what is small. */
    print_message("%.1f MB of weights; opened, %.1f are the process's own; %.1f MB at most\n",
                  (double)plan.weight_bytes / 1e6, all.anonymous / 1e6, all.peak / 1e6);
    assert_true(all.anonymous < (double)plan.weight_bytes / 4);
    size_t least = plan.weight_bytes_least + all.work, most = plan.weight_bytes + all.work;
    for (size_t memory = least; memory < most; memory += (most - least) / 3) {
        memset(streamed, 0, sizeof streamed);
        assert_int_equal(make_window(streamed, &some, folder, memory), ERR_OK);
        print_message("%.1f MB: %.1f of %.1f in every pass, %.1f MB at most\n",
                      (double)memory / 1e6, (double)some.cost.pass_bytes / 1e6,
                      (double)some.cost.bytes / 1e6, some.peak / 1e6);
        assert_true(some.cost.pass_bytes > 0);
        assert_true(some.peak <= (double)(memory + BESIDE));
        assert_memory_equal(streamed, whole, sizeof whole);
    }
    assert_int_equal(make_window(streamed, &some, folder, plan.weight_bytes + plan.work_bytes),
                     ERR_OK);
    assert_int_equal(some.cost.bytes, 0);
    assert_int_equal(make_window(streamed, &some, folder, plan.weight_bytes_least - 4096),
                     ERR_MEMORY);
    assert_int_equal(make_window(streamed, &some, folder, plan.weight_bytes_least + 4096),
                     ERR_MEMORY);
    ok(file_remove_tree(folder, &error), &error);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stays_under_the_limit), cmocka_unit_test(all_stay_without_one),
        cmocka_unit_test(any_order), cmocka_unit_test(one_at_a_time), cmocka_unit_test(same_bits)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

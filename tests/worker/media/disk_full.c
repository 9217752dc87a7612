/* A disk that fills up at every point of writing: in the middle of a segment, in its end, in the
 * join, and in the pass that puts an index first. */
#include "support.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/random.h"
#include "tests/worker/small_disk.h"

#define PAGE 4096

static char disk[512];
static bool have_disk;

static int setup(void **state) {
    if (scratch_setup(state))
        return -1;
    snprintf(disk, sizeof disk, "%s/disk", (const char *)*state);
    if (mkdir(disk, 0777))
        return -1;
    have_disk = small_disk_mount(disk, PAGE);
    return 0;
}

static int teardown(void **state) {
    if (have_disk)
        umount(disk);
    return scratch_teardown(state);
}

static void disk_size(size_t bytes) {
    if (!small_disk_resize(disk, bytes))
        fail_msg("remount: %s", strerror(errno));
}

static size_t size_of(const char *path) {
    struct stat status;
    assert_int_equal(stat(path, &status), 0);
    return (size_t)status.st_size;
}

static struct media_spec spec_of(enum media_codec codec) {
    return (struct media_spec){.codec = codec,
                               .width = 64,
                               .height = 48,
                               .fps_numerator = 16,
                               .fps_denominator = 1,
                               .quality = -1};
}

/* For every size of disk in pages: ERR_FULL and an empty disk, until it fits. */
static void test_segment(void **state) {
    static const enum media_codec codecs[] = {CODEC_FFV1, CODEC_H264, CODEC_PNG};
    if (!have_disk)
        skip();
    for (int c = 0; c < 3; c++) {
        struct error error = {0};
        struct media_spec spec = spec_of(codecs[c]);
        char path[600];
        int full = 0;
        const char *outside = scratch_path(state, "outside.mkv");
        assert_ok(pattern_segment(outside, &spec, 0, 30, &error), &error);
        size_t needed = size_of(outside);
        snprintf(path, sizeof path, "%s/segment.mkv", disk);
        for (size_t size = PAGE;; size += PAGE) {
            disk_size(size);
            enum error_code code = pattern_segment(path, &spec, 0, 30, &error);
            if (!code)
                break;
            assert_error(code, ERR_FULL, &error, path);
            assert_non_null(strstr(error.detail, "free some space"));
            assert_int_equal(folder_entries(disk), 0);
            assert_true(size < needed + PAGE);
            full++;
        }
        assert_int_equal(full, (needed - 1) / PAGE);
        assert_same_bytes(path, outside);
        unlink(path);
        unlink(outside);
    }
}

/* The first failure stays: more frames and the end give it again. */
static void test_segment_sticky(void **state) {
    if (!have_disk)
        skip();
    struct error error = {0};
    struct media_spec spec = spec_of(CODEC_FFV1);
    struct segment_writer *writer;
    char path[600];
    uint8_t *rgb = malloc(64 * 48 * 3);
    for (uint32_t i = 0; i < 64 * 48 * 3; i++)
        rgb[i] = (uint8_t)random_below(256, 1, 1, i);
    snprintf(path, sizeof path, "%s/sticky.mkv", disk);
    disk_size(16 * PAGE);
    assert_ok(segment_open(&writer, path, &spec, &error), &error);
    enum error_code code = ERR_OK;
    int frames = 0;
    for (; !code && frames < 5000; frames++)
        code = segment_add(writer, rgb, &error);
    assert_error(code, ERR_FULL, &error, "sticky.mkv");
    assert_error(segment_add(writer, rgb, &error), ERR_FULL, &error, "sticky.mkv");
    assert_error(segment_finish(&writer, &error), ERR_FULL, &error, "sticky.mkv");
    assert_null(writer);
    assert_int_equal(folder_entries(disk), 0);
    free(rgb);
}

static void test_join(void **state) {
    static const struct {
        const char *name, *container;
        enum media_codec codec;
    } cases[] = {{"a.mp4", "mp4", CODEC_H264},
                 {"a.mov", "mov", CODEC_PRORES},
                 {"a.mkv", "mkv", CODEC_FFV1},
                 {"a.webm", "webm", CODEC_VP9},
                 {"folder", "folder", CODEC_PNG}};
    if (!have_disk)
        skip();
    size_t length = 20000; /* pages of index, so that some sizes fill up while it is put first */
    char *json = malloc(length + 1);
    memset(json, 'x', length);
    json[length] = 0;
    struct media_tag tag = {"vidloom", json};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        struct error error = {0};
        struct media_spec spec = spec_of(cases[c].codec);
        enum media_container container;
        const char *segments[2] = {scratch_path(state, "one.mkv"), scratch_path(state, "two.mkv")};
        assert_ok(pattern_segment(segments[0], &spec, 0, 17, &error), &error);
        assert_ok(pattern_segment(segments[1], &spec, 17, 12, &error), &error);
        char path[600];
        snprintf(path, sizeof path, "%s/%s", disk, cases[c].name);
        assert_true(media_container_from_name(&container, cases[c].container));
        int full = 0;
        for (size_t size = PAGE;; size += PAGE) {
            disk_size(size);
            enum error_code code = media_join(path, container, &spec, segments, 2, &tag, 1, &error);
            if (!code)
                break;
            assert_error(code, ERR_FULL, &error, path);
            assert_non_null(strstr(error.detail, "free some space"));
            assert_int_equal(folder_entries(disk), 0);
            assert_true(++full < 1000);
        }
        print_message("%s: full at %d sizes\n", cases[c].name, full);
        if (container != CONTAINER_FOLDER)
            assert_int_equal(full, (size_of(path) - 1) / PAGE);
        assert_true(full >= 5);
        struct media_info info;
        assert_ok(media_read_info(&info, path, &error), &error);
        assert_int_equal(info.frames, 29);
        assert_string_equal(info.provenance, json);
        media_info_close(&info);
        assert_ok(file_remove_tree(path, &error), &error);
    }
    free(json);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_segment),
        cmocka_unit_test(test_segment_sticky),
        cmocka_unit_test(test_join),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

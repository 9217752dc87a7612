/* Places of outputs, and what a publication may take the place of. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "coordinator/output.h"
#include "coordinator/server_publish.h"

static char root[FILE_PATH_BYTES];

static const char *at(const char *name) {
    static char paths[8][FILE_PATH_BYTES];
    static int next;
    char *path = paths[next++ % 8];
    assert_int_equal(file_join(path, root, name, NULL), ERR_OK);
    return path;
}

static void put(const char *name, const char *text) {
    const char *path = at(name);
    char folder[FILE_PATH_BYTES];
    snprintf(folder, sizeof folder, "%s", path);
    *strrchr(folder, '/') = '\0';
    assert_int_equal(file_make_folders(folder, NULL), ERR_OK);
    assert_int_equal(file_write(path, text, strlen(text), false, NULL), ERR_OK);
}

static bool holds(const char *name, const char *text) {
    char found[64] = "";
    int file = open(at(name), O_RDONLY);
    if (file < 0)
        return false;
    assert_true(read(file, found, sizeof found - 1) >= 0);
    close(file);
    return strcmp(found, text) == 0;
}

static int make_root(void **state) {
    char made[] = "/tmp/vidloom-output-XXXXXX";
    (void)state;
    return mkdtemp(made) && realpath(made, root) ? 0 : -1;
}

static int remove_root(void **state) {
    (void)state;
    return file_remove_tree(root, NULL) == ERR_OK ? 0 : -1;
}

static enum error_code publish(const char *staged, const char *path, bool replace,
                               struct error *error) {
    struct publish order = {.staged = at(staged), .path = at(path), .replace = replace};
    uint64_t bytes = 0;
    assert_int_equal(hash_of_tree(&order.hash, &bytes, order.staged, NULL), ERR_OK);
    order.bytes = (int64_t)bytes;
    return publish_file(&order, error);
}

static void test_places(void **state) {
    static struct output_places places;
    char place[FILE_PATH_BYTES], other[FILE_PATH_BYTES];
    struct error error;
    (void)state;
    put("real/x", "");
    assert_int_equal(symlink("real", at("link")), 0);
    assert_int_equal(symlink("real/x", at("end.mp4")), 0);
    places.root = root;
    assert_int_equal(output_place(&places, place, "link/new/a.mp4", &error), ERR_OK);
    assert_string_equal(place, at("real/new/a.mp4"));
    assert_int_equal(output_place(&places, other, at("real/new/a.mp4"), &error), ERR_OK);
    assert_string_equal(place, other);
    /* The last part is what is replaced, so a link there stays itself. */
    assert_int_equal(output_place(&places, place, "end.mp4", &error), ERR_OK);
    assert_string_equal(place, at("end.mp4"));
    assert_int_equal(output_place(&places, place, "/a.mp4", &error), ERR_OK);
    assert_string_equal(place, "/a.mp4");
    assert_int_equal(symlink("circle", at("circle")), 0);
    assert_int_equal(output_place(&places, place, "circle/a.mp4", &error), ERR_USAGE);
    assert_true(output_is_inside("/a/b", "/a") && output_is_inside("/a", "/a"));
    assert_false(output_is_inside("/ab", "/a") || output_is_inside("/", "/a"));
}

/* A folder of somebody's pictures, a folder where a file is to be, a file where a folder is to be:
 * none is ever replaced, whatever the job says. */
static void test_foreign_stays(void **state) {
    struct error error;
    (void)state;
    put("photos/holiday/1.jpg", "mine");
    put("photos/00000.png", "mine");
    put(".photos.1.part/00000.png", "new");
    assert_int_equal(publish(".photos.1.part", "photos", true, &error), ERR_DENIED);
    assert_non_null(strstr(error.detail, "holiday"));
    assert_true(holds("photos/holiday/1.jpg", "mine") && holds("photos/00000.png", "mine"));
    put("dd.mp4/notes", "mine");
    put(".dd.mp4.1.part", "new");
    assert_int_equal(publish(".dd.mp4.1.part", "dd.mp4", true, &error), ERR_DENIED);
    assert_true(holds("dd.mp4/notes", "mine"));
    put("plain", "mine");
    put(".plain.1.part/00000.png", "new");
    assert_int_equal(publish(".plain.1.part", "plain", true, &error), ERR_DENIED);
    assert_true(holds("plain", "mine"));
}

static void test_own_kind_is_replaced(void **state) {
    struct error error;
    struct stat status;
    (void)state;
    put("ours/00000.png", "old");
    put("ours/00001.png", "old");
    put("ours/provenance.json", "{}");
    put(".ours.1.part/00000.png", "new");
    assert_int_equal(publish(".ours.1.part", "ours", false, &error), ERR_DENIED);
    assert_int_equal(publish(".ours.1.part", "ours", true, &error), ERR_OK);
    assert_true(holds("ours/00000.png", "new"));
    assert_int_equal(lstat(at("ours/00001.png"), &status), -1);
    assert_int_equal(lstat(at(".ours.1.part"), &status), -1);
    put("file.mp4", "old");
    put(".file.mp4.1.part", "new");
    assert_int_equal(publish(".file.mp4.1.part", "file.mp4", true, &error), ERR_OK);
    assert_true(holds("file.mp4", "new"));
    /* An empty folder is nobody's loss. */
    assert_int_equal(mkdir(at("empty"), 0777), 0);
    assert_true(output_is_free(at("empty"), true) && !output_is_free(at("empty"), false));
    put(".empty.1.part/00000.png", "new");
    assert_int_equal(publish(".empty.1.part", "empty", false, &error), ERR_OK);
    assert_true(holds("empty/00000.png", "new"));
}

static void test_is_there(void **state) {
    (void)state;
    put("video.mkv", "12345");
    assert_true(output_is_there(at("video.mkv"), 5));
    assert_false(output_is_there(at("video.mkv"), 6) || output_is_there(at("none.mkv"), 5));
    put("pictures/00000.png", "123");
    put("pictures/00001.png", "45");
    assert_true(output_is_there(at("pictures"), 5));
    put("pictures/out.mp4", "made of them by its owner");
    assert_true(output_is_there(at("pictures"), 5));
    assert_int_equal(unlink(at("pictures/00001.png")), 0);
    assert_false(output_is_there(at("pictures"), 5));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_places), cmocka_unit_test(test_foreign_stays),
        cmocka_unit_test(test_own_kind_is_replaced), cmocka_unit_test(test_is_there)};
    return cmocka_run_group_tests(tests, make_root, remove_root);
}

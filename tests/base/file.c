#include "base/file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/base/test.h"

static char folder[64];
static struct arena arena;

static const char *in_folder(const char *name) {
    static char paths[4][256];
    static int next;
    char *path = paths[next++ % 4];
    (void)snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static int set_up(void **state) {
    (void)state;
    struct error error;
    (void)snprintf(folder, sizeof folder, "/tmp/vidloom-file-XXXXXX");
    return mkdtemp(folder) && arena_open(&arena, 1 << 20, &error) == ERR_OK ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    struct error error;
    arena_close(&arena);
    return file_remove_tree(folder, &error) == ERR_OK ? 0 : -1;
}

static void test_write_and_read(void **state) {
    (void)state;
    struct error error;
    char *text;
    size_t length;
    const char *path = in_folder("a.txt");
    assert_int_equal(file_write(path, "hello", 5, true, &error), ERR_OK);
    assert_int_equal(file_read(&text, &length, &arena, path, 5, &error), ERR_OK);
    assert_int_equal(length, 5);
    assert_string_equal(text, "hello");
    assert_int_equal(file_write(path, "", 0, false, &error), ERR_OK);
    assert_int_equal(file_read(&text, &length, &arena, path, 5, &error), ERR_OK);
    assert_int_equal(length, 0);
    assert_string_equal(text, "");
    assert_int_equal(file_write("/nonexistent/x", "a", 1, true, &error), ERR_MISSING);
    /* A failed write leaves nothing behind. */
    assert_int_equal(mkdir(in_folder("full"), 0777), 0);
    assert_int_equal(mkdir(in_folder("full/target"), 0777), 0);
    assert_int_equal(mkdir(in_folder("full/target/x"), 0777), 0);
    assert_int_not_equal(file_write(in_folder("full/target"), "a", 1, true, &error), ERR_OK);
    assert_int_equal(rmdir(in_folder("full/target/x")), 0);
    assert_int_equal(rmdir(in_folder("full/target")), 0);
    assert_int_equal(rmdir(in_folder("full")), 0);
}

static void test_read_refuses(void **state) {
    (void)state;
    struct error error;
    char *text;
    size_t length, mark = arena.used;
    assert_int_equal(file_read(&text, &length, &arena, in_folder("none"), 9, &error), ERR_MISSING);
    assert_int_equal(file_read(&text, &length, &arena, folder, 9, &error), ERR_USAGE);
    assert_int_equal(mkfifo(in_folder("fifo"), 0666), 0);
    assert_int_equal(file_read(&text, &length, &arena, in_folder("fifo"), 9, &error), ERR_USAGE);
    assert_int_equal(file_write(in_folder("six"), "sixsix", 6, false, &error), ERR_OK);
    assert_int_equal(file_read(&text, &length, &arena, in_folder("six"), 5, &error), ERR_LIMIT);
    assert_non_null(strstr(error.detail, "6 bytes; at most 5"));
    assert_int_equal(truncate(in_folder("six"), 1 << 20), 0);
    assert_int_equal(file_read(&text, &length, &arena, in_folder("six"), SIZE_MAX, &error),
                     ERR_MEMORY);
    assert_int_equal(arena.used, mark);
}

static void test_folders(void **state) {
    (void)state;
    struct error error;
    struct stat info;
    assert_int_equal(file_make_folders(in_folder("x/y//z/"), &error), ERR_OK);
    assert_int_equal(file_make_folders(in_folder("x/y/z"), &error), ERR_OK);
    assert_int_equal(stat(in_folder("x/y/z"), &info), 0);
    assert_int_equal(file_make_folders("", &error), ERR_USAGE);
    assert_int_equal(file_make_folders("/", &error), ERR_OK);
    assert_int_equal(file_write(in_folder("x/file"), "a", 1, false, &error), ERR_OK);
    assert_int_equal(file_make_folders(in_folder("x/file"), &error), ERR_USAGE);
    assert_int_not_equal(file_make_folders(in_folder("x/file/b"), &error), ERR_OK);
    assert_int_equal(file_sync_parent(in_folder("x/file"), &error), ERR_OK);
    assert_int_equal(file_sync_parent("no-slash", &error), ERR_OK);
    assert_int_equal(file_sync_parent("/top", &error), ERR_OK);
    assert_int_equal(file_sync_parent("/nonexistent/x", &error), ERR_MISSING);
}

static void test_remove_tree(void **state) {
    (void)state;
    struct error error;
    struct stat info;
    assert_int_equal(file_make_folders(in_folder("kept"), &error), ERR_OK);
    assert_int_equal(file_write(in_folder("kept/file"), "a", 1, false, &error), ERR_OK);
    assert_int_equal(file_make_folders(in_folder("tree/a/b/c"), &error), ERR_OK);
    assert_int_equal(file_write(in_folder("tree/a/b/f"), "a", 1, false, &error), ERR_OK);
    assert_int_equal(symlink(in_folder("kept"), in_folder("tree/a/link")), 0);
    assert_int_equal(file_remove_tree(in_folder("tree"), &error), ERR_OK);
    assert_int_equal(lstat(in_folder("tree"), &info), -1);
    assert_int_equal(stat(in_folder("kept/file"), &info), 0);
    assert_int_equal(file_remove_tree(in_folder("tree"), &error), ERR_OK);
    assert_int_equal(symlink(in_folder("kept"), in_folder("link")), 0);
    assert_int_equal(file_remove_tree(in_folder("link"), &error), ERR_OK);
    assert_int_equal(stat(in_folder("kept/file"), &info), 0);
}

/* The error names what is in the way and the folder that was to go. */
static void test_tree_in_the_way(void **state) {
    (void)state;
    char deep[FILE_PATH_BYTES], *end = deep;
    struct error error = {0};
    end += snprintf(deep, sizeof deep, "%s", in_folder("deep"));
    for (int i = 0; i < 128; i++)
        end += snprintf(end, 8, "/d%d", i);
    assert_int_equal(file_make_folders(deep, &error), ERR_OK);
    assert_int_equal(file_remove_tree(in_folder("deep"), &error), ERR_LIMIT);
    assert_non_null(strstr(error.detail, in_folder("deep")));
    assert_non_null(strstr(error.detail, "cannot remove d127: more than 128 folders deep"));
    *strstr(deep, "/d1/") = '\0'; /* from within it goes */
    (void)snprintf(deep + strlen(deep), 4, "/d1");
    assert_int_equal(file_remove_tree(deep, &error), ERR_OK);
    assert_int_equal(file_remove_tree(in_folder("deep"), &error), ERR_OK);
}

static void test_names(void **state) {
    (void)state;
    char out[FILE_PATH_BYTES], longest[FILE_PATH_BYTES + 1];
    struct error error;
    assert_int_equal(file_join(out, "a", "b", &error), ERR_OK);
    assert_string_equal(out, "a/b");
    assert_int_equal(file_join(out, "/", "b", &error), ERR_OK);
    assert_string_equal(out, "/b");
    memset(longest, 'x', FILE_PATH_BYTES);
    longest[FILE_PATH_BYTES] = '\0';
    assert_int_equal(file_join(out, longest, "b", &error), ERR_LIMIT);
    assert_int_equal(file_make_folders(longest, &error), ERR_LIMIT);
    longest[FILE_PATH_BYTES - 3] = '\0';
    assert_int_equal(file_join(out, longest, "b", &error), ERR_OK);
    assert_int_equal(strlen(out), FILE_PATH_BYTES - 1);
    longest[FILE_PATH_BYTES - 3] = 'x';
    longest[FILE_PATH_BYTES - 2] = '\0';
    assert_int_equal(file_join(out, longest, "b", &error), ERR_LIMIT);

    assert_true(file_name_is_plain("balloon-s3_2.mp4"));
    longest[128] = '\0';
    assert_true(file_name_is_plain(longest));
    longest[128] = 'x';
    longest[129] = '\0';
    assert_false(file_name_is_plain(longest));
    static const char *const bad[] = {"",    ".",   "..",       ".hidden", "-x",  "a/b",
                                      "a b", "a\n", "\xC3\xA9", "a\\b",    "a:b", "a*"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(file_name_is_plain(bad[i]));
}

static void test_lock(void **state) {
    (void)state;
    struct error error;
    int lock, second;
    char expected[64];
    const char *path = in_folder("lock");
    assert_int_equal(file_lock(&lock, path, &error), ERR_OK);
    assert_int_equal(file_lock(&second, path, &error), ERR_BUSY);
    (void)snprintf(expected, sizeof expected, "held by process %ld", (long)getpid());
    assert_non_null(strstr(error.detail, expected));
    assert_int_equal(second, -1);
    file_unlock(&second);
    pid_t child = fork();
    if (child == 0)
        _exit(file_lock(&second, path, &error) == ERR_BUSY ? 0 : 1);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    file_unlock(&lock);
    assert_int_equal(lock, -1);

    /* A holder that dies lets go. */
    child = fork();
    if (child == 0)
        _exit(file_lock(&second, path, &error) == ERR_OK ? 0 : 1);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_int_equal(file_lock(&lock, path, &error), ERR_OK);
    file_unlock(&lock);
    assert_int_equal(file_lock(&lock, "/nonexistent/lock", &error), ERR_MISSING);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_write_and_read),
                                       cmocka_unit_test(test_read_refuses),
                                       cmocka_unit_test(test_folders),
                                       cmocka_unit_test(test_remove_tree),
                                       cmocka_unit_test(test_tree_in_the_way),
                                       cmocka_unit_test(test_names),
                                       cmocka_unit_test(test_lock)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

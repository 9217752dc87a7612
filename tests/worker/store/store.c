/* The store: whole objects or none, whoever writes and whatever breaks. */
#include "worker/store/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/worker/small_disk.h"

#define assert_ok(call, error)                                                                     \
    do {                                                                                           \
        enum error_code assert_ok_code = (call);                                                   \
        if (assert_ok_code)                                                                        \
            fail_msg("%s: %s: %s", #call, error_name(assert_ok_code), (error)->detail);            \
    } while (0)

static void assert_error(enum error_code got, enum error_code expected, const struct error *error,
                         const char *part) {
    if (got != expected || error->code != expected || !strstr(error->detail, part))
        fail_msg("got %s, expected %s with \"%s\" in: %s", error_name(got), error_name(expected),
                 part, error->detail);
}

struct fixture {
    char folder[64];
    struct store *store;
    struct hash task, other_task;
};

static int setup(void **state) {
    struct fixture *fixture = calloc(1, sizeof *fixture);
    snprintf(fixture->folder, sizeof fixture->folder, "/tmp/vidloom-test-XXXXXX");
    if (!mkdtemp(fixture->folder)) {
        free(fixture);
        return -1;
    }
    hash_of(&fixture->task, "task", 4);
    hash_of(&fixture->other_task, "other", 5);
    *state = fixture;
    return store_open(&fixture->store, fixture->folder, NULL) ? -1 : 0;
}

static int teardown(void **state) {
    struct fixture *fixture = *state;
    store_close(&fixture->store);
    enum error_code code = file_remove_tree(fixture->folder, NULL);
    free(fixture);
    return code ? -1 : 0;
}

static void overwrite(const char *path, const void *bytes, size_t length) {
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, length, file), length);
    assert_int_equal(fclose(file), 0);
}

/* As a stage does: begin, write, commit. */
static enum error_code put(struct store *store, struct hash *hash, const void *bytes, size_t length,
                           const struct hash *task, uint64_t epoch, struct error *error) {
    char path[FILE_PATH_BYTES];
    uint64_t size = 0;
    enum error_code code = store_begin(store, path, task, epoch, error);
    if (code != ERR_OK)
        return code;
    code = file_write(path, bytes, length, false, error);
    if (code != ERR_OK) {
        store_abandon(store, path);
        return code;
    }
    code = store_commit(store, hash, &size, path, error);
    return code == ERR_OK && size != length ? error_set(error, ERR_INTERNAL, "another size") : code;
}

/* Files in folder/sub and below. */
static int count_files(const char *folder, const char *sub) {
    char path[FILE_PATH_BYTES];
    int count = 0;
    struct error error = {0};
    assert_ok(file_join(path, folder, sub, &error), &error);
    DIR *dir = opendir(path);
    assert_non_null(dir);
    const struct dirent *entry;
    while ((entry = readdir(dir))) {
        if (entry->d_name[0] == '.')
            continue;
        count += entry->d_type == DT_DIR ? count_files(path, entry->d_name) : 1;
    }
    closedir(dir);
    return count;
}

static void test_put_and_find(void **state) {
    struct fixture *f = *state;
    struct error error = {0};
    struct hash hash, expected;
    char path[FILE_PATH_BYTES], hex[HASH_HEX_BYTES], end[128];
    assert_ok(put(f->store, &hash, "frames", 6, &f->task, 1, &error), &error);
    hash_of(&expected, "frames", 6);
    assert_true(hash_equal(&hash, &expected));
    assert_ok(store_find(f->store, path, &hash, 6, false, &error), &error);
    assert_ok(store_find(f->store, path, &hash, 6, true, &error), &error);
    hash_hex(hex, &hash);
    snprintf(end, sizeof end, "/objects/%.2s/%s", hex, hex);
    assert_string_equal(path + strlen(path) - strlen(end), end);
    assert_int_equal(count_files(f->folder, "staging"), 0);
    /* Again: the same object, the same file. */
    struct stat before, after;
    assert_int_equal(stat(path, &before), 0);
    assert_ok(put(f->store, &hash, "frames", 6, &f->other_task, 9, &error), &error);
    assert_int_equal(stat(path, &after), 0);
    assert_true(before.st_ino == after.st_ino);
    assert_int_equal(count_files(f->folder, "objects"), 1);
    assert_int_equal(count_files(f->folder, "staging"), 0);
    /* Empty is an artifact too. */
    assert_ok(put(f->store, &hash, "", 0, &f->task, 1, &error), &error);
    assert_ok(store_find(f->store, path, &hash, 0, true, &error), &error);
    assert_int_equal(unlink(path), 0);
    assert_error(store_find(f->store, path, &hash, 0, false, &error), ERR_MISSING, &error,
                 "not in");
    /* A second store on the same folder sees the first one's. */
    struct store *again;
    assert_ok(store_open(&again, f->folder, &error), &error);
    assert_ok(store_find(again, path, &expected, 6, true, &error), &error);
    store_close(&again);
    assert_null(again);
    store_close(&again);
}

static void test_staged(void **state) {
    struct fixture *f = *state;
    struct error error = {0};
    struct hash hash;
    uint64_t size;
    char a[FILE_PATH_BYTES], b[FILE_PATH_BYTES], path[FILE_PATH_BYTES];
    assert_ok(store_begin(f->store, a, &f->task, 7, &error), &error);
    assert_ok(store_begin(f->store, b, &f->task, 7, &error), &error);
    assert_string_not_equal(a, b);
    overwrite(a, "segment one", 11);
    assert_ok(store_commit(f->store, &hash, &size, a, &error), &error);
    assert_int_equal(size, 11);
    assert_int_equal(access(a, F_OK), -1);
    assert_ok(store_find(f->store, path, &hash, size, true, &error), &error);
    store_abandon(f->store, b);
    store_abandon(f->store, b);
    assert_int_equal(count_files(f->folder, "staging"), 0);
    /* Swept while it was being written. */
    assert_error(store_commit(f->store, &hash, &size, a, &error), ERR_MISSING, &error, a);
    /* Names that are not ours are neither taken nor removed. */
    char outside[256];
    snprintf(outside, sizeof outside, "%s/precious", f->folder);
    overwrite(outside, "x", 1);
    assert_error(store_commit(f->store, &hash, &size, outside, &error), ERR_USAGE, &error,
                 "precious");
    store_abandon(f->store, outside);
    assert_int_equal(access(outside, F_OK), 0);
    snprintf(path, sizeof path, "%.4000s/../precious", f->folder);
    assert_error(store_commit(f->store, &hash, &size, path, &error), ERR_USAGE, &error, "precious");
    snprintf(path, sizeof path, "%s/staging/../precious", f->folder);
    assert_error(store_commit(f->store, &hash, &size, path, &error), ERR_USAGE, &error, "precious");
    /* A symbolic link put in place of a staged file is not followed. */
    assert_ok(store_begin(f->store, a, &f->task, 7, &error), &error);
    assert_int_equal(unlink(a), 0);
    assert_int_equal(symlink(outside, a), 0);
    assert_error(store_commit(f->store, &hash, &size, a, &error), ERR_USAGE, &error, "regular");
    assert_int_equal(access(outside, F_OK), 0);
    assert_int_equal(count_files(f->folder, "staging"), 0);
}

static void test_corrupt(void **state) {
    struct fixture *f = *state;
    struct error error = {0};
    struct hash hash;
    char path[FILE_PATH_BYTES];
    /* Other bytes of the same size: seen by verify only. */
    assert_ok(put(f->store, &hash, "latents", 7, &f->task, 1, &error), &error);
    assert_ok(store_find(f->store, path, &hash, 7, false, &error), &error);
    overwrite(path, "lAtents", 7);
    assert_ok(store_find(f->store, path, &hash, 7, false, &error), &error);
    assert_error(store_find(f->store, path, &hash, 7, true, &error), ERR_MISSING, &error,
                 "corrupt");
    assert_error(store_find(f->store, path, &hash, 7, true, &error), ERR_MISSING, &error, "not in");
    /* Torn: another size. */
    assert_ok(put(f->store, &hash, "latents", 7, &f->task, 1, &error), &error);
    assert_ok(store_find(f->store, path, &hash, 7, true, &error), &error);
    overwrite(path, "lat", 3);
    assert_error(store_find(f->store, path, &hash, 7, false, &error), ERR_MISSING, &error,
                 "3 bytes of 7");
    assert_int_equal(access(path, F_OK), -1);
    /* Made again over a corrupt one that nobody noticed: it is repaired. */
    assert_ok(put(f->store, &hash, "latents", 7, &f->task, 1, &error), &error);
    assert_ok(store_find(f->store, path, &hash, 7, true, &error), &error);
    overwrite(path, "lAtents", 7);
    assert_ok(put(f->store, &hash, "latents", 7, &f->task, 2, &error), &error);
    assert_ok(store_find(f->store, path, &hash, 7, true, &error), &error);
    /* A folder or a link in an object's place. */
    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink("/etc/hostname", path), 0);
    assert_error(store_find(f->store, path, &hash, 7, false, &error), ERR_MISSING, &error,
                 "removed");
    assert_int_equal(mkdir(path, 0777), 0);
    assert_error(store_find(f->store, path, &hash, 7, false, &error), ERR_MISSING, &error,
                 "removed");
    assert_int_equal(access(path, F_OK), -1);
}

static void test_sweep(void **state) {
    struct fixture *f = *state;
    struct error error = {0};
    char path[5][FILE_PATH_BYTES], foreign[256];
    int removed = -1;
    static const uint64_t epochs[5] = {3, 4, 5, UINT64_MAX, 4};
    for (int i = 0; i < 5; i++)
        assert_ok(
            store_begin(f->store, path[i], i == 4 ? &f->other_task : &f->task, epochs[i], &error),
            &error);
    snprintf(foreign, sizeof foreign, "%s/staging/README", f->folder);
    overwrite(foreign, "x", 1);
    assert_ok(store_sweep_lease(f->store, &removed, &f->task, 4, &error), &error);
    assert_int_equal(removed, 2);
    for (int i = 0; i < 5; i++)
        assert_int_equal(access(path[i], F_OK), i < 2 ? -1 : 0);
    /* By age: one is made old. */
    struct timespec times[2] = {{.tv_sec = 1000000000}, {.tv_sec = 1000000000}};
    assert_int_equal(utimensat(AT_FDCWD, path[2], times, 0), 0);
    assert_int_equal(utimensat(AT_FDCWD, foreign, times, 0), 0);
    assert_ok(store_sweep_older(f->store, &removed, INT64_C(1000000000) * 1000000000, &error),
              &error);
    assert_int_equal(removed, 0);
    assert_ok(store_sweep_older(f->store, &removed, INT64_C(1000000001) * 1000000000, &error),
              &error);
    assert_int_equal(removed, 1);
    assert_int_equal(access(path[2], F_OK), -1);
    assert_int_equal(access(path[3], F_OK), 0);
    assert_ok(store_sweep_older(f->store, NULL, INT64_MAX, &error), &error);
    assert_int_equal(count_files(f->folder, "staging"), 1);
    assert_int_equal(access(foreign, F_OK), 0);
    assert_int_equal(unlink(foreign), 0);
}

static void test_bad_folders(void **state) {
    struct fixture *f = *state;
    struct error error = {0};
    struct store *store;
    char path[FILE_PATH_BYTES + 16];
    snprintf(path, sizeof path, "%s/file", f->folder);
    overwrite(path, "x", 1);
    enum error_code code = store_open(&store, path, &error);
    assert_int_not_equal(code, ERR_OK);
    assert_null(store);
    assert_non_null(strstr(error.detail, path));
    memset(path, 'a', FILE_PATH_BYTES);
    path[FILE_PATH_BYTES] = 0;
    assert_error(store_open(&store, path, &error), ERR_LIMIT, &error, "");
    /* The staging folder is gone under a running worker. */
    snprintf(path, sizeof path, "%s/away", f->folder);
    assert_ok(store_open(&store, path, &error), &error);
    assert_ok(file_remove_tree(path, &error), &error);
    struct hash hash;
    assert_error(put(store, &hash, "x", 1, &f->task, 1, &error), ERR_MISSING, &error, "away");
    store_close(&store);
}

#define ROUNDS 60

struct writer {
    const struct fixture *fixture;
    bool failed;
};

static void *write_equal_objects(void *argument) {
    struct writer *writer = argument;
    struct store *store = writer->fixture->store;
    static const size_t size = 50000;
    char *bytes = malloc(size), path[FILE_PATH_BYTES];
    for (int i = 0; i < ROUNDS; i++) {
        struct hash hash;
        memset(bytes, i, size);
        writer->failed |= put(store, &hash, bytes, size, &writer->fixture->task, 1, NULL) ||
                          store_find(store, path, &hash, size, true, NULL);
    }
    free(bytes);
    return NULL;
}

/* Two threads here and two processes put the same objects: all succeed, each object is there once.
 */
static void test_concurrent(void **state) {
    struct fixture *f = *state;
    struct writer writers[4];
    pthread_t threads[2];
    pid_t children[2];
    int before = count_files(f->folder, "objects");
    for (int i = 0; i < 4; i++)
        writers[i] = (struct writer){.fixture = f};
    for (int i = 0; i < 2; i++) {
        children[i] = fork();
        if (!children[i]) {
            write_equal_objects(&writers[2 + i]);
            _exit(writers[2 + i].failed);
        }
    }
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, write_equal_objects, &writers[i]), 0);
    for (int i = 0; i < 2; i++) {
        int status;
        pthread_join(threads[i], NULL);
        assert_false(writers[i].failed);
        assert_int_equal(waitpid(children[i], &status, 0), children[i]);
        assert_int_equal(status, 0);
    }
    assert_int_equal(count_files(f->folder, "objects"), before + ROUNDS);
    assert_int_equal(count_files(f->folder, "staging"), 0);
}

/* Killed while writing, over and over: what is under objects/ is whole. */
static void test_killed(void **state) {
    struct fixture *f = *state;
    for (int round = 0; round < 20; round++) {
        pid_t child = fork();
        if (!child) {
            char *bytes = malloc(400000);
            for (int i = 0;; i++) {
                struct hash hash;
                memset(bytes, i, 400000);
                memcpy(bytes, &i, sizeof i);
                memcpy(bytes + 8, &round, sizeof round);
                if (put(f->store, &hash, bytes, 400000, &f->other_task, 1, NULL))
                    _exit(1);
            }
        }
        struct timespec pause = {.tv_nsec = 3000000 + 777777 * round};
        nanosleep(&pause, NULL);
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
    }
    char path[4096];
    snprintf(path, sizeof path, "%s/objects", f->folder);
    DIR *objects = opendir(path);
    const struct dirent *entry, *object;
    int whole = 0;
    while ((entry = readdir(objects))) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/objects/%s", f->folder, entry->d_name);
        DIR *inner = opendir(path);
        while ((object = readdir(inner))) {
            struct hash hash, have;
            char name[8192];
            if (object->d_name[0] == '.')
                continue;
            snprintf(name, sizeof name, "%s/%s", path, object->d_name);
            assert_true(hash_from_hex(&hash, object->d_name));
            assert_ok(hash_of_file(&have, name, NULL), &(struct error){0});
            assert_true(hash_equal(&hash, &have));
            whole++;
        }
        closedir(inner);
    }
    closedir(objects);
    assert_true(whole > 0);
    assert_ok(store_sweep_lease(f->store, NULL, &f->other_task, 1, NULL), &(struct error){0});
    assert_int_equal(count_files(f->folder, "staging"), 0);
}

/* Last: it leaves this process in a mount namespace of its own. */
static void test_disk_full(void **state) {
    struct fixture *f = *state;
    struct error error = {0};
    struct store *store;
    struct hash hash;
    char disk[128], path[FILE_PATH_BYTES];
    snprintf(disk, sizeof disk, "%s/disk", f->folder);
    assert_int_equal(mkdir(disk, 0777), 0);
    if (!small_disk_mount(disk, 65536))
        skip();
    char *bytes = calloc(1, 100000);
    assert_ok(store_open(&store, disk, &error), &error);
    assert_error(put(store, &hash, bytes, 100000, &f->task, 1, &error), ERR_FULL, &error,
                 "No space left");
    assert_int_equal(count_files(disk, "staging"), 0);
    assert_int_equal(count_files(disk, "objects"), 0);
    assert_ok(put(store, &hash, bytes, 30000, &f->task, 1, &error), &error);
    assert_ok(store_find(store, path, &hash, 30000, true, &error), &error);
    store_close(&store);
    free(bytes);
    assert_int_equal(umount(disk), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_put_and_find), cmocka_unit_test(test_staged),
        cmocka_unit_test(test_corrupt),      cmocka_unit_test(test_sweep),
        cmocka_unit_test(test_bad_folders),  cmocka_unit_test(test_concurrent),
        cmocka_unit_test(test_killed),       cmocka_unit_test(test_disk_full),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

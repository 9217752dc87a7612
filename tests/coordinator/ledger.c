/* The ledgers: one test against both, then what only SQLite's must stand: kill -9 at any moment, a
 * second opener, files that are none, damage, a full disk. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/random.h"
#include "tests/coordinator/ledger_memory.h"

static char folder[64];

static int make_folder(void **state) {
    snprintf(folder, sizeof folder, "/tmp/vidloom-ledger-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}
static int remove_folder(void **state) {
    struct error error;
    return file_remove_tree(folder, &error) ? -1 : 0;
}

static struct ledger *open_ledger(void) {
    struct ledger *ledger = NULL;
    struct error error = {0};
    if (ledger_sqlite_open(&ledger, folder, &error)) {
        print_error("%s\n", error.detail);
        fail();
    }
    return ledger;
}

static struct hash number_hash(uint64_t number) {
    struct hash hash;
    hash_of(&hash, &number, sizeof number);
    return hash;
}

static struct ledger_record job_record(uint64_t id, const char *submission) {
    return (struct ledger_record){.kind = LEDGER_JOB,
                                  .job = {.id = id,
                                          .name = "a job",
                                          .yaml = "y\0z",
                                          .yaml_length = 3,
                                          .document = "{}",
                                          .document_length = 2,
                                          .submission = submission,
                                          .state = JOB_RUNNING,
                                          .priority = -2,
                                          .submitted_ns = 123456789012345678}};
}

static struct ledger_record result_record(uint64_t key, const char *class, uint64_t job,
                                          uint64_t object, uint64_t second) {
    struct ledger_record record = {.kind = LEDGER_RESULT,
                                   .result = {.key = number_hash(key), .class = class, .job = job}};
    record.result.result.output_count = second ? 2 : 1;
    snprintf(record.result.result.outputs[0].name, LIMIT_OUTPUT_NAME, "segment");
    record.result.result.outputs[0].hash = number_hash(object);
    record.result.result.outputs[0].bytes = INT64_C(1) << 40;
    snprintf(record.result.result.outputs[1].name, LIMIT_OUTPUT_NAME, "frames");
    record.result.result.outputs[1].hash = number_hash(second);
    record.result.result.outputs[1].bytes = 7;
    return record;
}

static void apply(struct ledger *ledger, const struct ledger_record *records, size_t count) {
    struct error error = {0};
    if (ledger_apply(ledger, records, count, &error)) {
        print_error("%s\n", error.detail);
        fail();
    }
}

/* -- both ------------------------------------------------------------------------------------- */

struct seen {
    int jobs, videos, publications, attempts, events;
    uint64_t last_event;
    enum job_state state;
    char text[512];
};

static enum error_code see_job(void *user, const struct ledger_job *row, struct error *error) {
    struct seen *seen = user;
    seen->jobs++;
    seen->state = row->state;
    assert_int_equal(row->yaml_length, 3);
    assert_memory_equal(row->yaml, "y\0z", 3);
    assert_memory_equal(row->document, "{}", 2);
    assert_string_equal(row->name, "a job");
    assert_int_equal(row->priority, -2);
    assert_true(row->submitted_ns == 123456789012345678);
    return ERR_OK;
}
static enum error_code see_video(void *user, const struct ledger_video *row, struct error *error) {
    struct seen *seen = user;
    seen->videos++;
    snprintf(seen->text, sizeof seen->text, "%d %s %s %s %g", row->video,
             video_state_name(row->state), row->class, row->detail, row->seconds);
    return ERR_OK;
}
static enum error_code see_publication(void *user, const struct ledger_publication *row,
                                       struct error *error) {
    struct seen *seen = user;
    seen->publications++;
    assert_false(row->done);
    snprintf(seen->text, sizeof seen->text, "%s %s", row->path, row->staged);
    return ERR_OK;
}
static enum error_code see_attempt(void *user, const struct ledger_attempt *row,
                                   struct error *error) {
    struct seen *seen = user;
    seen->attempts++;
    snprintf(seen->text, sizeof seen->text, "%llu %s %s", (unsigned long long)row->epoch,
             row->worker, row->detail);
    return ERR_OK;
}
static enum error_code see_event(void *user, uint64_t sequence, const struct ledger_event *row,
                                 struct error *error) {
    struct seen *seen = user;
    assert_true(sequence > seen->last_event);
    seen->last_event = sequence;
    seen->events++;
    snprintf(seen->text, sizeof seen->text, "%s", row->text);
    return ERR_OK;
}

static struct seen load(struct ledger *ledger) {
    struct seen seen = {0};
    struct error error = {0};
    struct ledger_visitor visitor = {
        .user = &seen, .job = see_job, .video = see_video, .publication = see_publication};
    assert_int_equal(ledger_load(ledger, &visitor, &error), ERR_OK);
    return seen;
}

static int removed_count;
static bool keep_none(void *user, const struct hash *key, const char *class) {
    struct hash kept = number_hash(3);
    return hash_equal(key, &kept);
}
static void count_removed(void *user, const struct hash *object) {
    removed_count++;
    struct hash shared = number_hash(100), own = number_hash(101);
    assert_false(hash_equal(object, &shared));
    assert_true(hash_equal(object, &own));
}

static bool has_result(struct ledger *ledger, uint64_t key, const char *class,
                       struct task_result *out) {
    struct hash hash = number_hash(key);
    struct error error = {0};
    bool found;
    assert_int_equal(ledger_find_result(ledger, out, &found, &hash, class, &error), ERR_OK);
    return found;
}

/* All of a batch or nothing of it. */
static void use_jobs(struct ledger *ledger) {
    struct ledger_record records[3] = {job_record(1, "key"), job_record(2, ""), job_record(3, "")};
    struct error error = {0};
    struct task_result result;
    apply(ledger, records, 3);
    records[0] = result_record(9, "c", 1, 900, 0);
    records[1] = job_record(4, "key");
    assert_int_equal(ledger_apply(ledger, records, 2, &error), ERR_BUSY);
    assert_false(has_result(ledger, 9, "c", &result));
    records[0] =
        (struct ledger_record){.kind = LEDGER_JOB_STATE, .job = {.id = 3, .state = JOB_CANCELED}};
    apply(ledger, records, 1);
}

/* A video's row is replaced. */
static void use_videos(struct ledger *ledger) {
    for (int i = 0; i < 2; i++) {
        struct ledger_record record = {.kind = LEDGER_VIDEO,
                                       .video = {.job = 1,
                                                 .video = 5,
                                                 .state = i ? VIDEO_FAILED : VIDEO_RUNNING,
                                                 .class = "gpu",
                                                 .code = ERR_IO,
                                                 .detail = i ? "no 'luck'; DROP TABLE" : "",
                                                 .seconds = 1.5}};
        apply(ledger, &record, 1);
    }
    struct seen seen = load(ledger);
    assert_int_equal(seen.jobs, 3);
    assert_int_equal(seen.state, JOB_CANCELED);
    assert_int_equal(seen.videos, 1);
    assert_string_equal(seen.text, "5 failed gpu no 'luck'; DROP TABLE 1.5");
}

/* Results by key and class; made again; written twice; collected. */
static void use_results(struct ledger *ledger) {
    struct ledger_record records[] = {
        result_record(1, "gpu", 1, 100, 0), result_record(2, "gpu", 1, 100, 101),
        result_record(3, "gpu", 1, 102, 0), result_record(2, "cpu", 2, 100, 0)};
    struct ledger_record gone = {.kind = LEDGER_RESULT_GONE,
                                 .result = {.key = number_hash(1), .class = "gpu"}};
    struct hash object = number_hash(101);
    struct task_result result;
    struct error error = {0};
    apply(ledger, records, 4);
    assert_true(has_result(ledger, 2, "gpu", &result));
    assert_int_equal(result.output_count, 2);
    assert_string_equal(result.outputs[0].name, "segment");
    assert_true(result.outputs[0].bytes == INT64_C(1) << 40);
    assert_true(hash_equal(&result.outputs[1].hash, &object));
    assert_false(has_result(ledger, 2, "tpu", &result));
    apply(ledger, &gone, 1);
    assert_false(has_result(ledger, 1, "gpu", &result));
    apply(ledger, records, 1);     /* and made again */
    apply(ledger, &records[1], 1); /* and written twice */
    removed_count = 0;
    assert_int_equal(ledger_collect(ledger, 1, keep_none, count_removed, NULL, &error), ERR_OK);
    assert_int_equal(removed_count, 1); /* 101; 100 is job 2's too, 102 is kept */
    assert_true(has_result(ledger, 3, "gpu", &result));
}

/* Intended, done, intended again. */
static void use_publications(struct ledger *ledger) {
    struct error error = {0};
    bool found;
    struct ledger_publication row;
    struct buffer texts = {0};
    struct ledger_record record = {.kind = LEDGER_PUBLICATION,
                                   .publication = {.path = "out/é.mp4",
                                                   .staged = "out/.x.part",
                                                   .job = 1,
                                                   .video = 2,
                                                   .key = number_hash(50),
                                                   .hash = number_hash(51),
                                                   .bytes = 99}};
    static const bool done[] = {false, true, false, false, true};
    for (int i = 0; i < 5; i++) {
        record.publication.done = done[i];
        apply(ledger, &record, 1);
        struct seen seen = load(ledger);
        assert_int_equal(seen.publications, done[i] ? 0 : 1);
        if (!done[i])
            assert_string_equal(seen.text, "out/é.mp4 out/.x.part");
        assert_int_equal(ledger_find_publication(ledger, &row, &found, "out/é.mp4", &texts, &error),
                         ERR_OK);
        assert_true(found);
        assert_int_equal(row.done, done[i]);
        assert_int_equal(row.replaces, i > 0);
        assert_string_equal(row.path, "out/é.mp4");
        assert_int_equal(row.bytes, 99);
    }
    assert_int_equal(ledger_find_publication(ledger, &row, &found, "none", &texts, &error), ERR_OK);
    assert_false(found);
    buffer_close(&texts);
}

static void add_attempts_and_events(struct ledger *ledger) {
    for (uint64_t i = 0; i < 5; i++) {
        char text[32];
        snprintf(text, sizeof text, "try %llu", (unsigned long long)i);
        struct ledger_record records[2];
        records[0] = (struct ledger_record){.kind = LEDGER_ATTEMPT,
                                            .attempt = {.job = 1,
                                                        .video = (int)(i % 2),
                                                        .epoch = (UINT64_C(7) << 32) + i,
                                                        .worker = "w",
                                                        .class = "gpu",
                                                        .detail = text}};
        records[1] = (struct ledger_record){.kind = LEDGER_EVENT,
                                            .event = {.job = 1 + i % 2, .video = -1, .text = text}};
        apply(ledger, records, 2);
    }
}

static void use_attempts_and_events(struct ledger *ledger) {
    struct error error = {0};
    struct seen seen = {0};
    struct ledger_visitor visitor = {.user = &seen, .attempt = see_attempt, .event = see_event};
    add_attempts_and_events(ledger);
    assert_int_equal(ledger_read_attempts(ledger, &visitor, 1, -1, 3, &error), ERR_OK);
    assert_int_equal(seen.attempts, 3);
    assert_string_equal(seen.text, "30064771076 w try 4");
    seen = (struct seen){0};
    assert_int_equal(ledger_read_attempts(ledger, &visitor, 1, 1, 9, &error), ERR_OK);
    assert_int_equal(seen.attempts, 2);
    seen = (struct seen){0};
    assert_int_equal(ledger_read_events(ledger, &visitor, 0, 0, 3, &error), ERR_OK);
    assert_int_equal(seen.events, 3);
    uint64_t after = seen.last_event;
    seen = (struct seen){.last_event = after};
    assert_int_equal(ledger_read_events(ledger, &visitor, 1, after, 9, &error), ERR_OK);
    assert_int_equal(seen.events, 1);
    assert_string_equal(seen.text, "try 4");
}

static void use_ledger(struct ledger *ledger) {
    use_jobs(ledger);
    use_videos(ledger);
    use_results(ledger);
    use_publications(ledger);
    use_attempts_and_events(ledger);
}

static void test_memory(void **state) {
    struct ledger *ledger;
    struct error error;
    assert_int_equal(ledger_memory_open(&ledger, &error), ERR_OK);
    use_ledger(ledger);
    ledger_close(&ledger);
}

static void test_sqlite(void **state) {
    struct ledger *ledger = open_ledger();
    assert_int_equal(ledger_leader(ledger), 1);
    use_ledger(ledger);
    ledger_close(&ledger);
    assert_null(ledger);
    ledger = open_ledger();
    assert_int_equal(ledger_leader(ledger), 2);
    struct seen seen = load(ledger);
    assert_int_equal(seen.jobs, 3);
    assert_int_equal(seen.videos, 1);
    ledger_close(&ledger);
}

/* -- SQLite alone ----------------------------------------------------------------------------- */

/* Batches of two rows that belong together, each acknowledged by a byte in a pipe after its commit.
 * The child dies at a random moment; what was acknowledged is there, and no batch is there in half.
 */
static void test_kill(void **state) {
    uint64_t next = 1, acknowledged = 0;
    for (int round = 0; round < 25; round++) {
        int pipes[2];
        assert_int_equal(pipe(pipes), 0);
        pid_t child = fork();
        if (!child) {
            struct ledger *ledger;
            struct error error;
            close(pipes[0]);
            if (ledger_sqlite_open(&ledger, folder, &error))
                _exit(3);
            for (uint64_t i = next;; i++) {
                struct ledger_record records[2] = {job_record(i, ""),
                                                   result_record(i, "c", i, i, 0)};
                if (ledger_apply(ledger, records, 2, &error))
                    _exit(4);
                if (write(pipes[1], &i, sizeof i) != sizeof i)
                    _exit(5);
            }
        }
        close(pipes[1]);
        uint64_t wanted = random_below(60, 42, 1, (uint64_t)round);
        uint64_t read_number;
        /* Some rounds die while it opens. */
        for (uint64_t i = 0; i < wanted; i++)
            if (read(pipes[0], &read_number, sizeof read_number) == sizeof read_number)
                acknowledged = read_number;
        struct timespec pause = {0, (long)random_below(3000000, 42, 2, (uint64_t)round)};
        nanosleep(&pause, NULL);
        kill(child, SIGKILL);
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status));
        while (read(pipes[0], &read_number, sizeof read_number) == sizeof read_number)
            acknowledged = read_number;
        close(pipes[0]);
        struct ledger *ledger = open_ledger();
        struct seen seen = load(ledger);
        assert_true((uint64_t)seen.jobs >= acknowledged);
        for (uint64_t i = 1; i <= (uint64_t)seen.jobs + 1; i++) {
            struct task_result result;
            assert_int_equal(has_result(ledger, i, "c", &result), i <= (uint64_t)seen.jobs);
        }
        next = (uint64_t)seen.jobs + 1;
        ledger_close(&ledger);
    }
    assert_true(acknowledged > 100);
}

static void test_second_opener(void **state) {
    struct ledger *ledger = open_ledger(), *second = NULL;
    struct error error = {0};
    assert_int_equal(ledger_sqlite_open(&second, folder, &error), ERR_BUSY);
    assert_null(second);
    char expected[64];
    snprintf(expected, sizeof expected, "process %ld", (long)getpid());
    assert_non_null(strstr(error.detail, "another coordinator uses this ledger"));
    assert_non_null(strstr(error.detail, expected));
    pid_t child = fork();
    if (!child)
        _exit(ledger_sqlite_open(&second, folder, &error) == ERR_BUSY ? 0 : 1);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    struct ledger_record record = job_record(1, "");
    apply(ledger, &record, 1);
    ledger_close(&ledger);
    ledger = open_ledger();
    ledger_close(&ledger);
}

static void write_file(const char *name, const void *bytes, size_t length) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, length, file), length);
    fclose(file);
}

static void test_foreign(void **state) {
    struct ledger *ledger = NULL;
    struct error error = {0};
    char text[8192];
    memset(text, 'x', sizeof text);
    write_file("ledger.db", text, sizeof text);
    assert_int_equal(ledger_sqlite_open(&ledger, folder, &error), ERR_FORMAT);
    assert_non_null(strstr(error.detail, "ledger.db: this is no ledger of vidloom; move it away"));
    /* What is there is not touched. */
    char path[128], again[sizeof text];
    snprintf(path, sizeof path, "%s/ledger.db", folder);
    FILE *file = fopen(path, "rb");
    assert_int_equal(fread(again, 1, sizeof again, file), sizeof again);
    fclose(file);
    assert_memory_equal(text, again, sizeof text);
    unlink(path);

    /* A directory; a folder that is not there. */
    assert_int_equal(mkdir(path, 0777), 0);
    assert_int_not_equal(ledger_sqlite_open(&ledger, folder, &error), ERR_OK);
    rmdir(path);
    assert_int_equal(ledger_sqlite_open(&ledger, "/tmp/vidloom-none", &error), ERR_MISSING);
    /* An empty file is a new ledger: what a crash at the first opening leaves. */
    write_file("ledger.db", "", 0);
    ledger = open_ledger();
    ledger_close(&ledger);
}

/* Bytes changed anywhere in the file: an error, or rows; never a crash, and never a silent success
 * that lacks jobs. */
static void test_damage(void **state) {
    struct ledger *ledger = open_ledger();
    struct error error = {0};
    for (uint64_t i = 1; i <= 200; i++) {
        struct ledger_record records[2] = {job_record(i, ""), result_record(i, "c", i, i, 0)};
        apply(ledger, records, 2);
    }
    ledger_close(&ledger);
    char path[128];
    snprintf(path, sizeof path, "%s/ledger.db", folder);
    FILE *file = fopen(path, "rb");
    fseek(file, 0, SEEK_END);
    size_t length = (size_t)ftell(file);
    char *good = malloc(length), *bad = malloc(length);
    rewind(file);
    assert_int_equal(fread(good, 1, length, file), length);
    fclose(file);
    int refused = 0;
    for (uint64_t round = 0; round < 120; round++) {
        memcpy(bad, good, length);
        size_t kept = round % 4 ? length : random_below((uint32_t)length, 5, 1, round);
        for (uint64_t i = 0; i < 64; i++)
            bad[random_below((uint32_t)length, 5, 2, 64 * round + i)] ^=
                (char)(1 + random_below(255, 5, 3, 64 * round + i));
        write_file("ledger.db", bad, kept);
        if (ledger_sqlite_open(&ledger, folder, &error)) {
            assert_non_null(strstr(error.detail, "ledger.db"));
            refused++;
            continue;
        }
        struct seen seen = {0};
        struct ledger_visitor visitor = {.user = &seen, .video = see_video};
        (void)!ledger_load(ledger, &visitor, &error);
        struct hash key = number_hash(round);
        struct task_result result;
        bool found;
        (void)!ledger_find_result(ledger, &result, &found, &key, "c", &error);
        ledger_close(&ledger);
    }
    print_message("%d of 120 damaged ledgers were refused at once\n", refused);
    assert_true(refused > 60);
    free(good);
    free(bad);
}

/* A limit on the size of files stands for a full disk: writes past it fail. */
static void test_full_disk(void **state) {
    struct ledger *ledger = open_ledger();
    struct error error = {0};
    struct ledger_record record = job_record(1, "");
    apply(ledger, &record, 1);
    pid_t child;
    ledger_close(&ledger);
    child = fork();
    if (!child) {
        /* SIGXFSZ ignored: write gives EFBIG, which SQLite reports as an I/O error or a full disk.
         */
        signal(SIGXFSZ, SIG_IGN);
        if (ledger_sqlite_open(&ledger, folder, &error))
            _exit(2);
        struct rlimit before, tight;
        getrlimit(RLIMIT_FSIZE, &before);
        tight = before;
        tight.rlim_cur = 64 << 10;
        setrlimit(RLIMIT_FSIZE, &tight);
        enum error_code code = ERR_OK;
        uint64_t id = 2;
        for (; id < 1000 && !code; id++) {
            record = job_record(id, "");
            code = ledger_apply(ledger, &record, 1, &error);
        }
        if (code != ERR_FULL && code != ERR_IO)
            _exit(3);
        setrlimit(RLIMIT_FSIZE, &before);
        /* The same batch, once there is room. */
        if (ledger_apply(ledger, &record, 1, &error))
            _exit(4);
        ledger_close(&ledger);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    ledger = open_ledger();
    struct seen seen = load(ledger);
    assert_true(seen.jobs > 1);
    ledger_close(&ledger);
}

/* Group commit: many records a transaction. A report, not a bound. */
static void test_speed(void **state) {
    struct ledger *ledger = open_ledger();
    struct ledger_record *records = malloc(64 * sizeof *records);
    int64_t start = clock_monotonic_ns();
    uint64_t number = 1;
    for (int batch = 0; batch < 50; batch++) {
        for (int i = 0; i < 64; i++, number++)
            records[i] = result_record(number, "c", 1, number, 0);
        apply(ledger, records, 64);
    }
    double seconds = (double)(clock_monotonic_ns() - start) / 1e9;
    print_message("%.0f results a second in batches of 64, synchronous=FULL\n", 3200 / seconds);
    free(records);
    ledger_close(&ledger);
}

int main(void) {
#define WITH_FOLDER(test) cmocka_unit_test_setup_teardown(test, make_folder, remove_folder)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory), WITH_FOLDER(test_sqlite), WITH_FOLDER(test_second_opener),
        WITH_FOLDER(test_foreign),     WITH_FOLDER(test_damage), WITH_FOLDER(test_full_disk),
        WITH_FOLDER(test_kill),        WITH_FOLDER(test_speed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

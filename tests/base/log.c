#include "base/log.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/base/test.h"

static void test_lines(void **state) {
    (void)state;
    char *text = NULL;
    size_t length = 0;
    FILE *stream = open_memstream(&text, &length);
    struct log *log;
    struct error error;
    assert_int_equal(log_open(&log, stream, LOG_INFO, &error), ERR_OK);
    log_line(log, LOG_INFO, "worker", "prompt=%s",
             "a\nred\tballoon \x1b[2J \xC2\x9B \xFF \xE2\x82\xAC");
    log_line(log, LOG_DEBUG, "worker", "not shown");
    log_line(NULL, LOG_ERROR, "worker", "not shown");
    log_close(&log);
    log_close(&log);
    (void)fclose(stream);
    assert_int_equal(text[10], 'T');
    assert_int_equal(text[23], 'Z');
    assert_string_equal(text + 24,
                        " info worker: prompt=a\\nred\\tballoon \\x1b[2J \\xc2\\x9b \\xff "
                        "\xE2\x82\xAC\n");
    free(text);
}

static void test_long_lines_are_cut(void **state) {
    (void)state;
    char *text = NULL;
    size_t length = 0;
    FILE *stream = open_memstream(&text, &length);
    char *message = malloc(100001);
    struct log *log;
    struct error error;
    assert_non_null(message);
    memset(message, 'x', 100000);
    message[100000] = '\0';
    assert_int_equal(log_open(&log, stream, LOG_ERROR, &error), ERR_OK);
    log_line(log, LOG_ERROR, "x", "%s", message);
    log_close(&log);
    (void)fclose(stream);
    assert_in_range(length, 8000, 9000);
    assert_non_null(strstr(text, " [cut: 100000 bytes]\n"));
    free(message);
    free(text);
}

static void *writer(void *log) {
    for (int i = 0; i < 200; i++)
        log_line(log, LOG_INFO, "thread", "abcdefghijklmnopqrstuvwxyz");
    return NULL;
}

static void test_threads_do_not_mix_lines(void **state) {
    (void)state;
    char *text = NULL;
    size_t length = 0;
    FILE *stream = open_memstream(&text, &length);
    struct log *log;
    struct error error;
    pthread_t threads[4];
    assert_int_equal(log_open(&log, stream, LOG_INFO, &error), ERR_OK);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, writer, log), 0);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    log_close(&log);
    (void)fclose(stream);
    size_t lines = 0;
    char *rest = NULL;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        assert_string_equal(line + 24, " info thread: abcdefghijklmnopqrstuvwxyz");
        lines++;
    }
    assert_int_equal(lines, 800);
    free(text);
}

/* Through a pipe of packets, where every write(2) is read by itself; unbuffered, as stderr is. */
static void test_a_line_is_one_write(void **state) {
    (void)state;
    int ends[2];
    char text[4096];
    struct log *log;
    struct error error;
    assert_int_equal(pipe2(ends, O_DIRECT), 0);
    FILE *stream = fdopen(ends[1], "w");
    assert_non_null(stream);
    assert_int_equal(setvbuf(stream, NULL, _IONBF, 0), 0);
    assert_int_equal(log_open(&log, stream, LOG_INFO, &error), ERR_OK);
    log_line(log, LOG_INFO, "worker", "prompt=%s", "a\nred\tballoon");
    log_close(&log);
    (void)fclose(stream);
    ssize_t length = read(ends[0], text, sizeof text);
    assert_true(length > 0 && text[length - 1] == '\n');
    assert_int_equal(read(ends[0], text, sizeof text), 0);
    (void)close(ends[0]);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_lines),
                                       cmocka_unit_test(test_long_lines_are_cut),
                                       cmocka_unit_test(test_a_line_is_one_write),
                                       cmocka_unit_test(test_threads_do_not_mix_lines)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

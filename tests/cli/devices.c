/* The devices that a command line names. GPUS is how many the backend beside this program has; not
 * defined: there is none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "cli/backend.h"

#ifdef GPUS
static const bool there = true;
static const int gpus = GPUS;
#else
static const bool there = false;
static const int gpus = 0;
#endif

static struct backend_devices found;
static struct error error;

static void expect_devices(const char *text, const char *names) {
    char line[256] = "";
    if (backend_find(&found, text, &error) != ERR_OK)
        fail_msg("%s: %s", text, error.detail);
    for (int i = 0; i < found.count; i++)
        snprintf(line + strlen(line), sizeof line - strlen(line), "%s%s", i ? "," : "",
                 found.items[i].name);
    assert_string_equal(line, names);
}

static void expect_error(const char *text, enum error_code code, const char *fragment) {
    assert_int_equal(backend_find(&found, text, &error), code);
    if (!strstr(error.detail, fragment))
        fail_msg("%s: '%s' does not say '%s'", text, error.detail, fragment);
}

static void auto_takes_every_gpu(void **state) {
    expect_devices("auto", gpus == 3 ? "cuda:0,cuda:1,cuda:2" : "cpu");
    /* Whoever has the backend but no GPU is told; whoever has neither is not bothered. */
    assert_int_equal(*found.note != '\0', there && gpus == 0);
    for (int i = 0; i < found.count; i++)
        assert_int_equal(found.items[i].index, i);
}

static void all_wants_a_gpu(void **state) {
    if (gpus == 3) {
        expect_devices("all", "cuda:0,cuda:1,cuda:2");
        return;
    }
    expect_error("all", ERR_MISSING, there ? "there is no device 0" : "libvidloom_cuda.so");
    expect_error("all", ERR_MISSING, "--device cpu needs no GPU");
}

static void devices_are_named(void **state) {
    expect_devices("cpu", "cpu");
    if (gpus == 3) {
        expect_devices("cuda:1", "cuda:1");
        expect_devices("cuda", "cuda:0");
        expect_devices("cuda:2,cpu,cuda:0", "cuda:2,cpu,cuda:0");
        expect_error("cuda:0,cuda:3", ERR_MISSING, "there is no device 3: there are 3");
        expect_error("cuda:1,cuda:1", ERR_USAGE, "cuda:1 is there twice");
    } else {
        expect_error("cpu,cuda:0", ERR_MISSING,
                     there ? "there is no device 0" : "backend \"cuda\"");
        expect_error("cuda:0", ERR_MISSING, "--device cpu needs no GPU");
    }
}

static void mistakes_are_named(void **state) {
    expect_error("gpu", ERR_MISSING, "libvidloom_gpu.so");
    expect_error("cpu,", ERR_USAGE, "--device cpu,: '' is no device");
    expect_error("cpu:1", ERR_MISSING, "all cores are cpu:0");
    expect_error("cpu,cpu:0", ERR_USAGE, "cpu:0 is there twice");
    expect_error("../evil:0", ERR_USAGE, "not the name of a backend");
    expect_error("cuda:x", ERR_USAGE, "'cuda:x' is no device");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(auto_takes_every_gpu),
        cmocka_unit_test(all_wants_a_gpu),
        cmocka_unit_test(devices_are_named),
        cmocka_unit_test(mistakes_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

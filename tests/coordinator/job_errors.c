/* What the job reader says to bad files: every text, with its line and column. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "coordinator/job.h"
#include "fake.h"
#include "refused.h"

static void test_refused(void **state) {
    struct fake fake = refused_lists;
    struct job_resolver resolver = fake_resolver(&fake);
    int failures = 0;
    for (size_t i = 0; i < refused_count; i++) {
        const struct refused *bad = &refused_files[i];
        struct job *job = NULL;
        struct error error = {0};
        enum error_code code =
            job_parse(&job, "job.yaml", bad->yaml, strlen(bad->yaml), &resolver, &error);
        if (code != bad->code || strcmp(error.detail, bad->expected) != 0 || job) {
            print_error("%s\n  said:     %s %s\n  expected: %s %s\n", bad->yaml, error_name(code),
                        error.detail, error_name(bad->code), bad->expected);
            failures++;
        }
        job_close(&job);
    }
    assert_int_equal(failures, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The rate that time is reckoned with. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#include "cli/estimate.h"

static int64_t largest;
static long product_ns;

static void timed_linear(struct device *device, void *out, const void *in,
                         const struct linear *linear, int64_t rows,
                         const struct linear_epilogue *epilogue) {
    (void)device, (void)out, (void)in, (void)linear, (void)epilogue;
    largest = rows > largest ? rows : largest;
    nanosleep(&(struct timespec){.tv_nsec = product_ns}, NULL);
}

/* Of a table that is not the CPU's, whose products take `ns` whatever their size. */
static double rate(long ns) {
    struct ops ops = *ops_cpu();
    struct device *device;
    struct error error;
    double flops = 0;
    ops.linear = timed_linear;
    largest = 0;
    product_ns = ns;
    assert_int_equal(ops.device_open(&device, NULL, &error), ERR_OK);
    assert_int_equal(estimate_rate(&flops, &ops, device, DTYPE_BF16, 0.03, &error), ERR_OK);
    ops.device_close(&device);
    return flops;
}

static void a_slow_device_is_not_kept_busy(void **state) {
    (void)state;
    double flops = rate(20 * 1000000L);
    assert_int_equal(largest, 128);
    assert_true(flops > 0 && flops <= 2.0 * 128 * 128 * 128 / 0.02);
}

static void a_fast_one_gets_large_products(void **state) {
    (void)state;
    assert_true(rate(0) > 0);
    assert_true(largest > 128);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_slow_device_is_not_kept_busy),
        cmocka_unit_test(a_fast_one_gets_large_products),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

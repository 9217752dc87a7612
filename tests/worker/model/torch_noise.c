/* Against torch.randn, bit for bit; vectors/torch_noise.safetensors is made by
 * torch_noise_vectors.py. */
#include <inttypes.h>
#include <string.h>

#include "base/random.h"
#include "tests/worker/model/model_test.h"
#include "worker/model/noise.h"

#define VECTORS "tests/worker/model/vectors/torch_noise.safetensors"

static const size_t sizes[] = {1, 2, 15, 16, 17, 3, 31, 32, 33, 100, 5, 700};
enum { SIZES = sizeof sizes / sizeof sizes[0], ALL = 955 };

static void test_torch(void **state) {
    static const uint64_t seeds[] = {0, 42, (UINT64_C(1) << 32) + 5, INT64_MAX};
    struct error error = {0};
    struct weights *file = NULL;
    (void)state;
    ok(weights_open(&file, VECTORS, &error), &error);
    for (size_t i = 0; i < sizeof seeds / sizeof seeds[0]; i++) {
        const struct tensor *wanted = reference(file, "seed.%" PRIu64, seeds[i]);
        float drawn[ALL];
        size_t at = 0;
        struct torch_noise noise;
        assert_int_equal(wanted->dim[0], ALL);
        torch_noise_seed(&noise, seeds[i]);
        for (int j = 0; j < SIZES; j++) {
            torch_noise_normal(&noise, drawn + at, sizes[j]);
            at += sizes[j];
        }
        assert_int_equal(at, ALL);
        assert_memory_equal(drawn, wanted->data, sizeof drawn);
    }
    weights_close(&file);
}

/* Draws are what one call says, not a stream; a seed is its low 32 bits. */
static void test_draws(void **state) {
    struct torch_noise noise;
    float once[32], twice[32];
    (void)state;
    torch_noise_seed(&noise, 7);
    torch_noise_normal(&noise, once, 32);
    torch_noise_seed(&noise, (UINT64_C(5) << 32) + 7);
    torch_noise_normal(&noise, twice, 32);
    assert_memory_equal(once, twice, sizeof once);
    torch_noise_seed(&noise, 7);
    torch_noise_normal(&noise, twice, 8);
    assert_memory_not_equal(once, twice, 8 * sizeof *once);
}

/* Our own noise is drawn by several threads: what one call of the generator gives, wherever a draw
 * begins and ends. */
static void test_parts(void **state) {
    enum { COUNT = 300001 };
    static float drawn[COUNT], wanted[COUNT];
    struct noise_source source = {.noise = NOISE_VIDLOOM, .seed = 5, .stream = 3};
    (void)state;
    noise_draw(&source, drawn, 7);
    random_normal(wanted, 7, 5, 3, 0);
    assert_memory_equal(drawn, wanted, 7 * sizeof *drawn);
    noise_draw(&source, drawn, COUNT);
    random_normal(wanted, COUNT, 5, 3, 7);
    assert_memory_equal(drawn, wanted, sizeof drawn);
    assert_int_equal(source.drawn, COUNT + 7);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_torch),
        cmocka_unit_test(test_draws),
        cmocka_unit_test(test_parts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include <stdatomic.h>
#include <unistd.h>

#include "kernels/cpu/pool.h"
#include "tests/kernels/support.h"

#define PIECES 1000

struct loop {
    _Atomic int *done;
    int threads;
};

static void piece(const void *context, int64_t i, int worker) {
    const struct loop *loop = context;
    if (worker >= 0 && worker < loop->threads) {
        atomic_fetch_add(&loop->done[i], 1);
    }
}

static void every_piece_runs_once(void **state) {
    (void)state;
    static _Atomic int done[PIECES];
    static const int threads[] = {1, 2, 3, 8};
    for (size_t t = 0; t < sizeof threads / sizeof *threads; t++) {
        struct pool *pool = NULL;
        struct error error;
        assert_int_equal(pool_open(&pool, threads[t], &error), ERR_OK);
        assert_int_equal(pool_threads(pool), threads[t]);
        struct loop loop = {done, threads[t]};
        for (int round = 0; round < 200; round++) {
            int64_t pieces = round % 7 == 0 ? PIECES : round % 5;
            for (int i = 0; i < PIECES; i++) {
                done[i] = 0;
            }
            pool_run(pool, pieces, piece, &loop);
            for (int i = 0; i < PIECES; i++) {
                assert_int_equal(done[i], i < pieces ? 1 : 0);
            }
            if (round % 50 == 0) {
                usleep(2000); /* long enough that the threads sleep */
            }
        }
        pool_close(&pool);
        assert_null(pool);
        pool_close(&pool);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_piece_runs_once)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

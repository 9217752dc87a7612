/* The device's threads: pinned to the cores this process may run on, woken for one parallel loop at
 * a time. A loop is cut into pieces by the size of the problem alone; which thread takes which
 * piece is left to chance, so a piece must not depend on it.
 *
 * One thread calls; it works too, as worker 0. */
#ifndef VIDLOOM_KERNELS_CPU_POOL_H
#define VIDLOOM_KERNELS_CPU_POOL_H

#include <stdint.h>

#include "base/error.h"

#define POOL_THREADS_MAX 256

struct pool;

/* One piece of a loop. `worker` is 0..threads-1, for scratch memory. */
typedef void pool_function(const void *context, int64_t piece, int worker);

/* threads 0: one for each core this process may run on. Errors: ERR_MEMORY. */
MUST_CHECK enum error_code pool_open(struct pool **out, int threads, struct error *error);
void pool_close(struct pool **pool);
int pool_threads(const struct pool *pool);

/* Run all pieces and return when they are done. */
void pool_run(struct pool *pool, int64_t pieces, pool_function *function, const void *context);

#endif

/* Which of a library's algorithms is the fastest for a product, or for a convolution, measured once
 * and remembered between runs. Knows neither CUDA nor the libraries, and is tested without them.
 *
 * An algorithm is chosen among those that give, bit for bit, what the library's first choice gives:
 * so results depend on the card and the library alone, as a device's class promises, and never on
 * what was measured. The file therefore may be missing, lost, cut or of another machine: it only
 * costs the time to measure again.
 *
 * The file is text: a line for the format, one that names the machine, one for each product, and a
 * last one with their number and a sum over all that comes before. A file that differs in any of
 * these is not used. One thread at a time; processes may share it, and the last one's is kept. */
#ifndef VIDLOOM_KERNELS_CUDA_TUNING_H
#define VIDLOOM_KERNELS_CUDA_TUNING_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

#define TUNING_ENTRIES_MAX 2048
#define TUNING_TRIALS_MAX  16
#define TUNING_WORDS       8 /* of an algorithm, as the library describes it */

struct tuning;

/* A product, by all that the choice of its algorithm depends on; no padding. Of a convolution
 * convolve.c makes these seven numbers. */
struct tuning_product {
    int64_t outputs, inputs, rows;
    uint32_t type, epilogue; /* numbers of the caller */
    uint32_t in_alignment, out_alignment;
};

struct tuning_algorithm {
    uint64_t word[TUNING_WORDS];
};

/* folder: where the file is kept; NULL: nowhere. what: "products", say, which the file's name
 * begins with; it must outlive the result. machine: one line that names the card, the driver and
 * the library, and their versions. ERR_MEMORY only: a file that cannot be used is as none. */
MUST_CHECK enum error_code tuning_open(struct tuning **out, const char *folder, const char *what,
                                       const char *machine, struct error *error);
void tuning_close(struct tuning **tuning); /* NULL is fine */

/* Whether this product has been measured, and then the algorithm. */
bool tuning_find(const struct tuning *tuning, const struct tuning_product *product,
                 struct tuning_algorithm *out);
/* The same of a product that differs in nothing but its rows, of which it has `least` or more: the
 * first that was measured. */
bool tuning_find_like(const struct tuning *tuning, const struct tuning_product *product,
                      int64_t least, struct tuning_algorithm *out);
/* Remember it, and write the file; what cannot be written is remembered by this process alone. When
 * there is no room, nothing happens. */
void tuning_add(struct tuning *tuning, const struct tuning_product *product,
                const struct tuning_algorithm *algorithm);

/* Run candidate `index`: its time, in any unit, and a digest of its result. False: it cannot. */
typedef bool tuning_trial(void *context, int index, float *time, uint64_t *digest);
/* The fastest of `count` candidates whose result is that of the first that works; -1: none does. */
int tuning_choose(int count, tuning_trial *trial, void *context);

#endif

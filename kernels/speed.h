/* What a table reaches at the shapes of Wan2.1, with random numbers: attention, linear layers with
 * the ways out that the model uses, convolutions, elementwise operations; and the two ceilings of
 * the machine as the table itself reaches them, one large product and one large copy. For devices
 * that are fast enough: a GPU needs half a minute and 5 GiB. kernels/bench.h is the CPU's. */
#ifndef VIDLOOM_KERNELS_SPEED_H
#define VIDLOOM_KERNELS_SPEED_H

#include "kernels/ops.h"

struct figure {
    const char *key;  /* "attention_128"; ops/gpu/figures.txt has what is asked of it */
    char what[96];    /* with the shape: "attention bf16, 12 heads of 128, 32760 tokens" */
    double value;     /* of the median sample */
    const char *unit; /* "TFLOP/s" (a multiply-add is 2), "GB/s" (least bytes read and written), "s"
                       */
};

struct speed_config {
    const struct ops *ops;
    struct device_config device;
    bool small;     /* shapes for trying it out: seconds on a CPU */
    double seconds; /* to spend on one measurement, about; 0: 0.3 */
    void (*put)(void *user, const struct figure *figure);
    void *user;
};

/* Errors: the device's, ERR_MEMORY. */
MUST_CHECK enum error_code speed_kernels(const struct speed_config *config, struct error *error);

#endif

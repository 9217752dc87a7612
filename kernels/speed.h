/* What a table reaches at the shapes of Wan2.1, with random numbers: attention, linear layers with
 * the ways out that the model uses, convolutions, elementwise operations; and the two ceilings of
 * the machine as the table itself reaches them, one large product and one large copy. For devices
 * that are fast enough: a GPU needs half a minute and 6 GiB. kernels/bench.h is the CPU's.
 *
 * After attention, a linear layer or a convolution was timed, some of its numbers are compared with
 * f64's: tests cannot, at these shapes. Where they are off by more than the operation's tolerance
 * there is no figure. */
#ifndef VIDLOOM_KERNELS_SPEED_H
#define VIDLOOM_KERNELS_SPEED_H

#include "kernels/ops.h"

/* What is measured together: bits. */
enum speed_group {
    SPEED_ATTENTION = 1 << 0,
    SPEED_LINEAR = 1 << 1, /* with the large product */
    SPEED_CONV = 1 << 2,
    SPEED_ELEMENTWISE = 1 << 3, /* with the large copy */
    SPEED_VAE = 1 << 4,         /* from here on: worker/model/speed_models.h */
    SPEED_DENOISE = 1 << 5,
    SPEED_DENOISE8 = 1 << 6,
    SPEED_ALL = (1 << 7) - 1
};

struct figure {
    const char *key;  /* "attention_128"; ops/gpu/figures.txt has what is asked of it */
    char what[112];   /* with the shape: "attention bf16, 12 heads of 128, 32760 tokens" */
    double value;     /* of the median sample */
    double error;     /* relative, in the 2-norm, of the numbers compared; 0: none were */
    const char *unit; /* "TFLOP/s" (a multiply-add is 2), "GB/s" (least bytes read and written), "s"
                       */
};

struct speed_config {
    const struct ops *ops;
    struct device_config device;
    unsigned groups; /* of enum speed_group */
    bool small;      /* shapes for trying it out: seconds on a CPU */
    double seconds;  /* to spend on one measurement, about; 0: 0.3 */
    void (*put)(void *user, const struct figure *figure);
    void *user;
};

/* Errors: the device's, ERR_MEMORY: nothing is measured after it. ERR_DEVICE, too, when all has
 * been measured and something was not right. */
MUST_CHECK enum error_code speed_kernels(const struct speed_config *config, struct error *error);

#endif

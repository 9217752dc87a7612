/* `vidloom bench`: the published Wan2.1's arithmetic on this machine, with random weights in memory
 * and the model's own code. */
#ifndef VIDLOOM_CLI_BENCH_WAN_H
#define VIDLOOM_CLI_BENCH_WAN_H

#include "cli/report.h"
#include "kernels/ops.h"

/* Adds to the report: seconds of a step of the 1.3B transformer in bf16 and with int8 weights, with
 * the share of the machine's bf16 matrix product that each reaches; voxels a second of the VAE's
 * decoder, with its share of the bf16 convolution. `quick`: smaller pictures. Needs the CPU and
 * about 1.2 GiB of memory. */
MUST_CHECK enum error_code bench_wan(struct report *report, const struct device_config *device,
                                     bool quick, struct error *error);

#endif

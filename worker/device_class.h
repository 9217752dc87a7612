/* What a worker says of its device. */
#ifndef VIDLOOM_WORKER_DEVICE_CLASS_H
#define VIDLOOM_WORKER_DEVICE_CLASS_H

#include "kernels/ops.h"

/* The device's own words, but for the class: it is a promise of equal bytes, which other types of
 * arithmetic than bf16 do not give, so it names those. */
void device_class_read(struct device_info *out, const struct ops *ops, struct device *device,
                       enum dtype dtype);

#endif

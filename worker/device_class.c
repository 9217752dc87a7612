#include "worker/device_class.h"

#include <stdio.h>
#include <string.h>

void device_class_read(struct device_info *out, const struct ops *ops, struct device *device,
                       enum dtype dtype) {
    ops->device_info(device, out);
    size_t length = strlen(out->class);
    if (dtype != DTYPE_BF16)
        snprintf(out->class + length, sizeof out->class - length, "-f32");
}

/* A convolution's history joined with the input, for devices whose library takes one input: what
 * lies in conv_args.joined. Only the frames of the output that see history are computed from there;
 * the others read the input where it is. */
#ifndef VIDLOOM_KERNELS_JOIN_H
#define VIDLOOM_KERNELS_JOIN_H

#include <stdbool.h>
#include <stddef.h>

#include "kernels/args.h"

/* `bytes` is 0 where nothing need be joined: there is no history, or it lies right before the
 * input, as one with it. */
struct conv_join {
    int64_t outputs, seeing; /* frames of the output: all, and those that see history */
    int64_t frames;          /* that are joined: the history and the first ones of the input */
    size_t bytes;            /* of them */
};

struct conv_join conv_join(const struct conv_shape *shape, const struct conv_args *args,
                           enum dtype dtype);
/* Whether there is history, and it lies right before the input. */
bool conv_follows(const struct conv_shape *shape, const struct conv_args *args, enum dtype dtype);

#endif

/* Fields of a message that are too large for nanopb's structs. Included by vidloom.pb.h. */
#ifndef VIDLOOM_PROTO_SLICE_H
#define VIDLOOM_PROTO_SLICE_H

#include <stddef.h>
#include <stdint.h>

struct _vidloom_Artifact; /* vidloom_Artifact */

/* Bytes that live elsewhere: in a decoded message, in the frame it was decoded from. */
struct proto_bytes {
    const void *bytes;
    size_t length;
};

/* In a decoded message they lie in its struct message. */
struct proto_inputs {
    const struct _vidloom_Artifact *items;
    size_t count;
};

#endif

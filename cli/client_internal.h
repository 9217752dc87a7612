/* Shared by client*.c only. */
#ifndef VIDLOOM_CLI_CLIENT_INTERNAL_H
#define VIDLOOM_CLI_CLIENT_INTERNAL_H

#include "base/buffer.h"
#include "cli/client.h"
#include "proto/endpoint.h"
#include "proto/message.h"

struct client {
    struct client_config config;
    int64_t timeout_ns;
    struct endpoint_context *own_context;
    struct endpoint *endpoint;
    uint64_t request;      /* number of the latest */
    struct message *in;    /* the answer */
    vidloom_Envelope *out; /* the request; its request number is set by client_ask */
    struct buffer frame;
};

/* Send client->out, again and again, until an answer of the kind `wanted` is in client->in, or a
 * refusal, which becomes the error. */
MUST_CHECK enum error_code client_ask(struct client *client, pb_size_t wanted, int64_t patience_ns,
                                      struct error *error);

#endif

/* Endpoints: the one place that calls ZeroMQ. A coordinator opens ROUTERs and binds them; a worker
 * or client opens a DEALER and connects it. One message is one frame of bytes (message.h).
 *
 * An endpoint belongs to one thread: every call comes from it, but endpoint_wake. A context is
 * shared by any threads, and needed in common by both ends of an inproc address.
 *
 * NOTHING BLOCKS but endpoint_wait. A queue holds PROTO_QUEUE_MESSAGES for each peer; a message
 * that finds it full is refused to the sender, never dropped in silence. Frames that are too large,
 * multipart messages, and peers that chose their own routing id are dropped.
 *
 * WHO MAY CONNECT. Only peers on this machine: TCP addresses must be loopback, anything else is
 * ERR_UNSUPPORTED, because nothing here encrypts or asks for a key yet (ARCHITECTURE.md, "Not
 * there"). inproc joins threads of one process. */
#ifndef VIDLOOM_PROTO_ENDPOINT_H
#define VIDLOOM_PROTO_ENDPOINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "proto/limits.h"

#define ENDPOINT_ADDRESS_BYTES 256 /* with the NUL */

struct endpoint_context;
struct endpoint;

/* Errors: ERR_MEMORY, ERR_NETWORK (no descriptors left). */
MUST_CHECK enum error_code endpoint_context_open(struct endpoint_context **out,
                                                 struct error *error);
/* Every endpoint of it must be closed before. NULL is fine. */
void endpoint_context_close(struct endpoint_context **context);

enum endpoint_role {
    ENDPOINT_ROUTER, /* the coordinator's side: many peers */
    ENDPOINT_DEALER, /* a worker's or client's: one peer, `peer` is 0 */
};

struct endpoint_config {
    struct endpoint_context *context;
    enum endpoint_role role;
};
MUST_CHECK enum error_code endpoint_open(struct endpoint **out,
                                         const struct endpoint_config *config, struct error *error);
/* What was not sent is thrown away. NULL is fine. */
void endpoint_close(struct endpoint **endpoint);

/* "inproc://NAME", "tcp://127.0.0.1:7310", "tcp://[::1]:7310", "tcp://localhost:*" (any free port).
 * An endpoint may be bound to several addresses. Errors: ERR_USAGE (not an address),
 * ERR_UNSUPPORTED (beyond loopback without keys), ERR_BUSY (in use), ERR_NETWORK (not an address of
 * this machine). */
MUST_CHECK enum error_code endpoint_bind(struct endpoint *endpoint, const char *address,
                                         struct error *error);
/* Connects in the background, and again whenever the connection is lost. Errors as for bind. */
MUST_CHECK enum error_code endpoint_connect(struct endpoint *endpoint, const char *address,
                                            struct error *error);
/* The address last bound, with the port that was found; "" before. */
const char *endpoint_address(const struct endpoint *endpoint);

/* Queue a frame for `peer` (0 from a DEALER). Errors: ERR_NETWORK (a ROUTER: the peer is gone),
 * ERR_BUSY (its queue is full, or a DEALER is not connected yet: nothing was sent), ERR_LIMIT. */
MUST_CHECK enum error_code endpoint_send(struct endpoint *endpoint, uint64_t peer,
                                         const void *bytes, size_t length, struct error *error);
struct endpoint_frame {
    const void *bytes; /* until the next receive or close */
    size_t length;
    uint64_t peer; /* its connection: a number that is not used again; 0 in a DEALER */
};
/* The next frame that is there. False: none. */
bool endpoint_receive(struct endpoint *endpoint, struct endpoint_frame *out);

/* Until one of the endpoints has a frame or was woken, or `timeout_ms` (below 0: for ever) is over,
 * or a signal came. A spurious return is fine: receive until there is nothing. With `sending` also
 * until a DEALER among them can send. Errors: ERR_INTERNAL. */
MUST_CHECK enum error_code endpoint_wait(struct endpoint *const *endpoints, size_t count,
                                         int timeout_ms, bool sending, struct error *error);

/* Make the endpoint's endpoint_wait return, now or when it is next called. Any thread; a signal
 * handler too. The endpoint must live. */
void endpoint_wake(struct endpoint *endpoint);

/* What was dropped as the opening comment says, since open. */
uint64_t endpoint_dropped(const struct endpoint *endpoint);

#endif

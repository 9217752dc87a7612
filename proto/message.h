/* Messages: between the structs that nanopb makes of vidloom.proto and frames of bytes.
 *
 * A message is a vidloom_Envelope: which_body names its kind (vidloom_Envelope_hello_tag …), and
 * body holds the fields as plain arrays and numbers. To send one:
 *
 *     vidloom_Envelope envelope = vidloom_Envelope_init_zero;   // large: keep one, see below
 *     message_begin(&envelope, vidloom_Envelope_hello_tag);     // zeroes that body alone
 *     message_set_text(envelope.body.hello.name, sizeof envelope.body.hello.name, name);
 *     message_encode(&buffer, &envelope, &error);
 *
 * Envelopes take some 45 KB and a struct message some 340 KB: keep one for each direction.
 *
 * Nothing here allocates but message_encode's buffer. Any thread. Fuzzed by tests/fuzz/wire.c. */
#ifndef VIDLOOM_PROTO_MESSAGE_H
#define VIDLOOM_PROTO_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/hash.h"
#include "proto/limits.h"
#include "proto/vidloom.pb.h"

/* A decoded message, with the place for a lease's inputs. */
struct message {
    vidloom_Envelope envelope;
    vidloom_Artifact inputs[PROTO_INPUTS_MAX];
};

/* Who says this body: or-ed, because some have two senders. 0: there is no such body. */
enum message_sender { MESSAGE_WORKER = 1, MESSAGE_CLIENT = 2, MESSAGE_COORDINATOR = 4 };
unsigned message_senders(pb_size_t body);
const char *message_name(pb_size_t body); /* "request_work"; "unknown" */

/* Make `envelope` an empty message of the kind `body`, with the version set and request 0. Touches
 * no other body. */
void message_begin(vidloom_Envelope *envelope, pb_size_t body);

/* Replace what is in `out` by the frame. The pointers of slices (lease.parameters, lease.inputs,
 * put_blob.data) are read here and not kept.
 * Errors: ERR_LIMIT (a slice or the frame is too large), ERR_FORMAT (a text is not UTF-8 or has no
 * end, a number is out of its range), ERR_MEMORY. */
MUST_CHECK enum error_code message_encode(struct buffer *out, vidloom_Envelope *envelope,
                                          struct error *error);

/* Read a frame. Every text is UTF-8 and ends with NUL, every count is within its bound, kinds and
 * actions are known ones, lease.inputs lie in `out`. The frame's bytes must live as long as the
 * slices are used.
 * Errors: ERR_UNSUPPORTED (another version; envelope.request is filled in, so that it can be
 * answered), ERR_LIMIT, ERR_FORMAT. What `out` holds then is of no use otherwise. */
MUST_CHECK enum error_code message_decode(struct message *out, const void *frame, size_t length,
                                          struct error *error);

/* Copy what fits, cut at a whole character; bytes that are not UTF-8 become '?'. */
void message_set_text(char *out, size_t out_bytes, const char *text);

/* A number that came as an error code; one that is not known is ERR_INTERNAL. */
enum error_code message_code(uint32_t code);

/* Set hash fields, and read them. */
void message_set_hash(pb_byte_t out[HASH_BYTES], const struct hash *hash);
struct hash message_hash(const pb_byte_t bytes[HASH_BYTES]);

#endif

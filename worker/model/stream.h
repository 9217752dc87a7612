/* Weights that are used where they lie in mapped files (kernels/ops.h), block by block: brought in
 * ahead of use and, where memory is too small for all, given back after it.
 *
 * A component's blocks are a stream, in the order in which every pass uses them; a model's streams
 * share a streamer, which has a thread to read with. Of two streams only the one that was used last
 * is in memory, if there is a limit. Under it as many blocks stay as fit, evenly spread, so that
 * the disk has their time to bring the others in; of the others one is in use and one on its way.
 * (Whatever the system keeps by itself, it keeps what was used last: of a file that is read from
 * end to end again and again that is what is needed last.)
 *
 * Results do not depend on any of it: a page that is not there is read when it is touched. What was
 * given back is still in the system's cache as long as nothing else wants that memory.
 *
 * One thread. A stream is closed before the files that it reads. */
#ifndef VIDLOOM_WORKER_MODEL_STREAM_H
#define VIDLOOM_WORKER_MODEL_STREAM_H

#include <stddef.h>

#include "base/error.h"

struct streamer;
struct stream;

/* What a stream that does not fit costs. */
struct stream_cost {
    size_t bytes;            /* of the stream */
    size_t pass_bytes;       /* of them that every pass reads */
    double bytes_per_second; /* of a few samples, read just now */
};
typedef void (*stream_notice)(void *user, const struct stream_cost *cost);

MUST_CHECK enum error_code streamer_open(struct streamer **out, struct error *error);
void streamer_close(struct streamer **owner); /* after its streams */
/* Bytes of streams that may be in memory from now on; 0: any. Not less than streamer_least. */
void streamer_set_limit(struct streamer *streamer, size_t bytes);
/* Give back all that is in memory; the next use brings it in again. */
void streamer_rest(struct streamer *streamer);
/* Called, on the calling thread, when a stream under a limit that it does not fit begins a pass for
 * the first time. */
void streamer_set_notice(struct streamer *streamer, stream_notice notice, void *user);
size_t streamer_bytes(const struct streamer *streamer); /* of all streams; NULL: 0 */
size_t streamer_least(const struct streamer *streamer); /* the least limit that they work with */
/* Bytes that a pass of the stream that needs most would read under this limit. */
size_t streamer_pass_bytes(const struct streamer *streamer, size_t limit);

MUST_CHECK enum error_code stream_open(struct stream **out, struct streamer *streamer, int blocks,
                                       struct error *error);
void stream_close(struct stream **owner);
/* Bytes of a mapped file that belong to a block. */
MUST_CHECK enum error_code stream_add(struct stream *stream, int block, const void *data,
                                      size_t bytes, struct error *error);
/* Bytes of which a pass reads a few here and there: given back with the rest, not brought in. */
MUST_CHECK enum error_code stream_add_table(struct stream *stream, const void *data, size_t bytes,
                                            struct error *error);

/* Before a block is used: waits until it is there, gives the one before it back, has the next one
 * brought in. */
void stream_enter(struct stream *stream, int block);

#endif

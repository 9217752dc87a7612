/* Every bound of the wire, in one place. vidloom.options has the same numbers (it cannot include
 * this); message.c asserts that they agree. What exceeds one is refused. */
#ifndef VIDLOOM_PROTO_LIMITS_H
#define VIDLOOM_PROTO_LIMITS_H

#define PROTO_VERSION 1

/* -- frames ---------------------------------------------------------------------------------- */
#define PROTO_FRAME_TO_COORDINATOR (256u << 10) /* bytes */
#define PROTO_FRAME_TO_PEER        (512u << 10) /* a mux lease names every segment of a video */
#define PROTO_FRAME_MAX            PROTO_FRAME_TO_PEER

/* -- fields; texts in bytes with the NUL ------------------------------------------------------ */
#define PROTO_NAME_BYTES       129 /* of jobs and videos */
#define PROTO_WORKER_BYTES     64  /* worker names, device classes, idempotency keys */
#define PROTO_DEVICE_BYTES     128
#define PROTO_PATH_BYTES       4096 /* in leases and welcome */
#define PROTO_OUTPUT_BYTES     1025 /* published paths in reports */
#define PROTO_DETAIL_BYTES     1024 /* of a result or refusal, as struct error */
#define PROTO_TEXT_BYTES       512  /* of a detail or event in a page */
#define PROTO_ARTIFACT_BYTES   32   /* an artifact's name */
#define PROTO_PARAMETERS_BYTES (64u << 10)
#define PROTO_BLOB_BYTES       (128u << 10) /* data in one put_blob */
#define PROTO_INPUTS_MAX       4096
#define PROTO_OUTPUTS_MAX      4
#define PROTO_STATES_MAX       8
#define PROTO_WARNINGS_MAX     16 /* of a submitted job */
#define PROTO_NOTES_MAX        8
#define PROTO_JOBS_PAGE        32 /* entries in one page */
#define PROTO_VIDEOS_PAGE      24
#define PROTO_WORKERS_PAGE     32
#define PROTO_LOG_PAGE         32

/* -- sockets -------------------------------------------------------------------------------- */
#define PROTO_QUEUE_MESSAGES   64 /* a peer; what does not fit is refused to the sender */
#define PROTO_HANDSHAKE_MS     5000
#define PROTO_RECONNECT_MS     100
#define PROTO_RECONNECT_MAX_MS 5000

#endif

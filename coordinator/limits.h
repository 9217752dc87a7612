/* Every bound of the coordinator, in one place. What comes from outside and exceeds one is refused
 * with the bound and the number found, before anything of it is accepted. */
#ifndef VIDLOOM_COORDINATOR_LIMITS_H
#define VIDLOOM_COORDINATOR_LIMITS_H

/* -- the job file ----------------------------------------------------------------------------- */
#define LIMIT_VIDEOS            100000        /* of a job, seeds multiplied out */
#define LIMIT_SECONDS           86400         /* of a video: a day */
#define LIMIT_FRAMES            (86400 * 240) /* of a video */
#define LIMIT_WINDOWS           4096          /* of a video: a mux lease names every segment */
#define LIMIT_PROMPT_BYTES      4096          /* prompt, motion, negative: each */
#define LIMIT_NAME_BYTES        128           /* job and video names */
#define LIMIT_PATH_BYTES        1024          /* output path, filled in; names of files */
#define LIMIT_SHOTS             1024          /* of a video */
#define LIMIT_STEPS             1000          /* of a sampler */
#define LIMIT_STEP_LIST         64            /* noise levels that a job lists */
#define LIMIT_GUIDANCE          100           /* guidance scale; shift too */
#define LIMIT_LORAS             8             /* of a model */
#define LIMIT_LORA_STRENGTH     10            /* either way */
#define LIMIT_REDRAWS           16            /* of one window */
#define LIMIT_FPS               240           /* frames a second */
#define LIMIT_FPS_DENOMINATOR   10000         /* of a fraction in lowest terms */
#define LIMIT_QUALITY           63            /* 0 best … 63 smallest */
#define LIMIT_SIDE              8192          /* pixels, whatever the model says */
#define LIMIT_PROMPT_FILE_BYTES (64u << 20)   /* a prompt list */
#define LIMIT_PROMPT_FILES      1024          /* prompt lists of a job */
#define LIMIT_PROMPT_LINE_BYTES (64u << 10)   /* a line of a text or JSON list; a CSV record */
#define LIMIT_CSV_COLUMNS       64            /* of a CSV prompt list */
#define LIMIT_JOB_BYTES         (UINT64_C(1) << 30) /* memory of one job, resolved */
#define LIMIT_DOCUMENT_BYTES    (256u << 20)        /* a resolved job as JSON text */

/* -- tasks ------------------------------------------------------------------------------------ */
/* A mux task's parameters, which carry every text of the video; below what a lease may carry
 * (PROTO_PARAMETERS_BYTES) by more than the names of seeds can add. */
#define LIMIT_PARAMETERS_BYTES (60u << 10)

#define LIMIT_OUTPUTS      2  /* artifacts a task yields: segment and frames */
#define LIMIT_OUTPUT_NAME  16 /* bytes of an artifact's name, NUL included */
#define LIMIT_CLASS_BYTES  64 /* device class, NUL included */
#define LIMIT_WORKER_BYTES 64 /* a worker's name, NUL included */
#define LIMIT_SUBMISSION   64 /* bytes of a client's idempotency key, NUL included */
#define LIMIT_SLOTS        64 /* leases a worker may hold at once */

/* -- the scheduler ---------------------------------------------------------------------------- */
#define LIMIT_WORKERS      16384   /* connected at once */
#define LIMIT_JOBS         100000  /* in memory at once */
#define LIMIT_ACTIVE_TASKS 2000000 /* materialised at once, over all active videos */

#endif

/* The format of stored jobs, which job_document_write.c and job_document_read.c agree on. */
#ifndef VIDLOOM_COORDINATOR_JOB_DOCUMENT_H
#define VIDLOOM_COORDINATOR_JOB_DOCUMENT_H

#include "coordinator/job.h"

/* 1 had no weights, lora, windows and limits, and another thing called noise: as if not given.
 * 2 had no guidance_low, sigmas, attention and end pictures: as if not given.
 * 3 had, at first, no model of text alone and no LoRA's expert, which workers then find by name.
 * 4 had, at first, no windows as short as their video. */
enum { JOB_DOCUMENT_FORMAT = 4 };

#endif

/* What a model folder lacks: for people who have downloaded a part of one. */
#ifndef VIDLOOM_WORKER_MODEL_MISSING_H
#define VIDLOOM_WORKER_MODEL_MISSING_H

#include "base/buffer.h"

/* Adds a line for each component, shard and file that the folder's stages need, or that a folder of
 * its kind has, and that is not there: "vae: no vae/…, …". Returns how many lines; 0 for a folder
 * that is whole, or so bare that its kind is not known. Reads configuration and headers. Any
 * thread. */
int missing_list(struct buffer *out, const char *folder);

#endif

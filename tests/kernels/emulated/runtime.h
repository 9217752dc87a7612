/* The emulated machine's one stream: what is queued is done at once or, while the stream is being
 * captured, kept for every launch of the graph. Read by C and C++. */
#ifndef VIDLOOM_TESTS_KERNELS_EMULATED_RUNTIME_H
#define VIDLOOM_TESTS_KERNELS_EMULATED_RUNTIME_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* run(context), whose `bytes` are copied: now, or as a part of the graph. */
void emulated_queue(void (*run)(void *context), const void *context, size_t bytes);
/* Of the current device: 90 for 9.0. */
int emulated_capability(void);
/* Bytes that copies from the host have been queued for on streams of copies. */
uint64_t emulated_copied(void);
/* How often a device has been made the current one: that takes memory of it. */
uint64_t emulated_selected(void);
/* Bytes that are free on the current device. */
uint64_t emulated_free(void);
/* Plans of cuDNN that were made. */
uint64_t emulated_plans(void);
/* Time passes, for events. */
void emulated_clock_add(float milliseconds);

#ifdef __cplusplus
}
#endif

#endif

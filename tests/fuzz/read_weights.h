/* Weight files: whatever the bytes, opening ends, and every tensor that is handed out can be read.
 */
#ifndef VIDLOOM_TESTS_FUZZ_READ_WEIGHTS_H
#define VIDLOOM_TESTS_FUZZ_READ_WEIGHTS_H

#include "worker/model/weights.h"

void read_weights(const void *bytes, size_t length);

#endif

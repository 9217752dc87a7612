/* Safetensors files. */
#include "tests/fuzz/read_weights.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    read_weights(bytes, length);
    return 0;
}

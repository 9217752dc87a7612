/* Weight files: whatever the bytes, opening ends, and every tensor that is handed out can be read.
 */
#include <string.h>

#include "worker/model/weights.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    struct weights *file;
    struct error error;
    if (weights_open_memory(&file, bytes, length, "fuzz", &error) != ERR_OK)
        return 0;
    volatile uint8_t sum = 0;
    for (size_t i = 0; i < weights_count(file); i++) {
        const struct tensor *tensor = weights_tensor(file, i);
        const uint8_t *data = tensor->data;
        size_t size = (size_t)tensor_elements(tensor) * dtype_bytes(tensor->dtype);
        if (weights_find(file, weights_name(file, i)) != tensor)
            __builtin_trap();
        for (size_t k = 0; k < size; k++)
            sum = (uint8_t)(sum + data[k]);
    }
    weights_close(&file);
    return 0;
}

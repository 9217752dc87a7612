#include "tests/fuzz/read_weights.h"

#include "worker/model/numbers.h"

#define VALUES 1024 /* of a tensor that are also widened */

void read_weights(const void *bytes, size_t length) {
    struct weights *weights;
    struct error error;
    if (weights_open_memory(&weights, bytes, length, "fuzz", &error) != ERR_OK)
        return;
    volatile uint8_t sum = 0;
    for (size_t i = 0; i < weights_count(weights); i++) {
        const struct tensor *tensor = weights_tensor(weights, i);
        const uint8_t *data = tensor->data;
        size_t size = tensor_bytes(tensor);
        int64_t elements = tensor_elements(tensor);
        float values[VALUES];
        if (weights_find(weights, weights_name(weights, i)) != tensor)
            __builtin_trap();
        /* Tensors may share bytes: reading all of each would take time that is not the reader's. */
        for (size_t k = 0; k < size; k += k < VALUES || k + VALUES > size ? 1 : 61)
            sum = (uint8_t)(sum + data[k]);
        if (size > 0)
            sum = (uint8_t)(sum + data[size - 1]);
        numbers_to_float(values, tensor, 0, elements < VALUES ? elements : VALUES);
    }
    weights_close(&weights);
}

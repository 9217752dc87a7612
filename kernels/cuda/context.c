/* What other libraries need to work in the card's memory beside the runtime. */
#include <cuda.h>

#include "kernels/cuda/backend.h"

typedef CUresult current_function(CUcontext *);

/* The driver is asked for its function by name, so that no library of it need be linked. */
void *cuda_context(struct device *device) {
    union {
        void *pointer;
        current_function *function;
    } current = {NULL};
    enum cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
    CUcontext context = NULL;
    if (!device_ready(device) ||
        cudaGetDriverEntryPointByVersion("cuCtxGetCurrent", &current.pointer, 12000,
                                         cudaEnableDefault, &found) != cudaSuccess ||
        found != cudaDriverEntryPointSuccess || current.function(&context) != CUDA_SUCCESS) {
        return NULL;
    }
    return context;
}

/* What kernels/cuda calls of CUDA's runtime and libraries, on host memory, at once; and the
 * conversions of kernels/cpu/float.h for the emulated machine. */
#include <cuda_runtime_api.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/float.h"
#include "kernels/cuda/backend.h"

float emulated_f16_to_float(uint16_t bits);
uint16_t emulated_f16_from_float(float x);
float emulated_bf16_to_float(uint16_t bits);
uint16_t emulated_bf16_from_float(float x);

float emulated_f16_to_float(uint16_t bits) {
    return f16_to_float(bits);
}
uint16_t emulated_f16_from_float(float x) {
    return f16_from_float(x);
}
float emulated_bf16_to_float(uint16_t bits) {
    return bf16_to_float(bits);
}
uint16_t emulated_bf16_from_float(float x) {
    return bf16_from_float(x);
}

cudaError_t cudaGetDeviceCount(int *count) {
    *count = 2;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int index) {
    return index >= 0 && index < 2 ? cudaSuccess : cudaErrorInvalidDevice;
}

/* Device 0 is of the kind of an A100, device 1 of an H100. */
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *out, int index) {
    *out = (struct cudaDeviceProp){.major = index == 0 ? 8 : 9,
                                   .minor = 0,
                                   .multiProcessorCount = 3,
                                   .totalGlobalMem = (size_t)1 << 30};
    strcpy(out->name, "emulated GPU");
    return cudaSuccess;
}

cudaError_t cudaGetLastError(void) {
    return cudaSuccess;
}

const char *cudaGetErrorString(cudaError_t code) {
    return code == cudaErrorMemoryAllocation ? "out of memory" : "error";
}

cudaError_t cudaMalloc(void **out, size_t bytes) {
    *out = bytes <= (size_t)1 << 30 ? aligned_alloc(256, (bytes + 255) / 256 * 256) : NULL;
    if (*out == NULL) {
        return cudaErrorMemoryAllocation;
    }
    memset(*out, 0xff, bytes < 1 << 20 ? bytes : 1 << 20);
    return cudaSuccess;
}

cudaError_t cudaFree(void *pointer) {
    free(pointer);
    return cudaSuccess;
}

cudaError_t cudaMallocHost(void **out, size_t bytes) {
    return cudaMalloc(out, bytes);
}

cudaError_t cudaFreeHost(void *pointer) {
    return cudaFree(pointer);
}

cudaError_t cudaMemcpyAsync(void *out, const void *in, size_t bytes, enum cudaMemcpyKind kind,
                            cudaStream_t stream) {
    (void)kind, (void)stream;
    memcpy(out, in, bytes);
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *out, int value, size_t bytes, cudaStream_t stream) {
    (void)stream;
    memset(out, value, bytes);
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned flags) {
    static char stream;
    (void)flags;
    *out = (cudaStream_t)(void *)&stream;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    (void)stream;
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    (void)stream;
    return cudaSuccess;
}

/* -- the libraries: cuBLASLt by plain loops, with its way out; cuDNN has a plan for nothing
 * -------- */

enum error_code matmul_open(struct device *device, struct error *error) {
    (void)device, (void)error;
    return ERR_OK;
}

void matmul_close(struct device *device) {
    (void)device;
}

size_t matmul_version(void) {
    return 0;
}

/* As the library's: odd depths have no kernel, so that what is left over is tested as well. */
bool matmul_run(struct device *device, void *out, enum dtype out_dtype, const void *in,
                const struct linear *linear, int64_t rows, bool bias, bool gelu) {
    (void)device;
    if (linear->inputs % 2 != 0) {
        return false;
    }
    for (int64_t m = 0; m < rows; m++) {
        for (int64_t n = 0; n < linear->outputs; n++) {
            double sum = 0;
            for (int64_t k = 0; k < linear->inputs; k++) {
                sum += (double)float_load(in, DTYPE_BF16, m * linear->inputs + k) *
                       (double)float_load(linear->weight, DTYPE_BF16, n * linear->inputs + k);
            }
            if (bias) {
                sum += out_dtype == DTYPE_F32
                           ? (double)linear->bias[n]
                           : (double)float_load(linear->bias_narrow, DTYPE_BF16, n);
            }
            if (gelu) {
                sum =
                    0.5 * sum * (1 + tanh(0.7978845608028654 * (sum + 0.044715 * sum * sum * sum)));
            }
            float_store(out, out_dtype, m * linear->outputs + n, (float)sum);
        }
    }
    return true;
}

/* emulated_map of machine.cuh. */
struct map {
    const uint8_t *data;
    int head_dim, heads, rows;
    int64_t length, stride;
};

bool tensor_map(struct CUtensorMap_st *out, const void *data, enum dtype dtype, int head_dim,
                int heads, int64_t length, int64_t stride, int rows) {
    const struct map map = {data, head_dim, heads, rows, length, stride};
    (void)dtype;
    if ((uintptr_t)data % 16 != 0 || stride % 8 != 0 || rows > 256) {
        return false;
    }
    memcpy(out, &map, sizeof map);
    return true;
}

enum error_code convolve_open(struct device *device, struct error *error) {
    (void)device, (void)error;
    return ERR_OK;
}

void convolve_close(struct device *device) {
    (void)device;
}

size_t convolve_version(void) {
    return 0;
}

/* One input, as cuDNN takes it; odd numbers of channels have no plan. */
bool convolve_run(struct device *device, const struct conv *conv, const struct conv_args *args) {
    return conv->shape.in_channels % 2 == 0 && args->history == NULL &&
           device_noted(device, product_conv(device, conv, args), "conv");
}

void convolve_forget(struct device *device, const struct conv *conv) {
    (void)device, (void)conv;
}

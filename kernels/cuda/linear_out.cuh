/* The way out of a linear layer: what its epilogue makes of a sum, and where it goes. */
#ifndef VIDLOOM_KERNELS_CUDA_LINEAR_OUT_H
#define VIDLOOM_KERNELS_CUDA_LINEAR_OUT_H

#include "kernels/cuda/backend.h"
#include "kernels/cuda/math.cuh"

template <typename Out> struct linear_out {
    Out *out;
    const float *bias, *gate;
    const uint8_t *group;
    int64_t outputs;
    enum activation activation;
    bool accumulate;

    __device__ __forceinline__ float finished(int64_t m, int64_t n, float sum) const {
        float y = activation_of(sum + bias[n], activation);
        if (gate != NULL) {
            y *= gate[(group != NULL ? group[m] : 0) * outputs + n];
        }
        return accumulate ? to_float(out[m * outputs + n]) + y : y;
    }
    __device__ __forceinline__ void operator()(int64_t m, int64_t n, float sum) const {
        from_float(&out[m * outputs + n], finished(m, n, sum));
    }
    /* Columns n and n+1, in one access; outputs and n are even. */
    __device__ __forceinline__ void pair(int64_t m, int64_t n, float sum0, float sum1) const {
        const float y[2] = {finished(m, n, sum0), finished(m, n + 1, sum1)};
        store_vector<Out, 2>(out + m * outputs + n, y);
    }
};

template <typename Out>
static inline struct linear_out<Out> way_out(void *out, const struct linear *linear,
                                             const struct linear_epilogue *epilogue) {
    return {(Out *)out,      linear->bias,         epilogue->gate,      epilogue->group,
            linear->outputs, epilogue->activation, epilogue->accumulate};
}

#endif

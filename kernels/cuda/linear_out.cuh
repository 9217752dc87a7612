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
    /* Columns n to n+V-1, in one access of each array: outputs and n are multiples of V, and so
     * are the arrays' addresses (takes_vectors). */
    template <int V>
    __device__ __forceinline__ void several(int64_t m, int64_t n, const float sum[V]) const {
        Out *const at = out + m * outputs + n;
        float y[V], of[V];
        load_vector<float, V>(of, bias + n);
#pragma unroll
        for (int i = 0; i < V; i++) {
            y[i] = sum[i] + of[i];
        }
        if (activation != ACTIVATION_NONE) {
#pragma unroll
            for (int i = 0; i < V; i++) {
                y[i] = activation_of(y[i], activation);
            }
        }
        if (gate != NULL) {
            load_vector<float, V>(of, gate + (group != NULL ? group[m] : 0) * outputs + n);
#pragma unroll
            for (int i = 0; i < V; i++) {
                y[i] *= of[i];
            }
        }
        if (accumulate) {
            load_vector<Out, V>(of, at);
#pragma unroll
            for (int i = 0; i < V; i++) {
                y[i] += of[i];
            }
        }
        store_packed<Out, V>(at, y);
    }
    template <int V> bool takes_vectors(void) const {
        return outputs % V == 0 && vectors_at<V>(out) && vectors_at<V>(bias) && vectors_at<V>(gate);
    }
};

/* By a warp: sums of `rows` rows and `columns` columns in shared memory at `from`, `stride` floats
 * a row, out as rows from m0 and columns from n0 on, those that are there. Rows are written along
 * their length, each array in accesses of V elements. */
template <int rows, int columns, int V, typename Out>
static __device__ __forceinline__ void rows_out(const linear_out<Out> &out, const float *from,
                                                int stride, int64_t m0, int64_t n0, int64_t m_end) {
    const int vectors = columns / V, lane = (int)threadIdx.x % WARP;
#pragma unroll 2
    for (int i = lane; i < rows * vectors; i += WARP) {
        const int row = i / vectors, column = i % vectors * V;
        if (m0 + row < m_end && n0 + column < out.outputs) {
            float sum[V];
            load_vector<float, V>(sum, from + row * stride + column);
            out.template several<V>(m0 + row, n0 + column, sum);
        }
    }
}

template <typename Out>
static inline struct linear_out<Out> way_out(void *out, const struct linear *linear,
                                             const struct linear_epilogue *epilogue) {
    return {(Out *)out,      linear->bias,         epilogue->gate,      epilogue->group,
            linear->outputs, epilogue->activation, epilogue->accumulate};
}

#endif

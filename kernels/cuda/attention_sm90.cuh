/* What the kernels of attention for Hopper share: a block of one warpgroup that produces and two
 * that consume (attention_sm90.cu has the method), and the phases between them. */
#ifndef VIDLOOM_KERNELS_CUDA_ATTENTION_SM90_H
#define VIDLOOM_KERNELS_CUDA_ATTENTION_SM90_H

#include <assert.h>

#include "kernels/cuda/attention.cuh"
#include <wgmma.cuh>

#define GROUP     128 /* threads of a warpgroup */
#define CONSUMERS 2
#define THREADS   (GROUP * (1 + CONSUMERS))
#define ROWS      (64 * CONSUMERS) /* queries of a block */

/* Barriers of the block: 0 is barrier(). */
enum { TURN_OF_FIRST = 1, TURN_OF_SECOND };

/* 168 registers a thread at launch (65536/384); the producer gives most of its away. */
#define PRODUCER_REGISTERS 24
#define CONSUMER_REGISTERS 240
static_assert(GROUP * (PRODUCER_REGISTERS + CONSUMERS * CONSUMER_REGISTERS) <= 65536, "registers");

/* Phases in shared memory, behind the tiles: `stages` of each but q. And room for settle. */
struct phases {
    uint32_t q, k_full, v_full, k_empty, v_empty, unread;
};

template <int stages> static __device__ __forceinline__ struct phases phases_at(uint32_t at) {
    return {at,
            at + 8,
            at + 8 + 8 * stages,
            at + 8 + 16 * stages,
            at + 8 + 24 * stages,
            at + 8 + 32 * stages};
}

/* By one thread, before a barrier of the block. */
template <int stages> static __device__ __forceinline__ void phases_init(struct phases phases) {
    phase_init(phases.q, 1);
    for (int stage = 0; stage < stages; stage++) {
        phase_init(phases.k_full + 8 * stage, 1);
        phase_init(phases.v_full + 8 * stage, 1);
        phase_init(phases.k_empty + 8 * stage, CONSUMERS * GROUP / WARP);
        phase_init(phases.v_empty + 8 * stage, CONSUMERS * GROUP / WARP);
    }
    phase_init_done();
}

/* Parity of the phase of the i-th tile's stage. */
template <int stages> static __device__ __forceinline__ uint32_t parity_of(int i) {
    return (uint32_t)(i / stages & 1);
}

#endif

/* The product of linear layers in int8 (kernels/cpu/int8.h has the formula), for compute capability
 * 8.0 and newer, on tensor cores, mma.sync. Sums within a block of columns are exact and blocks are
 * added in their order by fused multiply-adds, so that the results are plain C's to the bit.
 *
 * A block of threads does TILE x TILE outputs, a warp 64x32 of them. Rows and weights pass
 * through STAGES stages of shared memory by cp.async. FLOPs: 2·M·N·K. Bytes of the L2 cache: K·(M·N
 * / TILE) each for rows and weights. Speed: not yet measured on a card without int8_sm90.cu. */
#include <assert.h>

#include "kernels/cuda/int8.cuh"

#define TILE    128
#define STAGES  3
#define WARPS_M 2
#define WARPS_N 4
#define THREADS (WARPS_M * WARPS_N * WARP)
#define ROWS    (TILE / WARPS_M / 16) /* fragments of a warp: of 16 rows, of 8 columns */
#define COLUMNS (TILE / WARPS_N / 8)

static const int stage_bytes = 2 * TILE * STEP_BYTES;
static_assert(STAGES * stage_bytes <= 99 * 1024, "shared memory of the smaller cards");

/* A warp's results on their way out, in place of the stages. Eight more a row: the four rows that
 * half a warp writes at once fall into different banks. */
#define OUT_STRIDE (COLUMNS * 8 + 8)
static_assert(WARPS_M * WARPS_N * ROWS * 16 * OUT_STRIDE * 4 <= STAGES * stage_bytes,
              "the results' room");

static_assert(TILE * STEP_BYTES / 16 % THREADS == 0, "every thread copies as much");

static __device__ __forceinline__ uint32_t place(int row, int chunk) {
    return (uint32_t)(row * STEP_BYTES + ((chunk ^ (row % 8)) * 16));
}

/* Depth `step` of TILE rows from row `first` on; zeros outside. */
static __device__ __forceinline__ void load_tile(uint32_t shared, const int8_t *matrix,
                                                 int64_t first, int64_t rows, int64_t inputs,
                                                 int step) {
    const int chunks = STEP_BYTES / 16;
#pragma unroll
    for (int i = 0; i < TILE * chunks / THREADS; i++) {
        int at = i * THREADS + (int)threadIdx.x, row = at / chunks, chunk = at % chunks;
        int64_t k = (int64_t)step * STEP_BYTES + chunk * 16;
        bool there = first + row < rows && k < inputs;
        copy_async_16(shared + place(row, chunk), matrix + (there ? (first + row) * inputs + k : 0),
                      there);
    }
}

template <typename Out>
static __global__ void __launch_bounds__(THREADS, 1)
    int8_sm80_kernel(struct int8_product p, linear_out<Out> out) {
    SHARED_MEMORY(memory);
    const int lane = (int)threadIdx.x % WARP, warp = (int)threadIdx.x / WARP;
    const int warp_m = warp / WARPS_N * ROWS * 16, warp_n = warp % WARPS_N * COLUMNS * 8;
    const struct tile_place tile = tile_of_block();
    const int64_t m0 = (int64_t)tile.row * TILE, n0 = (int64_t)tile.column * TILE;
    const uint32_t base = shared_address(memory);
    auto load = [&](int step) {
        if (step < p.steps) {
            uint32_t at = base + (uint32_t)(step % STAGES * stage_bytes);
            load_tile(at, p.in, m0, p.rows, p.inputs, step);
            load_tile(at + TILE * STEP_BYTES, p.weight, n0, p.outputs, p.inputs, step);
        }
        copy_async_commit(); /* an empty group too: they are counted */
    };
#pragma unroll
    for (int i = 0; i < STAGES - 1; i++) {
        load(i);
    }
    /* Where this lane's rows begin; chunk c of a row is at an exclusive or with 16c. */
    const uint32_t in_lane = place(warp_m + lane % 16, lane / 16);
    const uint32_t weight_lane =
        TILE * STEP_BYTES + place(warp_n + lane / 16 * 8 + lane % 8, lane / 8 % 2);
    int sum[ROWS][COLUMNS][4] = {};
    float total[ROWS][COLUMNS][4] = {};
    for (int step = 0; step < p.steps; step++) {
        copy_async_wait<STAGES - 2>();
        barrier(); /* this stage is there for all; the one before has been used by all */
        load(step + STAGES - 1);
        const uint32_t stage = base + (uint32_t)(step % STAGES * stage_bytes);
        const uint32_t in = stage + in_lane, weight = stage + weight_lane;
#pragma unroll
        for (int k = 0; k < STEP_BYTES / 32; k++) {
            uint32_t a[ROWS][4], b[COLUMNS][2];
#pragma unroll
            for (int m = 0; m < ROWS; m++) {
                load_matrix_x4(a[m], (in ^ k * 32) + m * 16 * STEP_BYTES);
            }
#pragma unroll
            for (int n = 0; n < COLUMNS; n += 2) {
                uint32_t both[4];
                load_matrix_x4(both, (weight ^ k * 32) + n * 8 * STEP_BYTES);
                b[n][0] = both[0];
                b[n][1] = both[1];
                b[n + 1][0] = both[2];
                b[n + 1][1] = both[3];
            }
#pragma unroll
            for (int m = 0; m < ROWS; m++) {
#pragma unroll
                for (int n = 0; n < COLUMNS; n++) {
                    multiply_16x8x32(sum[m][n], a[m], b[n][0], b[n][1]);
                }
            }
        }
        if ((step + 1) % p.block_steps != 0 && step + 1 < p.steps) {
            continue;
        }
        /* The end of a block of scales. */
        const int block = step / p.block_steps;
        float column[COLUMNS][2];
        int64_t at_column = n0 + warp_n + lane % 4 * 2;
#pragma unroll
        for (int n = 0; n < COLUMNS; n++) {
            column[n][0] = column[n][1] = 0;
            if (at_column + n * 8 < p.outputs) { /* even, and so are the outputs */
                load_vector<float, 2>(column[n],
                                      p.weight_scale + block * p.outputs + at_column + n * 8);
            }
        }
#pragma unroll
        for (int m = 0; m < ROWS; m++) {
#pragma unroll
            for (int half = 0; half < 2; half++) {
                int64_t at = m0 + warp_m + m * 16 + half * 8 + lane / 4;
                float row = at < p.rows ? p.in_scale[at * p.blocks + block] : 0;
#pragma unroll
                for (int n = 0; n < COLUMNS; n++) {
#pragma unroll
                    for (int i = 2 * half; i < 2 * half + 2; i++) {
                        total[m][n][i] =
                            fmaf((float)sum[m][n][i], row * column[n][i % 2], total[m][n][i]);
                        sum[m][n][i] = 0;
                    }
                }
            }
        }
    }
    barrier(); /* the stages have been used by all */
    float *const mine = (float *)memory + warp * ROWS * 16 * OUT_STRIDE;
#pragma unroll
    for (int m = 0; m < ROWS; m++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
#pragma unroll
            for (int n = 0; n < COLUMNS; n++) {
                store_vector<float, 2>(mine + (m * 16 + half * 8 + lane / 4) * OUT_STRIDE +
                                           lane % 4 * 2 + n * 8,
                                       &total[m][n][2 * half]);
            }
        }
    }
    int8_rows_out<ROWS * 16, COLUMNS * 8>(p, out, mine, OUT_STRIDE, m0 + warp_m, n0 + warp_n);
}

extern "C" int int8_sm80(struct device *device, void *out, const int8_t *in, const float *in_scale,
                         const struct linear *linear, int64_t first, int64_t rows,
                         const struct linear_epilogue *epilogue) {
    dim3 grid((unsigned)blocks_of(rows, TILE), (unsigned)blocks_of(linear->outputs, TILE));
    return with_type(epilogue->out_dtype, [&](auto type) {
        using Out = decltype(type);
        const struct linear_out<Out> end = way_out<Out>(out, linear, epilogue);
        const struct int8_product product = product_of(linear, in, in_scale, first, rows, end);
        cudaError_t code = allow_shared(int8_sm80_kernel<Out>, STAGES * stage_bytes);
        return code != cudaSuccess ? code
                                   : launch(int8_sm80_kernel<Out>, grid, THREADS,
                                            STAGES * stage_bytes, device->stream, product, end);
    });
}

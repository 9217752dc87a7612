/* The product of int8.cu for Hopper (sm_90a), with the same bits: wgmma on tiles that the copy
 * engine brings.
 *
 * A block does ROWS x COLUMNS outputs of a layer (int8.cuh has which). One warpgroup
 * produces: a thread of it keeps STAGES tiles of depth on their way. Two consume, 64 rows each:
 * sums of a block of scales in i32, and the results in f32. While one adds a block to its results,
 * the other's products have the tensor cores.
 *
 * Bytes of the L2 cache: a tile of depth brings 128·(ROWS+COLUMNS) for 2·128·ROWS·COLUMNS FLOPs.
 * Speed: 565 TOP/s of an H100 at 14B's shapes, 423 at 1.3B's (ops/gpu/RESULTS.md). */
#include <assert.h>

#include "kernels/cuda/int8.cuh"
#include <wgmma.cuh>

#define GROUP     128 /* threads of a warpgroup */
#define CONSUMERS 2
#define THREADS   (GROUP * (1 + CONSUMERS))
#define ROWS      (64 * CONSUMERS)
#define COLUMNS   192 /* 96 sums and 96 results a thread */
#define STAGES    4

#define PRODUCER_REGISTERS 24
#define CONSUMER_REGISTERS 240
static_assert(GROUP * (PRODUCER_REGISTERS + CONSUMERS * CONSUMER_REGISTERS) <= 65536, "registers");

static const int in_bytes = ROWS * STEP_BYTES, weight_bytes = COLUMNS * STEP_BYTES;
static const int stage_bytes = in_bytes + weight_bytes;
static const int shared_bytes = STAGES * stage_bytes + 1024; /* and the phases */
static_assert(shared_bytes <= 227 * 1024, "shared memory of a block");

/* The results on their way out, in place of the stages. Eight more a row: the four rows that
 * half a warp writes at once fall into different banks. */
#define OUT_STRIDE (COLUMNS + 8)
static_assert(ROWS * OUT_STRIDE * 4 <= STAGES * (in_bytes + weight_bytes), "the results' room");
enum { END_OF_PRODUCTS = 1 }; /* a barrier of the consumers */

static_assert(in_bytes % 1024 == 0 && weight_bytes % 1024 == 0, "swizzled tiles are aligned");

static __device__ __forceinline__ uint32_t full(uint32_t phases, int stage) {
    return phases + 8 * stage;
}
static __device__ __forceinline__ uint32_t empty(uint32_t phases, int stage) {
    return phases + 8 * (STAGES + stage);
}

static __device__ void produce(const CUtensorMap *in, const CUtensorMap *weight,
                               struct tile_place tile, uint32_t base, uint32_t phases, int steps) {
    const int row = (int)tile.row * ROWS, column = (int)tile.column * COLUMNS;
    for (int step = 0; step < steps; step++) {
        const int stage = step % STAGES;
        const uint32_t at = base + stage * stage_bytes;
        phase_wait(empty(phases, stage), (uint32_t)(step / STAGES & 1) ^ 1);
        phase_announce(full(phases, stage), stage_bytes);
        copy_tensor(at, in, step * STEP_BYTES, 0, row, full(phases, stage));
        copy_tensor(at + in_bytes, weight, step * STEP_BYTES, 0, column, full(phases, stage));
    }
}

/* total += sum · row scale · column scale. */
static __device__ __forceinline__ void add_block(float total[][4], const int sum[][4],
                                                 const struct int8_product &p, int block,
                                                 int64_t row, int64_t column) {
    float scale[2];
#pragma unroll
    for (int half = 0; half < 2; half++) {
        int64_t at = row + 8 * half;
        scale[half] = at < p.rows ? p.in_scale[at * p.blocks + block] : 0;
    }
    const float *columns = p.weight_scale + block * p.outputs + column;
    /* How many columns are left; anew for each block, or every comparison with it is kept over the
     * products, in registers that they need. */
    int left = (int)(p.outputs - column);
    registers_pin<1>(&left);
#pragma unroll
    for (int n = 0; n < COLUMNS / 8; n++) {
        float of_column[2] = {0, 0};
        if (n * 8 < left) {
            load_vector<float, 2>(of_column, columns + n * 8);
        }
#pragma unroll
        for (int i = 0; i < 4; i++) {
            total[n][i] = fmaf((float)sum[n][i], scale[i / 2] * of_column[i % 2], total[n][i]);
        }
    }
}

template <typename Out>
static __device__ __forceinline__ void consume(const struct int8_product &p,
                                               const linear_out<Out> &out, struct tile_place tile,
                                               float *memory, uint32_t phases) {
    const uint32_t base = shared_address(memory);
    const int consumer = (int)threadIdx.x / GROUP - 1, lane = (int)threadIdx.x % WARP;
    const int warp = (int)threadIdx.x % GROUP / WARP;
    const int64_t row = (int64_t)tile.row * ROWS + consumer * 64 + warp * 16 + lane / 4;
    const int64_t column = (int64_t)tile.column * COLUMNS + lane % 4 * 2;
    int sum[COLUMNS / 8][4];
    float total[COLUMNS / 8][4];
#pragma unroll
    for (int n = 0; n < COLUMNS / 8; n++) {
        total[n][0] = total[n][1] = total[n][2] = total[n][3] = 0;
    }
    int step = 0;
#pragma unroll 1
    for (int block = 0; block < p.blocks; block++) {
        const int begin = step;
        const int end = step + p.block_steps < p.steps ? step + p.block_steps : p.steps;
#pragma unroll 1
        for (; step < end; step++) {
            const int stage = step % STAGES;
            const uint32_t in = base + stage * stage_bytes + consumer * 64 * STEP_BYTES;
            const uint32_t weight = base + stage * stage_bytes + in_bytes;
            phase_wait(full(phases, stage), (uint32_t)(step / STAGES & 1));
            multiply_begin();
#pragma unroll
            for (int k = 0; k < STEP_BYTES / 32; k++) {
                multiply_64_shared(columns<COLUMNS>{}, i8{}, &sum[0][0], matrix_at(in + k * 32, 16),
                                   matrix_at(weight + k * 32, 16), step > begin || k > 0);
            }
            multiply_commit();
            multiply_wait<0>();
            if (lane == 0) {
                phase_arrive(empty(phases, stage));
            }
        }
        registers_pin<COLUMNS / 2>(&sum[0][0]);
        add_block(total, sum, p, block, row, column);
    }
    named_wait(END_OF_PRODUCTS, CONSUMERS * GROUP); /* the stages have been used by all */
    float *const mine = memory + (consumer * 64 + warp * 16) * OUT_STRIDE;
#pragma unroll
    for (int half = 0; half < 2; half++) {
#pragma unroll
        for (int n = 0; n < COLUMNS / 8; n++) {
            store_vector<float, 2>(mine + (lane / 4 + 8 * half) * OUT_STRIDE + lane % 4 * 2 + n * 8,
                                   &total[n][2 * half]);
        }
    }
    int8_rows_out<16, COLUMNS>(p, out, mine, OUT_STRIDE, row - lane / 4,
                               (int64_t)tile.column * COLUMNS);
}

template <typename Out>
static __global__ void __launch_bounds__(THREADS, 1)
    int8_sm90_kernel(const struct int8_product p, const linear_out<Out> out,
                     const __grid_constant__ CUtensorMap in,
                     const __grid_constant__ CUtensorMap weight) {
    SHARED_MEMORY(memory);
    const uint32_t base = shared_address(memory), phases = base + STAGES * stage_bytes;
    const struct tile_place tile = tile_of_block();
    if (threadIdx.x == 0) {
        for (int stage = 0; stage < STAGES; stage++) {
            phase_init(full(phases, stage), 1);
            phase_init(empty(phases, stage), CONSUMERS * GROUP / WARP);
        }
        phase_init_done();
    }
    barrier();
    if (threadIdx.x < GROUP) {
        registers_lower<PRODUCER_REGISTERS>();
        if (threadIdx.x == 0) {
            produce(&in, &weight, tile, base, phases, p.steps);
        }
    } else {
        registers_raise<CONSUMER_REGISTERS>();
        consume<Out>(p, out, tile, (float *)memory, phases);
    }
}

extern "C" bool int8_sm90(struct device *device, void *out, const int8_t *in, const float *in_scale,
                          const struct linear *linear, int64_t first, int64_t rows,
                          const struct linear_epilogue *epilogue) {
    CUtensorMap in_map, weight_map;
    if (device->capability != 90 ||
        !tensor_map(&in_map, in, DTYPE_I8, (int)linear->inputs, 1, rows, linear->inputs, ROWS) ||
        !tensor_map(&weight_map, linear->weight, DTYPE_I8, (int)linear->inputs, 1, linear->outputs,
                    linear->inputs, COLUMNS)) {
        return false;
    }
    dim3 grid((unsigned)blocks_of(rows, ROWS), (unsigned)blocks_of(linear->outputs, COLUMNS));
    cudaError_t code = with_type(epilogue->out_dtype, [&](auto type) {
        using Out = decltype(type);
        const struct linear_out<Out> end = way_out<Out>(out, linear, epilogue);
        const struct int8_product product = product_of(linear, in, in_scale, first, rows, end);
        cudaError_t allowed = allow_shared(int8_sm90_kernel<Out>, shared_bytes);
        return allowed != cudaSuccess ? allowed
                                      : launch(int8_sm90_kernel<Out>, grid, THREADS, shared_bytes,
                                               device->stream, product, end, in_map, weight_map);
    });
    device_noted(device, code, "linear in int8");
    return true;
}

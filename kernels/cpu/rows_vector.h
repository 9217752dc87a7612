/* The row functions, vectorised: included once by each instruction set's file. The plain files
 * define what they compute; statistics are f32 here, in LANES partial sums. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/vector.h"

/* Lanes of the next vector of a row with `left` elements to go. */
static inline int64_t lanes(int64_t left) {
    return left < LANES ? left : LANES;
}

static void layer_norm_rows(const void *args_pointer, int64_t begin, int64_t end) {
    const struct layer_norm_args *args = args_pointer;
    int64_t width = args->width;
    for (int64_t r = begin; r < end; r++) {
        const float *x = args->x + r * width;
        vf sums = vf_zero(), squares = vf_zero();
        for (int64_t i = 0; i < width; i += LANES) {
            int64_t n = lanes(width - i);
            sums = sums + vf_read(x, DTYPE_F32, i, n);
        }
        vf mean = vf_set(vf_sum(sums) / (float)width);
        for (int64_t i = 0; i < width; i += LANES) {
            int64_t n = lanes(width - i);
            vf d = vf_read(x, DTYPE_F32, i, n) - mean;
            d = n < LANES ? vf_keep(d, n) : d;
            squares = vf_madd(d, d, squares);
        }
        vf scale = vf_set(1 / __builtin_sqrtf(vf_sum(squares) / (float)width + args->eps));
        int64_t offset = args->group != NULL ? args->group[r] * width : 0;
        for (int64_t i = 0; i < width; i += LANES) {
            int64_t n = lanes(width - i);
            vf y = (vf_read(x, DTYPE_F32, i, n) - mean) * scale;
            if (args->mul != NULL) {
                y = y * vf_read(args->mul, DTYPE_F32, offset + i, n);
            }
            if (args->add != NULL) {
                y = y + vf_read(args->add, DTYPE_F32, offset + i, n);
            }
            vf_write(args->out, args->dtype, r * width + i, n, y);
        }
    }
}

static inline __attribute__((always_inline)) vf sum_squares(const void *x, enum dtype dtype,
                                                            int64_t at, int64_t width) {
    vf squares = vf_zero();
    for (int64_t i = 0; i < width; i += LANES) {
        int64_t n = lanes(width - i);
        vf y = vf_read(x, dtype, at + i, n);
        squares = vf_madd(y, y, squares);
    }
    return squares;
}

static void rms_norm_rows(const void *args_pointer, int64_t begin, int64_t end) {
    const struct rms_norm_args *args = args_pointer;
    int64_t width = args->width;
    for (int64_t r = begin; r < end; r++) {
        float mean = vf_sum(sum_squares(args->x, DTYPE_F32, r * width, width)) / (float)width;
        vf scale = vf_set(1 / __builtin_sqrtf(mean + args->eps));
        for (int64_t i = 0; i < width; i += LANES) {
            int64_t n = lanes(width - i);
            vf y = vf_read(args->x, DTYPE_F32, r * width + i, n) * scale;
            vf_write(args->out, args->dtype, r * width + i, n,
                     y * vf_read(args->weight, DTYPE_F32, i, n));
        }
    }
}

/* Each angle twice: c0 c0 c1 c1 … for the pairs of one vector. */
static inline vf spread_angles(const float *angles, int64_t n) {
    float out[LANES];
    for (int64_t i = 0; i < LANES; i++) {
        out[i] = i < n ? angles[i / 2] : 0;
    }
    return vf_load(out);
}

static inline __attribute__((always_inline)) void
qk_norm_rope_dtype(const struct qk_norm_rope_args *args, enum dtype dtype, int64_t begin,
                   int64_t end) {
    int64_t width = (int64_t)args->heads * args->head_dim, half = args->head_dim / 2;
    for (int64_t r = begin; r < end; r++) {
        int64_t row = r * args->stride;
        float mean = vf_sum(sum_squares(args->x, dtype, row, width)) / (float)width;
        vf scale = vf_set(1 / __builtin_sqrtf(mean + args->eps));
        for (int64_t head = 0; head < args->heads; head++) {
            int64_t at = head * args->head_dim;
            for (int64_t i = 0; i < args->head_dim; i += LANES) {
                int64_t n = lanes(args->head_dim - i);
                vf y = vf_read(args->x, dtype, row + at + i, n) * scale;
                y = y * vf_read(args->weight, DTYPE_F32, at + i, n);
                if (args->cosine != NULL) {
                    vf c = spread_angles(args->cosine + r * half + i / 2, n);
                    vf s = spread_angles(args->sine + r * half + i / 2, n);
                    y = vf_add_subtract(y, c, vf_swap_pairs(y) * s);
                }
                vf_write(args->x, dtype, row + at + i, n, y);
            }
        }
    }
}

static void qk_norm_rope_rows(const void *args_pointer, int64_t begin, int64_t end) {
    const struct qk_norm_rope_args *args = args_pointer;
    if (args->dtype == DTYPE_BF16) {
        qk_norm_rope_dtype(args, DTYPE_BF16, begin, end);
    } else {
        qk_norm_rope_dtype(args, DTYPE_F32, begin, end);
    }
}

static inline __attribute__((always_inline)) void
channel_norm_dtype(const struct channel_norm_args *args, enum dtype dtype,
                   enum activation activation, int64_t begin, int64_t end) {
    int64_t channels = args->channels;
    float root = __builtin_sqrtf((float)channels);
    for (int64_t r = begin; r < end; r++) {
        int64_t at = r * channels;
        float norm = __builtin_sqrtf(vf_sum(sum_squares(args->x, dtype, at, channels)));
        vf scale = vf_set(root / (norm > 1e-12f ? norm : 1e-12f));
        for (int64_t i = 0; i < channels; i += LANES) {
            int64_t n = lanes(channels - i);
            vf y = vf_read(args->x, dtype, at + i, n) * scale;
            y = y * vf_read(args->gamma, DTYPE_F32, i, n);
            y = dtype == DTYPE_BF16 ? vf_activate_rough(y, activation) : vf_activate(y, activation);
            vf_write(args->out, dtype, at + i, n, y);
        }
    }
}

static void channel_norm_rows(const void *args_pointer, int64_t begin, int64_t end) {
    const struct channel_norm_args *args = args_pointer;
    if (args->dtype == DTYPE_BF16 && args->activation == ACTIVATION_SILU) {
        channel_norm_dtype(args, DTYPE_BF16, ACTIVATION_SILU, begin, end);
    } else {
        channel_norm_dtype(args, args->dtype, args->activation, begin, end);
    }
}

static void activate_rows(const void *args_pointer, int64_t begin, int64_t end) {
    const struct activate_args *args = args_pointer;
    for (int64_t i = 0; i < end - begin; i += LANES) {
        int64_t n = lanes(end - begin - i);
        vf x = vf_read(args->x, DTYPE_F32, begin + i, n);
        vf_write(args->out, DTYPE_F32, begin + i, n, vf_activate(x, args->activation));
    }
}

static void gelu_gate_rows(const void *args_pointer, int64_t begin, int64_t end) {
    const struct gelu_gate_args *args = args_pointer;
    for (int64_t r = begin; r < end; r++) {
        for (int64_t i = 0; i < args->width; i += LANES) {
            int64_t n = lanes(args->width - i);
            vf gate = vf_read(args->x, args->dtype, 2 * r * args->width + i, n);
            vf x = vf_read(args->x, args->dtype, (2 * r + 1) * args->width + i, n);
            gate = args->dtype == DTYPE_BF16 ? vf_gelu_tanh_rough(gate) : vf_gelu_tanh(gate);
            vf_write(args->out, args->dtype, r * args->width + i, n, gate * x);
        }
    }
}

static void modulation_rows(const void *args_pointer, int64_t begin, int64_t end) {
    const struct modulation_args *args = args_pointer;
    for (int64_t r = begin; r < end; r++) {
        int64_t group = r / args->chunks, chunk = r % args->chunks;
        const float *table = args->table + chunk * args->width;
        int64_t e_row = group * args->e_chunks + (args->e_chunks == 1 ? 0 : chunk);
        const float *e = args->e + e_row * args->width;
        vf one = vf_set(args->scale_mask >> chunk & 1 ? 1 : 0);
        for (int64_t i = 0; i < args->width; i += LANES) {
            int64_t n = lanes(args->width - i);
            vf y = vf_read(table, DTYPE_F32, i, n) + vf_read(e, DTYPE_F32, i, n) + one;
            vf_write(args->out, DTYPE_F32, r * args->width + i, n, y);
        }
    }
}

static void convert_rows(const void *args_pointer, int64_t begin, int64_t end) {
    const struct convert_args *args = args_pointer;
    int64_t whole = begin + (end - begin) / LANES * LANES;
    if (args->dtype == DTYPE_F64 || args->dtype == DTYPE_F8_E5M2 || args->out_dtype == DTYPE_F16) {
        whole = begin;
    }
    for (int64_t i = begin; i < whole; i += LANES) {
        vf_write(args->out, args->out_dtype, i, LANES, vf_load_weights(args->x, args->dtype, i));
    }
    convert_plain(args_pointer, whole, end);
}

static void combine_rows(const void *args_pointer, int64_t begin, int64_t end) {
    const struct combine_args *args = args_pointer;
    for (int64_t i = 0; i < end - begin; i += LANES) {
        int64_t n = lanes(end - begin - i);
        vf sum = vf_set(args->coefficient[0]) * vf_read(args->x[0], DTYPE_F32, begin + i, n);
        for (int term = 1; term < args->terms; term++) {
            vf x = vf_read(args->x[term], DTYPE_F32, begin + i, n);
            sum = sum + vf_set(args->coefficient[term]) * x;
        }
        vf_write(args->out, DTYPE_F32, begin + i, n, sum);
    }
}

static void from_pixels_rows(const void *args_pointer, int64_t begin, int64_t end) {
    const struct pixels_args *args = args_pointer;
    const uint8_t *rgb = args->x;
    for (int64_t i = 0; i < end - begin; i += LANES) {
        int64_t n = lanes(end - begin - i);
        uint8_t some[LANES] = {0};
        memcpy(some, rgb + begin + i, (size_t)n);
        vf_write(args->out, args->dtype, begin + i, n,
                 vf_load_u8(some) / vf_set(127.5f) - vf_set(1));
    }
}

static void to_pixels_rows(const void *args_pointer, int64_t begin, int64_t end) {
    const struct pixels_args *args = args_pointer;
    uint8_t *rgb = args->out;
    for (int64_t i = 0; i < end - begin; i += LANES) {
        int64_t n = lanes(end - begin - i);
        /* max returns its second operand for NaN: black. */
        vf x = vf_max(vf_read(args->x, args->dtype, begin + i, n), vf_set(-1));
        uint8_t some[16];
        vf_store_u8(some, (vf_min(x, vf_set(1)) + vf_set(1)) * vf_set(127.5f));
        memcpy(rgb + begin + i, some, (size_t)n);
    }
}

static void set_rows(struct cpu_level *level) {
    level->layer_norm = layer_norm_rows;
    level->rms_norm = rms_norm_rows;
    level->qk_norm_rope = qk_norm_rope_rows;
    level->channel_norm = channel_norm_rows;
    level->activate = activate_rows;
    level->gelu_gate = gelu_gate_rows;
    level->modulation = modulation_rows;
    level->convert = convert_rows;
    level->combine = combine_rows;
    level->from_pixels = from_pixels_rows;
    level->to_pixels = to_pixels_rows;
}

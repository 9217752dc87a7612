/* What surrounds the tile kernels: the way out of a product, softmax, and packing. Included once by
 * each instruction set's file, which defines OPERAND (DTYPE_F32 or DTYPE_BF16) and PANEL. */
#include <float.h>

#include "kernels/cpu/gemm.h"
#include "kernels/cpu/vector.h"

/* A vector of a row on its way out; `more` says whether there is a gate, a residual or a sum to add
 * to. The struct is a copy, so that the compiler need not read it again after every store. */
static inline __attribute__((always_inline)) void finish_vector(const struct gemm_finish f,
                                                                enum activation activation,
                                                                bool more, vf y, const float *gate,
                                                                int64_t at, int64_t n) {
    y = OPERAND_BF16 ? vf_activate_rough(y, activation) : vf_activate(y, activation);
    if (more) {
        if (gate != NULL) {
            y = y * vf_read(gate, DTYPE_F32, 0, n);
        }
        if (f.residual != NULL) {
            y = y + vf_read(f.residual, f.out_dtype, at, n);
        }
        if (f.accumulate) {
            y = y + vf_read(f.out, DTYPE_F32, at, n);
        }
    }
    vf_write(f.out, f.out_dtype, at, n, y);
}

static inline __attribute__((always_inline)) void
finish_as(const struct gemm_finish f, enum activation activation, bool more, const float *sums,
          int64_t ld, int64_t row, int64_t column, int rows, int64_t columns) {
    for (int r = 0; r < rows; r++, sums += ld) {
        int64_t at = (row + r) * f.stride + column, i = 0;
        const float *gate = f.gate;
        if (gate != NULL) {
            gate += (f.group != NULL ? f.group[row + r] * f.stride : 0) + column;
        }
        for (; i + LANES <= columns; i += LANES) {
            vf y = vf_load(sums + i) + vf_load(f.bias + column + i);
            finish_vector(f, activation, more, y, gate != NULL ? gate + i : NULL, at + i, LANES);
        }
        if (i < columns) {
            vf y = vf_load(sums + i) + vf_load_some(f.bias + column + i, columns - i);
            finish_vector(f, activation, more, y, gate != NULL ? gate + i : NULL, at + i,
                          columns - i);
        }
    }
}

static void finish(const struct gemm_finish *f, const float *sums, int64_t ld, int64_t row,
                   int64_t column, int rows, int64_t columns) {
    bool more = f->gate != NULL || f->residual != NULL || f->accumulate;
    switch (f->activation) {
    case ACTIVATION_NONE:
        if (more) {
            finish_as(*f, ACTIVATION_NONE, true, sums, ld, row, column, rows, columns);
        } else {
            finish_as(*f, ACTIVATION_NONE, false, sums, ld, row, column, rows, columns);
        }
        break;
    case ACTIVATION_SILU:
        finish_as(*f, ACTIVATION_SILU, more, sums, ld, row, column, rows, columns);
        break;
    case ACTIVATION_GELU_TANH:
        finish_as(*f, ACTIVATION_GELU_TANH, more, sums, ld, row, column, rows, columns);
        break;
    case ACTIVATION_GELU_ERF:
        finish_as(*f, ACTIVATION_GELU_ERF, more, sums, ld, row, column, rows, columns);
        break;
    }
}

/* Lanes from n on become the least number. */
static inline vf mask_past(vf x, int64_t n) {
    float lane[LANES];
    vf_store(lane, x);
    for (int64_t i = n; i < LANES; i++) {
        lane[i] = -FLT_MAX;
    }
    return vf_load(lane);
}

/* Logits become scale·logits + bias where there is one; their largest. */
static inline float softmax_bias(const struct softmax_block *block, float *logits, int row) {
    const float *bias = block->bias != NULL ? block->bias + row * block->bias_stride : NULL;
    vf scale = vf_set(block->scale), most = vf_set(-FLT_MAX);
    for (int64_t i = 0; i < block->keys; i += LANES) {
        int64_t n = block->keys - i < LANES ? block->keys - i : LANES;
        vf x = vf_load(logits + i) * scale;
        if (block->key_bias != NULL) {
            x = x + vf_read(block->key_bias, DTYPE_F32, i, n);
        }
        if (bias != NULL) {
            x = x + vf_read(bias, DTYPE_F32, i, n);
        }
        vf_store(logits + i, x);
        most = vf_max(n < LANES ? mask_past(x, n) : x, most);
    }
    return vf_largest(most);
}

static inline float softmax_largest(const struct softmax_block *block, const float *logits) {
    vf most = vf_set(-FLT_MAX);
    int64_t i = 0;
    for (; i + LANES <= block->keys; i += LANES) {
        most = vf_max(vf_load(logits + i), most);
    }
    if (i < block->keys) {
        most = vf_max(mask_past(vf_load(logits + i), block->keys - i), most);
    }
    return vf_largest(most);
}

/* e^(scale·x - max), given both times log2 e where OPERAND_BF16. */
static inline vf softmax_weight(vf x, vf scale, vf max) {
#if OPERAND_BF16
    return vf_exp2_rough(_mm512_fmsub_ps(x, scale, max));
#else
    return vf_exp(x * scale - max);
#endif
}

static void softmax(const struct softmax_block *block) {
    bool biased = block->key_bias != NULL || block->bias != NULL || block->scale < 0;
    const float unit = OPERAND_BF16 ? 1.44269504088896341f : 1;
    vf scale = vf_set((biased ? 1 : block->scale) * unit);
    for (int r = 0; r < block->rows; r++) {
        float *logits = block->logits + r * block->stride;
        struct softmax_row *state = &block->state[r];
        float largest =
            biased ? softmax_bias(block, logits, r) : softmax_largest(block, logits) * block->scale;
        float before = state->max, most = largest > before ? largest : before;
        if (!block->first && most > before) {
            vf factor = vf_exp(vf_set(before - most));
            float *out = block->out + r * block->out_width;
            for (int64_t i = 0; i < block->out_width; i += LANES) {
                vf_store(out + i, vf_load(out + i) * factor);
            }
            float lane[LANES];
            vf_store(lane, factor);
            state->sum *= lane[0];
        }
        state->max = most;
        vf max = vf_set(most * unit), sum = vf_zero();
        int64_t i = 0, at = r * block->stride;
        for (; i + LANES <= block->keys; i += LANES) {
            vf weight = softmax_weight(vf_load(logits + i), scale, max);
            sum = sum + weight;
            STORE_OPERAND(block->weights, at + i, weight);
        }
        if (i < block->keys) { /* padding is less than one vector */
            vf weight = softmax_weight(vf_load(logits + i), scale, max);
            weight = vf_keep(weight, block->keys - i);
            sum = sum + weight;
            STORE_OPERAND(block->weights, at + i, weight);
        }
        state->sum += vf_sum(sum);
    }
}

static void softmax_end(void *out, enum dtype dtype, int64_t stride, const float *sums, int64_t ld,
                        const struct softmax_row *state, int64_t rows, int64_t columns) {
    for (int64_t r = 0; r < rows; r++) {
        vf share = vf_set(1 / state[r].sum);
        for (int64_t i = 0; i < columns; i += LANES) {
            int64_t n = columns - i < LANES ? columns - i : LANES;
            vf_write(out, dtype, r * stride + i, n, vf_load(sums + r * ld + i) * share);
        }
    }
}

/* Columns of the panel at `first` of `count` columns in all. */
static inline int64_t panel_columns(int64_t first, int64_t count) {
    int64_t left = (count - first + LANES - 1) / LANES * LANES;
    return left < PANEL ? left : PANEL;
}

/* Units (four bytes: an f32, or two bf16) unit.. of a row, zeros past its end. */
static inline vf read_units(const void *rows, enum dtype dtype, int64_t at, int64_t unit,
                            int64_t units) {
    int64_t n = units - unit < LANES ? units - unit : LANES;
#if OPERAND_BF16
    (void)dtype;
    const char *p = (const char *)rows + at * 2 + unit * 4;
    if (n >= LANES) {
        return vf_load((const float *)(const void *)p);
    }
    float some[LANES] = {0};
    memcpy(some, p, (size_t)n * 4);
    return vf_load(some);
#else
    return vf_read(rows, dtype, at + unit, n);
#endif
}

static void pack_keys(void *out, const void *rows, enum dtype dtype, int64_t stride, int64_t count,
                      int64_t depth) {
    int64_t units = OPERAND_BF16 ? depth / 2 : depth;
    for (int64_t first = 0; first < count; first += PANEL) {
        int64_t columns = panel_columns(first, count);
        float *panel = (float *)out + first * units;
        for (int64_t column = 0; column < columns; column += LANES) {
            for (int64_t unit = 0; unit < units; unit += LANES) {
                vf square[LANES];
                for (int i = 0; i < LANES; i++) {
                    int64_t key = first + column + i;
                    square[i] = key < count ? read_units(rows, dtype, key * stride, unit, units)
                                            : vf_zero();
                }
                vf_transpose(square);
                for (int i = 0; i < LANES && unit + i < units; i++) {
                    vf_store(panel + (unit + i) * columns + column, square[i]);
                }
            }
        }
    }
}

static void pack_values(void *out, const void *rows, enum dtype dtype, int64_t stride,
                        int64_t count, int64_t width) {
    int64_t padded = (count + LANES - 1) / LANES * LANES;
    for (int64_t first = 0; first < width; first += PANEL) {
        int64_t columns = panel_columns(first, width);
#if OPERAND_BF16
        float *panel = (float *)out + first * (padded / 2);
        for (int64_t key = 0; key < padded; key += 2) {
            for (int64_t column = 0; column < columns; column += LANES) {
                int64_t at = key * stride + first + column, n = width - first - column;
                vf even = key < count ? vf_read(rows, dtype, at, n) : vf_zero();
                vf odd = key + 1 < count ? vf_read(rows, dtype, at + stride, n) : vf_zero();
                vf_store(panel + key / 2 * columns + column, vf_pair_bf16(even, odd));
            }
        }
#else
        float *panel = (float *)out + first * padded;
        for (int64_t key = 0; key < padded; key++) {
            for (int64_t column = 0; column < columns; column += LANES) {
                int64_t at = key * stride + first + column, n = width - first - column;
                vf_store(panel + key * columns + column,
                         key < count ? vf_read(rows, dtype, at, n) : vf_zero());
            }
        }
#endif
    }
}

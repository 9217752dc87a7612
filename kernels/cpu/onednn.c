#include "kernels/cpu/onednn.h"

#include <stdlib.h>
#include <string.h>

#if defined(VIDLOOM_ONEDNN)
#include <oneapi/dnnl/dnnl.h>

#define OPERANDS 4

struct onednn {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    dnnl_primitive_desc_t description;
    dnnl_primitive_t primitive;
    dnnl_exec_arg_t args[OPERANDS];
    int operands;
};

static enum error_code failed(struct onednn **out, const char *what, struct error *error) {
    onednn_close(out);
    return error_set(error, ERR_UNSUPPORTED, "oneDNN cannot do this %s", what);
}

static dnnl_data_type_t type_of(enum dtype dtype) {
    return dtype == DTYPE_F32 ? dnnl_f32 : dtype == DTYPE_BF16 ? dnnl_bf16 : dnnl_u8;
}

/* A buffer in the layout that the primitive chose, full of small numbers of its type. */
static bool add_operand(struct onednn *onednn, int argument, dnnl_query_t query) {
    const dnnl_memory_desc_t *layout = dnnl_primitive_desc_query_md(onednn->description, query, 0);
    dnnl_exec_arg_t *arg = &onednn->args[onednn->operands];
    void *data = NULL;
    if (layout == NULL || dnnl_memory_create(&arg->memory, layout, onednn->engine,
                                             DNNL_MEMORY_ALLOCATE) != dnnl_success) {
        return false;
    }
    arg->arg = argument;
    onednn->operands++;
    if (dnnl_memory_get_data_handle(arg->memory, &data) != dnnl_success) {
        return false;
    }
    size_t bytes = dnnl_memory_desc_get_size(layout);
    uint32_t state = 1;
    for (size_t i = 0; i + 2 <= bytes; i += 2) {
        state = state * 1664525 + 1013904223;
        uint16_t bits = (uint16_t)(0x3c00 + (state >> 24)); /* 0.008 to 0.03, in bf16 and in f32 */
        memcpy((char *)data + i, &bits, sizeof bits);
    }
    return true;
}

static bool start(struct onednn **out) {
    *out = calloc(1, sizeof **out);
    return *out != NULL && dnnl_engine_create(&(*out)->engine, dnnl_cpu, 0) == dnnl_success &&
           dnnl_stream_create(&(*out)->stream, (*out)->engine, dnnl_stream_default_flags) ==
               dnnl_success;
}

enum error_code onednn_matmul(struct onednn **out, int64_t rows, int64_t outputs, int64_t inputs,
                              enum dtype dtype, struct error *error) {
    dnnl_memory_desc_t x, w, y;
    dnnl_matmul_desc_t matmul;
    dnnl_data_type_t weights = dtype == DTYPE_U8 ? dnnl_s8 : type_of(dtype);
    dnnl_data_type_t result = dtype == DTYPE_U8 ? dnnl_s32 : type_of(dtype);
    if (!start(out) ||
        dnnl_memory_desc_init_by_tag(&x, 2, (dnnl_dims_t){rows, inputs}, type_of(dtype), dnnl_ab) !=
            dnnl_success ||
        dnnl_memory_desc_init_by_tag(&w, 2, (dnnl_dims_t){inputs, outputs}, weights,
                                     dnnl_format_tag_any) != dnnl_success ||
        dnnl_memory_desc_init_by_tag(&y, 2, (dnnl_dims_t){rows, outputs}, result, dnnl_ab) !=
            dnnl_success ||
        dnnl_matmul_desc_init(&matmul, &x, &w, NULL, &y) != dnnl_success ||
        dnnl_primitive_desc_create(&(*out)->description, &matmul, NULL, (*out)->engine, NULL) !=
            dnnl_success ||
        dnnl_primitive_create(&(*out)->primitive, (*out)->description) != dnnl_success ||
        !add_operand(*out, DNNL_ARG_SRC, dnnl_query_src_md) ||
        !add_operand(*out, DNNL_ARG_WEIGHTS, dnnl_query_weights_md) ||
        !add_operand(*out, DNNL_ARG_DST, dnnl_query_dst_md)) {
        return failed(out, "matrix product", error);
    }
    return ERR_OK;
}

enum error_code onednn_conv(struct onednn **out, const struct conv_shape *shape, int64_t frames,
                            int64_t height, int64_t width, enum dtype dtype, bool channels_last,
                            struct error *error) {
    dnnl_memory_desc_t x, w, y;
    dnnl_convolution_desc_t conv;
    dnnl_format_tag_t tag = channels_last ? dnnl_ndhwc : dnnl_format_tag_any;
    dnnl_dims_t in = {1, shape->in_channels, frames, height, width};
    dnnl_dims_t weights = {shape->out_channels, shape->in_channels, shape->kernel_t,
                           shape->kernel_h, shape->kernel_w};
    dnnl_dims_t result = {1, shape->out_channels, frames - shape->kernel_t + 1,
                          height + 3 - shape->kernel_h, width + 3 - shape->kernel_w};
    dnnl_dims_t strides = {1, 1, 1}, padding = {0, 1, 1};
    if (!start(out) ||
        dnnl_memory_desc_init_by_tag(&x, 5, in, type_of(dtype), tag) != dnnl_success ||
        dnnl_memory_desc_init_by_tag(&w, 5, weights, type_of(dtype), dnnl_format_tag_any) !=
            dnnl_success ||
        dnnl_memory_desc_init_by_tag(&y, 5, result, type_of(dtype), tag) != dnnl_success ||
        dnnl_convolution_forward_desc_init(&conv, dnnl_forward_inference, dnnl_convolution_direct,
                                           &x, &w, NULL, &y, strides, padding,
                                           padding) != dnnl_success ||
        dnnl_primitive_desc_create(&(*out)->description, &conv, NULL, (*out)->engine, NULL) !=
            dnnl_success ||
        dnnl_primitive_create(&(*out)->primitive, (*out)->description) != dnnl_success ||
        !add_operand(*out, DNNL_ARG_SRC, dnnl_query_src_md) ||
        !add_operand(*out, DNNL_ARG_WEIGHTS, dnnl_query_weights_md) ||
        !add_operand(*out, DNNL_ARG_DST, dnnl_query_dst_md)) {
        return failed(out, "convolution", error);
    }
    return ERR_OK;
}

enum error_code onednn_run(struct onednn *onednn, struct error *error) {
    if (dnnl_primitive_execute(onednn->primitive, onednn->stream, onednn->operands, onednn->args) !=
            dnnl_success ||
        dnnl_stream_wait(onednn->stream) != dnnl_success) {
        return error_set(error, ERR_DEVICE, "oneDNN failed");
    }
    return ERR_OK;
}

void onednn_close(struct onednn **onednn) {
    if (*onednn == NULL) {
        return;
    }
    for (int i = 0; i < (*onednn)->operands; i++) {
        dnnl_memory_destroy((*onednn)->args[i].memory);
    }
    dnnl_primitive_destroy((*onednn)->primitive);
    dnnl_primitive_desc_destroy((*onednn)->description);
    dnnl_stream_destroy((*onednn)->stream);
    dnnl_engine_destroy((*onednn)->engine);
    free(*onednn);
    *onednn = NULL;
}

#else

static enum error_code absent(struct onednn **out, struct error *error) {
    *out = NULL;
    return error_set(error, ERR_UNSUPPORTED, "this program was built without oneDNN");
}

enum error_code onednn_matmul(struct onednn **out, int64_t rows, int64_t outputs, int64_t inputs,
                              enum dtype dtype, struct error *error) {
    return absent(out, error);
}

enum error_code onednn_conv(struct onednn **out, const struct conv_shape *shape, int64_t frames,
                            int64_t height, int64_t width, enum dtype dtype, bool channels_last,
                            struct error *error) {
    return absent(out, error);
}

enum error_code onednn_run(struct onednn *onednn, struct error *error) {
    return error_set(error, ERR_UNSUPPORTED, "this program was built without oneDNN");
}

void onednn_close(struct onednn **onednn) {
    *onednn = NULL;
}

#endif

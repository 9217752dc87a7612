#include "worker/model/loader.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/model/lora.h"
#include "worker/model/numbers.h"

#define STACK_MAX 3 /* tensors in one packed layer: q, k, v */

void loader_start(struct loader *loader, struct runtime *runtime, const struct weights *file,
                  enum names_component component, struct error *error) {
    memset(loader, 0, sizeof *loader);
    loader->runtime = runtime;
    loader->file = file;
    loader->component = component;
    loader->error = error;
    loader->original = file != NULL && weights_find(file, names_original_mark(component)) != NULL;
}

/* printf into a buffer that is large enough for every name of ours. */
static void print_name(struct loader *loader, char *out, size_t bytes, const char *format,
                       va_list args) PRINTF_LIKE(4, 0);

static void print_name(struct loader *loader, char *out, size_t bytes, const char *format,
                       va_list args) {
    int length = vsnprintf(out, bytes, format, args);
    if (length < 0 || (size_t)length >= bytes)
        loader->code = error_set(loader->error, ERR_INTERNAL, "a tensor name is too long");
}

void loader_enter(struct loader *loader, const char *format, ...) {
    va_list args;
    va_start(args, format);
    print_name(loader, loader->prefix, sizeof loader->prefix, format, args);
    va_end(args);
}

void loader_stream(struct loader *loader, struct stream **out, int blocks) {
    if (loader->code == ERR_OK && loader->runtime->streamer != NULL && loader->file != NULL)
        loader->code = stream_open(out, loader->runtime->streamer, blocks, loader->error);
    loader->stream = *out;
    loader->block = 0;
}

void loader_block(struct loader *loader, int block) {
    loader->block = block;
}

static void make_name(struct loader *loader, char out[WEIGHTS_NAME_MAX], const char *format, ...)
    PRINTF_LIKE(3, 4);

static void make_name(struct loader *loader, char out[WEIGHTS_NAME_MAX], const char *format, ...) {
    va_list args;
    va_start(args, format);
    print_name(loader, out, WEIGHTS_NAME_MAX, format, args);
    va_end(args);
}

static void shape_text(char out[128], int rank, const int64_t *dim) {
    size_t used = (size_t)snprintf(out, 128, "[");
    for (int i = 0; i < rank && used < 100; i++)
        used += (size_t)snprintf(out + used, 128 - used, "%s%lld", i == 0 ? "" : ",",
                                 (long long)dim[i]);
    (void)snprintf(out + used, 128 - used, "]");
}

/* By prefix + name; NULL after an error. */
static const struct tensor *find(struct loader *loader, const char *name,
                                 char full[WEIGHTS_NAME_MAX]) {
    if (loader->code != ERR_OK)
        return NULL;
    char diffusers[WEIGHTS_NAME_MAX];
    make_name(loader, diffusers, "%s%s", loader->prefix, name);
    if (!loader->original)
        memcpy(full, diffusers, sizeof diffusers);
    else if (!names_to_original(full, WEIGHTS_NAME_MAX, diffusers, loader->component))
        loader->code = error_set(loader->error, ERR_INTERNAL, "a tensor name is too long");
    if (loader->code != ERR_OK)
        return NULL;
    const struct tensor *tensor = weights_find(loader->file, full);
    if (tensor == NULL) {
        loader->code =
            error_set(loader->error, ERR_MISSING,
                      "%s: tensor '%s' is missing; the configuration beside it asks for it",
                      weights_path(loader->file), full);
        return NULL;
    }
    if (!numbers_are_float(tensor)) {
        loader->code = error_set(loader->error, ERR_UNSUPPORTED,
                                 "%s: tensor '%s' is of type %s; expected floating point",
                                 weights_path(loader->file), full, dtype_name(tensor->dtype));
        return NULL;
    }
    loader->used++;
    loader->elements += tensor_elements(tensor);
    return tensor;
}

static void wrong_shape(struct loader *loader, const char *full, const struct tensor *tensor,
                        const char *expected) {
    char is[128];
    shape_text(is, tensor->rank, tensor->dim);
    loader->code = error_set(loader->error, ERR_SHAPE, "%s: tensor '%s' is %s; expected %s",
                             weights_path(loader->file), full, is, expected);
}

const struct tensor *loader_tensor(struct loader *loader, const char *name, int rank,
                                   const int64_t *dim) {
    char full[WEIGHTS_NAME_MAX], expected[128];
    if (loader->file == NULL)
        return loader_invent(loader, rank, dim);
    const struct tensor *tensor = find(loader, name, full);
    if (tensor == NULL)
        return NULL;
    if (tensor->rank == rank && memcmp(tensor->dim, dim, (size_t)rank * sizeof *dim) == 0)
        return tensor;
    shape_text(expected, rank, dim);
    wrong_shape(loader, full, tensor, expected);
    return NULL;
}

const struct tensor *loader_table(struct loader *loader, const char *name, int64_t rows,
                                  int64_t columns) {
    const struct tensor *table = loader_tensor(loader, name, 2, (const int64_t[]){rows, columns});
    if (table != NULL && loader->stream != NULL && weights_are_mapped(loader->file, table->data))
        loader->code =
            stream_add_table(loader->stream, table->data, tensor_bytes(table), loader->error);
    return loader->code == ERR_OK ? table : NULL;
}

/* With what LoRAs add to it, in `dtype` then; NULL in, NULL out. */
static const struct tensor *merged(struct loader *loader, const struct tensor *tensor,
                                   enum dtype dtype) {
    if (tensor == NULL || loader->file == NULL || loader->code != ERR_OK)
        return tensor;
    loader->code = lora_merge(&tensor, loader->file, tensor, loader->runtime, dtype, loader->error);
    return loader->code == ERR_OK ? tensor : NULL;
}

/* As loader_tensor, of a type that has elements one by one: convolutions are not read in blocks. */
static const struct tensor *plain_tensor(struct loader *loader, const char *name, int rank,
                                         const int64_t *dim) {
    const struct tensor *tensor = loader_tensor(loader, name, rank, dim);
    if (tensor != NULL && dtype_block(tensor->dtype) > 1) {
        loader->code =
            error_set(loader->error, ERR_UNSUPPORTED,
                      "%s: tensor '%s%s' is of type %s; expected one without blocks",
                      weights_path(loader->file), loader->prefix, name, dtype_name(tensor->dtype));
        return NULL;
    }
    return tensor;
}

const float *loader_vector(struct loader *loader, const char *name, int64_t count) {
    char full[WEIGHTS_NAME_MAX] = "", expected[128];
    const struct tensor *tensor =
        loader->file == NULL ? loader_invent(loader, 1, &count) : find(loader, name, full);
    if (tensor == NULL)
        return NULL;
    if (tensor_elements(tensor) != count) {
        (void)snprintf(expected, sizeof expected, "%lld elements", (long long)count);
        wrong_shape(loader, full, tensor, expected);
        return NULL;
    }
    const struct tensor *base = tensor;
    tensor = merged(loader, tensor, DTYPE_F32);
    if (tensor == NULL)
        return NULL;
    float *host = malloc((size_t)count * sizeof *host);
    const float *out = NULL;
    if (host != NULL) {
        if (!loader->runtime->params->measuring) /* planning touches no weights */
            numbers_to_float(host, tensor, 0, count);
        out = params_floats(loader->runtime, host, count);
    }
    free(host);
    if (tensor != base)
        lora_release(loader->file, base);
    if (out == NULL)
        loader->code =
            error_set(loader->error, ERR_MEMORY, "no memory for '%s%s'", loader->prefix, name);
    return out;
}

/* What was merged stays only where the layer uses it: biases are always copied. */
static void settle(struct loader *loader, const struct tensor *const *weights,
                   const struct tensor *const *biases, int count, bool in_place) {
    for (int i = 0; i < count && loader->file != NULL; i++) {
        if (in_place)
            lora_keep(loader->file, weights[i]);
        else if (weights[i] != NULL)
            lora_release(loader->file, weights[i]);
        if (biases[i] != NULL)
            lora_release(loader->file, biases[i]);
    }
}

/* A linear layer of the device's, and into the stream what of it is used in the file. */
static bool create_linear(struct loader *loader, struct linear **out,
                          const struct tensor *const *weights, const struct tensor *const *biases,
                          int count, enum dtype dtype) {
    const struct ops *ops = loader->runtime->ops;
    struct device *device = loader->runtime->device;
    if (loader->code != ERR_OK)
        return false;
    size_t before = ops->mapped_bytes(device);
    loader->code = ops->linear_create(device, out, weights, biases, count, dtype, loader->error);
    bool in_place = loader->code == ERR_OK && ops->mapped_bytes(device) > before;
    for (int i = 0; i < count && in_place && loader->stream != NULL; i++)
        if (loader->code == ERR_OK && weights_are_mapped(loader->file, weights[i]->data))
            loader->code = stream_add(loader->stream, loader->block, weights[i]->data,
                                      tensor_bytes(weights[i]), loader->error);
    return in_place;
}

void loader_linear(struct loader *loader, struct layer *layer, const char *const *names, int count,
                   int64_t in, int64_t out, bool bias, enum dtype dtype) {
    const struct tensor *weights[STACK_MAX] = {0}, *biases[STACK_MAX] = {0};
    const struct tensor *bases[2][STACK_MAX] = {0}; /* in the file */
    char name[WEIGHTS_NAME_MAX];
    enum dtype narrow = dtype == loader->runtime->dtype ? loader->runtime->narrow : DTYPE_F32;
    enum dtype sum = narrow == DTYPE_F32 ? dtype : narrow == DTYPE_BF16 ? narrow : DTYPE_F32;
    assert(count <= STACK_MAX);
    for (int i = 0; i < count; i++) {
        make_name(loader, name, "%s.weight", names[i]);
        bases[0][i] = loader_tensor(loader, name, 2, (const int64_t[]){out, in});
        const struct tensor *wide = merged(loader, bases[0][i], sum);
        weights[i] = narrow != DTYPE_F32 ? loader_narrow(loader, wide, narrow) : wide;
        if (weights[i] != wide) /* what was merged has been copied */
            lora_release(loader->file, bases[0][i]);
        make_name(loader, name, "%s.bias", names[i]);
        if (bias)
            bases[1][i] = loader_tensor(loader, name, 1, (const int64_t[]){out});
        biases[i] = merged(loader, bases[1][i], DTYPE_F32);
    }
    *layer = (struct layer){.in = in, .out = out * count};
    bool in_place = create_linear(loader, &layer->linear, weights, biases, count, dtype);
    settle(loader, bases[0], bases[1], count, in_place);
}

void loader_patch(struct loader *loader, struct layer *layer, const char *name, int rank,
                  const int64_t *dim, bool bias, enum dtype dtype) {
    char full[WEIGHTS_NAME_MAX];
    make_name(loader, full, "%s.weight", name);
    const struct tensor *base = plain_tensor(loader, full, rank, dim), *base_offset = NULL;
    const struct tensor *weight = merged(loader, base, dtype);
    make_name(loader, full, "%s.bias", name);
    if (bias)
        base_offset = loader_tensor(loader, full, 1, dim);
    const struct tensor *offset = merged(loader, base_offset, DTYPE_F32);
    *layer = (struct layer){.in = 1, .out = dim[0]};
    for (int i = 1; i < rank; i++)
        layer->in *= dim[i];
    if (loader->code != ERR_OK)
        return;
    struct tensor flat = *weight;
    flat.rank = 2;
    flat.dim[1] = layer->in;
    const struct tensor *weights[] = {&flat}, *biases[] = {offset};
    bool in_place = create_linear(loader, &layer->linear, weights, biases, 1, dtype);
    settle(loader, &base, &base_offset, 1, in_place);
}

void loader_filter(struct loader *loader, struct filter *filter, const char *name,
                   const struct conv_shape *shape, bool plane) {
    char full[WEIGHTS_NAME_MAX];
    make_name(loader, full, "%s.weight", name);
    const int64_t volume_dim[] = {shape->out_channels, shape->in_channels, shape->kernel_t,
                                  shape->kernel_h, shape->kernel_w};
    const int64_t plane_dim[] = {shape->out_channels, shape->in_channels, shape->kernel_h,
                                 shape->kernel_w};
    const struct tensor *weight =
        plain_tensor(loader, full, plane ? 4 : 5, plane ? plane_dim : volume_dim);
    make_name(loader, full, "%s.bias", name);
    const struct tensor *bias =
        plain_tensor(loader, full, 1, (const int64_t[]){shape->out_channels});
    *filter = (struct filter){.shape = *shape};
    if (loader->code == ERR_OK)
        loader->code =
            loader->runtime->ops->conv_create(loader->runtime->device, &filter->conv, shape, weight,
                                              bias, loader->runtime->dtype, loader->error);
}

static bool is_ignored(const char *name, const char *const *ignored) {
    for (; ignored != NULL && *ignored != NULL; ignored++) {
        size_t length = strlen(*ignored);
        bool prefix = length > 0 && (*ignored)[length - 1] == '.';
        if (prefix ? strncmp(name, *ignored, length) == 0 : strcmp(name, *ignored) == 0)
            return true;
    }
    return false;
}

enum error_code loader_finish(struct loader *loader, const char *const *ignored) {
    if (loader->code != ERR_OK || loader->file == NULL)
        return loader->code;
    size_t expected = loader->used;
    for (size_t i = 0; i < weights_count(loader->file); i++)
        expected += is_ignored(weights_name(loader->file, i), ignored);
    if (expected != weights_count(loader->file))
        loader->code = error_set(loader->error, ERR_SHAPE,
                                 "%s has %zu tensors where the configuration beside it describes "
                                 "%zu: they are not of the same model",
                                 weights_path(loader->file), weights_count(loader->file), expected);
    return loader->code;
}

void layer_close(struct runtime *runtime, struct layer *layer) {
    if (layer->linear != NULL)
        runtime->ops->linear_close(runtime->device, &layer->linear);
}

void filter_close(struct runtime *runtime, struct filter *filter) {
    if (filter->conv != NULL)
        runtime->ops->conv_close(runtime->device, &filter->conv);
}

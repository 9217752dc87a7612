#include "worker/model/convert_quantise.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/quantise.h"
#include "worker/model/numbers.h"

#define ROWS 64 /* of a matrix, at a time */

bool convert_is_quantisable(const char *name, const struct tensor *tensor) {
    return tensor->rank == 2 && tensor->dim[1] % 4 == 0 && tensor->dim[1] >= 32 &&
           (strncmp(name, "blocks.", 7) == 0 || strncmp(name, "encoder.block.", 14) == 0) &&
           strstr(name, "pos_embedding") == NULL && strstr(name, "attention_bias") == NULL;
}

/* Some rows, exact and quantised. */
struct piece {
    float *exact, *back, *scale;
    uint8_t *data;
    struct tensor quantised;
};

static bool open_piece(struct piece *piece, int64_t inputs, enum dtype dtype) {
    size_t elements = (size_t)(ROWS * inputs);
    *piece = (struct piece){
        .exact = malloc(elements * sizeof(float)),
        .back = malloc(elements * sizeof(float)),
        .scale = malloc((size_t)quantise_scales(ROWS, inputs, dtype) * sizeof(float)),
        .data = malloc(elements),
    };
    return piece->exact != NULL && piece->back != NULL && piece->scale != NULL &&
           piece->data != NULL;
}

static void close_piece(struct piece *piece) {
    free(piece->exact);
    free(piece->back);
    free(piece->scale);
    free(piece->data);
}

static void quantise_rows(struct piece *piece, const struct tensor *source, int64_t first,
                          int64_t rows, enum dtype dtype) {
    int64_t inputs = source->dim[1];
    const struct tensor exact = {
        .data = piece->exact, .dtype = DTYPE_F32, .rank = 2, .dim = {rows, inputs}};
    numbers_to_float(piece->exact, source, first * inputs, rows * inputs);
    quantise(&piece->quantised, piece->data, piece->scale, &exact, dtype);
}

static void add_errors(double *difference, double *size, const struct piece *piece, int64_t count) {
    numbers_to_float(piece->back, &piece->quantised, 0, count);
    for (int64_t i = 0; i < count; i++) {
        double d = (double)piece->back[i] - (double)piece->exact[i];
        *difference += d * d;
        *size += (double)piece->exact[i] * (double)piece->exact[i];
    }
}

/* The data, or the scales, of all rows. Both are made from the source, each time anew: a matrix of
 * any size takes no memory of its size. */
static bool put(FILE *file, const struct safetensors_item *item, const struct tensor *source,
                bool scales) {
    const struct convert_options *options = item->context;
    int64_t outputs = source->dim[0], inputs = source->dim[1];
    double difference = 0, size = 0;
    struct piece piece;
    bool good = open_piece(&piece, inputs, options->dtype);
    if (!good)
        errno = ENOMEM;
    for (int64_t first = 0; first < outputs && good; first += ROWS) {
        int64_t rows = outputs - first < ROWS ? outputs - first : ROWS;
        size_t bytes = scales
                           ? (size_t)quantise_scales(rows, inputs, options->dtype) * sizeof(float)
                           : (size_t)(rows * inputs);
        quantise_rows(&piece, source, first, rows, options->dtype);
        if (!scales)
            add_errors(&difference, &size, &piece, rows * inputs);
        good = fwrite(scales ? (const void *)piece.scale : piece.data, 1, bytes, file) == bytes;
    }
    close_piece(&piece);
    if (good && !scales && options->quantised != NULL)
        options->quantised(options->user, item->name, sqrt(difference / (size > 0 ? size : 1)));
    return good;
}

static bool put_data(FILE *file, const struct safetensors_item *item, const struct tensor *source) {
    return put(file, item, source, false);
}

static bool put_scales(FILE *file, const struct safetensors_item *item,
                       const struct tensor *source) {
    return put(file, item, source, true);
}

void convert_quantise(struct safetensors_item *data, struct safetensors_item *scales,
                      const struct convert_options *options) {
    int64_t outputs = data->shape.dim[0], inputs = data->shape.dim[1];
    data->context = options;
    *scales = *data;
    data->shape.dtype = options->dtype;
    data->put = put_data;
    scales->shape.dtype = DTYPE_F32;
    scales->shape.dim[1] = quantise_scales(outputs, inputs, options->dtype) / outputs;
    scales->put = put_scales;
}

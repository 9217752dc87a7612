#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/file.h"
#include "base/json.h"
#include "kernels/cpu/float.h"
#include "worker/model/numbers.h"
#include "worker/model/safetensors.h"

#define PIECE 65536 /* elements that are converted at a time */

static void begin_header(struct buffer *out) {
    buffer_add(out, "\0\0\0\0\0\0\0\0", 8); /* the header's length, put in at its end */
}

static void put_entry(struct json_writer *writer, const char *name, const struct tensor *tensor,
                      uint64_t *length) {
    json_begin_object(writer, name);
    json_put_text(writer, "dtype", dtype_name(tensor->dtype));
    json_begin_array(writer, "shape");
    for (int d = 0; d < tensor->rank; d++)
        json_put_int(writer, NULL, tensor->dim[d]);
    json_end_array(writer);
    json_begin_array(writer, "data_offsets");
    json_put_int(writer, NULL, (int64_t)*length);
    *length += tensor_bytes(tensor);
    json_put_int(writer, NULL, (int64_t)*length);
    json_end_array(writer);
    json_end_object(writer);
}

static void end_header(struct buffer *out) {
    while (!out->failed && out->length % 8 != 0)
        buffer_add_text(out, " ");
    for (int i = 0; !out->failed && i < 8; i++)
        out->data[i] = (char)((out->length - 8) >> (8 * i));
}

enum error_code safetensors_write(const char *path, const struct tensor *tensors,
                                  const char *const *names, size_t count, struct error *error) {
    struct buffer buffer = {0};
    struct json_writer writer = {.buffer = &buffer};
    uint64_t length = 0;
    begin_header(&buffer);
    json_begin_object(&writer, NULL);
    for (size_t i = 0; i < count; i++)
        put_entry(&writer, names[i], &tensors[i], &length);
    json_end_object(&writer);
    end_header(&buffer);
    for (size_t i = 0; i < count; i++)
        buffer_add(&buffer, tensors[i].data, tensor_bytes(&tensors[i]));
    enum error_code code = buffer.failed
                               ? error_set(error, ERR_MEMORY, "%s: %llu bytes to write", path,
                                           (unsigned long long)length)
                               : file_write(path, buffer.data, buffer.length, false, error);
    buffer_close(&buffer);
    return code;
}

/* -- files of any size ----------------------------------------------------------------------- */

static bool put_source(FILE *file, const struct tensor *source, enum dtype dtype) {
    if (source->dtype == dtype && source->scale == NULL)
        return fwrite(source->data, 1, tensor_bytes(source), file) == tensor_bytes(source);
    float *values = malloc(PIECE * sizeof *values);
    uint8_t *out = malloc(PIECE * dtype_bytes(dtype));
    int64_t count = tensor_elements(source);
    bool good = values != NULL && out != NULL;
    for (int64_t at = 0; at < count && good; at += PIECE) {
        int64_t take = count - at < PIECE ? count - at : PIECE;
        size_t bytes = (size_t)take * dtype_bytes(dtype);
        numbers_to_float(values, source, at, take);
        for (int64_t i = 0; i < take; i++)
            float_store(out, dtype, i, values[i]);
        good = fwrite(out, 1, bytes, file) == bytes;
    }
    free(values);
    free(out);
    return good;
}

enum error_code safetensors_stream(const char *path, const struct safetensors_item *items,
                                   size_t count, struct error *error) {
    struct buffer header = {0};
    struct json_writer writer = {.buffer = &header};
    uint64_t length = 0;
    begin_header(&header);
    json_begin_object(&writer, NULL);
    json_begin_object(&writer, "__metadata__");
    json_put_text(&writer, "format", "pt"); /* what the reference's reader wants to see */
    json_end_object(&writer);
    for (size_t i = 0; i < count; i++)
        put_entry(&writer, items[i].name, &items[i].shape, &length);
    json_end_object(&writer);
    end_header(&header);
    if (header.failed) {
        buffer_close(&header);
        return error_set(error, ERR_MEMORY, "%s: no memory for its header", path);
    }
    FILE *file = fopen(path, "wxe");
    bool good = file != NULL && fwrite(header.data, 1, header.length, file) == header.length;
    for (size_t i = 0; i < count; i++)
        for (int k = 0; k < items[i].sources && good; k++)
            good = items[i].put != NULL
                       ? items[i].put(file, &items[i], &items[i].source[k])
                       : put_source(file, &items[i].source[k], items[i].shape.dtype);
    good = good && fflush(file) == 0 && fsync(fileno(file)) == 0;
    int failed = errno;
    if (file != NULL && fclose(file) != 0 && good) {
        failed = errno;
        good = false;
    }
    buffer_close(&header);
    return good ? ERR_OK : error_set_errno(error, failed, "%s: writing it", path);
}

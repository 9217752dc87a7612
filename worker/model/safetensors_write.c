#include "worker/model/safetensors.h"

#include "base/buffer.h"
#include "base/file.h"
#include "base/json.h"

enum error_code safetensors_write(const char *path, const struct tensor *tensors,
                                  const char *const *names, size_t count, struct error *error) {
    struct buffer buffer = {0};
    struct json_writer writer = {.buffer = &buffer};
    uint64_t length = 0;
    buffer_add(&buffer, "\0\0\0\0\0\0\0\0", 8); /* the header's length, put in below */
    json_begin_object(&writer, NULL);
    for (size_t i = 0; i < count; i++) {
        json_begin_object(&writer, names[i]);
        json_put_text(&writer, "dtype", dtype_name(tensors[i].dtype));
        json_begin_array(&writer, "shape");
        for (int d = 0; d < tensors[i].rank; d++)
            json_put_int(&writer, NULL, tensors[i].dim[d]);
        json_end_array(&writer);
        json_begin_array(&writer, "data_offsets");
        json_put_int(&writer, NULL, (int64_t)length);
        length += tensor_bytes(&tensors[i]);
        json_put_int(&writer, NULL, (int64_t)length);
        json_end_array(&writer);
        json_end_object(&writer);
    }
    json_end_object(&writer);
    while (!buffer.failed && buffer.length % 8 != 0)
        buffer_add_text(&buffer, " ");
    for (int i = 0; !buffer.failed && i < 8; i++)
        buffer.data[i] = (char)((buffer.length - 8) >> (8 * i));
    for (size_t i = 0; i < count; i++)
        buffer_add(&buffer, tensors[i].data, tensor_bytes(&tensors[i]));
    enum error_code code = buffer.failed
                               ? error_set(error, ERR_MEMORY, "%s: %llu bytes to write", path,
                                           (unsigned long long)length)
                               : file_write(path, buffer.data, buffer.length, false, error);
    buffer_close(&buffer);
    return code;
}

/* What is written is read back; every field of a header that can lie is caught. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/file.h"
#include "tests/worker/model/model_test.h"
#include "worker/model/safetensors.h"

/* Header text and data to a file image. */
static size_t image(uint8_t *out, const char *header, size_t data) {
    size_t length = strlen(header);
    for (int i = 0; i < 8; i++)
        out[i] = (uint8_t)(length >> (8 * i));
    for (size_t i = 0; i < length; i++)
        out[8 + i] = (uint8_t)header[i];
    memset(out + 8 + length, 7, data);
    return 8 + length + data;
}

static enum error_code open_image(const char *header, size_t data, struct error *error) {
    static uint8_t bytes[1 << 16];
    struct weights *file;
    enum error_code code =
        weights_open_memory(&file, bytes, image(bytes, header, data), "w.safetensors", error);
    assert_true((file != NULL) == (code == ERR_OK));
    weights_close(&file);
    return code;
}

static void expect(const char *header, size_t data, enum error_code expected, const char *why) {
    struct error error = {0};
    enum error_code code = open_image(header, data, &error);
    if (code != expected || (why != NULL && strstr(error.detail, why) == NULL))
        fail_msg("%s\n gave %s: %s", header, error_name(code), error.detail);
    if (code != ERR_OK)
        assert_non_null(strstr(error.detail, "w.safetensors"));
}

#define T(name, dtype, shape, begin, end)                                                          \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" begin "," end   \
    "]}"

static void good_headers(void **state) {
    expect("{}", 0, ERR_OK, NULL);
    expect("{" T("a", "F32", "[2,3]", "0", "24") "}", 24, ERR_OK, NULL);
    expect("{" T("a", "F32", "[]", "0", "4") "}   ", 4, ERR_OK, NULL);
    expect("{" T("b", "U8", "[1]", "4", "5") "," T("a", "F32", "[1]", "0", "4") "}", 5, ERR_OK,
           NULL);
    expect("{" T("a", "BF16", "[0,5]", "0", "0") "," T("b", "U8", "[3]", "0", "3") "}", 3, ERR_OK,
           NULL);
    expect("{\"__metadata__\":{\"format\":\"pt\"}," T("a", "U8", "[1]", "0", "1") "}", 1, ERR_OK,
           NULL);
}

static void lying_headers(void **state) {
    expect("{" T("a", "F32", "[2,3]", "0", "20") "}", 20, ERR_FORMAT, "'a' takes 24 bytes");
    expect("{" T("a", "F32", "[2,3]", "0", "24") "}", 23, ERR_FORMAT, "cut short");
    expect("{" T("a", "F32", "[2,3]", "0", "24") "}", 25, ERR_FORMAT, "belong to none");
    expect("{" T("a", "U8", "[4]", "1", "5") "}", 5, ERR_FORMAT, "hole");
    expect("{" T("a", "U8", "[4]", "0", "4") "," T("b", "U8", "[4]", "2", "6") "}", 6, ERR_FORMAT,
           "overlaps");
    expect("{" T("a", "U8", "[4]", "0", "4") "," T("b", "U8", "[4]", "0", "4") "}", 4, ERR_FORMAT,
           "overlaps");
    expect("{" T("a", "U8", "[4]", "0", "4") "," T("b", "U8", "[1]", "6", "7") "}", 7, ERR_FORMAT,
           "hole");
    expect("{" T("a", "U8", "[4]", "4", "0") "}", 4, ERR_FORMAT, "data_offsets");
    expect("{" T("a", "U8", "[4]", "-4", "0") "}", 4, ERR_FORMAT, "data_offsets");
    expect("{" T("a", "U8", "[4]", "0.0", "4") "}", 4, ERR_FORMAT, "data_offsets");
    expect("{" T("a", "U8", "[-4]", "0", "4") "}", 4, ERR_FORMAT, "'shape'");
    expect("{" T("a", "U8", "[1.5]", "0", "4") "}", 4, ERR_FORMAT, "'shape'");
    expect("{" T("a", "U8", "\"4\"", "0", "4") "}", 4, ERR_FORMAT, "'shape'");
    expect("{" T("a", "U8", "[4294967296,4294967296,4294967296]", "0", "0") "}", 0, ERR_FORMAT,
           "63 bits");
    expect("{" T("a", "F64", "[2305843009213693952]", "0", "0") "}", 0, ERR_FORMAT, "63 bits");
    expect("{" T("a", "U8", "[1,1,1,1,1,1,1]", "0", "1") "}", 1, ERR_UNSUPPORTED, "dimensions");
    expect("{" T("a", "F4", "[1]", "0", "1") "}", 1, ERR_UNSUPPORTED, "F4");
    expect("{" T("a", "U8", "[1]", "0", "1") "," T("a", "U8", "[1]", "1", "2") "}", 2, ERR_FORMAT,
           NULL);
    expect("{" T("", "U8", "[1]", "0", "1") "}", 1, ERR_FORMAT, "name");
    expect("{\"a\":{\"dtype\":\"U8\",\"shape\":[1]}}", 1, ERR_FORMAT, "data_offsets");
    expect("{\"a\":{\"shape\":[1],\"data_offsets\":[0,1]}}", 1, ERR_FORMAT, "dtype");
    expect("{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,1]}}", 1, ERR_FORMAT, "shape");
    expect("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"x\":1}}", 1, ERR_FORMAT,
           "'x'");
    expect("{\"a\":7}", 1, ERR_FORMAT, "expected");
    expect("{\"__metadata__\":{\"a\":1}}", 0, ERR_FORMAT, "__metadata__");
    expect("[]", 0, ERR_FORMAT, "object");
    expect("{", 0, ERR_FORMAT, "header");
}

static void lying_lengths(void **state) {
    struct weights *file;
    struct error error = {0};
    const uint8_t huge[16] = {0, 0, 0, 0, 0, 0, 0, 0x80, '{', '}'};
    const uint8_t more[16] = {9, 0, 0, 0, 0, 0, 0, 0, '{', '}', ' ', ' ', ' ', ' ', ' ', ' '};
    assert_int_equal(weights_open_memory(&file, huge, 16, "w", &error), ERR_LIMIT);
    assert_int_equal(weights_open_memory(&file, more, 16, "w", &error), ERR_FORMAT);
    assert_int_equal(weights_open_memory(&file, more, 7, "w", &error), ERR_FORMAT);
    assert_int_equal(weights_open_memory(&file, more, 0, "w", &error), ERR_FORMAT);
    assert_null(file);
}

/* A scratch folder of the test. */
static void make_folder(char out[64]) {
    (void)snprintf(out, 64, "/tmp/vidloom-test-XXXXXX");
    assert_non_null(mkdtemp(out));
}

static char *in_folder(char out[FILE_PATH_BYTES], const char *folder, const char *name) {
    struct error error = {0};
    ok(file_join(out, folder, name, &error), &error);
    return out;
}

static void write_and_read(void **state) {
    char folder[64], path[FILE_PATH_BYTES];
    struct error error = {0};
    make_folder(folder);
    in_folder(path, folder, "a.safetensors");
    const uint8_t bytes[] = {1, 2, 3};
    const float floats[] = {1, -2, 3, 4.5f, 5, 6};
    const struct tensor tensors[] = {
        {.data = bytes, .dtype = DTYPE_U8, .rank = 1, .dim = {3}},
        {.data = floats, .dtype = DTYPE_F32, .rank = 2, .dim = {2, 3}}};
    ok(safetensors_write(path, tensors, (const char *const[]){"z \"q\"", "latents"}, 2, &error),
       &error);
    struct weights *file;
    ok(weights_open(&file, path, &error), &error);
    assert_int_equal(weights_count(file), 2);
    assert_string_equal(weights_name(file, 0), "latents");
    const struct tensor *latents = weights_find(file, "latents");
    assert_int_equal(latents->rank, 2);
    assert_int_equal(latents->dim[1], 3);
    assert_int_equal((uintptr_t)latents->data % sizeof(float), 0); /* behind 3 bytes: a copy */
    assert_memory_equal(latents->data, floats, sizeof floats);
    assert_memory_equal(weights_find(file, "z \"q\"")->data, bytes, sizeof bytes);
    assert_null(weights_find(file, "latent"));
    weights_close(&file);
    ok(file_remove_tree(folder, &error), &error);
}

static void missing_files(void **state) {
    struct weights *file;
    struct error error = {0};
    assert_int_equal(weights_open(&file, "/nowhere/a.safetensors", &error), ERR_MISSING);
    assert_non_null(strstr(error.detail, "/nowhere/a.safetensors"));
    assert_int_equal(weights_open(&file, "/tmp", &error), ERR_USAGE);
    assert_int_equal(weights_open(&file, "/dev/null", &error), ERR_USAGE);
    assert_int_equal(weights_open_folder(&file, "/nowhere", "model", &error), ERR_MISSING);
    assert_null(file);
}

static void write_text(const char *folder, const char *name, const char *text) {
    char path[FILE_PATH_BYTES];
    struct error error = {0};
    ok(file_write(in_folder(path, folder, name), text, strlen(text), false, &error), &error);
}

static void write_shard(const char *folder, const char *name, const char *tensor, float value) {
    char path[FILE_PATH_BYTES];
    struct error error = {0};
    const struct tensor tensors[] = {{.data = &value, .dtype = DTYPE_F32, .rank = 1, .dim = {1}}};
    ok(safetensors_write(in_folder(path, folder, name), tensors, &tensor, 1, &error), &error);
}

static void shards(void **state) {
    char folder[64];
    struct error error = {0};
    struct weights *file;
    make_folder(folder);
    write_shard(folder, "m-1.safetensors", "a", 1);
    write_shard(folder, "m-2.safetensors", "b", 2);
#define INDEX "m.safetensors.index.json"
    write_text(folder, INDEX,
               "{\"weight_map\":{\"a\":\"m-1.safetensors\",\"b\":\"m-2.safetensors\"}}");
    ok(weights_open_folder(&file, folder, "m", &error), &error);
    assert_int_equal(weights_count(file), 2);
    assert_true(*(const float *)weights_find(file, "b")->data == 2);
    assert_int_equal(weights_shards(file), 2);
    weights_close(&file);

    static const struct {
        const char *index, *why;
        enum error_code code;
    } bad[] = {
        {"{\"weight_map\":{\"a\":\"m-1.safetensors\",\"b\":\"m-3.safetensors\"}}", "m-3",
         ERR_MISSING},
        {"{\"weight_map\":{\"a\":\"m-1.safetensors\"},\"x\":{}}", NULL, ERR_OK},
        {"{\"weight_map\":{\"a\":\"m-2.safetensors\"}}", "'a' is not in", ERR_FORMAT},
        {"{\"weight_map\":{\"a\":\"m-1.safetensors\",\"c\":\"m-2.safetensors\"}}", "'c'",
         ERR_FORMAT},
        {"{\"weight_map\":{\"a\":\"m-1.safetensors\",\"a\":\"m-2.safetensors\"}}", NULL,
         ERR_FORMAT},
        {"{\"weight_map\":{\"a\":\"../m-1.safetensors\"}}", "plain", ERR_FORMAT},
        {"{\"weight_map\":{\"a\":7}}", "file", ERR_FORMAT},
        {"{\"weight_map\":{}}", "weight_map", ERR_FORMAT},
        {"[]", "weight_map", ERR_FORMAT},
        {"{", NULL, ERR_FORMAT},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        write_text(folder, INDEX, bad[i].index);
        enum error_code code = weights_open_folder(&file, folder, "m", &error);
        if (code != bad[i].code || (bad[i].why != NULL && strstr(error.detail, bad[i].why) == NULL))
            fail_msg("%s gave %s: %s", bad[i].index, error_name(code), error.detail);
        weights_close(&file);
    }
    write_shard(folder, "m-2.safetensors", "a", 2); /* the same name twice */
    write_text(folder, INDEX,
               "{\"weight_map\":{\"a\":\"m-1.safetensors\",\"b\":\"m-2.safetensors\"}}");
    assert_int_equal(weights_open_folder(&file, folder, "m", &error), ERR_FORMAT);
    assert_non_null(strstr(error.detail, "m-1"));
    assert_non_null(strstr(error.detail, "m-2"));
    ok(file_remove_tree(folder, &error), &error);
}

#define HEADER_BYTES 2200 /* of the file below, about */

/* Any one bit of a real header, and any cut of the file. */
static void damaged_files(void **state) {
    struct arena arena;
    struct error error = {0};
    char *bytes;
    size_t length;
    ok(arena_open(&arena, 1 << 22, &error), &error);
    ok(file_read(&bytes, &length, &arena, RANDOM_WAN "/text_encoder/model.safetensors", 1 << 21,
                 &error),
       &error);
    for (size_t i = 0; i < HEADER_BYTES * 8; i += 3) {
        struct weights *file;
        bytes[i / 8] = (char)(bytes[i / 8] ^ (1 << i % 8));
        (void)!weights_open_memory(&file, bytes, length, "x", &error);
        for (size_t k = 0; file != NULL && k < weights_count(file); k++) {
            const struct tensor *tensor = weights_tensor(file, k);
            const char *end = (const char *)tensor->data +
                              (size_t)tensor_elements(tensor) * dtype_bytes(tensor->dtype);
            if ((const char *)tensor->data >= bytes) /* not an aligned copy */
                assert_true(end <= bytes + length);
        }
        weights_close(&file);
        bytes[i / 8] = (char)(bytes[i / 8] ^ (1 << i % 8));
    }
    for (size_t cut = 0; cut < length; cut += cut < 3000 ? 1 : 997) {
        struct weights *file;
        assert_int_not_equal(weights_open_memory(&file, bytes, cut, "x", &error), ERR_OK);
    }
    arena_close(&arena);
}

/* A file of `count` tensors without elements, and an index of one file that names as many. */
static void write_many(const char *folder, const char *name, size_t count) {
    struct buffer header = {0}, file = {0}, index = {0};
    char path[FILE_PATH_BYTES];
    struct error error = {0};
    for (size_t i = 0; i < count; i++) {
        buffer_printf(&header, "%s\"t%zu\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}",
                      i > 0 ? "," : "{", i);
        buffer_printf(&index, "%s\"t%zu\":\"%s\"", i > 0 ? "," : "{\"weight_map\":{", i, name);
    }
    buffer_add_text(&header, "}");
    buffer_add_text(&index, "}}");
    uint64_t length = header.length;
    buffer_add(&file, &length, sizeof length);
    buffer_add(&file, header.data, header.length);
    ok(file_write(in_folder(path, folder, name), file.data, file.length, false, &error), &error);
    ok(file_write(in_folder(path, folder, INDEX), index.data, index.length, false, &error), &error);
    buffer_close(&header);
    buffer_close(&file);
    buffer_close(&index);
}

static void many_tensors(void **state) {
    char folder[64], path[FILE_PATH_BYTES];
    struct error error = {0};
    struct weights *file;
    make_folder(folder);
    write_many(folder, "many.safetensors", WEIGHTS_TENSORS_MAX);
    ok(weights_open_folder(&file, folder, "m", &error), &error);
    assert_int_equal(weights_count(file), WEIGHTS_TENSORS_MAX);
    weights_close(&file);
    write_many(folder, "many.safetensors", WEIGHTS_TENSORS_MAX + 1);
    assert_int_equal(weights_open_folder(&file, folder, "m", &error), ERR_LIMIT);
    assert_non_null(strstr(error.detail, INDEX ": more than 16384 tensors"));
    assert_int_equal(weights_open(&file, in_folder(path, folder, "many.safetensors"), &error),
                     ERR_LIMIT);
    assert_non_null(strstr(error.detail, "many.safetensors: more than 16384 tensors"));
    ok(file_remove_tree(folder, &error), &error);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_headers),  cmocka_unit_test(lying_headers),
        cmocka_unit_test(lying_lengths), cmocka_unit_test(write_and_read),
        cmocka_unit_test(missing_files), cmocka_unit_test(shards),
        cmocka_unit_test(damaged_files), cmocka_unit_test(many_tensors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "tests/worker/model/holes.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/file.h"
#include "base/random.h"
#include "kernels/cpu/float.h"
#include "tests/worker/model/model_test.h"

#define TILE         (1 << 20) /* numbers, written again and again */
#define DEVIATION    0.02f
#define FILL_THREADS 16

void holes_start(struct holes *holes) {
    *holes = (struct holes){.at = 0};
    holes->json = (struct json_writer){.buffer = &holes->header};
    json_begin_object(&holes->json, NULL);
}

void holes_add(struct holes *holes, const char *name, const int64_t *dims) {
    int64_t bytes = 2;
    json_begin_object(&holes->json, name);
    json_put_text(&holes->json, "dtype", "BF16");
    json_begin_array(&holes->json, "shape");
    for (; *dims != 0; dims++) {
        json_put_int(&holes->json, NULL, *dims);
        bytes *= *dims;
    }
    json_end_array(&holes->json);
    json_begin_array(&holes->json, "data_offsets");
    json_put_int(&holes->json, NULL, holes->at);
    json_put_int(&holes->json, NULL, holes->at += bytes);
    json_end_array(&holes->json);
    json_end_object(&holes->json);
}

void holes_vector(struct holes *holes, const char *prefix, const char *name, int64_t count) {
    char full[128];
    (void)snprintf(full, sizeof full, "%s%s", prefix, name);
    holes_add(holes, full, (const int64_t[]){count, 0});
}

void holes_layer(struct holes *holes, const char *prefix, const char *name, int64_t out,
                 int64_t in) {
    char full[128];
    (void)snprintf(full, sizeof full, "%s%s.weight", prefix, name);
    holes_add(holes, full, (const int64_t[]){out, in, 0});
    (void)snprintf(full, sizeof full, "%s%s.bias", prefix, name);
    holes_add(holes, full, (const int64_t[]){out, 0});
}

void holes_finish(struct holes *holes, const char *folder, const char *file) {
    char path[FILE_PATH_BYTES];
    struct error error = {0};
    struct buffer *header = &holes->header;
    json_end_object(&holes->json);
    while (header->length % 8 != 0)
        buffer_add_text(header, " ");
    uint64_t length = header->length; /* little endian, as every machine this runs on */
    ok(file_join(path, folder, file, &error), &error);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0644);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, &length, sizeof length), sizeof length);
    assert_int_equal(write(fd, header->data, header->length), header->length);
    assert_int_equal(ftruncate(fd, (off_t)(8 + header->length) + holes->at), 0);
    assert_int_equal(close(fd), 0);
    buffer_close(header);
}

void holes_from_list(const char *list, const char *component, const char *folder,
                     const char *file) {
    char name[128], which[32], line[256];
    struct holes holes;
    FILE *shapes = fopen(list, "r");
    assert_non_null(shapes);
    holes_start(&holes);
    while (fgets(line, sizeof line, shapes) != NULL) {
        int end = 0, rank = 0;
        int64_t dims[8] = {0};
        assert_int_equal(sscanf(line, "%31s %127s%n", which, name, &end), 2);
        if (strcmp(which, component) != 0)
            continue;
        char *next = line + end;
        for (char *from = next; *from != '\n'; from = next)
            dims[rank++] = strtoll(from, &next, 10);
        holes_add(&holes, name, dims);
    }
    assert_int_equal(fclose(shapes), 0);
    holes_finish(&holes, folder, file);
}

static void add_attention(struct holes *holes, const struct transformer_config *config, int block,
                          int which) {
    static const char *const projections[] = {"to_q", "to_k", "to_v", "to_out.0"};
    char prefix[64];
    int64_t d = config->width;
    (void)snprintf(prefix, sizeof prefix, "blocks.%d.attn%d.", block, which);
    for (int i = 0; i < 4; i++)
        holes_layer(holes, prefix, projections[i], d, d);
    holes_vector(holes, prefix, "norm_q.weight", d);
    holes_vector(holes, prefix, "norm_k.weight", d);
    if (which == 1 || config->image_width == 0)
        return;
    holes_layer(holes, prefix, "add_k_proj", d, d);
    holes_layer(holes, prefix, "add_v_proj", d, d);
    holes_vector(holes, prefix, "norm_added_k.weight", d);
}

static void add_block(struct holes *holes, const struct transformer_config *config, int block) {
    char prefix[64], name[96];
    int64_t d = config->width;
    (void)snprintf(prefix, sizeof prefix, "blocks.%d.", block);
    (void)snprintf(name, sizeof name, "%sscale_shift_table", prefix);
    holes_add(holes, name, (const int64_t[]){1, 6, d, 0});
    add_attention(holes, config, block, 1);
    add_attention(holes, config, block, 2);
    holes_vector(holes, prefix, "norm2.weight", d);
    holes_vector(holes, prefix, "norm2.bias", d);
    holes_layer(holes, prefix, "ffn.net.0.proj", config->ffn, d);
    holes_layer(holes, prefix, "ffn.net.2", d, config->ffn);
}

void holes_transformer(const struct transformer_config *config, const char *folder,
                       const char *file) {
    static const char embedder[] = "condition_embedder.";
    static const char image[] = "condition_embedder.image_embedder.";
    struct holes holes;
    int64_t d = config->width;
    holes_start(&holes);
    holes_add(&holes, "patch_embedding.weight",
              (const int64_t[]){d, config->in_channels, 1, 2, 2, 0});
    holes_vector(&holes, "", "patch_embedding.bias", d);
    holes_layer(&holes, embedder, "text_embedder.linear_1", d, config->text_width);
    holes_layer(&holes, embedder, "text_embedder.linear_2", d, d);
    holes_layer(&holes, embedder, "time_embedder.linear_1", d, config->frequencies);
    holes_layer(&holes, embedder, "time_embedder.linear_2", d, d);
    holes_layer(&holes, embedder, "time_proj", 6 * d, d);
    if (config->image_width > 0) {
        holes_vector(&holes, image, "norm1.weight", config->image_width);
        holes_vector(&holes, image, "norm1.bias", config->image_width);
        holes_layer(&holes, image, "ff.net.0.proj", config->image_width, config->image_width);
        holes_layer(&holes, image, "ff.net.2", d, config->image_width);
        holes_vector(&holes, image, "norm2.weight", d);
        holes_vector(&holes, image, "norm2.bias", d);
    }
    if (config->image_rows > 0)
        holes_add(&holes, "condition_embedder.image_embedder.pos_embed",
                  (const int64_t[]){1, config->image_rows, config->image_width, 0});
    for (int i = 0; i < config->layers; i++)
        add_block(&holes, config, i);
    holes_add(&holes, "scale_shift_table", (const int64_t[]){1, 2, d, 0});
    holes_layer(&holes, "", "proj_out", 4 * config->out_channels, d);
    holes_finish(&holes, folder, file);
}

void write_text(const char *folder, const char *name, const char *text) {
    char path[FILE_PATH_BYTES];
    struct error error = {0};
    ok(file_join(path, folder, name, &error), &error);
    ok(file_write(path, text, strlen(text), false, &error), &error);
}

static void make_tile(bf16 *tile) {
    static float normal[TILE];
    random_normal(normal, TILE, 1, 1, 0);
    for (int i = 0; i < TILE; i++)
        tile[i] = bf16_from_float(DEVIATION * normal[i]);
}

struct fill {
    const bf16 *tile;
    uint8_t *data;
    size_t bytes, first, stride; /* stride: between the tiles that one thread writes */
};

static void *fill(void *argument) {
    const struct fill *f = argument;
    for (size_t at = f->first; at < f->bytes; at += f->stride) {
        size_t left = f->bytes - at, tile = TILE * sizeof *f->tile;
        memcpy(f->data + at, f->tile, left < tile ? left : tile);
    }
    return NULL;
}

/* By threads, in a mapping: those that write one file by calls wait for each other. */
static void fill_all(uint8_t *data, size_t bytes) {
    static bf16 tile[TILE];
    struct fill fills[FILL_THREADS];
    pthread_t threads[FILL_THREADS];
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    size_t count = processors < 1              ? 1
                   : processors < FILL_THREADS ? (size_t)processors
                                               : FILL_THREADS;
    make_tile(tile);
    for (size_t i = 0; i < count; i++) {
        fills[i] = (struct fill){.tile = tile,
                                 .data = data,
                                 .bytes = bytes,
                                 .first = i * sizeof tile,
                                 .stride = count * sizeof tile};
        assert_int_equal(pthread_create(&threads[i], NULL, fill, &fills[i]), 0);
    }
    for (size_t i = 0; i < count; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
}

/* A mapping of a full disk would end the process by a signal. A disk of no size has no limit. */
static void assert_room(int fd, size_t bytes) {
    struct statvfs disk;
    assert_int_equal(fstatvfs(fd, &disk), 0);
    assert_true(disk.f_blocks == 0 || (uint64_t)disk.f_bavail * disk.f_frsize >= bytes);
}

void holes_fill(const char *folder, const char *file) {
    char path[FILE_PATH_BYTES];
    struct error error = {0};
    struct stat stat;
    uint64_t header;
    ok(file_join(path, folder, file, &error), &error);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &stat), 0);
    assert_int_equal(pread(fd, &header, sizeof header, 0), sizeof header);
    size_t bytes = (size_t)stat.st_size, begin = sizeof header + header;
    assert_room(fd, bytes);
    uint8_t *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_true(map != MAP_FAILED);
    fill_all(map + begin, bytes - begin);
    assert_int_equal(munmap(map, bytes), 0);
    assert_int_equal(fsync(fd), 0);
    assert_int_equal(close(fd), 0);
}

void holes_folder(char folder[64], const struct transformer_config *shape) {
    static const char *const folders[] = {"scheduler", "transformer"};
    struct transformer_config config = *shape;
    char path[FILE_PATH_BYTES], text[256];
    struct error error = {0};
    config.in_channels = config.out_channels = 16;
    config.text_width = 4096;
    config.frequencies = 256;
    (void)snprintf(folder, 64, "/tmp/vidloom-test-XXXXXX");
    assert_non_null(mkdtemp(folder));
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        ok(file_join(path, folder, folders[i], &error), &error);
        ok(file_make_folders(path, &error), &error);
    }
    write_text(folder, "model_index.json", "{\"_class_name\": \"WanPipeline\"}");
    write_text(folder, "scheduler/scheduler_config.json",
               "{\"_class_name\": \"UniPCMultistepScheduler\", \"flow_shift\": 5.0, "
               "\"prediction_type\": \"flow_prediction\", \"use_flow_sigmas\": true}");
    (void)snprintf(text, sizeof text,
                   "{\"_class_name\": \"WanTransformer3DModel\", \"num_attention_heads\": %d, "
                   "\"ffn_dim\": %d, \"num_layers\": %d}",
                   shape->width / 128, shape->ffn, shape->layers);
    write_text(folder, "transformer/config.json", text);
    holes_transformer(&config, folder, "transformer/diffusion_pytorch_model.safetensors");
}

#include "tests/worker/model/small_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "worker/model/safetensors.h"

void small_put(struct small_model *m, const char *name, int rank, const int64_t *dim) {
    struct tensor tensor = {.dtype = DTYPE_F32, .rank = rank};
    memcpy(tensor.dim, dim, (size_t)rank * sizeof *dim);
    size_t count = (size_t)tensor_elements(&tensor);
    float *data = malloc(count * sizeof *data);
    assert_true(data != NULL && m->count < 256);
    random_normal(data, count, 3, (uint64_t)m->count, 0);
    tensor.data = data;
    m->tensor[m->count] = tensor;
    (void)snprintf(m->name[m->count++], sizeof m->name[0], "%s", name);
}

static void put_layer(struct small_model *m, const char *prefix, const char *name, int64_t out,
                      int64_t in) {
    char full[96];
    (void)snprintf(full, sizeof full, "%s%s.weight", prefix, name);
    small_put(m, full, DIMS(out, in));
    (void)snprintf(full, sizeof full, "%s%s.bias", prefix, name);
    small_put(m, full, DIMS(out));
}

static void put_block(struct small_model *m, int index, bool image) {
    static const char *const attention[] = {"self_attn.", "cross_attn."};
    static const char *const layers[] = {"q", "k", "v", "o", "k_img", "v_img"};
    char prefix[64], name[96];
    for (int a = 0; a < 2; a++) {
        (void)snprintf(prefix, sizeof prefix, "blocks.%d.%s", index, attention[a]);
        for (int i = 0; i < (a == 1 && image ? 6 : 4); i++)
            put_layer(m, prefix, layers[i], 128, 128);
        (void)snprintf(name, sizeof name, "%snorm_q.weight", prefix);
        small_put(m, name, DIMS(128));
        (void)snprintf(name, sizeof name, "%snorm_k.weight", prefix);
        small_put(m, name, DIMS(128));
        (void)snprintf(name, sizeof name, "%snorm_k_img.weight", prefix);
        if (a == 1 && image)
            small_put(m, name, DIMS(128));
    }
    (void)snprintf(prefix, sizeof prefix, "blocks.%d.", index);
    put_layer(m, prefix, "ffn.0", 64, 128);
    put_layer(m, prefix, "ffn.2", 128, 64);
    (void)snprintf(name, sizeof name, "%smodulation", prefix);
    small_put(m, name, DIMS(1, 6, 128));
    (void)snprintf(name, sizeof name, "%snorm3.weight", prefix);
    small_put(m, name, DIMS(128));
    (void)snprintf(name, sizeof name, "%snorm3.bias", prefix);
    small_put(m, name, DIMS(128));
}

void small_transformer(struct small_model *m, int64_t in, bool image) {
    small_put(m, "patch_embedding.weight", DIMS(128, in, 1, 2, 2));
    small_put(m, "patch_embedding.bias", DIMS(128));
    put_layer(m, "", "text_embedding.0", 128, 64);
    put_layer(m, "", "text_embedding.2", 128, 128);
    put_layer(m, "", "time_embedding.0", 128, 256);
    put_layer(m, "", "time_embedding.2", 128, 128);
    put_layer(m, "", "time_projection.1", 6 * 128, 128);
    put_layer(m, "", "head.head", 64, 128);
    small_put(m, "head.modulation", DIMS(1, 2, 128));
    for (int i = 0; i < 2; i++)
        put_block(m, i, image);
}

void small_umt5(struct small_model *m) {
    small_put(m, "token_embedding.weight", DIMS(32, 64));
    small_put(m, "norm.weight", DIMS(64));
    for (int i = 0; i < 2; i++) {
        static const char *const names[] = {"attn.q", "attn.k", "attn.v"};
        char name[96];
        for (int k = 0; k < 3; k++) {
            (void)snprintf(name, sizeof name, "blocks.%d.%s.weight", i, names[k]);
            small_put(m, name, DIMS(48, 64));
        }
        (void)snprintf(name, sizeof name, "blocks.%d.attn.o.weight", i);
        small_put(m, name, DIMS(64, 48));
        (void)snprintf(name, sizeof name, "blocks.%d.pos_embedding.embedding.weight", i);
        small_put(m, name, DIMS(32, 4));
        (void)snprintf(name, sizeof name, "blocks.%d.norm1.weight", i);
        small_put(m, name, DIMS(64));
        (void)snprintf(name, sizeof name, "blocks.%d.norm2.weight", i);
        small_put(m, name, DIMS(64));
        (void)snprintf(name, sizeof name, "blocks.%d.ffn.gate.0.weight", i);
        small_put(m, name, DIMS(96, 64));
        (void)snprintf(name, sizeof name, "blocks.%d.ffn.fc1.weight", i);
        small_put(m, name, DIMS(96, 64));
        (void)snprintf(name, sizeof name, "blocks.%d.ffn.fc2.weight", i);
        small_put(m, name, DIMS(64, 96));
    }
}

void small_write(struct small_model *m, const char *path) {
    const char *names[256];
    struct error error = {0};
    for (int i = 0; i < m->count; i++)
        names[i] = m->name[i];
    ok(safetensors_write(path, m->tensor, names, (size_t)m->count, &error), &error);
    for (int i = 0; i < m->count; i++)
        free((void *)(uintptr_t)m->tensor[i].data);
    m->count = 0;
}

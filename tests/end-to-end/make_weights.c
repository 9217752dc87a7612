/* Weight files of random numbers that no golden folder has: what the end-to-end tests need to make
 * a whole model of one, and LoRAs.
 *
 *     make_weights text FILE WIDTH      a text encoder of this width, with 640 pieces
 *     make_weights lora FILE WIDTH      of two blocks' attention in a transformer of this width */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/worker/model/small_model.h"

#define PIECES 640
#define HEADS  3
#define INNER  (HEADS * 12)
#define FFN    54
#define RANK   4

static void make_text(struct small_model *m, int64_t width) {
    static const char *const in[] = {"attn.q", "attn.k", "attn.v", "ffn.gate.0", "ffn.fc1"};
    char name[96];
    small_put(m, "token_embedding.weight", DIMS(PIECES, width));
    small_put(m, "norm.weight", DIMS(width));
    for (int i = 0; i < 2; i++) {
        for (int k = 0; k < 5; k++) {
            (void)snprintf(name, sizeof name, "blocks.%d.%s.weight", i, in[k]);
            small_put(m, name, DIMS(k < 3 ? INNER : FFN, width));
        }
        (void)snprintf(name, sizeof name, "blocks.%d.attn.o.weight", i);
        small_put(m, name, DIMS(width, INNER));
        (void)snprintf(name, sizeof name, "blocks.%d.ffn.fc2.weight", i);
        small_put(m, name, DIMS(width, FFN));
        (void)snprintf(name, sizeof name, "blocks.%d.pos_embedding.embedding.weight", i);
        small_put(m, name, DIMS(32, HEADS));
        (void)snprintf(name, sizeof name, "blocks.%d.norm1.weight", i);
        small_put(m, name, DIMS(width));
        (void)snprintf(name, sizeof name, "blocks.%d.norm2.weight", i);
        small_put(m, name, DIMS(width));
    }
}

static void make_lora(struct small_model *m, int64_t width) {
    static const char *const layers[] = {"self_attn.q", "self_attn.v", "cross_attn.o"};
    char name[96];
    for (int i = 0; i < 2; i++)
        for (int k = 0; k < 3; k++) {
            (void)snprintf(name, sizeof name, "diffusion_model.blocks.%d.%s.lora_A.weight", i,
                           layers[k]);
            small_put(m, name, DIMS(RANK, width));
            (void)snprintf(name, sizeof name, "diffusion_model.blocks.%d.%s.lora_B.weight", i,
                           layers[k]);
            small_put(m, name, DIMS(width, RANK));
        }
}

int main(int argc, char **argv) {
    static struct small_model model;
    int64_t width = argc == 4 ? strtol(argv[3], NULL, 10) : 0;
    if (width < 1 || (strcmp(argv[1], "text") != 0 && strcmp(argv[1], "lora") != 0)) {
        (void)fprintf(stderr, "usage: make_weights text|lora FILE WIDTH\n");
        return 2;
    }
    if (strcmp(argv[1], "text") == 0)
        make_text(&model, width);
    else
        make_lora(&model, width);
    small_write(&model, argv[2]);
    return 0;
}

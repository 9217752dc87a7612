/* A folder of a published checkpoint's shape, to measure the real program with:
 *
 *     random_folder NAME FOLDER [COMPONENT...]
 *
 * NAME as in published_folder.c ("TI2V-5B"), or "windows-1.3B": of the 1.3B's width, built as the
 * pocket family is, with components keyframe and window and windows of 81 frames. FOLDER is not
 * there yet. The weights of the components that are named (transformer, transformer_2, keyframe,
 * window, text_encoder, vae, image_encoder) are random numbers on the disk, those of the others
 * holes. Run it where the sources are. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/worker/model/holes.h"
#include "tests/worker/model/published_folder.h"

#define WINDOWS      "windows-1.3B"
#define SHAPES       "tests/worker/model/vectors"
#define WINDOW_INPUT 36 /* channels: latents, a mask of 4, the frames that are given */

static const struct published *find(const char *name) {
    const char *wanted = strcmp(name, WINDOWS) == 0 ? "T2V-1.3B" : name;
    for (const struct published *p = published_models; p->name != NULL; p++)
        if (strcmp(p->name, wanted) == 0)
            return p;
    return NULL;
}

static void make_component(const char *folder, const char *name, const struct published *p,
                           int channels) {
    const struct transformer_config shape = {.width = p->width,
                                             .ffn = p->ffn,
                                             .layers = p->layers,
                                             .in_channels = channels,
                                             .out_channels = p->out,
                                             .text_width = 4096,
                                             .frequencies = 256};
    char path[FILE_PATH_BYTES], config[256], file[96];
    struct error error = {0};
    ok(file_join(path, folder, name, &error), &error);
    ok(file_make_folders(path, &error), &error);
    (void)snprintf(file, sizeof file, "%.32s/config.json", name);
    (void)snprintf(config, sizeof config,
                   "{\"_class_name\": \"WanTransformer3DModel\", \"num_attention_heads\": %d, "
                   "\"ffn_dim\": %d, \"num_layers\": %d, \"in_channels\": %d, "
                   "\"out_channels\": %d}",
                   p->heads, p->ffn, p->layers, channels, p->out);
    write_text(folder, file, config);
    (void)snprintf(file, sizeof file, "%.32s/diffusion_pytorch_model.safetensors", name);
    holes_transformer(&shape, folder, file);
}

/* A window goes on from the last frame of the one before. */
static void make_windowed(const char *folder, const struct published *p) {
    make_component(folder, "keyframe", p, p->in);
    make_component(folder, "window", p, WINDOW_INPUT);
    write_text(folder, "model_index.json",
               "{\"_class_name\": \"WanWindowPipeline\", \"window_condition\": \"latent_zeros\", "
               "\"window_overlaps\": [1], \"window_frames\": 81, \"width\": 832, \"height\": 480, "
               "\"fps\": 16}");
}

int main(int argc, char **argv) {
    const struct published *p = argc < 3 ? NULL : find(argv[1]);
    struct error error = {0};
    if (p == NULL) {
        (void)fprintf(stderr, "usage: random_folder NAME FOLDER [COMPONENT...]\n");
        return 2;
    }
    if (access(SHAPES, R_OK) != 0) {
        (void)fprintf(stderr, "random_folder: %s is not here: run it where the sources are\n",
                      SHAPES);
        return 1;
    }
    ok(file_make_folders(argv[2], &error), &error);
    published_make(argv[2], p);
    if (strcmp(argv[1], WINDOWS) == 0)
        make_windowed(argv[2], p);
    for (int i = 3; i < argc; i++) {
        char file[96];
        bool encoder = strstr(argv[i], "encoder") != NULL;
        (void)snprintf(file, sizeof file, "%.32s/%s.safetensors", argv[i],
                       encoder ? "model" : "diffusion_pytorch_model");
        holes_fill(argv[2], file);
    }
    return 0;
}

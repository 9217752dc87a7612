/* A folder of a published checkpoint's shape, to measure the real program with:
 *
 *     random_folder NAME FOLDER [COMPONENT...]
 *
 * NAME as in published_folder.c ("TI2V-5B"); FOLDER is not there yet. The weights of the components
 * that are named (transformer, transformer_2, text_encoder, vae, image_encoder) are random numbers
 * on the disk, those of the others holes. Run it where the sources are. */
#include <stdio.h>
#include <string.h>

#include "tests/worker/model/holes.h"
#include "tests/worker/model/published_folder.h"

static const struct published *find(const char *name) {
    for (const struct published *p = published_models; p->name != NULL; p++)
        if (strcmp(p->name, name) == 0)
            return p;
    return NULL;
}

int main(int argc, char **argv) {
    const struct published *p = argc < 3 ? NULL : find(argv[1]);
    struct error error = {0};
    if (p == NULL) {
        (void)fprintf(stderr, "usage: random_folder NAME FOLDER [COMPONENT...]\n");
        return 2;
    }
    ok(file_make_folders(argv[2], &error), &error);
    published_make(argv[2], p);
    for (int i = 3; i < argc; i++) {
        char file[96];
        bool encoder = strstr(argv[i], "encoder") != NULL;
        (void)snprintf(file, sizeof file, "%.32s/%s.safetensors", argv[i],
                       encoder ? "model" : "diffusion_pytorch_model");
        holes_fill(argv[2], file);
    }
    return 0;
}

/* The text encoder and the image encoder. */
#include <stdlib.h>
#include <string.h>

#include "tests/parity/parity.h"

enum error_code parity_text(struct parity_result *result, const struct parity_given *given,
                            struct error *error) {
    const struct weights *tensors = given->tensors;
    struct parity_bench bench;
    struct umt5_config config;
    struct weights *file = NULL;
    struct umt5 *umt5 = NULL;
    const struct tensor *ids = NULL, *rows = NULL;
    float *got = NULL;
    enum error_code code = parity_bench_open(&bench, given, error);
    if (code == ERR_OK)
        code = parity_need(&ids, tensors, "ids", error);
    if (code == ERR_OK)
        code = parity_need(&rows, tensors, "rows", error);
    if (code == ERR_OK)
        code = config_read_umt5(&config, given->folder, NULL, error);
    if (code == ERR_OK)
        code = weights_open_folder(&file, given->folder, "model", error);
    if (code == ERR_OK)
        code = umt5_open(&umt5, &bench.runtime, file, &config, NULL, error);
    if (code == ERR_OK && (got = malloc((size_t)tensor_elements(rows) * sizeof *got)) == NULL)
        code = error_set(error, ERR_MEMORY, "no memory");
    if (code == ERR_OK)
        code = umt5_encode(umt5, &bench.runtime, got, ids->data, (int)ids->dim[0], error);
    if (code == ERR_OK)
        parity_measure(result, got, rows);
    free(got);
    umt5_close(&bench.runtime, &umt5);
    weights_close(&file);
    parity_bench_close(&bench);
    return code;
}

/* The fitted picture must be the same to the byte. */
static enum error_code check_fit(const struct clip_config *config, const struct tensor *rgb,
                                 const struct tensor *fit, struct error *error) {
    size_t bytes = (size_t)tensor_elements(fit), differ = 0;
    uint8_t *got = malloc(bytes);
    if (got == NULL)
        return error_set(error, ERR_MEMORY, "no memory");
    enum error_code code = clip_fit_picture(got, config->image_size, rgb->data, (int)rgb->dim[0],
                                            (int)rgb->dim[1], error);
    for (size_t i = 0; code == ERR_OK && i < bytes; i++)
        differ += got[i] != ((const uint8_t *)fit->data)[i];
    if (differ > 0)
        code = error_set(error, ERR_FORMAT, "%zu of %zu bytes of the fitted picture differ", differ,
                         bytes);
    free(got);
    return code;
}

enum error_code parity_clip(struct parity_result *result, const struct parity_given *given,
                            struct error *error) {
    const struct weights *tensors = given->tensors;
    struct parity_bench bench;
    struct clip_config config;
    struct weights *file = NULL;
    struct clip *clip = NULL;
    const struct tensor *rgb = NULL, *fit = NULL, *rows = NULL;
    enum error_code code = parity_bench_open(&bench, given, error);
    if (code == ERR_OK)
        code = parity_need(&rgb, tensors, "rgb", error);
    if (code == ERR_OK)
        code = parity_need(&fit, tensors, "fit", error);
    if (code == ERR_OK)
        code = parity_need(&rows, tensors, "rows", error);
    if (code == ERR_OK)
        code = config_read_clip(&config, given->folder, NULL, error);
    if (code == ERR_OK)
        code = check_fit(&config, rgb, fit, error);
    if (code == ERR_OK)
        code = weights_open_folder(&file, given->folder, "model", error);
    if (code == ERR_OK)
        code = clip_open(&clip, &bench.runtime, file, &config, NULL, error);
    if (code == ERR_OK) {
        float *got = work_floats(&bench.runtime, tensor_elements(rows));
        code = clip_encode(clip, &bench.runtime, got, rgb->data, (int)rgb->dim[0], (int)rgb->dim[1],
                           error);
        if (code == ERR_OK)
            parity_measure_there(result, &bench, got, rows);
    }
    clip_close(&bench.runtime, &clip);
    weights_close(&file);
    parity_bench_close(&bench);
    return code;
}

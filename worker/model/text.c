/* Text to rows: cleaned, cut into tokens, encoded. */
#include <stdlib.h>

#include "base/buffer.h"
#include "worker/model/task.h"
#include "worker/model/text_clean.h"

enum error_code text_body(struct parts *parts, struct runtime *runtime, void *request,
                          struct error *error) {
    struct text_task *text = request;
    return umt5_encode(parts->umt5, runtime, text->rows, text->ids, text->count, error);
}

enum error_code model_encode_text(struct model *model, float *rows, int *count, const char *text,
                                  struct error *error) {
    if (model->parts.umt5 == NULL || model->parts.tokenizer == NULL)
        return error_set(error, ERR_UNSUPPORTED, "the model was opened without its text encoder");
    struct buffer clean = {0};
    int32_t *ids = calloc((size_t)model->info.text_length, sizeof *ids);
    enum error_code code = ids == NULL ? error_set(error, ERR_MEMORY, "no memory for a text")
                                       : text_clean(&clean, text, error);
    if (code == ERR_OK)
        code = tokenizer_encode(model->parts.tokenizer, ids, count, model->info.text_length,
                                clean.data, clean.length, error);
    if (code == ERR_OK) {
        struct text_task request = {rows, ids, *count};
        code = model_run(model, text_body, &request, error);
    }
    buffer_close(&clean);
    free(ids);
    return code;
}

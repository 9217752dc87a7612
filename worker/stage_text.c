/* text: a text to its embeddings, [n,width] f32. */
#include "worker/stage.h"

enum error_code stage_text(struct stage_context *context, const struct stage_task *task,
                           struct stage_result *result, struct error *error) {
    const char *text;
    struct model *model;
    enum error_code code = stage_string(&text, task, "text", error);
    if (code == ERR_OK)
        code = stage_model(&model, context, task, STAGE_TEXT, error);
    if (code != ERR_OK)
        return code;
    const struct model_info *info = model_get_info(model);
    float *rows = arena_array(&context->arena, (size_t)info->text_length * (size_t)info->text_width,
                              sizeof *rows);
    if (!rows)
        return error_set(error, ERR_MEMORY, "no room for %d rows of text", info->text_length);
    int count = 0;
    code = model_encode_text(model, rows, &count, text, error);
    if (code != ERR_OK)
        return code;
    struct tensor tensor = {
        .data = rows, .dtype = DTYPE_F32, .rank = 2, .dim = {count, info->text_width}};
    return stage_put_tensor(context, task, "rows", &tensor, result, error);
}

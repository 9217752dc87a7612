/* image: a picture file of the user's to one frame, [1,H,W,3] u8. */
#include <stdlib.h>

#include "worker/stage.h"

enum error_code stage_image(struct stage_context *context, const struct stage_task *task,
                            struct stage_result *result, struct error *error) {
    int64_t width, height;
    enum error_code code = stage_int(&width, task, "width", 1, 1 << 14, error);
    if (code == ERR_OK)
        code = stage_int(&height, task, "height", 1, 1 << 14, error);
    if (code != ERR_OK)
        return code;
    if (!task->image_path)
        return error_set(error, ERR_FORMAT, "the lease of an image task names no file");
    /* The key was made from the picture's content: a file that was changed since is not the one. */
    struct hash now;
    code = hash_of_file(&now, task->image_path, error);
    if (code != ERR_OK)
        return code;
    if (!hash_equal(&now, &task->image_hash))
        return error_set(error, ERR_USAGE,
                         "%s was changed after the job was submitted; submit the job again",
                         task->image_path);
    uint8_t *rgb = NULL;
    code = media_read_image(&rgb, task->image_path, (int)width, (int)height, error);
    if (code == ERR_OK) {
        struct tensor tensor = {
            .data = rgb, .dtype = DTYPE_U8, .rank = 4, .dim = {1, height, width, 3}};
        code = stage_put_tensor(context, task, "frames", &tensor, result, error);
    }
    free(rgb);
    return code;
}

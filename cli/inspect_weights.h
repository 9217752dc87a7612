/* What `vidloom inspect` says of weight files: one by itself, and those of a model's folder. */
#ifndef VIDLOOM_CLI_INSPECT_WEIGHTS_H
#define VIDLOOM_CLI_INSPECT_WEIGHTS_H

#include "base/json.h"
#include "cli/cli.h"

/* By its name: .safetensors, .pth, .pt, .gguf, or an index. */
bool inspect_is_weights(const char *path);
/* Gives the exit status. */
int inspect_weights(struct cli *cli, const char *path, bool json);

/* A line, or an object of an array "components", for each component of a folder; what a model needs
 * and is not there is said. A component that cannot be read is left to whoever opens the model.
 * `pieces`: of its tokenizer; 0: it has none, or it is not known. */
void inspect_put_components(struct buffer *out, const char *folder, int pieces);
void inspect_put_components_json(struct json_writer *writer, const char *folder, int pieces);

#endif

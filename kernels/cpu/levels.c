/* Which instruction set level a machine has. Compiled without any instruction set flag. */
#include <string.h>

#include "kernels/cpu/cpu.h"

static const struct cpu_level plain = {
    .name = "plain",
    .layer_norm = layer_norm_plain,
    .rms_norm = rms_norm_plain,
    .qk_norm_rope = qk_norm_rope_plain,
    .channel_norm = channel_norm_plain,
    .activate = activate_plain,
    .gelu_gate = gelu_gate_plain,
    .modulation = modulation_plain,
    .convert = convert_plain,
    .combine = combine_plain,
    .to_channels_last = to_channels_last_plain,
    .to_channels_first = to_channels_first_plain,
    .from_pixels = from_pixels_plain,
    .to_pixels = to_pixels_plain,
};

enum error_code cpu_level_choose(struct cpu_level *out, const char *cap, struct error *error) {
    *out = plain;
    if (cap != NULL && strcmp(cap, "plain") != 0 && strcmp(cap, "avx2") != 0 &&
        strcmp(cap, "avx512") != 0) {
        return error_set(error, ERR_UNSUPPORTED,
                         "instruction set \"%s\" is not known: plain, avx2 or avx512", cap);
    }
    return ERR_OK;
}

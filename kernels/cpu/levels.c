/* Which instruction set level a machine has. Compiled without any instruction set flag. */
#include <string.h>

#include "kernels/cpu/levels.h"

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
    static const char *const caps[] = {"plain", "avx2", "avx512", "avx512_bf16"};
    size_t most = 0;
    while (cap != NULL && most < 4 && strcmp(cap, caps[most]) != 0) {
        most++;
    }
    if (cap == NULL) {
        most = 3;
    }
    if (most > 3) {
        return error_set(error, ERR_UNSUPPORTED,
                         "instruction set \"%s\" is not known: plain, avx2, avx512 or avx512_bf16",
                         cap);
    }
    *out = plain;
#if defined(VIDLOOM_X86)
    __builtin_cpu_init();
    /* Whatever has AVX2 has F16C, which clang 14 cannot ask for. */
    if (most >= 1 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        cpu_level_avx2(out);
        if (most >= 2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
            __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
            cpu_level_avx512(out);
            if (most >= 3 && __builtin_cpu_supports("avx512bf16") &&
                __builtin_cpu_supports("avx512vnni")) { /* as all that have the first */
                cpu_level_avx512_bf16(out);
                cpu_level_avx512_vnni(out);
            }
        }
    }
#endif
    return ERR_OK;
}

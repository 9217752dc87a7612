#include "worker/seam.h"

/* SEAM_FRAMES: fewer than the new frames less the tail of the shortest windows there are (17
 * frames, 5 of them given, 5 passed on), so that the next window goes on from frames as they were
 * decoded.
 */

enum error_code seam_open(struct seam *out, struct arena *arena, size_t bytes,
                          struct error *error) {
    *out = (struct seam){.step = arena_array(arena, bytes, sizeof *out->step),
                         .frame = arena_alloc(arena, bytes),
                         .bytes = bytes};
    if (!out->step || !out->frame)
        return error_set(error, ERR_MEMORY, "no room for two frames of %zu bytes at a seam", bytes);
    return ERR_OK;
}

void seam_set(struct seam *seam, const uint8_t *was, const uint8_t *again) {
    for (size_t i = 0; i < seam->bytes; i++)
        seam->step[i] = (int16_t)(was[i] - again[i]);
    seam->left = SEAM_FRAMES;
}

const uint8_t *seam_next(struct seam *seam, const uint8_t *frame) {
    if (seam->left == 0)
        return frame;
    for (size_t i = 0; i < seam->bytes; i++) {
        int value = frame[i] + seam->step[i] * seam->left / (SEAM_FRAMES + 1);
        seam->frame[i] = (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
    }
    seam->left--;
    return seam->frame;
}

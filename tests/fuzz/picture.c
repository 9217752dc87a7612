/* Pictures that users hand in: whatever the bytes, reading ends, and what comes out is whole. Read
 * through a file in memory, as the reader takes paths. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "worker/media/media.h"

#define WIDTH  48
#define HEIGHT 32

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    static int file = -1;
    static char path[64];
    if (file < 0) {
        file = memfd_create("picture", MFD_CLOEXEC);
        if (file < 0)
            abort();
        snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    }
    if (ftruncate(file, 0) != 0 || pwrite(file, bytes, length, 0) != (ssize_t)length)
        abort();
    uint8_t *rgb = NULL;
    struct error error = {0};
    if (media_read_image(&rgb, path, WIDTH, HEIGHT, &error) != ERR_OK) {
        if (error.code == ERR_OK || error.detail[0] == '\0')
            __builtin_trap(); /* a failure says why */
        return 0;
    }
    volatile uint8_t sum = 0;
    for (size_t i = 0; i < (size_t)WIDTH * HEIGHT * 3; i++)
        sum = (uint8_t)(sum + rgb[i]);
    free(rgb);
    return 0;
}

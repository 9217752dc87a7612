/* A picture for tests: what a user gives, the program only reads. */
#ifndef VIDLOOM_TESTS_WORKER_MEDIA_PNG_H
#define VIDLOOM_TESTS_WORKER_MEDIA_PNG_H

#include <stdint.h>

/* [height,width,3] u8 to a PNG file, always the same bytes. Fails the test. */
void write_png(const char *path, const uint8_t *rgb, int width, int height);

#endif

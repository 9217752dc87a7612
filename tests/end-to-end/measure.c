/* What frames show, roughly: are sky and ground those asked for, is something of the actor's colour
 * there, and does it move as asked?
 *
 *     measure WIDTH HEIGHT SKY GROUND COLOUR MOTION < frames.rgb
 *
 * Frames are packed 8-bit RGB. SKY: day or night. GROUND: sea or meadow. COLOUR: red or yellow.
 * MOTION: left, right, rises, sinks, still. Any may be "-": not looked at. Prints what it found;
 * exit status 1 when something is not as asked, 2 for usage. Rough on purpose: training/evaluate.py
 * is the judge of how good the model is. */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FRAMES_MAX 4096

struct frame {
    double luma, blue;  /* of the sky: mean, 0..255; blue minus red */
    double ground[3];   /* its mean red, green and blue */
    double x, y, share; /* the actor's pixels: centre, part of the picture */
};

static bool is_actor(const uint8_t *pixel, const char *colour) {
    int r = pixel[0], g = pixel[1], b = pixel[2];
    if (strcmp(colour, "red") == 0)
        return r > 90 && r > 2 * g && r > 2 * b;
    return r > 170 && g > 140 && b < g / 2 && r >= g; /* yellow */
}

/* The sky is the upper eighth of the picture, the ground the lower one. */
static struct frame look(const uint8_t *rgb, int width, int height, const char *colour) {
    struct frame frame = {0};
    double sky = 0, ground = 0, actor = 0;
    for (int y = 0; y < height; y++) {
        for (int x = 0; x < width; x++) {
            const uint8_t *pixel = rgb + 3 * ((size_t)y * (size_t)width + (size_t)x);
            bool hit = is_actor(pixel, colour);
            if (y < height / 8 && !hit) {
                frame.luma += 0.3 * pixel[0] + 0.59 * pixel[1] + 0.11 * pixel[2];
                frame.blue += pixel[2] - pixel[0];
                sky++;
            }
            if (y >= height - height / 8 && !hit) {
                for (int c = 0; c < 3; c++)
                    frame.ground[c] += pixel[c];
                ground++;
            }
            if (hit) {
                frame.x += x;
                frame.y += y;
                actor++;
            }
        }
    }
    frame.luma /= sky > 0 ? sky : 1;
    frame.blue /= sky > 0 ? sky : 1;
    for (int c = 0; c < 3; c++)
        frame.ground[c] /= ground > 0 ? ground : 1;
    frame.x /= actor > 0 ? actor : 1;
    frame.y /= actor > 0 ? actor : 1;
    frame.share = actor / ((double)width * height);
    return frame;
}

static int read_frames(struct frame *frames, int width, int height, const char *colour) {
    size_t bytes = 3 * (size_t)width * (size_t)height;
    uint8_t *rgb = malloc(bytes);
    int count = 0;
    while (rgb && count < FRAMES_MAX && fread(rgb, 1, bytes, stdin) == bytes)
        frames[count++] = look(rgb, width, height, colour);
    free(rgb);
    return count;
}

static bool check(bool right, const char *what) {
    printf("%s: %s\n", what, right ? "right" : "WRONG");
    return right;
}

static bool check_sky(const struct frame *frames, int count, const char *sky) {
    double luma = 0, blue = 0;
    for (int i = 0; i < count; i++) {
        luma += frames[i].luma / count;
        blue += frames[i].blue / count;
    }
    printf("sky: luma %.1f, blue over red %.1f\n", luma, blue);
    return check(strcmp(sky, "night") == 0 ? luma < 80 : luma > 110 && blue > 20, "sky");
}

static bool check_ground(const struct frame *frames, int count, const char *ground) {
    double mean[3] = {0};
    for (int i = 0; i < count; i++)
        for (int c = 0; c < 3; c++)
            mean[c] += frames[i].ground[c] / count;
    printf("ground: red %.1f, green %.1f, blue %.1f\n", mean[0], mean[1], mean[2]);
    return check(strcmp(ground, "sea") == 0 ? mean[2] > mean[0] + 8 && mean[2] > mean[1]
                                            : mean[1] > mean[0] + 8 && mean[1] > mean[2] + 8,
                 "ground");
}

static bool check_motion(const struct frame *frames, int count, const char *motion) {
    static const struct {
        const char *name;
        int x, y;
    } ways[] = {{"left", -1, 0}, {"right", 1, 0}, {"rises", 0, -1}, {"sinks", 0, 1}};
    double x = (frames[count - 1].x - frames[0].x) / count;
    double y = (frames[count - 1].y - frames[0].y) / count;
    printf("motion: %.2f right, %.2f down, pixels a frame\n", x, y);
    for (int i = 0; i < 4; i++)
        if (strcmp(motion, ways[i].name) == 0)
            return check(x * ways[i].x + y * ways[i].y > 0.2, "motion");
    return check(x > -0.2 && x < 0.2 && y > -0.2 && y < 0.2, "motion");
}

int main(int argc, char **argv) {
    static struct frame frames[FRAMES_MAX];
    double share = 0;
    if (argc != 7)
        return 2;
    const char *sky = argv[3], *ground = argv[4], *colour = argv[5], *motion = argv[6];
    long width = strtol(argv[1], NULL, 10), height = strtol(argv[2], NULL, 10);
    if (width < 16 || height < 16 || width > 8192 || height > 8192)
        return 2;
    int count = read_frames(frames, (int)width, (int)height, colour);
    if (count < 2)
        return 2;
    for (int i = 0; i < count; i++)
        share += frames[i].share / count;
    printf("actor: %.1f %% of the picture, %d frames\n", 100 * share, count);
    bool right = true;
    if (strcmp(sky, "-") != 0)
        right &= check_sky(frames, count, sky);
    if (strcmp(ground, "-") != 0)
        right &= check_ground(frames, count, ground);
    if (strcmp(colour, "-") != 0)
        right &= check(share > 0.005 && share < 0.4, "colour");
    if (strcmp(motion, "-") != 0)
        right &= check_motion(frames, count, motion);
    return !right;
}

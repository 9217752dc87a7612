// The world that the pocket family is trained on: small anti-aliased scenes, drawn from attributes
// and a seed. Coordinates are those of a 160x96 picture whatever the size asked for, so a larger
// picture shows the same scene sharper (a wider one shows more of it).
//
// What varies besides the attributes is kept little on purpose (three layouts, three places of the
// sun, one common time phase), because a model of a few million parameters has to learn all of it.

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { DAWN, DAY, SUNSET, NIGHT };
enum { SEA, DESERT, MEADOW, SNOWFIELD };
enum { NOTHING, MOUNTAINS, HILLS, CITY };
enum { SAILBOAT, BALLOON, BIRD, CAR, HOUSE, TREE };
enum { LEFT, RIGHT, RISES, SINKS, STILL };
enum { CLEAR, RAIN, SNOWFALL };

#define TAU 6.28318530718f

typedef struct {
    float r, g, b;
} rgb;
typedef struct {
    rgb c;
    float a;
} ink; // colour and coverage

typedef struct {
    int sky, ground, behind, actor, colour, motion, weather;
    int layout;
    float horizon, sun_x, sun_y, sun_r;
    float x, y, size, half_w, half_h; // the actor at frame 0, its scale, its half extent
    float vx, vy, t0;
    float width; // of the picture, in units of a 96-high one
    float px;    // size of a pixel in those units
} scene;

static const rgb palette[8] = {{216, 38, 40}, {36, 84, 206}, {252, 210, 36}, {248, 248, 246},
                               {30, 30, 36},  {38, 152, 62}, {246, 128, 18}, {134, 48, 172}};

static const rgb sky_top[4] = {{138, 132, 200}, {46, 116, 214}, {104, 36, 76}, {7, 11, 38}};
static const rgb sky_mid[4] = {{242, 178, 196}, {118, 182, 240}, {226, 82, 50}, {18, 28, 70}};
static const rgb sky_low[4] = {{255, 238, 196}, {212, 234, 250}, {255, 182, 66}, {42, 58, 108}};
static const rgb sun_colour[4] = {
    {255, 246, 220}, {255, 247, 196}, {255, 224, 120}, {236, 238, 226}};
// Light that falls on far things and on actors. Mild on actors, so that colours stay what they are.
static const rgb far_light[4] = {
    {1.0f, .86f, .92f}, {1, 1, 1}, {.92f, .60f, .52f}, {.24f, .29f, .50f}};
static const rgb actor_light[4] = {{1, .94f, .96f}, {1, 1, 1}, {1, .88f, .82f}, {.70f, .74f, .90f}};

static const rgb ground_lit[4][4] = {
    {{138, 138, 184}, {34, 108, 168}, {150, 60, 66}, {14, 24, 58}},
    {{224, 182, 142}, {234, 194, 118}, {214, 122, 56}, {96, 80, 74}},
    {{134, 168, 106}, {114, 184, 72}, {124, 130, 46}, {28, 70, 54}},
    {{248, 230, 238}, {248, 251, 255}, {250, 208, 194}, {132, 150, 194}}};
static const rgb ground_dark[4][4] = {
    {{96, 100, 156}, {18, 74, 132}, {92, 32, 58}, {8, 14, 40}},
    {{172, 124, 124}, {200, 150, 84}, {136, 64, 44}, {54, 46, 60}},
    {{92, 126, 98}, {70, 140, 56}, {72, 80, 38}, {14, 40, 42}},
    {{192, 184, 220}, {190, 212, 242}, {192, 142, 172}, {82, 100, 150}}};

static float clamp01(float v) {
    return v < 0 ? 0 : v > 1 ? 1 : v;
}
static float smooth(float a, float b, float v) {
    v = clamp01((v - a) / (b - a));
    return v * v * (3 - 2 * v);
}
static rgb mix(rgb a, rgb b, float t) {
    return (rgb){a.r + (b.r - a.r) * t, a.g + (b.g - a.g) * t, a.b + (b.b - a.b) * t};
}
static rgb tint(rgb a, rgb b) {
    return (rgb){a.r * b.r, a.g * b.g, a.b * b.b};
}
static rgb scale(rgb a, float k) {
    return (rgb){a.r * k, a.g * k, a.b * k};
}

static uint64_t next(uint64_t *s) { // splitmix64
    uint64_t z = (*s += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}
static float uniform(uint64_t *s, float a, float b) {
    return a + (b - a) * (float)(next(s) >> 40) / 16777216.0f;
}
static float hash01(int a, int b) {
    uint64_t s = (uint64_t)(uint32_t)a << 32 | (uint32_t)b;
    return (float)(next(&s) >> 40) / 16777216.0f;
}

// Signed distances: negative inside.
static float disc(float x, float y, float r) {
    return sqrtf(x * x + y * y) - r;
}
static float ellipse(float x, float y, float a, float b) { // near enough for edges
    float k = sqrtf(x * x / (a * a) + y * y / (b * b)),
          g = sqrtf(x * x / (a * a * a * a) + y * y / (b * b * b * b));
    return g > 1e-6f ? k * (k - 1) / g : -fminf(a, b);
}
static float box(float x, float y, float w, float h, float round) {
    float dx = fabsf(x) - w + round, dy = fabsf(y) - h + round;
    return sqrtf(fmaxf(dx, 0) * fmaxf(dx, 0) + fmaxf(dy, 0) * fmaxf(dy, 0)) +
           fminf(fmaxf(dx, dy), 0) - round;
}
static float capsule(float x, float y, float ax, float ay, float bx, float by, float r) {
    float ux = bx - ax, uy = by - ay,
          t = clamp01(((x - ax) * ux + (y - ay) * uy) / (ux * ux + uy * uy + 1e-9f));
    return disc(x - ax - t * ux, y - ay - t * uy, r);
}
static float triangle(float x, float y, float ax, float ay, float bx, float by, float cx,
                      float cy) { // clockwise on screen
    float d = -1e9f, p[4][2] = {{ax, ay}, {bx, by}, {cx, cy}, {ax, ay}};
    for (int i = 0; i < 3; i++) {
        float ex = p[i + 1][0] - p[i][0], ey = p[i + 1][1] - p[i][1];
        d = fmaxf(d, ((x - p[i][0]) * ey - (y - p[i][1]) * ex) / sqrtf(ex * ex + ey * ey));
    }
    return d;
}
static float cover(float d, float px) {
    return clamp01(.5f - d / px);
}
static void lay(ink *i, rgb c, float a) {
    if (a <= 0)
        return;
    float out = a + i->a * (1 - a);
    i->c = mix(i->c, c, a / out);
    i->a = out;
}

static void scene_init(scene *s, const int *attr, uint64_t seed, int anywhere, int w, int h) {
    uint64_t r = seed * 0x2545f4914f6cdd1du + 77;
    next(&r);
    *s = (scene){attr[0], attr[1], attr[2], attr[3], attr[4], attr[5], attr[6]};
    s->px = 96.0f / h;
    s->width = 96.0f * w / h;
    s->layout = (int)(next(&r) % 3);
    s->horizon = 55 + 3 * s->layout;
    s->sun_x = s->width * (.22f + .28f * (next(&r) % 3));
    s->sun_y = s->sky == DAWN ? s->horizon - 12 : s->sky == SUNSET ? s->horizon - 9 : 17;
    s->sun_r = s->sky == SUNSET ? 12 : 7;
    s->t0 = (float)(next(&r) % 64);
    s->size = uniform(&r, .85f, 1.15f);
    static const float hw[6] = {17, 14, 20, 19, 18, 15}, hh[6] = {18, 20, 12, 10, 16, 19};
    s->half_w = hw[s->actor] * s->size;
    s->half_h = hh[s->actor] * s->size;

    float go = uniform(&r, 1.0f, 1.5f), climb = uniform(&r, .6f, 1.0f), u = uniform(&r, 0, 1),
          v = uniform(&r, 0, 1);
    s->vx = s->motion == LEFT ? -go : s->motion == RIGHT ? go : 0;
    s->vy = s->motion == RISES ? -climb : s->motion == SINKS ? climb : 0;
    float lo = s->half_w + 1, hi = s->width - s->half_w - 1;
    if (anywhere && s->vx != 0)
        lo = -s->half_w, hi = s->width + s->half_w;
    s->x = lo + (hi - lo) * u;
    if (s->actor == BALLOON || s->actor == BIRD) {
        lo = s->half_h + 1, hi = s->horizon - s->half_h - 1;
        if (anywhere && s->vy != 0)
            lo = -s->half_h, hi = s->horizon + s->half_h;
        if (hi < lo)
            hi = lo;
        s->y = lo + (hi - lo) * v;
    } else { // standing or floating: y is where it touches the ground
        s->y = s->horizon + 12 + 14 * v;
    }
}

// ---- the still part: sky, sun, clouds, what is behind ----

static rgb sky_at(const scene *s, float y) {
    float f = clamp01(y / s->horizon);
    return f < .6f ? mix(sky_top[s->sky], sky_mid[s->sky], smooth(0, .6f, f))
                   : mix(sky_mid[s->sky], sky_low[s->sky], smooth(.6f, 1, f));
}

static float cloud(const scene *s, float x, float y) {
    static const float at[3][3][2] = {{{30, 14}, {104, 24}, {146, 9}},
                                      {{58, 10}, {132, 20}, {12, 26}},
                                      {{16, 10}, {82, 22}, {122, 8}}};
    float best = 0;
    for (int i = 0; i < 3; i++) {
        float cx = at[s->layout][i][0] * s->width / 160, cy = at[s->layout][i][1], k = 1 - .18f * i;
        if (fabsf(x - cx) > 26 || fabsf(y - cy) > 12)
            continue;
        float d = ellipse(x - cx, y - cy, 15 * k, 3.2f * k);
        if (s->sky == DAY) {
            d = fminf(d, disc(x - cx + 5 * k, y - cy + 2.5f * k, 4.6f * k));
            d = fminf(d, disc(x - cx - 3 * k, y - cy + 3.5f * k, 5.6f * k));
        } else {
            d = fminf(d, ellipse(x - cx - 7 * k, y - cy + 3, 11 * k, 1.8f * k));
        }
        best = fmaxf(best, smooth(1.2f, -1.8f, d));
    }
    return best;
}

static rgb sky_pixel(const scene *s, float x, float y) {
    rgb c = sky_at(s, y);
    float d = disc(x - s->sun_x, y - s->sun_y, 0), glow = expf(-d / (s->sky == SUNSET  ? 22
                                                                     : s->sky == NIGHT ? 9
                                                                                       : 14));
    float strength = s->sky == NIGHT ? .35f : .6f;
    if (s->weather != CLEAR)
        strength *= .6f;
    c = mix(c, sun_colour[s->sky], glow * strength);
    ink disc_ink = {sun_colour[s->sky], cover(d - s->sun_r, s->px * 1.4f)};
    if (s->sky == NIGHT) {
        float dark = fmaxf(smooth(2.2f, 1, disc(x - s->sun_x + 2, y - s->sun_y + 1.5f, 0)),
                           smooth(1.8f, .8f, disc(x - s->sun_x - 2.4f, y - s->sun_y - 2, 0)));
        disc_ink.c = mix(disc_ink.c, (rgb){196, 200, 204}, dark);
    }
    if (s->sky == SUNSET)
        disc_ink.c = mix(disc_ink.c, (rgb){255, 150, 60}, smooth(-12, 12, y - s->sun_y));
    c = mix(c, disc_ink.c, disc_ink.a);
    static const rgb cloud_colour[4] = {
        {255, 214, 214}, {255, 255, 255}, {250, 134, 84}, {32, 42, 84}};
    return mix(c, cloud_colour[s->sky], cloud(s, x, y) * (s->sky == NIGHT ? .55f : .8f));
}

static ink behind_pixel(const scene *s, float x, float y) {
    ink i = {{0, 0, 0}, 0};
    float u = x * 160 / s->width, up = s->horizon - y, px = s->px;
    rgb light = far_light[s->sky], haze = sky_low[s->sky];
    if (s->behind == MOUNTAINS) {
        static const float peak[3][4][3] = {
            // place, height, slope
            {{22, 22, .80f}, {62, 33, .86f}, {108, 25, .74f}, {146, 30, .90f}},
            {{8, 28, .84f}, {52, 22, .74f}, {94, 35, .86f}, {138, 24, .78f}},
            {{34, 32, .88f}, {78, 21, .70f}, {116, 29, .84f}, {156, 25, .76f}}};
        for (int k = 0; k < 4; k++) {
            const float *p = peak[s->layout][k];
            float dx = u - p[0], top = p[1] - fabsf(dx) * p[2];
            float jag = 1.1f * sinf(u * .9f + k) + .6f * sinf(u * 2.1f);
            float a = cover((up - top - jag * clamp01(fabsf(dx) * .15f)) * .75f, px);
            if (a <= 0)
                continue;
            rgb c = dx + jag * .8f < 0 ? (rgb){146, 152, 176} : (rgb){92, 100, 130};
            float snow = smooth(-.6f, .6f, up - (p[1] - 9 + 1.8f * sinf(u * 1.1f + k)));
            c = mix(c, dx + jag * .8f < 0 ? (rgb){250, 250, 255} : (rgb){196, 206, 228}, snow);
            c = mix(tint(c, light), haze, .14f + .22f * clamp01(1 - up / 18));
            lay(&i, c, a);
        }
    } else if (s->behind == HILLS) {
        static const float phase[3] = {0.4f, 2.3f, 4.4f};
        for (int k = 0; k < 3; k++) {
            float p = phase[s->layout] + 1.7f * k;
            float top = 17 - 5 * k + (4.5f - k) * sinf(u * (.052f + .014f * k) + p) +
                        1.5f * sinf(u * .11f + 2 * p);
            rgb c = mix((rgb){112, 152, 128}, (rgb){70, 122, 76}, k * .5f);
            c = mix(tint(c, light), haze, .34f - .13f * k);
            c = mix(c, scale(c, 1.14f), smooth(5, 0, top - up));
            lay(&i, c, cover((up - top) * .95f, px));
        }
    } else if (s->behind == CITY) {
        for (int k = 0; k < 2; k++) { // a hazy row, and a nearer one
            float step = k ? 13 : 11, v = u + 4 * k + 5 * s->layout;
            int n = (int)floorf(v / step);
            float in = v - n * step, wide = step * (k ? .88f : 1.01f);
            float top = (k ? 8 : 14) + floorf((k ? 17 : 18) * hash01(n * 3 + k, s->layout + 9));
            float a = cover(fmaxf(in - wide, up - top), px);
            if (in < wide * .5f)
                a = fminf(a, cover(-in, px));
            rgb c = mix((rgb){104, 112, 134}, (rgb){150, 142, 140}, hash01(n, 41 + k));
            c = tint(c, s->sky == NIGHT ? (rgb){.26f, .29f, .46f} : light);
            c = mix(c, haze, k ? .08f : s->sky == NIGHT ? .12f : .36f);
            if (k && a > 0) {
                int col = (int)floorf((in - 1.2f) / 3.4f),
                    row = (int)floorf((top - up - 1.8f) / 4.4f);
                float wx = in - 1.2f - col * 3.4f - 1.5f, wy = top - up - 1.8f - row * 4.4f - 1.6f;
                float win =
                    col >= 0 && col < 3 && row >= 0 ? cover(box(wx, wy, .95f, 1.25f, 0), px) : 0;
                float on = hash01(n * 31 + row, col * 7 + s->layout) < (s->sky == NIGHT ? .75f
                                                                        : s->sky == DAY ? 0
                                                                                        : .4f);
                c = mix(c, on ? (rgb){255, 216, 116} : scale(c, .74f), win * (on ? .95f : .7f));
            }
            lay(&i, c, a);
        }
    }
    return i;
}

// ---- the ground; only the sea moves ----

static ink land_pixel(const scene *s, float x, float y) {
    float u = x * 160 / s->width, d = (y - s->horizon) / (96 - s->horizon), px = s->px,
          p = 1.3f * s->layout;
    rgb lit = ground_lit[s->ground][s->sky], dark = ground_dark[s->ground][s->sky];
    ink i = {{0, 0, 0}, 0};
    if (s->ground == DESERT) {
        for (int k = 0; k < 3; k++) { // dunes: a steeper side, in shade
            float v = u * (.052f - .010f * k) + 2.3f * k + 2 * p, skew = v + .55f * sinf(v);
            float top = s->horizon + 1 + 10 * k - (1.2f + 2.0f * k) * (1 + sinf(skew)) * .8f;
            float shade = smooth(.1f, 1, -cosf(skew)) * smooth(15 + 4 * k, 0, y - top);
            float ripple = sinf((y + 2.2f * sinf(u * .055f + k)) * 1.25f) * smooth(0, 12, y - top);
            rgb c = mix(lit, dark,
                        .06f + .80f * shade + .09f * ripple * (1 - shade) +
                            .12f * smooth(4, 14, y - top));
            lay(&i, mix(c, sky_low[s->sky], .12f * (k == 0)), cover(top - y, px));
        }
    } else if (s->ground == MEADOW) {
        float top = s->horizon + .8f * sinf(u * .06f + p);
        float stripe = sinf(15 * sqrtf(clamp01(d)) + 1.5f * sinf(u * .03f + p) + p);
        rgb c = mix(lit, dark, .40f + .34f * smooth(-.7f, .7f, stripe) - .22f * d);
        lay(&i, mix(c, sky_low[s->sky], .18f * smooth(6, 0, y - top)), cover(top - y, px));
    } else {
        for (int k = 0; k < 3; k++) { // soft mounds with bluish hollows
            float top = s->horizon + .5f + 10.5f * k +
                        (1 + 1.3f * k) * sinf(u * (.062f - .012f * k) + 1.9f * k + 2 * p);
            rgb c = mix(lit, dark, .80f * smooth(1, 13, y - top) * (k == 2 ? .7f : 1));
            lay(&i, c, cover(top - y, px * 1.5f));
        }
    }
    return i;
}

static rgb sea_pixel(const scene *s, float x, float y, float t) {
    float d = clamp01((y - s->horizon) / (96 - s->horizon)), u = x - s->width / 2,
          p = 27 * sqrtf(d + .01f);
    float wt = TAU * t / 32;
    float w = .6f * sinf(p * 1.35f + .075f * u * (1.15f - .6f * d) - wt) +
              .4f * sinf(p * 1.9f - .055f * u + 1.1f * s->layout + 2 * wt);
    rgb mirror = sky_at(s, s->horizon - (y - s->horizon) * 1.2f);
    rgb c = mix(mix(mirror, ground_lit[SEA][s->sky], .55f + .3f * d), ground_dark[SEA][s->sky],
                clamp01(.30f * d + .34f * w * smooth(0, .25f, d) + .15f));
    c = mix(c, sky_low[s->sky], .26f * smooth(.50f, 1, w) * smooth(0, .3f, d));
    float g = (x - s->sun_x) / (5 + 17 * d), path = expf(-g * g) * (s->weather == CLEAR ? 1 : .5f);
    c = mix(c, sun_colour[s->sky],
            path * (.10f + .75f * smooth(.05f, .75f, w)) * (s->sky == DAY ? .55f : .8f));
    return mix(c, sky_low[s->sky], .35f * smooth(.10f, 0, d));
}

// ---- actors: local coordinates, origin at the centre (in the air) or at the foot ----

static void outline(const scene *s, rgb c, rgb *dark, rgb *light, rgb *rim) {
    *dark = scale(c, .72f);
    *light = mix(c, (rgb){255, 255, 255}, s->colour == 4 ? .14f : .22f);
    *rim = scale(c, .45f);
    if (s->colour == 4)
        *rim = s->sky == NIGHT ? (rgb){132, 142, 176} : (rgb){92, 92, 100};
    else if (s->sky == NIGHT)
        *rim = mix(c, (rgb){176, 188, 226}, .35f);
}

static ink balloon(const scene *s, float x, float y, float px, rgb c, rgb dark, rgb light,
                   rgb rim) {
    ink i = {{0, 0, 0}, 0};
    float env = y < -6 ? disc(x, y + 6, 13) : 0;
    if (y >= -6) { // tapers to the mouth
        float f = clamp01((y + 6) / 14), half = 13 * sqrtf(fmaxf(0, 1 - f * f * .93f));
        env = fmaxf(fabsf(x) - half, y - 8) * .86f;
    }
    rgb wood = tint((rgb){134, 88, 48}, actor_light[s->sky]);
    float rope =
        fminf(capsule(x, y, -3.2f, 7, -2.6f, 14, .35f), capsule(x, y, 3.2f, 7, 2.6f, 14, .35f));
    lay(&i, scale(wood, .7f), cover(rope, px));
    float basket = box(x, y - 16.5f, 3.6f, 2.7f, .8f);
    lay(&i, scale(wood, .55f), cover(basket - .6f, px));
    lay(&i, mix(wood, scale(wood, 1.35f), smooth(.5f, -.5f, y - 15)), cover(basket, px));
    lay(&i, rim, cover(env - .7f, px));
    float half = 13 * sqrtf(fmaxf(.06f, 1 - (y + 6) * (y + 6) / (y < -6 ? 169 : 210))),
          g = x / half;
    float gore = asinf(fmaxf(-1, fminf(1, g))) * 2.4f;
    float shade = .5f + .5f * cosf(gore * TAU / 1.5f);
    rgb b = mix(dark, c, .45f + .55f * shade);
    b = mix(b, light, .8f * smooth(9, 0, disc(x + 4, y + 11, 0)));
    b = mix(b, dark, .55f * smooth(-4, 9, y) + .25f * smooth(.6f, 1, fabsf(g)));
    lay(&i, b, cover(env, px));
    return i;
}

static ink bird(const scene *s, float x, float y, float px, float t, rgb c, rgb dark, rgb light,
                rgb rim) {
    ink i = {{0, 0, 0}, 0};
    float f = TAU * t / 16, a = .70f * sinf(f),
          b = a + .55f * sinf(f - 1.3f); // the tip lags, so a still shows the phase
    float ax = fabsf(x), ex = 2 + 8.5f * cosf(a), ey = -1 - 8.5f * sinf(a),
          tx = ex + 8.5f * cosf(b), ty = ey - 8.5f * sinf(b);
    float inner = capsule(ax, y, 1.5f, -.5f, ex, ey, 2.3f),
          outer = capsule(ax, y, ex, ey, tx, ty, 1.5f);
    float tail = triangle(ax, y, -1, 0, 3.6f, 7.5f, -1, 7.5f), body = ellipse(x, y, 3.4f, 4.8f),
          head = disc(x, y + 4.6f, 2.5f);
    float all = fminf(fminf(inner, outer), fminf(fminf(body, head), tail));
    lay(&i, rim, cover(all - .7f, px));
    lay(&i, dark, cover(tail, px));
    lay(&i, mix(c, dark, .45f), cover(outer, px));
    lay(&i, c, cover(inner, px));
    lay(&i, mix(c, light, smooth(3, -3, y)), cover(fminf(body, head), px));
    lay(&i, tint((rgb){250, 176, 40}, actor_light[s->sky]),
        cover(triangle(ax, y + 4.2f, -.5f, 1.9f, -.5f, -.6f, 1.1f, -.6f), px));
    return i;
}

static ink sailboat(const scene *s, float x, float y, float px, rgb c, rgb dark, rgb light,
                    rgb rim) {
    ink i = {{0, 0, 0}, 0};
    float ax = fabsf(x);
    rgb wood = tint((rgb){122, 76, 44}, actor_light[s->sky]);
    float sail = fmaxf(triangle(ax, y, .9f, -33, 14.5f - 2, -8, .9f, -8), .9f - ax);
    float hull = fmaxf(fmaxf(-6 - y, y - .6f), (ax - 16 + (y + 6) * .75f) * .8f);
    lay(&i, scale(wood, .6f), cover(box(x, y + 19, .6f, 15.5f, .2f), px));
    lay(&i, rim, cover(sail - .7f, px));
    lay(&i,
        mix(mix(c, light, smooth(8, 0, ax)), dark,
            .75f * smooth(-20, -8, y) * .7f + .25f * smooth(.55f, .9f, sinf((y + 33) * .75f))),
        cover(sail, px));
    lay(&i, scale(wood, .5f), cover(hull - .6f, px));
    lay(&i, mix(wood, tint((rgb){236, 226, 206}, actor_light[s->sky]), smooth(-4.1f, -4.9f, y)),
        cover(hull, px));
    return i;
}

static ink car(const scene *s, float x, float y, float px, rgb c, rgb dark, rgb light, rgb rim) {
    ink i = {{0, 0, 0}, 0};
    float ax = fabsf(x), body = box(x, y + 7, 18, 4.2f, 2.6f);
    float roof = fmaxf(fmaxf(-18 - y, y + 9), (ax - 8.5f - (y + 18) * .55f) * .87f) - .6f;
    lay(&i, rim, cover(fminf(body, roof) - .7f, px));
    lay(&i, c, cover(roof, px));
    rgb glass = s->sky == NIGHT
                    ? (rgb){255, 214, 126}
                    : mix(tint((rgb){176, 212, 232}, actor_light[s->sky]), sky_low[s->sky], .2f);
    float win =
        fmaxf(fmaxf(fmaxf(-16.3f - y, y + 10.6f), (ax - 7.2f - (y + 17) * .55f) * .87f), .9f - ax);
    lay(&i, scale(glass, s->sky == NIGHT ? .85f : .9f), cover(win, px));
    lay(&i, mix(mix(light, c, smooth(-10.5f, -8, y)), dark, smooth(-6, -3, y)), cover(body, px));
    lay(&i, (rgb){255, 240, 190}, cover(box(ax - 16.6f, y + 7.6f, 1, 1.1f, .6f), px));
    float wheel = disc(ax - 10, y + 3.6f, 3.9f);
    lay(&i, s->sky == NIGHT ? (rgb){44, 46, 60} : (rgb){36, 34, 38}, cover(wheel, px));
    lay(&i, tint((rgb){176, 176, 182}, actor_light[s->sky]), cover(wheel + 2.2f, px));
    return i;
}

static ink house(const scene *s, float x, float y, float px, rgb c, rgb dark, rgb light, rgb rim) {
    ink i = {{0, 0, 0}, 0};
    float ax = fabsf(x), wall = box(x, y + 8.5f, 13.5f, 8.5f, .2f),
          roof = triangle(ax, y, -1e-3f, -30, 17.5f, -16, -1e-3f, -16);
    rgb slate = tint((rgb){112, 82, 74}, actor_light[s->sky]);
    roof = fmaxf(roof, y + 16);
    lay(&i, rim, cover(wall - .7f, px));
    lay(&i, mix(mix(c, light, smooth(10, 0, ax)), dark, .9f * smooth(-9, -16, y) * .6f),
        cover(wall, px));
    lay(&i, scale(slate, .5f), cover(roof - .6f, px));
    lay(&i, mix(slate, scale(slate, 1.25f), smooth(.2f, .8f, .5f + .5f * sinf(y * 2.1f))),
        cover(roof, px));
    rgb glass = s->sky == DAY ? (rgb){190, 222, 240} : (rgb){255, 218, 128};
    float win = box(ax - 8.3f, y + 9.8f, 2.5f, 2.8f, .2f);
    rgb frame =
        s->colour == 3 ? scale(slate, .8f) : tint((rgb){240, 234, 224}, actor_light[s->sky]);
    lay(&i, frame, cover(win - .8f, px));
    lay(&i, glass, cover(win, px));
    lay(&i, frame, cover(box(x, y + 4.8f, 3.4f, 5.2f, .4f), px));
    lay(&i, scale(slate, .75f), cover(box(x, y + 4.4f, 2.6f, 4.8f, .4f), px));
    return i;
}

static ink tree(const scene *s, float x, float y, float px, rgb c, rgb dark, rgb light, rgb rim) {
    ink i = {{0, 0, 0}, 0};
    float ax = fabsf(x);
    rgb bark = tint((rgb){112, 78, 50}, actor_light[s->sky]);
    float trunk = fmaxf((ax - 2 - smooth(-5, 0, y) * 1.4f), fmaxf(y, -18 - y));
    float crown =
        fminf(fminf(disc(x, y + 27, 10), disc(ax - 7, y + 19, 7.6f)), disc(x, y + 18, 8.5f));
    lay(&i, scale(bark, .6f), cover(trunk - .6f, px));
    lay(&i, mix(bark, scale(bark, .7f), smooth(0, 2.5f, ax)), cover(trunk, px));
    lay(&i, rim, cover(crown - .7f, px));
    float puff = fmaxf(
        fmaxf(smooth(7, 1, disc(x, y + 31, 0)), .8f * smooth(5.5f, 1, disc(ax - 7.5f, y + 22, 0))),
        .5f * smooth(5, 1, disc(x, y + 20, 0)));
    lay(&i, mix(mix(c, dark, .9f * smooth(-24, -12, y)), light, .7f * puff), cover(crown, px));
    return i;
}

static ink actor_pixel(const scene *s, float x, float y, float px, float t, rgb c, rgb dark,
                       rgb light, rgb rim) {
    switch (s->actor) {
    case BALLOON:
        return balloon(s, x, y, px, c, dark, light, rim);
    case BIRD:
        return bird(s, x, y, px, t, c, dark, light, rim);
    case SAILBOAT:
        return sailboat(s, x, y, px, c, dark, light, rim);
    case CAR:
        return car(s, x, y, px, c, dark, light, rim);
    case HOUSE:
        return house(s, x, y, px, c, dark, light, rim);
    default:
        return tree(s, x, y, px, c, dark, light, rim);
    }
}

static float wrap(float v, float lo, float period) {
    return v - period * floorf((v - lo) / period);
}

static int in_air(const scene *s) {
    return s->actor == BALLOON || s->actor == BIRD;
}

// Where the actor is at a time. It leaves at one side and comes in at the other; the period is a
// little less than what would hide it wholly, so that a few frames always tell what comes next.
static void actor_at(const scene *s, float frame, float *x, float *y) {
    float pw = s->width + 2 * s->half_w - 3, ph = s->horizon + 2 * s->half_h - 3;
    *x = s->vx != 0 ? wrap(s->x + s->vx * frame, -s->half_w, pw) : s->x;
    *y = s->vy != 0 ? wrap(s->y + s->vy * frame, -s->half_h, ph) : s->y;
    float t = frame + s->t0;
    if (s->actor == SAILBOAT)
        *y += 1.0f * sinf(TAU * t / 32);
    if (s->actor == BALLOON && s->vy == 0)
        *y += .8f * sinf(TAU * t / 64);
}

static void draw_actor(const scene *s, float frame, float *canvas, int w, int h) {
    rgb c = tint(palette[s->colour], actor_light[s->sky]), dark, light, rim;
    if (s->colour == 4)
        c = mix(c, (rgb){60, 60, 70}, .1f);
    outline(s, c, &dark, &light, &rim);
    float x0, y0, t = frame + s->t0, k = s->size, px = s->px;
    actor_at(s, frame, &x0, &y0);
    float pw = s->width + 2 * s->half_w - 3, ph = s->horizon + 2 * s->half_h - 3;
    for (int copy = 0; copy < 2; copy++) {
        if (copy && s->vx == 0 && s->vy == 0)
            break;
        float cx = x0 + (copy && s->vx != 0 ? pw : 0), cy = y0 + (copy && s->vy != 0 ? ph : 0);
        float top = in_air(s) ? 21 : 36, low = in_air(s) ? 21 : 16;
        int xa = (int)floorf((cx - 22 * k) / px), xb = (int)ceilf((cx + 22 * k) / px);
        int ya = (int)floorf((cy - top * k) / px), yb = (int)ceilf((cy + low * k) / px);
        if (xa < 0)
            xa = 0;
        if (ya < 0)
            ya = 0;
        if (xb > w)
            xb = w;
        if (yb > h)
            yb = h;
        for (int j = ya; j < yb; j++) {
            for (int i = xa; i < xb; i++) {
                float lx = ((i + .5f) * px - cx) / k, ly = ((j + .5f) * px - cy) / k;
                ink p = {{0, 0, 0}, 0};
                if (!in_air(s) && ly > -2) { // a shadow on land, a reflection on water
                    if (s->actor == SAILBOAT) {
                        float wob = 1.1f * sinf(ly * 1.3f + TAU * t / 16);
                        ink m = sailboat(s, lx + wob, -1.2f - ly * 2.2f, px * 2 / k, c, dark, light,
                                         rim);
                        lay(&p, mix(m.c, ground_dark[SEA][s->sky], .35f),
                            m.a * .5f * smooth(15, 1, ly));
                    } else {
                        float e = ellipse(lx, ly - .3f, s->actor == TREE ? 11 : 19, 2.6f);
                        lay(&p, scale(ground_dark[s->ground][s->sky], .62f),
                            .6f * smooth(1.2f, -1.2f, e));
                    }
                }
                ink a = actor_pixel(s, lx, ly, px / k, t, c, dark, light, rim);
                lay(&p, a.c, a.a);
                if (p.a <= 0)
                    continue;
                float *o = canvas + 3 * (j * w + i);
                rgb m = mix((rgb){o[0], o[1], o[2]}, p.c, p.a);
                o[0] = m.r, o[1] = m.g, o[2] = m.b;
            }
        }
    }
}

// ---- weather ----

// Rain dims and greys; snowfall veils. Both before the drops, and the actor less than the rest.
static rgb veil(const scene *s, rgb c, float much) {
    static const rgb mist[4] = {{232, 214, 226}, {226, 232, 240}, {226, 172, 160}, {74, 86, 124}};
    float luma = .3f * c.r + .59f * c.g + .11f * c.b;
    if (s->weather == RAIN)
        return scale(mix(c, (rgb){luma * .96f, luma, luma * 1.06f}, .46f * much), 1 - .24f * much);
    if (s->weather == SNOWFALL)
        return mix(c, mist[s->sky], .30f * much);
    return c;
}

static void blend(float *canvas, int w, int h, int i, int j, rgb c, float a) {
    if (i < 0 || j < 0 || i >= w || j >= h || a <= 0)
        return;
    float *o = canvas + 3 * (j * w + i);
    o[0] += (c.r - o[0]) * a, o[1] += (c.g - o[1]) * a, o[2] += (c.b - o[2]) * a;
}

static void draw_rain(const scene *s, float t, float *canvas, int w, int h) {
    static const rgb drop[4] = {{236, 228, 240}, {226, 234, 244}, {244, 206, 190}, {136, 150, 190}};
    for (int n = 0; n < 44; n++) { // each falls 112 in 16 frames, and slants
        float fall = fmodf(hash01(n, 5) * 112 + 7 * t, 112) - 10;
        float x = (n + hash01(n, 6)) * s->width / 44, y = fall, len = 9;
        x -= fall * .22f - 10;
        x = wrap(x, -4, s->width + 8);
        int ya = (int)floorf((y - len / 2 - 2) / s->px), yb = (int)ceilf((y + len / 2 + 2) / s->px);
        for (int j = ya; j < yb; j++) {
            float v = (j + .5f) * s->px - y, mid = x - v * .22f;
            float fade = smooth(len / 2 + 1, len / 2 - 3, fabsf(v)) * .34f;
            for (int i = (int)floorf((mid - 2) / s->px); i <= (int)ceilf((mid + 2) / s->px); i++)
                blend(canvas, w, h, i, j, drop[s->sky],
                      fade * smooth(1.5f, .2f, fabsf((i + .5f) * s->px - mid)));
        }
    }
}

static void draw_snow(const scene *s, float t, float *canvas, int w, int h) {
    static const rgb flake[4] = {
        {255, 250, 252}, {255, 255, 255}, {255, 238, 232}, {206, 214, 236}};
    for (int n = 0; n < 34; n++) { // each falls 112 in 64 frames, and sways
        float r = 1.5f + .9f * hash01(n, 3), y = fmodf(hash01(n, 1) * 112 + 1.75f * t, 112) - 8;
        float x = (n + hash01(n, 2)) * s->width / 34 + 2.5f * sinf(TAU * (t / 64 + hash01(n, 4)));
        for (int j = (int)floorf((y - r - 1) / s->px); j <= (int)ceilf((y + r + 1) / s->px); j++)
            for (int i = (int)floorf((x - r - 1) / s->px); i <= (int)ceilf((x + r + 1) / s->px);
                 i++) {
                float d = disc((i + .5f) * s->px - x, (j + .5f) * s->px - y, r);
                blend(canvas, w, h, i, j, flake[s->sky], .85f * smooth(.8f, -1.2f, d));
            }
    }
}

static void draw_stars(const scene *s, float t, float *canvas, const float *open, int w, int h) {
    for (int n = 0; n < 36; n++) {
        float x = hash01(n, 11) * s->width, y = hash01(n, 12) * 50 + 2,
              r = .55f + .55f * hash01(n, 13);
        if (disc(x - s->sun_x, y - s->sun_y, s->sun_r + 3) < 0)
            continue;
        float a = .75f + .25f * sinf(TAU * (t / 32 + hash01(n, 14)));
        for (int j = (int)floorf((y - 2) / s->px); j <= (int)ceilf((y + 2) / s->px); j++)
            for (int i = (int)floorf((x - 2) / s->px); i <= (int)ceilf((x + 2) / s->px); i++) {
                if (i < 0 || j < 0 || i >= w || j >= h)
                    continue;
                float d = disc((i + .5f) * s->px - x, (j + .5f) * s->px - y, r);
                blend(canvas, w, h, i, j, (rgb){236, 240, 255},
                      a * smooth(.8f, -.6f, d) * open[j * w + i] * (s->weather == CLEAR ? 1 : .4f));
            }
    }
}

// Draws frames first..first+count-1 into out (count x h x w x 3). anywhere: 0, the actor is wholly
// visible at frame 0; 1, any phase of its way. where, if given, gets x, y, half width, half height
// of the actor per frame in pixels. Returns 0, or -1 without memory.
int world_clip(const int *attr, uint64_t seed, int anywhere, int first, int count, int w, int h,
               uint8_t *out, float *where) {
    scene s;
    scene_init(&s, attr, seed, anywhere, w, h);
    size_t n = (size_t)w * h;
    float *back = malloc(n * 11 * sizeof *back);
    if (!back)
        return -1;
    float *land = back + 3 * n, *canvas = land + 3 * n, *open = canvas + 3 * n, *top = open + n;
    for (int j = 0; j < h; j++) {
        for (int i = 0; i < w; i++) {
            float x = (i + .5f) * s.px, y = (j + .5f) * s.px;
            size_t o = (size_t)j * w + i;
            rgb c = {0, 0, 0};
            float seen = 0;
            if (y < s.horizon + 4) {
                c = sky_pixel(&s, x, y);
                ink b = y < s.horizon + 4 ? behind_pixel(&s, x, y) : (ink){{0, 0, 0}, 0};
                c = mix(c, b.c, b.a);
                seen = 1 - b.a;
            }
            memcpy(back + 3 * o, &c, sizeof c);
            open[o] = seen;
            ink g = {{0, 0, 0}, 0};
            if (s.ground == SEA)
                g.a = cover(s.horizon - y, s.px);
            else if (y > s.horizon - 8)
                g = land_pixel(&s, x, y);
            memcpy(land + 3 * o, &g.c, sizeof g.c);
            top[o] = g.a;
        }
    }
    for (int f = 0; f < count; f++) {
        float frame = (float)(first + f), t = frame + s.t0;
        memcpy(canvas, back, 3 * n * sizeof *canvas);
        if (s.sky == NIGHT)
            draw_stars(&s, t, canvas, open, w, h);
        if (in_air(&s)) {
            if (s.weather != CLEAR)
                for (size_t o = 0; o < n; o++) {
                    rgb c =
                        veil(&s, (rgb){canvas[3 * o], canvas[3 * o + 1], canvas[3 * o + 2]}, .8f);
                    memcpy(canvas + 3 * o, &c, sizeof c);
                }
            draw_actor(&s, frame, canvas, w, h);
        }
        for (int j = 0; j < h; j++) {
            for (int i = 0; i < w; i++) {
                size_t o = (size_t)j * w + i;
                if (top[o] <= 0)
                    continue;
                rgb g = s.ground == SEA ? sea_pixel(&s, (i + .5f) * s.px, (j + .5f) * s.px, t)
                                        : (rgb){land[3 * o], land[3 * o + 1], land[3 * o + 2]};
                if (in_air(&s))
                    g = veil(&s, g, .8f);
                rgb c = mix((rgb){canvas[3 * o], canvas[3 * o + 1], canvas[3 * o + 2]}, g, top[o]);
                memcpy(canvas + 3 * o, &c, sizeof c);
            }
        }
        if (s.weather != CLEAR && !in_air(&s))
            for (size_t o = 0; o < n; o++) {
                rgb c = veil(&s, (rgb){canvas[3 * o], canvas[3 * o + 1], canvas[3 * o + 2]}, .8f);
                memcpy(canvas + 3 * o, &c, sizeof c);
            }
        if (!in_air(&s))
            draw_actor(&s, frame, canvas, w, h);
        if (s.weather != CLEAR)
            for (size_t o = 0; o < n; o++) {
                rgb c = veil(&s, (rgb){canvas[3 * o], canvas[3 * o + 1], canvas[3 * o + 2]}, .2f);
                memcpy(canvas + 3 * o, &c, sizeof c);
            }
        if (s.weather == RAIN)
            draw_rain(&s, t, canvas, w, h);
        if (s.weather == SNOWFALL)
            draw_snow(&s, t, canvas, w, h);
        uint8_t *o = out + 3 * n * f;
        for (size_t k = 0; k < 3 * n; k++)
            o[k] = (uint8_t)(fminf(fmaxf(canvas[k], 0), 255) + .5f);
        if (where) {
            float x, y;
            actor_at(&s, frame, &x, &y);
            float mid = in_air(&s) ? y : y - s.half_h;
            where[4 * f] = x / s.px, where[4 * f + 1] = mid / s.px;
            where[4 * f + 2] = s.half_w / s.px, where[4 * f + 3] = s.half_h / s.px;
        }
    }
    free(back);
    return 0;
}

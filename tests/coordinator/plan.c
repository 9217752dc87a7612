/* The plan: frame arithmetic for all sizes, what is shared, and keys that change with what they
 * must and with nothing else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/json.h"
#include "coordinator/plan.h"
#include "fake.h"

static struct plan *open_plan(const struct job *job, int video) {
    struct plan *plan = NULL;
    struct error error = {0};
    if (plan_open(&plan, job, &job->videos[video], &error)) {
        print_error("%s\n", error.detail);
        fail();
    }
    return plan;
}

/* For every window length, overlap and length of video: the kept frames are the video's, each once,
 * in order, and none is asked of a window that does not have it. */
static void test_frames(void **state) {
    for (int window = 1; window <= 21; window++)
        for (int overlap = 0; overlap < window; overlap++)
            for (int64_t frames = 1; frames <= 90; frames++) {
                int64_t count = plan_windows(frames, window, overlap), kept = 0;
                assert_true(count >= 1);
                for (int64_t k = 0; k < count; k++) {
                    int64_t drop = k ? overlap : 0, whole = window - drop;
                    int64_t keep = k + 1 == count ? frames - kept : whole;
                    assert_true(keep >= 1 && keep <= whole);
                    /* The first new frame is where plan.h says. */
                    assert_int_equal(kept, k ? overlap + k * (window - overlap) : 0);
                    kept += keep;
                }
                assert_int_equal(kept, frames);
            }
    assert_int_equal(plan_windows(10, 5, 5), 0);
}

static void check_plan(const struct job *job, int video) {
    struct plan *plan = open_plan(job, video);
    struct plan_counts counts;
    struct error error = {0};
    const struct job_video *source = &job->videos[video];
    assert_int_equal(plan_count(&counts, job, source, &error), ERR_OK);
    assert_int_equal(counts.tasks, plan->task_count);
    assert_int_equal(counts.first, plan->first);
    assert_int_equal(counts.chain, plan->chain);
    assert_int_equal(plan->tasks[plan->chain].kind, PLAN_WINDOW);
    assert_int_equal(counts.windows, plan->window_count);
    int64_t kept = 0, steps = 0;
    unsigned kinds = 0;
    for (int i = 0; i < plan->task_count; i++) {
        const struct plan_task *task = &plan->tasks[i];
        struct arena arena;
        const struct json *parameters;
        kinds |= PLAN_KIND_BIT(task->kind);
        steps += task->steps;
        assert_int_equal(strlen(task->parameters), task->parameters_length);
        assert_int_equal(arena_open(&arena, 1 << 20, &error), ERR_OK);
        assert_int_equal(
            json_parse(&parameters, &arena, task->parameters, task->parameters_length, &error),
            ERR_OK);
        for (int j = 0; j < task->input_count; j++)
            assert_true(task->inputs[j].task < i);
        for (int j = 0; j < i; j++)
            assert_false(hash_equal(&task->key, &plan->tasks[j].key));
        if (task->kind == PLAN_DECODE) {
            assert_int_equal(json_int(parameters, "keep", -1), task->keep);
            assert_int_equal(json_int(parameters, "drop", -1), task->drop);
            assert_int_equal(json_int(parameters, "tail", -1),
                             task->index + 1 == plan->window_count ? 0 : counts.overlap);
            kept += task->keep;
        }
        if (task->kind == PLAN_WINDOW) {
            assert_int_equal(json_int(parameters, "index", -1), task->index);
            assert_int_equal(json_int(parameters, "stream", -1), task->index + 1);
            assert_int_equal(json_int(parameters, "tail", -1), job->window.facts.from_text ? 0
                                                               : task->index ? counts.overlap
                                                                             : 1);
        }
        arena_close(&arena);
    }
    assert_int_equal(kept, source->frames);
    assert_int_equal(steps, counts.steps);
    assert_int_equal(kinds, counts.kinds);
    assert_int_equal(plan->tasks[plan->task_count - 1].input_count, plan->window_count);
    plan_close(&plan);
}

static void test_plans(void **state) {
    char yaml[256];
    for (int frames = 1; frames < 80; frames += 3) {
        snprintf(yaml, sizeof yaml,
                 "model: pocket\nvideos: [{prompt: a, frames: %d}, {prompt: a, frames: %d, "
                 "image: i.png, guidance: 3}]",
                 frames, 80 - frames);
        struct job *job = fake_job(yaml);
        check_plan(job, 0);
        check_plan(job, 1);
        job_close(&job);
    }
    struct job *job = fake_job("model: {keyframe: pocket, window: wan}\noutput: {size: 320x192}\n"
                               "videos: [{prompt: a, seconds: 20, motion: b}]");
    check_plan(job, 0);
    job_close(&job);
}

static void test_texts(void **state) {
    struct buffer text = {0};
    plan_window_text(&text, "a red ball.", "it rises");
    assert_string_equal(text.data, "a red ball. it rises");
    text.length = 0;
    plan_window_text(&text, "a red ball", "");
    assert_string_equal(text.data, "a red ball");
    buffer_close(&text);

    /* Windows of 17 with overlap 5: first new frames 0, 17, 29, 41, 53; shots end at 16, 32, 64. */
    struct job *job = fake_job("model: pocket\nvideos:\n"
                               "  - prompt: a\n"
                               "    shots: [{seconds: 1, motion: b}, {seconds: 1, motion: c},"
                               " {seconds: 2, motion: b}]\n");
    struct plan *plan = open_plan(job, 0);
    static const char *const motions[] = {"b", "c", "c", "b", "b"};
    assert_int_equal(plan->window_count, 5);
    assert_int_equal(plan->first, 3); /* "a", "a. b", "a. c" */
    for (int k = 0; k < 5; k++) {
        const struct plan_task *window = &plan->tasks[plan->first + 1 + 2 * k];
        const struct plan_task *used = &plan->tasks[window->inputs[0].task];
        char expected[64];
        snprintf(expected, sizeof expected, "\"text\":\"a. %s\"", motions[k]);
        assert_int_equal(window->kind, PLAN_WINDOW);
        assert_non_null(strstr(used->parameters, expected));
    }
    plan_close(&plan);
    job_close(&job);
    /* Of two models each encodes its own. */
    struct plan_counts counts;
    struct error error = {0};
    job = fake_job("model: {keyframe: pocket, window: ends}\nvideos: [{prompt: a, seconds: 1}]");
    assert_int_equal(plan_count(&counts, job, &job->videos[0], &error), ERR_OK);
    assert_int_equal(counts.texts, 2);
    assert_int_equal(counts.keyframe_texts, 1);
    job_close(&job);
    /* Without motion and with one model, the keyframe's text is the windows'. */
    job = fake_job("model: pocket\nvideos: [{prompt: a, seconds: 1}]");
    plan = open_plan(job, 0);
    assert_int_equal(plan->first, 1);
    assert_int_equal(plan_count(&counts, job, &job->videos[0], &error), ERR_OK);
    assert_int_equal(counts.keyframe_texts, 0);
    plan_close(&plan);
    job_close(&job);
}

/* Windows begin at frames 0, 17, 29, 41 …; what begins none is told. */
static void test_notes(void **state) {
    struct plan_note note = {0};
    struct job *job =
        fake_job("model: pocket\nvideos:\n"
                 "  - {name: a, prompt: p, seconds: 1}\n"
                 "  - {name: b, prompt: p, shots: [{seconds: 1}, {seconds: 0.0625},"
                 " {seconds: 0.6875}, {seconds: 0.0625}, {seconds: 0.6875}, {seconds: 0.125}]}\n"
                 "  - {name: c, prompt: p, seeds: 1..2, shots: [{seconds: 0.25}, {seconds: 0.125}, "
                 "{seconds: 1.875}]}\n");
    static const int shots[][2] = {{1, 1}, {1, 3}, {2, 1}, {3, 1}};
    for (size_t i = 0; i < sizeof shots / sizeof *shots; i++) {
        assert_true(plan_next_note(&note, job));
        print_message("%s\n", note.text);
        assert_int_equal(note.video, shots[i][0]);
        assert_int_equal(note.shot, shots[i][1]);
    }
    assert_string_equal(note.text, "shot 2 of 3, 0.25 to 0.38 s, is not used: no window begins in "
                                   "it; windows begin at 0, 1.06 s and every 0.75 s from there");
    assert_false(plan_next_note(&note, job));
    job_close(&job);
    job =
        fake_job("model: t2v\nvideos: [{prompt: p, shots: [{seconds: 0.3125}, {seconds: 0.25}]}]");
    note = (struct plan_note){0};
    assert_true(plan_next_note(&note, job));
    assert_non_null(strstr(note.text, "the video is one window"));
    job_close(&job);
}

static void first_keys(struct hash keys[PLAN_KIND_COUNT], const char *video) {
    char yaml[512];
    snprintf(yaml, sizeof yaml, "job: j\nmodel: %s\nvideos:\n  - {%s}\n",
             strstr(video, "MODEL2") ? "pocket2" : "pocket",
             strstr(video, "MODEL2") ? video + 7 : video);
    struct job *job = fake_job(yaml);
    struct plan *plan = open_plan(job, 0);
    memset(keys, 0, PLAN_KIND_COUNT * sizeof *keys);
    for (int i = plan->task_count - 1; i >= 0; i--) /* the first of each kind stays */
        keys[plan->tasks[i].kind] = plan->tasks[i].key;
    plan_close(&plan);
    job_close(&job);
}

enum { T = 1, K = 2, W = 4, D = 8, M = 16 };

static void test_keys(void **state) {
    static const char base[] = "name: v, prompt: a, motion: b, frames: 40, seed: 1";
    /* Which first keys change; never fewer, never more. */
    static const struct {
        const char *video;
        int changes;
    } variants[] = {
        {"name: v, prompt: a, motion: b, frames: 40, seed: 1", 0},
        {"name: w, prompt: a, motion: b, frames: 40, seed: 1", M},
        {"name: v, prompt: a, motion: b, frames: 41, seed: 1", M},
        {"name: v, prompt: a, motion: b, frames: 400, seed: 1", M},
        {"name: v, prompt: c, motion: b, frames: 40, seed: 1", T | K | W | D | M},
        {"name: v, prompt: a, motion: c, frames: 40, seed: 1", W | D | M},
        {"name: v, prompt: a, motion: b, frames: 40, seed: 2", K | W | D | M},
        {"name: v, prompt: a, motion: b, frames: 40, seed: 1, steps: 5", K | W | D | M},
        {"name: v, prompt: a, motion: b, frames: 40, seed: 1, guidance: 2", K | W | D | M},
        {"name: v, prompt: a, motion: b, frames: 40, seed: 1, shift: 2.5", K | W | D | M},
        {"name: v, prompt: a, motion: b, frames: 40, seed: 1, sampler: unipc", K | W | D | M},
        {"name: v, prompt: a, motion: b, frames: 40, seed: 1, sigmas: [1, 0.5]", K | W | D | M},
        {"name: v, prompt: a, motion: b, frames: 40, seed: 1, attention: exact", 0},
        {"name: v, prompt: a, motion: b, frames: 40, seed: 1, attention: 8bit", K | W | D | M},
        {"name: v, prompt: a, motion: b, frames: 40, seed: 1, keyframe: {steps: 5}", K | W | D | M},
        {"name: v, prompt: a, motion: b, frames: 40, seed: 1, window: {steps: 5}", W | D | M},
        {"name: v, prompt: a, motion: b, frames: 40, seed: 1, noise: torch", K | W | D | M},
        {"name: v, prompt: a, motion: b, frames: 40, seed: 1, windows: last_frame", W | D | M},
        {"name: v, prompt: a, motion: b, frames: 40, seed: 1, windows: overlap 5", W | D | M},
        {"name: v, prompt: a, motion: b, frames: 40, seed: 1, limits: {drift: 0.1, redraws: 1}", M},
        {"name: v, prompt: a, motion: b, frames: 40, seed: 1, negative: x", M}, /* guidance 1 */
        {"name: v, prompt: a, motion: b, frames: 40, seed: 1, output: {size: 176x96}",
         K | W | D | M},
        {"name: v, prompt: a, motion: b, frames: 40, seed: 1, output: {quality: 3}", D | M},
        {"name: v, prompt: a, motion: b, frames: 40, seed: 1, output: {codec: hevc}", D | M},
        {"name: v, prompt: a, motion: b, frames: 40, seed: 1, output: {fps: 8}", D | M},
        {"name: v, prompt: a, motion: b, frames: 40, seed: 1, output: {path: elsewhere.mp4}", 0},
        {"name: v, prompt: a, motion: b, frames: 40, seed: 1, output: {path: v.mkv}", M},
        {"MODEL2 name: v, prompt: a, motion: b, frames: 40, seed: 1", T | K | W | D | M},
    };
    struct hash before[PLAN_KIND_COUNT], after[PLAN_KIND_COUNT];
    first_keys(before, base);
    static const enum plan_kind kinds[] = {PLAN_TEXT, PLAN_KEYFRAME, PLAN_WINDOW, PLAN_DECODE,
                                           PLAN_MUX};
    for (size_t i = 0; i < sizeof variants / sizeof variants[0]; i++) {
        first_keys(after, variants[i].video);
        for (int j = 0; j < 5; j++)
            if (hash_equal(&before[kinds[j]], &after[kinds[j]]) ==
                (((variants[i].changes >> j) & 1) != 0)) {
                print_error("%s: the key of %s %s\n", variants[i].video, plan_kind_name(kinds[j]),
                            variants[i].changes >> j & 1 ? "does not change" : "changes");
                fail();
            }
    }
    /* An image's content, not its name, is in the keys; its name is in none. */
    first_keys(before, "prompt: a, frames: 40, image: a.png");
    first_keys(after, "prompt: a, frames: 40, image: b.png");
    assert_false(hash_equal(&before[PLAN_IMAGE], &after[PLAN_IMAGE]));
    assert_true(hash_equal(&before[PLAN_TEXT], &after[PLAN_TEXT]));
}

static const struct plan_input *input_named(const struct plan_task *task, const char *name) {
    for (int i = 0; i < task->input_count; i++)
        if (!strcmp(task->inputs[i].name, name))
            return &task->inputs[i];
    return NULL;
}

/* A video that ends in a picture: the last window is short, has it, and keeps its end. */
static void test_end_image(void **state) {
    struct job *job = fake_job("model: ends\nvideos: [{prompt: a, frames: 37, image: a.png, "
                               "end_image: b.png}, {prompt: a, frames: 9, end_image: b.png}]");
    check_plan(job, 0);
    check_plan(job, 1);
    struct plan *plan = open_plan(job, 0);
    assert_int_equal(plan->window_count, 3); /* 17, 12 and 8 new ones */
    assert_int_equal(plan->first, 2);
    assert_int_equal(plan->tasks[1].kind, PLAN_IMAGE);
    assert_ptr_equal(plan->tasks[1].file, job->videos[0].end);
    for (int k = 0; k < 3; k++) {
        const struct plan_task *window = &plan->tasks[plan->first + 1 + 2 * k];
        const struct plan_input *end = input_named(window, "end");
        assert_int_equal(end != NULL, k == 2);
        if (end)
            assert_int_equal(end->task, 1);
        for (int i = 0; i < 2; i++)
            assert_non_null(
                strstr(window[i].parameters, k == 2 ? "\"frames\":13," : "\"frames\":17,"));
    }
    assert_int_equal(plan->tasks[plan->task_count - 2].keep, 8);
    assert_int_equal(plan->tasks[plan->task_count - 2].drop, 5);
    assert_non_null(strstr(plan->tasks[plan->task_count - 1].parameters, "\"end_image\":\""));
    struct error error = {0};
    struct hash key = plan->tasks[1].key;
    assert_int_equal(plan_redraw(&plan, 1, 1, &error), ERR_OK);
    assert_true(hash_equal(&key, &plan->tasks[1].key));
    plan_close(&plan);
    job_close(&job);
}

/* A model of text alone: one window, as short as the video lets it be, without a first frame. */
static void test_from_text(void **state) {
    static const struct {
        int frames, window;
    } lengths[] = {{1, 1}, {2, 5}, {5, 5}, {6, 9}, {15, 17}, {16, 17}, {17, 17}};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        char yaml[160], expected[96];
        snprintf(yaml, sizeof yaml, "model: t2v\nvideos: [{prompt: a, motion: b, frames: %d}]",
                 lengths[i].frames);
        struct job *job = fake_job(yaml);
        check_plan(job, 0);
        struct plan *plan = open_plan(job, 0);
        const struct plan_task *window = &plan->tasks[1], *decode = &plan->tasks[2];
        assert_int_equal(plan->task_count, 4); /* text, window, decode, mux */
        assert_int_equal(window->kind, PLAN_WINDOW);
        snprintf(expected, sizeof expected, "\"frames\":%d,\"tail\":0,\"rule\":\"text\",",
                 lengths[i].window);
        assert_non_null(strstr(window->parameters, expected));
        assert_null(input_named(window, "tail"));
        assert_null(input_named(decode, "start"));
        assert_int_equal(decode->keep, lengths[i].frames);
        assert_int_equal(plan->tasks[3].inputs[0].task, 2);
        assert_null(strstr(plan->tasks[3].parameters, "\"keyframe\""));
        assert_non_null(strstr(plan->tasks[0].parameters, "\"text\":\"a. b\"}"));
        struct hash key = window->key;
        struct error error = {0};
        assert_int_equal(plan_redraw(&plan, 0, 1, &error), ERR_OK);
        assert_false(hash_equal(&key, &plan->tasks[1].key));
        plan_close(&plan);
        job_close(&job);
    }
}

/* The only window of a video, where its length is free: as short as the video lets it be, but the
 * last of several and all where it is not free have their whole length. */
static void test_short_videos(void **state) {
    static const struct {
        const char *model;
        int frames, windows, last;
    } lengths[] = {{"fits", 1, 1, 5},    {"fits", 2, 1, 5},   {"fits", 5, 1, 5},
                   {"fits", 6, 1, 9},    {"fits", 16, 1, 17}, {"fits", 17, 1, 17},
                   {"fits", 18, 2, 17},  {"fits", 30, 3, 17}, {"pocket", 5, 1, 17},
                   {"pocket", 17, 1, 17}};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        char yaml[160], expected[96];
        struct plan_counts counts;
        struct error error = {0};
        snprintf(yaml, sizeof yaml, "model: %s\nvideos: [{prompt: a, motion: b, frames: %d}]",
                 lengths[i].model, lengths[i].frames);
        struct job *job = fake_job(yaml), *again = NULL;
        struct buffer text = {0};
        check_plan(job, 0);
        struct plan *plan = open_plan(job, 0);
        assert_int_equal(plan->window_count, lengths[i].windows);
        int last = plan->chain + 2 * (lengths[i].windows - 1);
        snprintf(expected, sizeof expected, "\"frames\":%d,\"tail\":", lengths[i].last);
        assert_non_null(strstr(plan->tasks[last].parameters, expected));
        snprintf(expected, sizeof expected, "\"frames\":%d,\"drop\":", lengths[i].last);
        assert_non_null(strstr(plan->tasks[last + 1].parameters, expected));
        job_write(&text, job); /* the coordinator plans from the document */
        assert_int_equal(job_load(&again, text.data, text.length, &error), ERR_OK);
        assert_int_equal(plan_count(&counts, again, &again->videos[0], &error), ERR_OK);
        assert_int_equal(counts.computed, 17 * (lengths[i].windows - 1) + lengths[i].last);
        buffer_close(&text);
        plan_close(&plan);
        job_close(&again);
        job_close(&job);
    }
}

/* Noise levels and the second expert's guidance are in the lease, and in the finished file. */
static void test_levels(void **state) {
    struct job *job = fake_job("model: experts\nvideos: [{prompt: a, seconds: 1, guidance: 1, "
                               "guidance_low: 2.5, sigmas: [1, 0.25]}]");
    struct plan *plan = open_plan(job, 0);
    static const char levels[] =
        "\"guidance\":1,\"guidance_low\":2.5,\"shift\":3,\"sigmas\":[1,0.25,0]";
    assert_int_equal(plan->first, 2); /* the scene and, as one guidance is not 1, the negative */
    assert_non_null(strstr(plan->tasks[plan->first].parameters, levels));
    assert_non_null(input_named(&plan->tasks[plan->first], "negative"));
    assert_non_null(strstr(plan->tasks[plan->first + 1].parameters, levels));
    assert_non_null(strstr(plan->tasks[plan->task_count - 1].parameters, levels));
    plan_close(&plan);
    job_close(&job);
}

/* The keys of format 4, written down: a change here makes every stored result worthless, so it must
 * be meant, and come with a new PLAN_FORMAT. Mux is left out: its tags hold vidloom's version. */
static void test_golden(void **state) {
    static const char *const golden[] = {
        "ced57d5d1324d1f1f95e8c0cb2411ed2b84580c952d33628f06184b3d9ea9a10",
        "b46f76a0c7b0c259ce13aaa47ef65afff69ef839e61ee215418332b13174f6d8",
        "9d4645565c2fb9fdfc70dcf2b66f3a4ab2ab9637a3487057e80c255b37d3963d",
        "c859a099d0e6572c5bd6a86865057909843c41d440768f2de62a253664c3e17d",
    };
    static const enum plan_kind kinds[] = {PLAN_TEXT, PLAN_KEYFRAME, PLAN_WINDOW, PLAN_DECODE};
    struct hash keys[PLAN_KIND_COUNT];
    first_keys(keys, "name: v, prompt: a red ball, motion: it rises, frames: 40, seed: 1, "
                     "guidance: 1.5");
    assert_int_equal(PLAN_FORMAT, 4);
    for (int i = 0; i < 4; i++) {
        char hex[HASH_HEX_BYTES];
        hash_hex(hex, &keys[kinds[i]]);
        assert_string_equal(hex, golden[i]);
    }
}

static void test_parameters(void **state) {
    static const char *const expected[] = {
        "\"text\":\"a \\\"b\\\"\"}",
        "\"text\":\"\"}",
        "\"text\":\"a \\\"b\\\". c\"}",
        "\"width\":160,\"height\":96,\"seed\":7,\"stream\":0,\"noise\":\"vidloom\","
        "\"sampler\":\"euler\",\"steps\":4,\"guidance\":1.5,\"shift\":3}",
        "\"width\":160,\"height\":96,\"frames\":17,\"tail\":1,\"rule\":\"model\",\"index\":0,"
        "\"seed\":7,\"stream\":1,\"noise\":\"vidloom\",\"sampler\":\"euler\",\"steps\":4,"
        "\"guidance\":1.5,\"shift\":3}",
        "\"width\":160,\"height\":96,\"frames\":17,\"drop\":0,\"keep\":16,\"tail\":0,\"codec\":"
        "\"h264\",\"quality\":-1,\"fps\":[16,1]}",
    };
    struct job *job = fake_job("job: j\nmodel: pocket\nvideos:\n  - {name: v, prompt: a \"b\", "
                               "motion: c, seconds: 1, seed: 7, guidance: 1.5}\n");
    struct plan *plan = open_plan(job, 0);
    char hex[HASH_HEX_BYTES], start[160];
    hash_hex(hex, &job->window.facts.hash);
    snprintf(start, sizeof start, "{\"model\":\"pocket\",\"model_hash\":\"%s\",", hex);
    assert_int_equal(plan->task_count, 7);
    for (int i = 0; i < 6; i++) {
        assert_int_equal(strncmp(plan->tasks[i].parameters, start, strlen(start)), 0);
        assert_string_equal(plan->tasks[i].parameters + strlen(start), expected[i]);
    }
    const struct plan_task *mux = &plan->tasks[6];
    char whole[2048];
    snprintf(whole, sizeof whole,
             "{\"container\":\"mp4\",\"codec\":\"h264\",\"quality\":-1,\"width\":160,\"height\":96,"
             "\"fps\":[16,1],\"frames\":16,\"title\":\"v\",\"provenance\":{\"vidloom\":\"%s\","
             "\"job\":\"j\",\"video\":\"v\",\"prompt\":\"a \\\"b\\\"\",\"motion\":\"c\","
             "\"negative\":\"\",\"seed\":7,\"noise\":\"vidloom\",\"keyframe\":{\"model\":"
             "\"pocket\",\"hash\":\"%s\","
             "\"sampler\":\"euler\",\"steps\":4,\"guidance\":1.5,\"shift\":3},\"window\":{"
             "\"model\":\"pocket\",\"hash\":\"%s\",\"sampler\":\"euler\",\"steps\":4,"
             "\"guidance\":1.5,\"shift\":3}}}",
             VIDLOOM_VERSION, hex, hex);
    assert_string_equal(mux->parameters, whole);
    plan_close(&plan);
    job_close(&job);
}

/* A window drawn again has other noise and other keys, and so has all that comes after it; what
 * comes before it, and the video's own key, stay. Drawn back, it is what it was. */
static void test_redraw(void **state) {
    struct job *job = fake_job("model: pocket\nvideos: [{prompt: a, frames: 40, seed: 1}]");
    struct plan *first = open_plan(job, 0), *plan = open_plan(job, 0);
    struct error error = {0};
    int window = plan->first + 3, mux = plan->task_count - 1;
    assert_int_equal(plan_redraw(&plan, 1, 2, &error), ERR_OK);
    assert_int_equal(plan->draws[1], 2);
    for (int i = 0; i < plan->task_count; i++)
        assert_int_equal(hash_equal(&plan->tasks[i].key, &first->tasks[i].key),
                         i < window || i == mux);
    assert_non_null(strstr(plan->tasks[window].parameters, "\"seed\":1,\"stream\":8589934594,"));
    assert_int_equal(plan_redraw(&plan, 1, 0, &error), ERR_OK);
    for (int i = 0; i < plan->task_count; i++)
        assert_true(hash_equal(&plan->tasks[i].key, &first->tasks[i].key));
    plan_close(&plan);
    plan_close(&first);
    job_close(&job);
    /* torch.randn has no streams. */
    job = fake_job("model: pocket\nvideos: [{prompt: a, frames: 40, seed: 7, noise: torch}]");
    plan = open_plan(job, 0);
    assert_int_equal(plan_redraw(&plan, 1, 1, &error), ERR_OK);
    assert_non_null(strstr(plan->tasks[window - 3].parameters, "\"seed\":7,\"stream\":0,"));
    assert_non_null(strstr(plan->tasks[window - 2].parameters, "\"seed\":7,\"stream\":1,"));
    assert_non_null(strstr(plan->tasks[window].parameters, "\"seed\":4104,"));
    plan_close(&plan);
    job_close(&job);
}

/* Which expert a LoRA is for is in the keys, whether the job says it or the file's name: renamed,
 * the file makes other videos. */
static void test_experts(void **state) {
    static const char yaml[] = "model: experts\nlora:\n  - {file: %s}\n"
                               "videos: [{prompt: a, frames: 17, seed: 1}]";
    static const char *const said[] = {"a.safetensors", "high-a.safetensors",
                                       "a.safetensors, expert: low",
                                       "high-a.safetensors, expert: both"};
    static const char *const words[] = {"both", "high", "low", "both"};
    enum { COUNT = sizeof said / sizeof *said };
    char text[512];
    struct plan *plans[COUNT];
    struct job *jobs[COUNT];
    for (int i = 0; i < COUNT; i++) {
        snprintf(text, sizeof text, yaml, said[i]);
        jobs[i] = fake_job(text);
        plans[i] = open_plan(jobs[i], 0);
    }
    for (int i = 0; i < COUNT; i++) {
        snprintf(text, sizeof text, "\",1,\"%s\"]]", words[i]);
        assert_non_null(strstr(plans[i]->tasks[2].parameters, text));
        for (int k = 0; k < i; k++)
            assert_int_equal(hash_equal(&plans[i]->tasks[2].key, &plans[k]->tasks[2].key),
                             strcmp(words[i], words[k]) == 0);
    }
    for (int i = 0; i < COUNT; i++) {
        plan_close(&plans[i]);
        job_close(&jobs[i]);
    }
}

/* What is done to weights is in the keys of those it is done to; where files are is not. */
static void test_weights(void **state) {
    static const char yaml[] =
        "model: pocket\nweights: %s\nlora:\n  - {file: %sa.safetensors, strength: %g, stage: "
        "window}\nvideos: [{prompt: a, frames: 17, seed: 1}]";
    char text[512];
    struct plan *plans[4];
    struct job *jobs[4];
    for (int i = 0; i < 4; i++) {
        snprintf(text, sizeof text, yaml, i == 1 ? "int8" : "bf16", i == 3 ? "./" : "",
                 i == 2 ? -0.5 : 0.5);
        jobs[i] = fake_job(text);
        plans[i] = open_plan(jobs[i], 0);
    }
    assert_non_null(strstr(plans[1]->tasks[2].parameters, "\"weights\":\"int8\",\"lora\":[[\""));
    assert_non_null(strstr(plans[2]->tasks[2].parameters, "\",-0.5]]}"));
    assert_non_null(strstr(plans[3]->tasks[2].parameters, "\"lora_files\":[\"./a.safetensors\"],"));
    assert_null(strstr(plans[1]->tasks[1].parameters, "lora"));
    for (int task = 0; task < 3; task++) {
        const struct hash *key = &plans[0]->tasks[task].key;
        assert_false(hash_equal(key, &plans[1]->tasks[task].key));
        assert_int_equal(hash_equal(key, &plans[2]->tasks[task].key), task < 2);
    }
    for (int i = 0; i < 4; i++) {
        plan_close(&plans[i]);
        job_close(&jobs[i]);
    }
}

/* Chains share what they have in common: a longer video of the same seed begins with the shorter.
 */
static void test_sharing(void **state) {
    struct job *job = fake_job("model: pocket\nvideos:\n  - {prompt: a, frames: 40, seed: 1}\n"
                               "  - {prompt: a, frames: 90, seed: 1}\n");
    struct plan *shorter = open_plan(job, 0), *longer = open_plan(job, 1);
    int shared = 0;
    for (int i = 0; i < shorter->task_count; i++)
        shared += hash_equal(&shorter->tasks[i].key, &longer->tasks[i].key);
    assert_int_equal(shared, shorter->task_count - 2); /* all but the last decode, and mux */
    plan_close(&shorter);
    plan_close(&longer);
    job_close(&job);
}

static void test_speed(void **state) {
    struct buffer yaml = {0};
    struct error error = {0};
    buffer_add_text(&yaml, "model: pocket\nvideos:\n");
    for (int i = 0; i < 10000; i++)
        buffer_printf(&yaml, "  - {prompt: a red balloon number %d, seconds: 60}\n", i);
    struct job *job = fake_job(yaml.data);
    int64_t tasks = 0;
    clock_t start = clock();
    for (int i = 0; i < job->video_count; i++) {
        struct plan_counts counts;
        assert_int_equal(plan_count(&counts, job, &job->videos[i], &error), ERR_OK);
        tasks += counts.tasks;
    }
    clock_t counted = clock();
    struct plan *plan = open_plan(job, 0);
    clock_t planned = clock();
    print_message(
        "10,000 videos of a minute: %lld tasks counted in %.0f ms; one planned in %.2f ms\n",
        (long long)tasks, (double)(counted - start) * 1e3 / CLOCKS_PER_SEC,
        (double)(planned - counted) * 1e3 / CLOCKS_PER_SEC);
    plan_close(&plan);
    job_close(&job);
    buffer_close(&yaml);
}

/* Only what changes is written of a shot, so long jobs fit a lease. */
static void test_shots_in_provenance(void **state) {
    struct job *job = fake_job("model: pocket\nvideos:\n"
                               "  - {prompt: p, seconds: 4, shots: [{seconds: 1, motion: a},"
                               " {seconds: 1, motion: a}, {seconds: 1, motion: b},"
                               " {seconds: 1, prompt: q, motion: b}]}\n");
    struct plan *plan = open_plan(job, 0);
    const char *mux = plan->tasks[plan->task_count - 1].parameters;
    assert_non_null(strstr(mux, "\"prompt\":\"p\",\"motion\":\"a\",\"negative\":\"\","
                                "\"shots\":[{\"frames\":16},{\"frames\":16},"
                                "{\"frames\":16,\"motion\":\"b\"},"
                                "{\"frames\":16,\"prompt\":\"q\"}],"));
    plan_close(&plan);
    job_close(&job);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frames),
        cmocka_unit_test(test_plans),
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_end_image),
        cmocka_unit_test(test_from_text),
        cmocka_unit_test(test_short_videos),
        cmocka_unit_test(test_levels),
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_golden),
        cmocka_unit_test(test_parameters),
        cmocka_unit_test(test_redraw),
        cmocka_unit_test(test_weights),
        cmocka_unit_test(test_experts),
        cmocka_unit_test(test_notes),
        cmocka_unit_test(test_sharing),
        cmocka_unit_test(test_speed),
        cmocka_unit_test(test_shots_in_provenance),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

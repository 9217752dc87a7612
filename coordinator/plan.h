/* The plan: one video of a job → its tasks. A pure function, computed again whenever it is needed;
 * nothing of it is stored but results, under the keys that it gives.
 *
 *     text… ─► keyframe | image ─► window 0 ─► decode 0 ─► window 1 ─► … ─► decode n-1 ─► mux
 *     text… ─► window 0 ─► decode 0 ─► mux       (a model whose windows are of text alone)
 *
 * FRAMES. A window yields W frames (model_facts.window_frames). Window 0 starts from one frame, the
 * keyframe or the image, and all of its W frames are new. Window k ≥ 1 starts from the last o
 * frames of window k-1 (o: the largest of the model's overlaps that is below W), which it makes
 * again, so it yields W-o new ones, the first of them at frame o + k(W-o) of the video. A video of
 * F frames takes n = max(1, ⌈(F-o)/(W-o)⌉) windows. Decode k throws away the first `drop` decoded
 * frames (0 for k = 0, else o) and encodes the next `keep`; only the last decode keeps fewer than
 * are there. Kept frames add up to F. With an end picture (`end_image`) the last window has no more
 * frames than the video needs, F - (n-1)(W-o), so that it ends in it. A model whose windows are of
 * text alone (model_facts.from_text) makes one, F being at most W. That one, and the only window of
 * a video of F <= W by a model whose windows may be shorter (model_facts.window_fits), has the
 * least number of frames that it can have and that is F at least. The last of several windows has
 * W: in a shorter one things would move otherwise, and a longer video could not take it over.
 *
 * TEXT. A keyframe gets the scene (`prompt`) of the first shot. Window k gets "scene. motion" of
 * the shot in which its first new frame lies; without a motion, the scene. Equal texts are one
 * task. Where guidance is not 1 the negative prompt is a text too (an empty one is encoded as "").
 *
 * KEYS. A task's key is BLAKE2b-256 over, in this order, all length-prefixed: "vidloom-task",
 * PLAN_FORMAT, the kind's name, the model's hash (32 zero bytes without a model), the parameters
 * below *without* "model" and "model_hash" (so that a model may be moved), the input file's content
 * hash (zero bytes without), the number of dependencies, and each one's input name and key. So a
 * key changes with everything that can change the artifact, and with nothing else: not with names,
 * paths or the length of the video (except mux, whose tags name them, and a window that is as short
 * as its video). Raise PLAN_FORMAT whenever
 * what a stage computes changes.
 *
 * PARAMETERS. Canonical JSON in one line: keys in the order given here, numbers as json_put_* write
 * them, no spaces. "model" is the spec as the job wrote it; "model_hash" 64 hex digits that the
 * worker's copy must match (else ERR_MISSING). Seeds and streams are decimal integers below 2^63.
 *
 * What is done to weights: "weights" ("bf16", "int8", "fp8"; not there: as the file has them) and
 * "lora" ([hash,strength] each, in order, with a third "high", "low" or "both" where the model has
 * two experts: which it is for, whether the job or the file's name says so; not there: none).
 * "lora_files" names their files, as the job wrote them; like "model" it is no part of the key.
 *
 *   text      {"model","model_hash","text","weights"}
 *             → "rows" [n,width] f32
 * How noise is taken away, SAMPLING below: "sampler","steps","guidance","guidance_low","shift",
 * "attention","sigmas". "guidance_low" is there for two experts whose guidance differs, "attention"
 * where it is not exact: "8bit"; "sigmas" ([steps+1]
 * noise levels) where the job lists them, and then "shift" is read by nobody.
 *
 *   keyframe  {"model","model_hash","lora_files","width","height","seed","stream","noise",
 *              SAMPLING,"weights","lora"}
 *             inputs "text" (rows), and "negative" (rows) if a guidance is not 1
 *             → "frames" [1,H,W,3] u8
 *   image     {"width","height"}, input file
 *             → "frames" [1,H,W,3] u8
 *   window    {"model","model_hash","lora_files","width","height","frames","tail","rule","index",
 *              "seed","stream","noise",SAMPLING,"weights","lora"}
 *             inputs "text", "negative" (as above), "tail" (frames [tail,H,W,3] u8), and for the
 *             last window of a video with an end picture "end" (frames [1,H,W,3] u8)
 *             frames: W, or fewer (FRAMES). tail: number of frames it starts from: 1 for index 0,
 *             else o. rule: how: "model" (the model's own way), "last_frame", "overlap", "prefix";
 *             "text": from text alone, and then tail is 0 and there is no input "tail"
 *             → "latents" [C,T,h,w] f32
 *   decode    {"model","model_hash","width","height","frames","drop","keep","tail","codec",
 *              "quality","fps":[numerator,denominator]}
 *             inputs "latents"; "start" (the video's first frame; not there: the first of these)
 *             and, but for the first window, "before" (what it started from): to measure with, see
 *             MEASURES, and to take the step at the seam out of the new frames (worker/seam.h)
 *             tail: how many of the last decoded frames to yield as "frames"; 0 (the last
 *             decode): none, and then there is no such output.
 *             quality: -1 is the codec's default.
 *             → "segment" (file), "frames" [tail,H,W,3] u8
 *   mux       {"container","codec","quality","width","height","fps":[n,d],"frames","title",
 *              "provenance":{"vidloom","job","video","prompt","motion","negative","shots":
 *              [{"frames","prompt","motion"}…],"seed","noise","limits":{"drift","seam",
 *              "redraws"},"image","keyframe":{"model","hash",SAMPLING,"weights","lora"},
 *              "end_image","window":{…}}}
 *             inputs "segment", one a decode, in order
 *             The worker writes the provenance object as one tag "vidloom", with the member
 *             "device" (the lease's class) added at its end. No dates, no host names: equal jobs
 *             give equal files. "shots" is there when there are several; a shot's "prompt"
 *             and "motion" are there where they differ from those of the shot before it (the first
 *             shot's are the video's own, above, so it has "frames" alone); "image" is the image's
 *             hash when there is one, and then there is no "keyframe", nor is there one of
 *             a model of text alone; "end_image" the end picture's. → the staged file; in a result
 * as the output "file" with its hash and size (for a folder: the hash of the concatenated "name NUL
 * hash" of its files in order)
 *
 * NOISE. "vidloom" is random_normal(seed, stream, i); the keyframe has stream 0, window k has
 * stream k+1, plus 2^32 for each time that it is drawn again. "torch" is torch.randn with a
 * generator of the seed, whatever the stream: the keyframe and window 0 have the video's seed,
 * window k has k more, and 4096 (LIMIT_WINDOWS) more for each time that it is drawn again.
 *
 * DRAWS. A window past the job's limits is drawn again with other noise, at most `redraws` times,
 * as soon as its decode has told its measures; then the draw that is least past them is taken, the
 * earlier of equals. So the choice is a function of the job and of the class, like everything else.
 * The mux task's key does not follow the draws: "limits" in its provenance stands for them. */
#ifndef VIDLOOM_COORDINATOR_PLAN_H
#define VIDLOOM_COORDINATOR_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/hash.h"
#include "coordinator/job.h"

#define PLAN_FORMAT 4

enum plan_kind {
    PLAN_TEXT,
    PLAN_KEYFRAME,
    PLAN_IMAGE,
    PLAN_WINDOW,
    PLAN_DECODE,
    PLAN_MUX,
    PLAN_KIND_COUNT
};
#define PLAN_KIND_BIT(kind) (1u << (kind))
#define PLAN_KINDS_ALL      ((1u << PLAN_KIND_COUNT) - 1)

const char *plan_kind_name(enum plan_kind kind); /* "text" … */

struct plan_input {
    int task;           /* index into the plan's tasks, lower than the task's own */
    const char *name;   /* what the task calls it: "text", "tail", … */
    const char *output; /* which output of that task: "rows", "frames", … */
};

struct plan_task {
    enum plan_kind kind;
    int index; /* of the window for window and decode, of the text for text, else 0 */
    struct hash key;
    const char *parameters; /* canonical JSON, as above */
    size_t parameters_length;
    const struct plan_input *inputs;
    int input_count;
    const struct job_file *file;   /* the image of an image task, else NULL */
    const struct job_model *model; /* NULL for image and mux */
    int steps;                     /* sampler steps, for progress; 0 where there are none */
    int64_t drop, keep;            /* decode only */
};

/* Points into the job: lives no longer than it. */
struct plan {
    const struct job *job;
    const struct job_video *video;
    struct plan_task
        *tasks;     /* a topological order: texts, keyframe or image, windows and decodes */
    int task_count; /* by turns, mux last */
    int first; /* the place of the first frame's task, else of window 0; those before it depend on
                  none: texts, the end picture */
    int chain; /* the place of window 0; its decode follows, window 1, … */
    int window_count;
    uint8_t *draws; /* [window_count]: which draw of each window this plan has; 0: the first */
    void *memory;
};

struct plan_counts {
    int texts, windows, tasks;
    int keyframe_texts; /* of the texts: those for the keyframe's model, where it is another */
    int first, chain;   /* as in the plan */
    int overlap, window_frames;
    int last_frames; /* of the last window */
    bool keyframe;   /* one is made */
    int64_t frames;
    int64_t computed; /* frames of all windows together: those that are thrown away, too */
    int64_t steps;    /* of samplers, all windows and the keyframe */
    unsigned kinds;   /* PLAN_KIND_BIT of every kind that occurs */
};

/* The numbers alone: no hashing, no allocation but for texts. ERR_LIMIT when LIMIT_WINDOWS would be
 * exceeded (job_parse has refused such a video), ERR_MEMORY. */
MUST_CHECK enum error_code plan_count(struct plan_counts *out, const struct job *job,
                                      const struct job_video *video, struct error *error);

#define PLAN_NOTE_BYTES 256
#define PLAN_NOTES_TOLD 8 /* of a job, to people */
/* What of a job does nothing: a shot in which no window begins (TEXT). Begun with zeros. */
struct plan_note {
    int video, shot; /* places in the job and the video */
    char text[PLAN_NOTE_BYTES];
};
/* The next one; false: there is none. */
bool plan_next_note(struct plan_note *note, const struct job *job);

MUST_CHECK enum error_code plan_open(struct plan **out, const struct job *job,
                                     const struct job_video *video, struct error *error);
/* The same video with `window` drawn for the `draw`th time again: its noise, and with it the keys
 * of its tasks and of all that come after it, are others. The mux task's key stays: it is the
 * video's. ERR_MEMORY leaves the plan as it was. */
MUST_CHECK enum error_code plan_redraw(struct plan **plan, int window, int draw,
                                       struct error *error);
void plan_close(struct plan **plan); /* NULL is fine */

/* Appends the parameters of the video's mux task without their braces. job_parse measures with it
 * that they fit LIMIT_PARAMETERS_BYTES. Fails only for memory (out->failed). */
void plan_mux_body(struct buffer *out, const struct job *job, const struct job_video *video);

/* The largest overlap below the window's length; 0 when there is none. */
int plan_overlap(const struct model_facts *facts);
/* Windows that `frames` take; 0 when window_frames <= overlap. */
int64_t plan_windows(int64_t frames, int window_frames, int overlap);
/* Frames of the last of them if it has no more than the video needs. */
int64_t plan_last_window(int64_t frames, int window_frames, int overlap);
/* The text of a window: "scene. motion". A full stop that the scene ends with is not doubled. */
void plan_window_text(struct buffer *out, const char *prompt, const char *motion);

/* -- results ---------------------------------------------------------------------------------- */

struct task_output {
    char name[LIMIT_OUTPUT_NAME];
    struct hash hash;
    int64_t bytes;
};
/* MEASURES. What decode says of its new frames, each from 0 to 1 or from -1 to 1. */
struct measures {
    double colour; /* distance of their colours' histograms from the first frame's of the video */
    double luminance; /* their mean less the first frame's */
    double sharpness; /* (s - s0) / (s + s0) of theirs and the first frame's: below 0 softer */
    double
        seam; /* by how much the step over the seam is above the mean step between their frames */
};
/* The greatest of the first three, whichever way. */
double measures_drift(const struct measures *measures);
/* How far past the limits, 0 when within. */
double measures_excess(const struct measures *measures, const struct job_limits *limits);

struct task_result {
    int output_count;
    struct task_output outputs[LIMIT_OUTPUTS];
    bool measured; /* decode */
    struct measures measures;
};
const struct task_output *task_result_find(const struct task_result *result, const char *name);

#endif

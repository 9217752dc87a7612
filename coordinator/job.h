/* The job file: YAML text in, resolved videos out.
 *
 * job_parse reads the text, the prompt lists that it names, and what its models can do; it fills in
 * every default, multiplies seeds, and checks everything that can be checked without running: so
 * that a job that was accepted can only fail for reasons outside of it. The first mistake ends it,
 * with "file:line:column: what was found; what was expected", and "did you mean" for a misspelling;
 * the file is the prompt list when the mistake is there.
 *
 * The reader touches no disk and knows no model: a `struct job_resolver` does, whoever has them.
 * It also does not include worker/: what a plan needs to know of a model is `struct model_facts`.
 *
 * A job is immutable after job_parse or job_load; any thread may read it. */
#ifndef VIDLOOM_COORDINATOR_JOB_H
#define VIDLOOM_COORDINATOR_JOB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buffer.h"
#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "coordinator/limits.h"

/* -- words of the job file -------------------------------------------------------------------- */

enum job_codec {
    JOB_CODEC_H264,
    JOB_CODEC_HEVC,
    JOB_CODEC_AV1,
    JOB_CODEC_VP9,
    JOB_CODEC_FFV1,
    JOB_CODEC_PRORES,
    JOB_CODEC_PNG,
    JOB_CODEC_H264_NVENC,
    JOB_CODEC_HEVC_NVENC,
    JOB_CODEC_AV1_NVENC,
    JOB_CODEC_COUNT
};
enum job_container {
    JOB_CONTAINER_MP4,
    JOB_CONTAINER_MKV,
    JOB_CONTAINER_WEBM,
    JOB_CONTAINER_MOV,
    JOB_CONTAINER_FOLDER, /* numbered pictures */
    JOB_CONTAINER_COUNT
};
/* The generator of the starting noise: base/random.h, or torch.randn's. */
enum job_noise { JOB_NOISE_VIDLOOM, JOB_NOISE_TORCH, JOB_NOISE_COUNT };
/* How weights are held in memory; FILE: as the file has them. */
enum job_weights {
    JOB_WEIGHTS_FILE,
    JOB_WEIGHTS_BF16,
    JOB_WEIGHTS_INT8,
    JOB_WEIGHTS_FP8,
    JOB_WEIGHTS_COUNT
};
/* How a window continues the one before it; MODEL: as the model was made for. */
enum job_windows {
    JOB_WINDOWS_MODEL,
    JOB_WINDOWS_LAST_FRAME,
    JOB_WINDOWS_OVERLAP,
    JOB_WINDOWS_PREFIX,
    JOB_WINDOWS_COUNT
};
enum job_sampler {
    JOB_SAMPLER_EULER,
    JOB_SAMPLER_UNIPC,
    JOB_SAMPLER_RENOISE,
    JOB_SAMPLER_DPMPP,
    JOB_SAMPLER_COUNT
};

/* How the transformers' self-attention computes; EXACT: in the compute type. */
enum job_attention { JOB_ATTENTION_EXACT, JOB_ATTENTION_8BIT, JOB_ATTENTION_COUNT };

/* Which of a model's two experts a LoRA is for. BY_NAME: the model has one transformer; or a job of
 * before left it to the worker, which goes by the file's name (worker/model/model.h). */
enum job_expert {
    JOB_EXPERT_BY_NAME,
    JOB_EXPERT_HIGH,
    JOB_EXPERT_LOW,
    JOB_EXPERT_BOTH,
    JOB_EXPERT_COUNT
};

/* Whether a window can be made to end in a given picture. */
enum job_end { JOB_END_NONE, JOB_END_MAY, JOB_END_MUST };

const char *job_codec_name(enum job_codec codec);             /* "h264" */
const char *job_container_name(enum job_container container); /* "mp4"; "folder" */
const char *job_sampler_name(enum job_sampler sampler);       /* "euler" */
const char *job_noise_name(enum job_noise noise);             /* "vidloom" */
const char *job_weights_name(enum job_weights weights);       /* "file", "int8" */
const char *job_windows_name(enum job_windows windows);       /* "model", "overlap" */
const char *job_attention_name(enum job_attention attention); /* "exact", "8bit" */
const char *job_expert_name(enum job_expert expert);          /* "high", "both" */

/* Every word the reader knows, in a list that ends with NULL. configs/job.schema.json says the same
 * things to editors; a test compares the two. */
enum job_words {
    JOB_KEYS_TOP,
    JOB_KEYS_MODEL,
    JOB_KEYS_OUTPUT,
    JOB_KEYS_DEFAULTS,
    JOB_KEYS_VIDEO,
    JOB_KEYS_FILE, /* an entry of `videos` that names a prompt list */
    JOB_KEYS_SHOT,
    JOB_KEYS_STAGE, /* of `keyframe` and `window` in a video */
    JOB_KEYS_LORA,
    JOB_KEYS_LIMITS,
    JOB_KEYS_CSV, /* columns of a prompt list */
    JOB_VALUES_CODEC,
    JOB_VALUES_SAMPLER,
    JOB_VALUES_NOISE,
    JOB_VALUES_WEIGHTS,
    JOB_VALUES_ATTENTION,
    JOB_VALUES_STAGE,
    JOB_VALUES_EXPERT,
    JOB_WORDS_COUNT
};
const char *const *job_words(enum job_words words);

/* -- what the reader asks for ----------------------------------------------------------------- */

enum model_ability {
    MODEL_CAN_TEXT = 1,
    MODEL_CAN_KEYFRAME = 2,
    MODEL_CAN_WINDOW = 4,
    MODEL_CAN_VAE = 8
};

struct model_facts {
    bool unknown; /* stands for a model that is not here: what depends on its rate is not checked */
    char family[32];
    struct hash hash;       /* of every weight and configuration file */
    int abilities;          /* enum model_ability, or-ed */
    int size_multiple;      /* width and height are multiples of this */
    int size_min, size_max; /* pixels a side */
    int width, height, fps; /* defaults of size and fps */
    double shift_small;     /* at sizes of at most `small` pixels; 0: `shift` at every size */
    int small;
    int window_frames; /* frames a window yields */
    int window_step;   /* a window may have so many fewer, and fewer */
    bool window_fits;  /* of a video that is shorter than a window the only one is as short, too */
    enum job_end end;
    bool from_text;  /* makes a video of one window from the text alone, and continues none */
    int overlaps[4]; /* numbers of tail frames a window can continue from */
    int overlap_count;
    bool any_overlap;         /* a stand-in for a model that is elsewhere: whatever is asked for */
    unsigned windows;         /* 1 << enum job_windows that it can, or-ed; MODEL is always there */
    enum job_sampler sampler; /* defaults of its sampler */
    int steps;
    double guidance, shift;
    int experts;         /* transformers that share the steps: 1, or 2 */
    double guidance_low; /* of the second, for low noise */
};

/* A list of noise levels that somebody has published for a distilled model. */
struct job_step_list {
    enum job_sampler sampler;
    int steps;
    double sigmas[LIMIT_STEP_LIST + 1]; /* [steps + 1], falling from at most 1 to 0 */
};

struct job_file {
    struct hash hash;
    int64_t bytes;
    const char *path; /* where a worker finds it, e.g. absolute; in the arena that was given */
};

struct job_model; /* below */
struct job_output;

/* `name` is as written in the job file: relative to it, unless absolute. Errors need not repeat the
 * place in the job file; the reader puts it in front. */
struct job_resolver {
    void *user;
    /* The bytes of a prompt list, at most `bytes_max`, in `arena`. */
    enum error_code (*read_file)(void *user, char **out, size_t *length, struct arena *arena,
                                 const char *name, size_t bytes_max, struct error *error);
    /* Size and content hash of an image. Called once for each distinct name. */
    enum error_code (*find_image)(void *user, struct job_file *out, struct arena *arena,
                                  const char *name, struct error *error);
    /* Size and content hash of a LoRA. `spec` is as written: a name of a file under models/, or a
     * path. Called once for each distinct name. */
    enum error_code (*find_lora)(void *user, struct job_file *out, struct arena *arena,
                                 const char *spec, struct error *error);
    /* Which of two experts the LoRA is for by the name of its file, where the job does not say:
     * settled once, so that a task's key has it. `*unclear`: as in struct job_lora. NULL where a
     * job is only looked through. */
    enum job_expert (*lora_expert)(void *user, bool *unclear, const char *spec);
    /* What the model can do. `spec` is as written: a name under models/, or a path. */
    enum error_code (*read_model)(void *user, struct model_facts *out, const char *spec,
                                  struct error *error);
    /* Whether the model can be opened for `ability` (MODEL_CAN_KEYFRAME, MODEL_CAN_WINDOW) with its
     * weights held so and the LoRAs that it has so far: asked after each. NULL where the files are
     * another machine's: a worker finds out. */
    enum error_code (*check_model)(void *user, const struct job_model *model, int ability,
                                   struct error *error);
    /* The published list of this name; ERR_USAGE says which there are. */
    enum error_code (*find_steps)(void *user, struct job_step_list *out, const char *name,
                                  struct error *error);
    /* The absolute name of the place that output->path means, one for each place (output.h), and
     * whether the output may be put there. NULL where the disk is another machine's: then paths are
     * compared as they are written. */
    enum error_code (*find_output)(void *user, char out[FILE_PATH_BYTES],
                                   const struct job_output *output, struct error *error);
};

/* -- a job ------------------------------------------------------------------------------------ */

struct job_lora {
    const char *spec; /* as written */
    struct hash hash; /* of the file */
    double strength;  /* -10 … 10 */
    enum job_expert expert;
    bool unclear; /* the file's name has HIGH or LOW as a word and yet means both: worth a warning.
                     Not kept with a submitted job */
};
struct job_model {
    const char *spec; /* as written */
    struct model_facts facts;
    enum job_weights weights;
    struct job_lora loras[LIMIT_LORAS]; /* of its transformer, in order */
    int lora_count;
};

struct job_sampling {
    enum job_sampler sampler;
    int steps;
    double guidance;      /* 1: none */
    double guidance_low;  /* of the second of two experts; 0: the same, or there is one */
    double shift;         /* of noise levels that are computed */
    const double *sigmas; /* [steps + 1] noise levels, falling from at most 1 to 0; NULL: those that
                             sampler, steps and shift make */
    enum job_attention attention;
};
/* Whether the negative prompt is read. */
bool job_sampling_is_guided(const struct job_sampling *sampling);

/* Past which a window is drawn again: plan.h, MEASURES. */
struct job_limits {
    double drift, seam; /* 0: no limit; else up to 1 */
    int redraws;        /* of one window, at most */
};

struct job_output {
    const char *path; /* template filled in; relative to the output root unless absolute */
    enum job_container container;
    enum job_codec codec;
    int width, height;
    int fps_numerator, fps_denominator; /* lowest terms */
    int quality;                        /* 0 … LIMIT_QUALITY; -1: the codec's default */
    bool overwrite; /* replace a file at `path` that this ledger did not publish */
};

struct job_shot {
    int64_t frames;
    const char *prompt, *motion; /* never NULL; motion may be "" */
};

struct job_video {
    const char *name;
    const char *negative;         /* never NULL; may be "" */
    const struct job_shot *shots; /* at least one; their frames add up to `frames` */
    int shot_count;
    const struct job_file *image; /* NULL: a keyframe is made, where the model is not from_text */
    const char *image_name;       /* as written; NULL without image */
    const struct job_file *end;   /* the picture that the last window ends in; NULL: none */
    const char *end_name;
    int64_t frames;
    uint64_t seed;
    enum job_noise noise;
    enum job_windows windows;
    int overlap; /* tail frames a window continues from; 0: the model makes single windows */
    struct job_limits limits;
    struct job_sampling keyframe, window;
    struct job_output output;
};

struct job {
    const char *name;
    struct job_model keyframe,
        window; /* often the same; keyframe.spec "" when no video needs one */
    const struct job_video *videos;
    int video_count;
    struct arena arena; /* holds all of it */
};

/* Parse all of text[0..length). `name` is the job file's name for errors, and names the job
 * (without folders and extension) when the text does not. Errors: ERR_FORMAT (not YAML; a malformed
 * list), ERR_USAGE (a mistake in it), ERR_LIMIT, ERR_SHAPE (a size the model cannot make: says the
 * nearest it can), ERR_UNSUPPORTED (the model lacks a stage), ERR_MEMORY, and the resolver's. */
MUST_CHECK enum error_code job_parse(struct job **out, const char *name, const char *text,
                                     size_t length, const struct job_resolver *resolver,
                                     struct error *error);
void job_close(struct job **job); /* NULL is fine */

#define JOB_WARNING_BYTES 512
/* What of a job just parsed is not wrong but may not be meant: a LoRA that goes to both experts
 * though its name has words or letters for one. Begun with zeros. */
struct job_warning {
    int lora; /* place among those of the keyframe's model, then the window's */
    char text[JOB_WARNING_BYTES];
};
/* The next one, each once; false: there is none. */
bool job_next_warning(struct job_warning *warning, const struct job *job);

/* The resolved job as one JSON document, and back: what the ledger keeps, so that a restart needs
 * neither the prompt lists nor the models, and finds the same keys whatever has become of them.
 * Texts are written once each, however many videos share them.
 * job_write fails only for memory (buffer->failed). job_load: ERR_FORMAT, ERR_LIMIT, ERR_MEMORY. */
void job_write(struct buffer *out, const struct job *job);
MUST_CHECK enum error_code job_load(struct job **out, const char *text, size_t length,
                                    struct error *error);

/* A LoRA as stored jobs and leases have it: an array of its name as the job wrote it (where
 * `named`), hash, strength and, where it is settled, the expert. */
struct json_writer;
void job_put_lora(struct json_writer *writer, const struct job_lora *lora, bool named);

#endif

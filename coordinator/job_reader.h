/* The job reader's insides, shared by job*.c only. See job.h for what it promises.
 *
 *   job.c            the whole file: models, defaults, entries, prompt lists
 *   job_model.c      models, and what is done to their weights
 *   job_reader.c     errors with their places, names that must be distinct
 *   job_words.c      every word of a job file
 *   job_values.c     one value: a number, a text, a size …
 *   job_settings.c   one layer of settings, and layers put together
 *   job_sampling.c   steps, noise levels, sampler, guidance
 *   job_length.c     how long a video is, and its shots
 *   job_output.c     where a video goes: path, container, codec
 *   job_video.c      settings to videos, one for each seed
 *   job_list.c       prompt lists
 *   job_document_write.c, job_document_read.c   a resolved job as JSON, and back */
#ifndef VIDLOOM_COORDINATOR_JOB_READER_H
#define VIDLOOM_COORDINATOR_JOB_READER_H

#include "base/yaml.h"
#include "coordinator/job.h"

struct place {
    const char *file;
    int line, column;
};

/* One value as it was given. Which member counts is the key's; words are `integer`. */
struct setting {
    bool set;
    struct place at;
    int64_t integer;
    double number;
    const char *text;
};

struct seed_range {
    int64_t first, last;
    struct place at;
};

struct shot {
    double seconds;
    struct setting prompt, motion;
};

/* How many steps, and at which noise levels. */
enum steps_form { STEPS_NUMBER, STEPS_PUBLISHED, STEPS_SIGMAS, STEPS_TIMESTEPS };
struct steps_setting {
    bool set;
    struct place at;
    enum steps_form form;
    int count;
    const double *levels;     /* [count + 1] in the job's arena, falling from at most 1 to 0; of
                                 timesteps: before they are shifted; NULL of a number */
    enum job_sampler sampler; /* of a published list */
};
struct sampling_settings {
    struct steps_setting steps;
    struct setting sampler, guidance, guidance_low, shift, attention;
};

/* One layer of settings: the defaults, the entry of a prompt list, a video. A video is made of up
 * to four; the nearest one that says something wins. */
struct settings {
    struct place at;
    struct setting name, prompt, motion, negative, image, end_image;
    struct setting seconds, frames, noise, seed;
    struct sampling_settings both, keyframe, window; /* put together: only the last two */
    struct setting windows, overlap;                 /* overlap: 0: not said */
    struct setting drift, seam, redraws;             /* limits */
    struct setting path, width, height, fps_numerator, fps_denominator, codec, quality, overwrite;
    struct seed_range *seeds; /* NULL: not given */
    int seed_ranges;
    struct place seeds_at;
    struct shot *shots; /* NULL: not given */
    int shot_count;
    struct place shots_at;
};

/* Open addressing; values are indices + 1 of what the owner keeps. */
struct name_set {
    uint32_t *slots;
    size_t mask, count;
};

/* Where a video goes: the one name of the place, and what says so in the job file. */
struct output_at {
    const char *path;
    struct place at;
};

/* The last list of timesteps that was shifted. */
struct shifted {
    const double *from;
    double shift;
    const double *levels;
};

struct reader {
    const char *file; /* of what is being read now */
    bool typed;       /* false in lists where everything is text */
    const struct job_resolver *resolver;
    struct job *job;
    struct arena scratch;
    struct job_video *videos;  /* malloc'ed until the end */
    struct place *places;      /* of each video */
    struct output_at *outputs; /* likewise */
    int count, capacity;
    struct name_set names, paths;
    struct job_file *files; /* distinct images */
    const char **file_names;
    int file_count, file_capacity;
    struct name_set images;
    int lists;
    struct shifted shifted[2]; /* for keyframes, for windows */
    struct settings defaults, top_output;
    const struct settings *list_layer; /* while a prompt list is read */
    int list_rows;
    struct error *error;
};

/* -- job_reader.c ----------------------------------------------------------------------------- */

/* "file:line:column: …" */
enum error_code job_fail(struct reader *reader, struct place at, enum error_code code,
                         const char *format, ...) PRINTF_LIKE(4, 5);
#ifdef __clang_analyzer__ /* as in base/error.h: a code that was set is returned */
#define job_fail(reader, at, code, ...)                                                            \
    ((void)(job_fail)((reader), (at), (code), __VA_ARGS__), (code))
#endif
enum error_code job_no_memory(struct reader *reader);
struct place job_place(const struct reader *reader, const struct yaml *node);
struct place job_place_of_key(const struct reader *reader, const struct yaml *node);
/* "the text \"abc\"", "a list", …: what stands there. */
const char *job_describe(char out[96], const struct yaml *node);
/* "key: expected …, found …" */
enum error_code job_wrong(struct reader *reader, const struct yaml *node, enum error_code code,
                          const char *expected);
/* Whether every key of the mapping is among the words; `what` has them. */
enum error_code job_check_keys(struct reader *reader, const struct yaml *mapping,
                               enum job_words words, const char *what);
/* A copy in the job's arena. NULL: no memory, or no text. */
char *job_keep(struct reader *reader, const char *text);

typedef const char *(*name_of)(const struct reader *reader, uint32_t index);
/* *there: the index that `name` has in the set, or UINT32_MAX after it was put there as `index`.
 * ERR_MEMORY. */
enum error_code job_name_set_add(struct reader *reader, struct name_set *set, name_of get,
                                 const char *name, uint32_t index, uint32_t *there);
/* The index that `name` has in the set; UINT32_MAX: it is not there. */
uint32_t job_name_set_find(const struct reader *reader, const struct name_set *set, name_of get,
                           const char *name);

/* -- job_words.c ------------------------------------------------------------------------------ */

struct job_codec_facts {
    int side_min, side_step; /* pixels: the least, and what a side must be a multiple of */
    int quality_max;         /* the end of its scale */
};
const struct job_codec_facts *job_codec_facts(enum job_codec codec);
/* The codecs that go into a container, its default first; returns how many. */
int job_container_codecs(enum job_codec out[JOB_CODEC_COUNT], enum job_container container);

/* -- job_values.c ----------------------------------------------------------------------------- */

enum error_code job_read_integer(struct reader *reader, struct setting *out,
                                 const struct yaml *node, int64_t least, int64_t most,
                                 const char *what);
/* From `least` (`above`: without it) to `most`. */
enum error_code job_read_number(struct reader *reader, struct setting *out, const struct yaml *node,
                                double least, bool above, double most, const char *what);
enum error_code job_read_word(struct reader *reader, struct setting *out, const struct yaml *node,
                              enum job_words words, const char *what);
enum error_code job_read_flag(struct reader *reader, struct setting *out, const struct yaml *node);
/* Prompts and the like. `empty`: whether "" is one. Space around is taken off. */
enum error_code job_read_text(struct reader *reader, struct setting *out, const struct yaml *node,
                              bool empty);
enum error_code job_read_name(struct reader *reader, struct setting *out, const struct yaml *node);
/* The name of a file or model. */
enum error_code job_read_file_name(struct reader *reader, struct setting *out,
                                   const struct yaml *node, const char *expected);
enum error_code job_read_seeds(struct reader *reader, struct settings *out,
                               const struct yaml *node);
enum error_code job_read_size(struct reader *reader, struct settings *out, const struct yaml *node);
/* last_frame, overlap N, prefix */
enum error_code job_read_windows(struct reader *reader, struct settings *out,
                                 const struct yaml *node);
enum error_code job_read_fps(struct reader *reader, struct settings *out, const struct yaml *node);

/* -- job_settings.c --------------------------------------------------------------------------- */

/* All the keys of a mapping that was checked already. */
enum error_code job_read_settings(struct reader *reader, struct settings *out,
                                  const struct yaml *node);
enum error_code job_read_output(struct reader *reader, struct settings *out,
                                const struct yaml *node);
/* What `layer` says goes over what is in `out`. What says the same thing in another way goes away:
 * a seed the seeds, seconds the frames, and shots without a length the length of farther layers. */
void job_settings_lay(struct settings *out, const struct settings *layer);

/* -- job_sampling.c --------------------------------------------------------------------------- */

bool job_is_sampling_key(const char *key);
/* One of these keys, for keyframe and window. */
enum error_code job_read_sampling_key(struct reader *reader, struct settings *out,
                                      const struct yaml *node);
/* The mapping `keyframe` or `window`. */
enum error_code job_read_stage(struct reader *reader, struct settings *out,
                               const struct yaml *node);
/* Part of job_settings_lay. */
void job_lay_sampling(struct settings *out, const struct settings *layer);
enum error_code job_fill_sampling(struct reader *reader, struct job_video *video,
                                  const struct settings *settings);

/* -- job_length.c ----------------------------------------------------------------------------- */

/* The video's frames and shots. */
enum error_code job_fill_length(struct reader *reader, struct job_video *video,
                                const struct settings *settings, struct place at);

/* -- job_output.c ----------------------------------------------------------------------------- */

/* Size, rate and the like; `facts` say what is not given. */
void job_fill_output(struct job_output *output, const struct settings *settings,
                     const struct model_facts *facts);
/* The path of the video called `video`, and with it container and codec. */
enum error_code job_fill_path(struct reader *reader, struct job_output *output,
                              const struct settings *settings, struct place at, const char *video,
                              uint64_t seed);

/* -- job_model.c ------------------------------------------------------------------------------ */

enum error_code job_check_ability(struct reader *reader, const struct job_model *model,
                                  struct place at, int ability, const char *what);
/* Refuses what has to do with a first picture, for a model that makes videos from their text. */
enum error_code job_no_keyframe(struct reader *reader, struct place at, const char *key);
/* The keys model, weights and lora of the job; the last two may be NULL. */
enum error_code job_read_models(struct reader *reader, const struct yaml *model,
                                const struct yaml *weights, const struct yaml *lora);
/* How windows go on, and from how many frames. */
enum error_code job_fill_windows(struct reader *reader, struct job_video *video,
                                 const struct settings *settings);

/* -- job_video.c ------------------------------------------------------------------------------ */

/* One entry and the prompt list's it is in (NULL: none), as one video for each of its seeds. */
enum error_code job_add_video(struct reader *reader, const struct settings *own,
                              const struct settings *entry, const char *name);
/* Whether no video goes into the place of another: asked when all are known. */
enum error_code job_check_nesting(struct reader *reader);

#endif

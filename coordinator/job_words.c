/* Every word of a job file. */
#include "coordinator/job_reader.h"

static const char *const codec_names[] = {"h264",       "hevc",      "av1", "vp9",
                                          "ffv1",       "prores",    "png", "h264_nvenc",
                                          "hevc_nvenc", "av1_nvenc", NULL};
static const char *const container_names[] = {"mp4", "mkv", "webm", "mov", "folder", NULL};
static const char *const noise_names[] = {"vidloom", "torch", NULL};
static const char *const weights_names[] = {"file", "bf16", "int8", "fp8", NULL};
static const char *const windows_names[] = {"model", "last_frame", "overlap", "prefix", NULL};
static const char *const attention_names[] = {"exact", "8bit", NULL};
static const char *const stage_names[] = {"keyframe", "window", "both", NULL};
static const char *const expert_names[] = {"name", "high", "low", "both", NULL};
static const char *const sampler_names[] = {"euler", "unipc", "renoise", "dpmpp", NULL};

const char *job_codec_name(enum job_codec codec) {
    return codec_names[codec];
}
const char *job_container_name(enum job_container container) {
    return container_names[container];
}
const char *job_sampler_name(enum job_sampler sampler) {
    return sampler_names[sampler];
}
const char *job_noise_name(enum job_noise noise) {
    return noise_names[noise];
}
const char *job_weights_name(enum job_weights weights) {
    return weights_names[weights];
}
const char *job_windows_name(enum job_windows windows) {
    return windows_names[windows];
}
const char *job_attention_name(enum job_attention attention) {
    return attention_names[attention];
}
const char *job_expert_name(enum job_expert expert) {
    return expert_names[expert];
}

/* What goes into what; the first codec of a container is its default. */
static const struct {
    enum job_container container;
    enum job_codec codec;
} pairs[] = {
    {JOB_CONTAINER_MP4, JOB_CODEC_H264},       {JOB_CONTAINER_MP4, JOB_CODEC_HEVC},
    {JOB_CONTAINER_MP4, JOB_CODEC_AV1},        {JOB_CONTAINER_MP4, JOB_CODEC_VP9},
    {JOB_CONTAINER_MKV, JOB_CODEC_H264},       {JOB_CONTAINER_MKV, JOB_CODEC_HEVC},
    {JOB_CONTAINER_MKV, JOB_CODEC_AV1},        {JOB_CONTAINER_MKV, JOB_CODEC_VP9},
    {JOB_CONTAINER_MKV, JOB_CODEC_FFV1},       {JOB_CONTAINER_MKV, JOB_CODEC_PRORES},
    {JOB_CONTAINER_WEBM, JOB_CODEC_VP9},       {JOB_CONTAINER_WEBM, JOB_CODEC_AV1},
    {JOB_CONTAINER_MOV, JOB_CODEC_H264},       {JOB_CONTAINER_MOV, JOB_CODEC_HEVC},
    {JOB_CONTAINER_MOV, JOB_CODEC_PRORES},     {JOB_CONTAINER_FOLDER, JOB_CODEC_PNG},
    {JOB_CONTAINER_MP4, JOB_CODEC_H264_NVENC}, {JOB_CONTAINER_MP4, JOB_CODEC_HEVC_NVENC},
    {JOB_CONTAINER_MP4, JOB_CODEC_AV1_NVENC},  {JOB_CONTAINER_MKV, JOB_CODEC_H264_NVENC},
    {JOB_CONTAINER_MKV, JOB_CODEC_HEVC_NVENC}, {JOB_CONTAINER_MKV, JOB_CODEC_AV1_NVENC},
    {JOB_CONTAINER_WEBM, JOB_CODEC_AV1_NVENC}, {JOB_CONTAINER_MOV, JOB_CODEC_H264_NVENC},
    {JOB_CONTAINER_MOV, JOB_CODEC_HEVC_NVENC},
};

/* What the encoders take. worker/media/spec.c says the same to itself; a test compares the two. */
static const struct job_codec_facts codecs[JOB_CODEC_COUNT] = {
    [JOB_CODEC_H264] = {16, 2, 51},        [JOB_CODEC_HEVC] = {64, 2, 51},
    [JOB_CODEC_AV1] = {16, 2, 63},         [JOB_CODEC_VP9] = {16, 2, 63},
    [JOB_CODEC_FFV1] = {16, 1, 63},        [JOB_CODEC_PRORES] = {16, 2, 63},
    [JOB_CODEC_PNG] = {16, 1, 63},         [JOB_CODEC_H264_NVENC] = {160, 2, 51},
    [JOB_CODEC_HEVC_NVENC] = {160, 2, 51}, [JOB_CODEC_AV1_NVENC] = {192, 2, 63},
};

const struct job_codec_facts *job_codec_facts(enum job_codec codec) {
    return &codecs[codec];
}

int job_container_codecs(enum job_codec out[JOB_CODEC_COUNT], enum job_container container) {
    int count = 0;
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++)
        if (pairs[i].container == container)
            out[count++] = pairs[i].codec;
    return count;
}

/* What holds for every video, a video, an entry with a prompt list, whose `name` is put in front of
 * the rows' generated names, and a column of a CSV list, which can say what one field can. */
#define TEXT_KEYS     "prompt", "motion", "negative", "image", "end_image"
#define LENGTH_KEYS   "seconds", "frames"
#define NOISE_KEYS    "seed", "seeds", "noise", "windows"
#define SAMPLING_KEYS "steps", "sampler", "shift", "guidance", "guidance_low", "attention"
#define LEVEL_KEYS    "sigmas", "timesteps"
#define VIDEO_KEYS                                                                                 \
    TEXT_KEYS, LENGTH_KEYS, NOISE_KEYS, SAMPLING_KEYS, LEVEL_KEYS, "keyframe", "window", "limits", \
        "shots"

static const char *const keys_top[] = {"job",    "model",    "weights", "lora",
                                       "output", "defaults", "videos",  NULL};
static const char *const keys_model[] = {"keyframe", "window", NULL};
static const char *const keys_lora[] = {"file", "strength", "stage", "expert", NULL};
static const char *const keys_limits[] = {"drift", "seam", "redraws", NULL};
static const char *const keys_output[] = {"path",    "size",      "fps", "codec",
                                          "quality", "overwrite", NULL};
static const char *const keys_stage[] = {SAMPLING_KEYS, LEVEL_KEYS, NULL};
static const char *const keys_defaults[] = {VIDEO_KEYS, NULL};
static const char *const keys_video[] = {"name", VIDEO_KEYS, "output", NULL};
static const char *const keys_file[] = {"file", "name", VIDEO_KEYS, "output", NULL};
static const char *const keys_shot[] = {"seconds", "prompt", "motion", NULL};
static const char *const keys_csv[] = {"name",     TEXT_KEYS,     LENGTH_KEYS,
                                       NOISE_KEYS, SAMPLING_KEYS, NULL};

const char *const *job_words(enum job_words words) {
    switch (words) {
    case JOB_KEYS_TOP:
        return keys_top;
    case JOB_KEYS_MODEL:
        return keys_model;
    case JOB_KEYS_OUTPUT:
        return keys_output;
    case JOB_KEYS_DEFAULTS:
        return keys_defaults;
    case JOB_KEYS_VIDEO:
        return keys_video;
    case JOB_KEYS_FILE:
        return keys_file;
    case JOB_KEYS_SHOT:
        return keys_shot;
    case JOB_KEYS_STAGE:
        return keys_stage;
    case JOB_KEYS_CSV:
        return keys_csv;
    case JOB_VALUES_CODEC:
        return codec_names;
    case JOB_KEYS_LORA:
        return keys_lora;
    case JOB_KEYS_LIMITS:
        return keys_limits;
    case JOB_VALUES_SAMPLER:
        return sampler_names;
    case JOB_VALUES_NOISE:
        return noise_names;
    case JOB_VALUES_WEIGHTS:
        return weights_names + 1; /* "file" is what is said by saying nothing */
    case JOB_VALUES_ATTENTION:
        return attention_names;
    case JOB_VALUES_STAGE:
        return stage_names;
    case JOB_VALUES_EXPERT:
        return expert_names + 1; /* by "name" is what is said by saying nothing */
    case JOB_WORDS_COUNT:
        break;
    }
    return NULL;
}

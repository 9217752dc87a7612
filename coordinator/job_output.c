/* Where a video goes: the path with its holes filled, the container that it names, the codec. */
#include "coordinator/job_reader.h"

#include <stdio.h>
#include <string.h>

#include "base/text.h"

void job_fill_output(struct job_output *output, const struct settings *settings,
                     const struct model_facts *facts) {
    output->width = settings->width.set ? (int)settings->width.integer : facts->width;
    output->height = settings->height.set ? (int)settings->height.integer : facts->height;
    output->fps_numerator =
        settings->fps_numerator.set ? (int)settings->fps_numerator.integer : facts->fps;
    output->fps_denominator =
        settings->fps_denominator.set ? (int)settings->fps_denominator.integer : 1;
    output->quality = settings->quality.set ? (int)settings->quality.integer : -1;
    output->overwrite = settings->overwrite.set && settings->overwrite.integer;
}

/* -- the path --------------------------------------------------------------------------------- */

/* What stands for the hole that starts at *at; *at moves behind it. */
static enum error_code fill_hole(struct reader *reader, const char **out, const char **at,
                                 struct place place, const char *video, const char *seed) {
    static const char *const holes[] = {"job", "video", "seed", NULL};
    const char *end = strchr(*at, '}');
    char hole[32] = "";
    if (end && (size_t)(end - *at) <= sizeof hole) {
        memcpy(hole, *at + 1, (size_t)(end - *at - 1));
        hole[end - *at - 1] = '\0';
    }
    *out = !strcmp(hole, "job")     ? reader->job->name
           : !strcmp(hole, "video") ? video
           : !strcmp(hole, "seed")  ? seed
                                    : NULL;
    if (!*out || !end) {
        const char *near = *hole ? text_nearest(hole, holes) : NULL;
        return job_fail(reader, place, ERR_USAGE,
                        "path: {%s} cannot be filled in%s%s%s; there are {job}, {video} and {seed}",
                        hole, near ? "; did you mean {" : "", near ? near : "", near ? "}" : "");
    }
    *at = end + 1;
    return ERR_OK;
}

static enum error_code fill_holes(struct reader *reader, char out[LIMIT_PATH_BYTES],
                                  const char *path, struct place place, const char *video,
                                  uint64_t seed) {
    char number[24];
    size_t used = 0;
    snprintf(number, sizeof number, "%llu", (unsigned long long)seed);
    for (const char *at = path; *at;) {
        const char *put = at;
        size_t length = 1;
        if (*at == '{') {
            enum error_code code = fill_hole(reader, &put, &at, place, video, number);
            if (code)
                return code;
            length = strlen(put);
        } else {
            at++;
        }
        if (used + length >= LIMIT_PATH_BYTES)
            return job_fail(reader, place, ERR_LIMIT, "path: more than %d bytes once filled in",
                            LIMIT_PATH_BYTES - 1);
        memcpy(out + used, put, length);
        used += length;
    }
    out[used] = '\0';
    return ERR_OK;
}

/* "a//./b" is "a/b". `raw` is taken apart. */
static enum error_code tidy_path(struct reader *reader, char out[LIMIT_PATH_BYTES], char *raw,
                                 struct place place) {
    size_t length = 0, used = strlen(raw);
    if (raw[0] == '~' && raw[1] == '/')
        return job_fail(reader, place, ERR_USAGE,
                        "path: \"~\" is not the home folder here; write the folder's name out");
    bool absolute = raw[0] == '/', folder = used && raw[used - 1] == '/';
    if (absolute)
        out[length++] = '/';
    for (char *save = NULL, *part = strtok_r(raw, "/", &save); part;
         part = strtok_r(NULL, "/", &save)) {
        if (!strcmp(part, "."))
            continue;
        if (!strcmp(part, ".."))
            return job_fail(reader, place, ERR_USAGE,
                            "path: \"..\" is not allowed; write a path below the current folder, "
                            "or an absolute one");
        size_t bytes = strlen(part);
        if (bytes > 200) /* room for what is put around it while it is written */
            return job_fail(reader, place, ERR_LIMIT, "path: a file name of %zu bytes; at most 200",
                            bytes);
        if (length && out[length - 1] != '/')
            out[length++] = '/';
        memcpy(out + length, part, bytes);
        length += bytes;
    }
    out[length] = '\0';
    if (!length || (absolute && length == 1))
        return job_fail(reader, place, ERR_USAGE, "path: expected the name of a file");
    const char *slash = strrchr(out, '/');
    if (folder && strchr(slash ? slash + 1 : out, '.'))
        return job_fail(reader, place, ERR_USAGE,
                        "path: a name with an extension, and a '/' after it; which is it?");
    return ERR_OK;
}

/* -- the container ---------------------------------------------------------------------------- */

static enum error_code choose_container(struct reader *reader, struct job_output *output,
                                        const char **extension, struct place place) {
    const char *slash = strrchr(output->path, '/');
    const char *dot = strrchr(slash ? slash + 1 : output->path, '.');
    *extension = dot;
    output->container = JOB_CONTAINER_FOLDER;
    if (!dot)
        return ERR_OK;
    for (int i = 0; i < JOB_CONTAINER_FOLDER; i++)
        if (!strcmp(dot + 1, job_container_name((enum job_container)i))) {
            output->container = (enum job_container)i;
            return ERR_OK;
        }
    return job_fail(reader, place, ERR_USAGE,
                    "path: no container is called \"%s\"; expected a name that ends with .mp4, "
                    ".mkv, .webm or .mov, or one without an extension for a folder of pictures",
                    dot);
}

static enum error_code choose_codec(struct reader *reader, struct job_output *output,
                                    const struct setting *codec, const char *extension) {
    enum job_codec codecs[JOB_CODEC_COUNT];
    int count = job_container_codecs(codecs, output->container);
    output->codec = codec->set ? (enum job_codec)codec->integer : codecs[0];
    char list[128] = "";
    for (int i = 0; i < count; i++) {
        if (codecs[i] == output->codec)
            return ERR_OK;
        size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, "%s%s", used ? ", " : "",
                 job_codec_name(codecs[i]));
    }
    return job_fail(
        reader, codec->at, ERR_USAGE, "codec: %s does not go into %s, which can hold %s",
        job_codec_name(output->codec), extension ? extension : "a folder of pictures", list);
}

/* What the encoder would refuse after hours of denoising. */
static enum error_code check_codec(struct reader *reader, const struct job_output *output,
                                   const struct settings *settings, struct place at) {
    const struct job_codec_facts *facts = job_codec_facts(output->codec);
    const char *name = job_codec_name(output->codec);
    struct place size_at = settings->width.set ? settings->width.at : at;
    if (output->width < facts->side_min || output->height < facts->side_min)
        return job_fail(reader, size_at, ERR_SHAPE,
                        "size: %dx%d is too small for %s, whose sides are at least %d pixels",
                        output->width, output->height, name, facts->side_min);
    if (output->width % facts->side_step || output->height % facts->side_step)
        return job_fail(reader, size_at, ERR_SHAPE,
                        "size: %s stores colour at half the size, so both sides must be even, and "
                        "%dx%d is not; take %dx%d, or the codec png or ffv1",
                        name, output->width, output->height, output->width & ~1,
                        output->height & ~1);
    if (output->quality > facts->quality_max)
        return job_fail(reader, settings->quality.at, ERR_LIMIT,
                        "quality: the scale of %s ends at %d (smallest), found %d", name,
                        facts->quality_max, output->quality);
    return ERR_OK;
}

enum error_code job_fill_path(struct reader *reader, struct job_output *output,
                              const struct settings *settings, struct place at, const char *video,
                              uint64_t seed) {
    static const char *const paths[JOB_CODEC_COUNT] = {
        [JOB_CODEC_H264] = "out/{job}-{video}.mp4",
        [JOB_CODEC_HEVC] = "out/{job}-{video}.mp4",
        [JOB_CODEC_AV1] = "out/{job}-{video}.mp4",
        [JOB_CODEC_VP9] = "out/{job}-{video}.webm",
        [JOB_CODEC_FFV1] = "out/{job}-{video}.mkv",
        [JOB_CODEC_PRORES] = "out/{job}-{video}.mov",
        [JOB_CODEC_PNG] = "out/{job}-{video}",
        [JOB_CODEC_H264_NVENC] = "out/{job}-{video}.mp4",
        [JOB_CODEC_HEVC_NVENC] = "out/{job}-{video}.mp4",
        [JOB_CODEC_AV1_NVENC] = "out/{job}-{video}.mp4",
    };
    const struct setting *codec = &settings->codec;
    const char *path = settings->path.set ? settings->path.text
                                          : paths[codec->set ? codec->integer : JOB_CODEC_H264];
    struct place place = settings->path.set ? settings->path.at : at;
    char raw[LIMIT_PATH_BYTES], filled[LIMIT_PATH_BYTES];
    enum error_code code = fill_holes(reader, raw, path, place, video, seed);
    if (!code)
        code = tidy_path(reader, filled, raw, place);
    if (code)
        return code;
    output->path = job_keep(reader, filled);
    if (!output->path)
        return job_no_memory(reader);
    const char *extension = NULL;
    output->container = JOB_CONTAINER_FOLDER;
    /* A name with a dot in it is no extension of a folder that we have named ourselves. */
    if (settings->path.set || !codec->set || codec->integer != JOB_CODEC_PNG)
        code = choose_container(reader, output, &extension, place);
    if (!code)
        code = choose_codec(reader, output, codec, extension);
    return code ? code : check_codec(reader, output, settings, at);
}

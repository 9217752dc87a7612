/* Submission: the job file and everything it names, to the coordinator. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/yaml.h"
#include "cli/client_internal.h"
#include "coordinator/server_uploads.h"

#define ARENA_BYTES    (UINT64_C(1) << 30) /* reserved: the job file, names */
#define PATIENCE_NS    (120 * CLOCK_S)     /* a large job takes the coordinator a while to read */
#define ROUNDS_WITHOUT 8                   /* chunks that bring an upload no further */

/* -- what the job file names ------------------------------------------------------------------- */

struct named_file {
    const char *name; /* as in the job file */
    const char *path; /* here */
    struct hash hash;
    struct named_file *next;
};
struct gathering {
    char folder[FILE_PATH_BYTES]; /* of the job file */
    const struct client_submission *submission;
    struct arena arena;
    struct named_file *lists, *images; /* prompt lists; all of both once the job is read */
};

static enum error_code find_path(const struct gathering *gathering, char out[FILE_PATH_BYTES],
                                 const char *name, struct error *error) {
    return name[0] == '/' ? file_join(out, "/", name + 1, error)
                          : file_join(out, gathering->folder, name, error);
}

static bool is_list(const struct gathering *gathering, const char *name) {
    for (const struct named_file *file = gathering->lists; file; file = file->next)
        if (strcmp(file->name, name) == 0)
            return true;
    return false;
}

/* A prompt list may be named more than once, an image is asked for once (job.h). */
static enum error_code remember(struct gathering *gathering, struct named_file **files,
                                const char *name, const char *path, const struct hash *hash,
                                struct error *error) {
    if (is_list(gathering, name))
        return ERR_OK;
    struct named_file *file = arena_zalloc(&gathering->arena, sizeof *file);
    if (file) {
        file->name = arena_strdup(&gathering->arena, name, strlen(name));
        file->path = arena_strdup(&gathering->arena, path, strlen(path));
        file->hash = *hash;
    }
    if (!file || !file->name || !file->path)
        return error_set(error, ERR_MEMORY, "no memory for the names of files");
    file->next = *files;
    *files = file;
    return ERR_OK;
}

static enum error_code read_file(void *user, char **out, size_t *length, struct arena *arena,
                                 const char *name, size_t bytes_max, struct error *error) {
    struct gathering *gathering = user;
    char path[FILE_PATH_BYTES];
    struct hash hash;
    enum error_code code = find_path(user, path, name, error);
    if (code == ERR_OK)
        code = file_read(out, length, arena, path, bytes_max, error);
    if (code != ERR_OK)
        return code;
    hash_of(&hash, *out, *length);
    return remember(gathering, &gathering->lists, name, path, &hash, error);
}

static enum error_code find_image(void *user, struct job_file *out, struct arena *arena,
                                  const char *name, struct error *error) {
    struct gathering *gathering = user;
    char path[FILE_PATH_BYTES];
    struct stat status;
    enum error_code code = find_path(user, path, name, error);
    if (code != ERR_OK)
        return code;
    if (stat(path, &status) != 0)
        return error_set_errno(error, errno, "%.512s", path);
    if (!S_ISREG(status.st_mode))
        return error_set(error, ERR_USAGE, "%.512s is not a file", path);
    if ((uint64_t)status.st_size > SERVER_UPLOAD_BYTES)
        return error_set(error, ERR_LIMIT, "%.512s has %lld bytes; at most %u are taken", path,
                         (long long)status.st_size, SERVER_UPLOAD_BYTES);
    if (gathering->submission->check_image)
        code = gathering->submission->check_image(path, error);
    if (code == ERR_OK)
        code = hash_of_file(&out->hash, path, error);
    if (code != ERR_OK)
        return code;
    out->bytes = status.st_size;
    out->path = arena_strdup(arena, path, strlen(path));
    if (!out->path)
        return error_set(error, ERR_MEMORY, "no memory for a path");
    return remember(gathering, &gathering->images, name, path, &out->hash, error);
}

/* Like the model's, a LoRA's file is the coordinator's and the workers' to have. */
static enum error_code find_lora(void *user, struct job_file *out, struct arena *arena,
                                 const char *spec, struct error *error) {
    (void)user, (void)arena, (void)spec, (void)error;
    *out = (struct job_file){.path = ""};
    return ERR_OK;
}

/* A model that can do anything: this machine need not have the job's. The coordinator, which has,
 * checks again. */
static enum error_code read_model(void *user, struct model_facts *out, const char *spec,
                                  struct error *error) {
    *out = (struct model_facts){
        .unknown = true,
        .family = "any",
        .abilities = MODEL_CAN_TEXT | MODEL_CAN_KEYFRAME | MODEL_CAN_WINDOW | MODEL_CAN_VAE,
        .size_multiple = 1,
        .size_min = 1,
        .size_max = LIMIT_SIDE,
        .width = 160,
        .height = 96,
        .fps = LIMIT_FPS, /* so that no length is too short */
        .window_frames = LIMIT_FRAMES,
        .window_step = 1,
        .end = JOB_END_MAY,
        .overlaps = {1},
        .overlap_count = 1,
        .any_overlap = true,
        .windows = (1u << JOB_WINDOWS_COUNT) - 1,
        .sampler = JOB_SAMPLER_EULER,
        .steps = 1,
        .guidance = 1,
        .shift = 1,
        .experts = 2,
    };
    return ERR_OK;
}

/* The lists that have names are the coordinator's to know. */
static enum error_code find_steps(void *user, struct job_step_list *out, const char *name,
                                  struct error *error) {
    (void)user, (void)name, (void)error;
    *out = (struct job_step_list){.steps = 1, .sigmas = {1, 0}};
    return ERR_OK;
}

static enum error_code gather(struct gathering *gathering, const char *path, const char *text,
                              size_t length, struct error *error) {
    const struct job_resolver resolver = {
        .user = gathering,
        .read_file = read_file,
        .find_image = find_image,
        .find_lora = find_lora,
        .read_model = read_model,
        .find_steps = find_steps,
    };
    struct job *job = NULL;
    const char *slash = strrchr(path, '/');
    if (slash && slash - path >= FILE_PATH_BYTES)
        return file_too_long(path, error);
    snprintf(gathering->folder, sizeof gathering->folder, "%.*s",
             slash == path ? 1
             : slash       ? (int)(slash - path)
                           : 1,
             slash ? path : ".");
    enum error_code code = job_parse(&job, path, text, length, &resolver, error);
    job_close(&job);
    struct named_file **end = &gathering->images;
    while (*end)
        end = &(*end)->next;
    *end = gathering->lists;
    return code;
}

/* -- uploading --------------------------------------------------------------------------------- */

/* Bytes of a blob: in memory, or in an open file. */
struct blob {
    struct hash hash;
    uint64_t size;
    const char *bytes; /* NULL: read `file` */
    int file;
    const char *name; /* for errors */
};

static enum error_code fill_chunk(vidloom_PutBlob *out, const struct blob *blob, uint64_t offset,
                                  char *space, struct error *error) {
    size_t length =
        blob->size - offset < PROTO_BLOB_BYTES ? (size_t)(blob->size - offset) : PROTO_BLOB_BYTES;
    out->offset = offset;
    if (!blob->bytes) {
        ssize_t got = pread(blob->file, space, length, (off_t)offset);
        if (got < 0)
            return error_set_errno(error, errno, "cannot read %.512s", blob->name);
        if ((size_t)got != length)
            return error_set(error, ERR_IO, "%.512s became shorter while it was read", blob->name);
    }
    out->data.bytes = blob->bytes ? blob->bytes + offset : space;
    out->data.length = length;
    return ERR_OK;
}

static enum error_code put_chunks(struct client *client, const struct blob *blob, char *space,
                                  struct error *error) {
    uint64_t next = 0;
    bool asked = false;
    for (int without = 0; !asked || next < blob->size;) {
        message_begin(client->out, vidloom_Envelope_put_blob_tag);
        vidloom_PutBlob *out = &client->out->body.put_blob;
        message_set_hash(out->hash, &blob->hash);
        out->size = blob->size;
        enum error_code code = asked ? fill_chunk(out, blob, next, space, error) : ERR_OK;
        if (code == ERR_OK)
            code = client_ask(client, vidloom_Envelope_blob_known_tag, client->timeout_ns, error);
        if (code != ERR_OK)
            return code;
        uint64_t held = client->in->envelope.body.blob_known.next;
        without = asked && held <= next ? without + 1 : 0;
        if (held > blob->size || without == ROUNDS_WITHOUT)
            return error_set(error, ERR_NETWORK,
                             "the upload of %.512s makes no progress; is "
                             "another client sending it too? Submit again",
                             blob->name);
        next = held;
        asked = true;
    }
    return ERR_OK;
}

static enum error_code put_blob(struct client *client, const struct blob *blob,
                                struct error *error) {
    char *space = malloc(PROTO_BLOB_BYTES);
    if (!space)
        return error_set(error, ERR_MEMORY, "no memory for an upload");
    enum error_code code = put_chunks(client, blob, space, error);
    free(space);
    return code;
}

static enum error_code put_file(struct client *client, const struct named_file *file,
                                struct error *error) {
    struct stat status;
    struct blob blob = {.hash = file->hash, .name = file->path};
    blob.file = open(file->path, O_RDONLY | O_CLOEXEC);
    if (blob.file < 0 || fstat(blob.file, &status) != 0) {
        enum error_code code = error_set_errno(error, errno, "cannot read %.512s", file->path);
        if (blob.file >= 0)
            close(blob.file);
        return code;
    }
    blob.size = (uint64_t)status.st_size;
    enum error_code code = put_blob(client, &blob, error);
    close(blob.file);
    return code;
}

static enum error_code put_memory(struct client *client, struct hash *hash, const char *bytes,
                                  size_t length, const char *name, struct error *error) {
    hash_of(hash, bytes, length);
    const struct blob blob = {.hash = *hash, .size = length, .bytes = bytes, .name = name};
    return put_blob(client, &blob, error);
}

static enum error_code put_manifest(struct client *client, struct hash *hash,
                                    const struct gathering *gathering, struct error *error) {
    struct buffer text = {0};
    struct json_writer writer = {.buffer = &text};
    json_begin_object(&writer, NULL);
    for (const struct named_file *file = gathering->images; file; file = file->next) {
        char hex[HASH_HEX_BYTES];
        hash_hex(hex, &file->hash);
        json_put_text(&writer, file->name, hex);
    }
    json_end_object(&writer);
    enum error_code code =
        text.failed ? error_set(error, ERR_MEMORY, "no memory for the list of files")
                    : put_memory(client, hash, text.data, text.length, "the list of files", error);
    buffer_close(&text);
    return code;
}

/* -- submit ------------------------------------------------------------------------------------ */

static enum error_code send_all(struct client *client, struct client_submitted *out,
                                const struct client_submission *submission,
                                const struct gathering *gathering, const char *text, size_t length,
                                struct error *error) {
    struct hash job_file, manifest;
    enum error_code code = ERR_OK;
    for (const struct named_file *file = gathering->images; file && code == ERR_OK;
         file = file->next)
        code = put_file(client, file, error);
    if (code == ERR_OK)
        code = put_memory(client, &job_file, text, length, submission->path, error);
    if (code == ERR_OK)
        code = put_manifest(client, &manifest, gathering, error);
    if (code != ERR_OK)
        return code;
    message_begin(client->out, vidloom_Envelope_submit_tag);
    vidloom_Submit *submit = &client->out->body.submit;
    message_set_text(submit->name, sizeof submit->name, submission->path);
    message_set_hash(submit->job_file, &job_file);
    message_set_hash(submit->manifest, &manifest);
    submit->priority = submission->priority;
    code = client_ask(client, vidloom_Envelope_accepted_tag,
                      client->timeout_ns > PATIENCE_NS ? client->timeout_ns : PATIENCE_NS, error);
    if (code != ERR_OK)
        return code;
    const vidloom_Accepted *accepted = &client->in->envelope.body.accepted;
    *out = (struct client_submitted){.job = accepted->job,
                                     .videos = (int)accepted->videos,
                                     .known = accepted->known,
                                     .warning_count = (int)accepted->warnings_count,
                                     .note_count = (int)accepted->notes_count};
    for (int i = 0; i < out->warning_count; i++)
        message_set_text(out->warnings[i], sizeof out->warnings[i], accepted->warnings[i]);
    for (int i = 0; i < out->note_count; i++)
        message_set_text(out->notes[i], sizeof out->notes[i], accepted->notes[i]);
    return ERR_OK;
}

enum error_code client_submit(struct client *client, struct client_submitted *out,
                              const struct client_submission *submission, struct error *error) {
    struct gathering *gathering = calloc(1, sizeof *gathering);
    if (!gathering)
        return error_set(error, ERR_MEMORY, "no memory for a submission");
    gathering->submission = submission;
    char *text;
    size_t length;
    enum error_code code = arena_open(&gathering->arena, ARENA_BYTES, error);
    if (code == ERR_OK)
        code =
            file_read(&text, &length, &gathering->arena, submission->path, YAML_BYTES_MAX, error);
    if (code == ERR_DENIED) /* as if it were not there: the command line is wrong */
        code = error->code = ERR_USAGE;
    if (code == ERR_OK)
        code = gather(gathering, submission->path, text, length, error);
    if (code == ERR_OK)
        code = send_all(client, out, submission, gathering, text, length, error);
    arena_close(&gathering->arena);
    free(gathering);
    return code;
}

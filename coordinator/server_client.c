/* Clients: uploads, submissions, orders. Reports are in server_report.c. */
#include <string.h>

#include "base/json.h"
#include "base/yaml.h"
#include "coordinator/server_internal.h"

void server_refuse(struct server *server, uint64_t peer, const struct error *error) {
    uint64_t request = server->in->envelope.request;
    server->counts.refused++;
    message_begin(server->out, vidloom_Envelope_refused_tag);
    server->out->request = request;
    server->out->body.refused.code = (uint32_t)error->code;
    message_set_text(server->out->body.refused.detail, sizeof server->out->body.refused.detail,
                     error->detail);
    server_answer(server, peer, false);
}

static void answer_done(struct server *server, uint64_t peer) {
    message_begin(server->out, vidloom_Envelope_done_tag);
    server->out->request = server->in->envelope.request;
    server_answer(server, peer, true);
}

/* -- uploads and submission -------------------------------------------------------------------- */

static enum error_code put_blob(struct server *server, uint64_t peer, const vidloom_PutBlob *blob,
                                struct error *error) {
    const struct upload_chunk chunk = {
        .hash = message_hash(blob->hash),
        .size = blob->size,
        .offset = blob->offset,
        .bytes = blob->data.bytes,
        .length = blob->data.length,
        .wall_ns = server->wall,
    };
    uint64_t next = 0;
    enum error_code code = uploads_add(server->uploads, &next, &chunk, error);
    if (code != ERR_OK)
        return code;
    message_begin(server->out, vidloom_Envelope_blob_known_tag);
    server->out->request = server->in->envelope.request;
    message_set_hash(server->out->body.blob_known.hash, &chunk.hash);
    server->out->body.blob_known.next = next;
    server_answer(server, peer, false);
    return ERR_OK;
}

static enum error_code read_upload(struct server *server, char **out, size_t *length,
                                   const pb_byte_t hash_bytes[HASH_BYTES], size_t bytes_max,
                                   const char *what, struct error *error) {
    char path[FILE_PATH_BYTES];
    struct hash hash = message_hash(hash_bytes);
    int64_t size;
    if (!uploads_find(server->uploads, path, &size, &hash))
        return error_set(error, ERR_MISSING, "%s was not uploaded, or too long ago; submit again",
                         what);
    enum error_code code = file_read(out, length, &server->arena, path, bytes_max, error);
    return code == ERR_OK ? code : error_prefix(error, "%s: ", what);
}

/* {"NAME": "hash", …} */
static enum error_code read_manifest(struct server *server, struct submission *submission,
                                     const vidloom_Submit *submit, struct error *error) {
    char *text = NULL;
    size_t length = 0;
    const struct json *manifest;
    enum error_code code = read_upload(server, &text, &length, submit->manifest,
                                       SERVER_MANIFEST_BYTES, "the manifest", error);
    if (code == ERR_OK)
        code = json_parse(&manifest, &server->arena, text, length, error);
    if (code != ERR_OK)
        return error_prefix(error, "the manifest: ");
    if (manifest->type != JSON_OBJECT)
        return error_set(error, ERR_FORMAT, "the manifest is not a JSON object");
    submission->files = arena_array(&server->arena, manifest->length, sizeof *submission->files);
    if (manifest->length && !submission->files)
        return error_set(error, ERR_MEMORY, "no memory for the manifest");
    for (const struct json *file = manifest->child; file; file = file->next) {
        struct submission_file *out = &submission->files[submission->file_count++];
        out->name = file->key;
        if (file->type != JSON_STRING || !hash_from_hex(&out->hash, file->string))
            return error_set(error, ERR_FORMAT,
                             "the manifest's entry for %.256s is not a hash of 64 hex digits",
                             file->key);
    }
    return ERR_OK;
}

static enum error_code submit(struct server *server, uint64_t peer, const vidloom_Submit *message,
                              struct error *error) {
    struct submission submission = {
        .name = message->name, .key = message->submission, .priority = message->priority};
    struct submitted submitted = {0};
    char *yaml = NULL;
    enum error_code code = read_upload(server, &yaml, &submission.yaml_length, message->job_file,
                                       YAML_BYTES_MAX, "the job file", error);
    submission.yaml = yaml;
    if (code == ERR_OK)
        code = read_manifest(server, &submission, message, error);
    if (code == ERR_OK)
        code = server_submit(server, &submitted, &submission, error);
    if (code != ERR_OK)
        return code;
    server->had_work = true;
    log_line(server->config.log, LOG_INFO, "coordinator", "job=%llu %s videos=%d",
             (unsigned long long)submitted.job, submitted.known ? "known" : "accepted",
             submitted.videos);
    message_begin(server->out, vidloom_Envelope_accepted_tag);
    server->out->request = server->in->envelope.request;
    server->out->body.accepted.job = submitted.job;
    server->out->body.accepted.videos = (uint32_t)submitted.videos;
    server->out->body.accepted.known = submitted.known;
    server->out->body.accepted.warnings_count = (pb_size_t)submitted.warning_count;
    for (int i = 0; i < submitted.warning_count; i++)
        message_set_text(server->out->body.accepted.warnings[i], PROTO_TEXT_BYTES,
                         submitted.warnings[i]);
    server->out->body.accepted.notes_count = (pb_size_t)submitted.note_count;
    for (int i = 0; i < submitted.note_count; i++)
        message_set_text(server->out->body.accepted.notes[i], PROTO_TEXT_BYTES, submitted.notes[i]);
    server_answer(server, peer, true);
    return ERR_OK;
}

/* -- orders ------------------------------------------------------------------------------------ */

static enum error_code check_full(const struct server *server, struct error *error) {
    if (!server->full)
        return ERR_OK;
    return error_set(error, ERR_FULL,
                     "the disk of the coordinator's state folder %.512s is full; make room, then "
                     "ask again",
                     server->state);
}

static enum error_code control(struct server *server, uint64_t peer, const vidloom_Control *order,
                               struct error *error) {
    static const enum scheduler_control controls[] = {
        [vidloom_ACTION_PAUSE] = CONTROL_PAUSE,
        [vidloom_ACTION_RESUME] = CONTROL_RESUME,
        [vidloom_ACTION_CANCEL] = CONTROL_CANCEL,
        [vidloom_ACTION_RETRY] = CONTROL_RETRY,
    };
    enum error_code code = check_full(server, error);
    if (code == ERR_OK && order->has_video)
        code = error_set(error, ERR_UNSUPPORTED,
                         "this coordinator controls whole jobs, not single videos");
    if (code == ERR_OK)
        code = server_control(server, order->job, controls[order->action], error);
    if (code != ERR_OK)
        return code;
    server->had_work = true;
    answer_done(server, peer);
    return ERR_OK;
}

static enum error_code drain(struct server *server, uint64_t peer, const vidloom_DrainWorker *order,
                             struct error *error) {
    enum error_code code = check_full(server, error);
    if (code == ERR_OK)
        code = scheduler_drain_worker(server->scheduler, order->name, order->now, server->now,
                                      &server->actions, error);
    if (code != ERR_OK)
        return code;
    server_send_drain(server, order->name, order->now);
    answer_done(server, peer);
    return ERR_OK;
}

/* -- reports ----------------------------------------------------------------------------------- */

static enum error_code report(struct server *server, uint64_t peer, struct error *error) {
    const vidloom_Envelope *in = &server->in->envelope;
    enum error_code code = ERR_OK;
    switch (in->which_body) {
    case vidloom_Envelope_get_jobs_tag:
        code = report_jobs(server, &in->body.get_jobs, error);
        break;
    case vidloom_Envelope_get_videos_tag:
        code = report_videos(server, &in->body.get_videos, error);
        break;
    case vidloom_Envelope_get_workers_tag:
        report_workers(server, &in->body.get_workers);
        break;
    case vidloom_Envelope_get_log_tag:
        code = report_log(server, &in->body.get_log, error);
        break;
    default:
        code = error_set(error, ERR_USAGE, "this is not for a client to say");
        break;
    }
    if (code != ERR_OK)
        return code;
    server->out->request = in->request;
    server_answer(server, peer, false);
    return ERR_OK;
}

void server_client_message(struct server *server, uint64_t peer) {
    const vidloom_Envelope *in = &server->in->envelope;
    struct error error;
    enum error_code code;
    size_t mark = server->arena.used;
    switch (in->which_body) {
    case vidloom_Envelope_put_blob_tag:
        code = put_blob(server, peer, &in->body.put_blob, &error);
        break;
    case vidloom_Envelope_submit_tag:
        code = submit(server, peer, &in->body.submit, &error);
        break;
    case vidloom_Envelope_control_tag:
        code = control(server, peer, &in->body.control, &error);
        break;
    case vidloom_Envelope_drain_worker_tag:
        code = drain(server, peer, &in->body.drain_worker, &error);
        break;
    default:
        code = report(server, peer, &error);
        break;
    }
    arena_reset(&server->arena, mark);
    if (code != ERR_OK)
        server_refuse(server, peer, &error);
}

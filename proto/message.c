#include "proto/message.h"

#include <pb_common.h>
#include <pb_decode.h>
#include <pb_encode.h>
#include <string.h>

#include "base/text.h"

/* limits.h and vidloom.options say the same. */
#define TEXT_FITS(message, field, bytes)                                                           \
    _Static_assert(sizeof(((vidloom_##message *)0)->field) == (bytes), #message "." #field)
#define COUNT_FITS(message, field, count)                                                          \
    _Static_assert(sizeof(((vidloom_##message *)0)->field) /                                       \
                           sizeof(((vidloom_##message *)0)->field[0]) ==                           \
                       (count),                                                                    \
                   #message "." #field)
TEXT_FITS(Artifact, name, PROTO_ARTIFACT_BYTES);
TEXT_FITS(Artifact, hash, HASH_BYTES);
TEXT_FITS(Hello, name, PROTO_WORKER_BYTES);
TEXT_FITS(Hello, class, PROTO_WORKER_BYTES);
TEXT_FITS(Hello, device, PROTO_DEVICE_BYTES);
TEXT_FITS(Result, detail, PROTO_DETAIL_BYTES);
TEXT_FITS(Result, key, HASH_BYTES);
TEXT_FITS(Refused, detail, PROTO_DETAIL_BYTES);
TEXT_FITS(Lease, file_path, PROTO_PATH_BYTES);
TEXT_FITS(Lease, staged, PROTO_PATH_BYTES);
TEXT_FITS(Lease, job_name, PROTO_NAME_BYTES);
TEXT_FITS(Video, name, PROTO_NAME_BYTES);
TEXT_FITS(Video, path, PROTO_OUTPUT_BYTES);
TEXT_FITS(Video, detail, PROTO_TEXT_BYTES);
TEXT_FITS(LogEntry, text, PROTO_TEXT_BYTES);
COUNT_FITS(Result, outputs, PROTO_OUTPUTS_MAX);
COUNT_FITS(Job, by_state, PROTO_STATES_MAX);
COUNT_FITS(Accepted, warnings, PROTO_WARNINGS_MAX);
COUNT_FITS(Accepted, notes, PROTO_NOTES_MAX);
COUNT_FITS(JobPage, jobs, PROTO_JOBS_PAGE);
COUNT_FITS(VideoPage, videos, PROTO_VIDEOS_PAGE);
COUNT_FITS(WorkerPage, workers, PROTO_WORKERS_PAGE);
COUNT_FITS(LogPage, entries, PROTO_LOG_PAGE);

/* The largest of everything fits a frame: a mux lease, and a page of videos. */
_Static_assert(PROTO_INPUTS_MAX *(PROTO_ARTIFACT_BYTES + HASH_BYTES + 20) + PROTO_PARAMETERS_BYTES +
                       3 * PROTO_PATH_BYTES <
                   PROTO_FRAME_TO_PEER,
               "a lease fits a frame");
_Static_assert(sizeof(vidloom_VideoPage) < PROTO_FRAME_TO_PEER, "a page fits a frame");
_Static_assert(PROTO_BLOB_BYTES + 4096 < PROTO_FRAME_TO_COORDINATOR, "a blob fits a frame");

static const struct {
    pb_size_t tag;
    const char *name;
    unsigned senders;
} bodies[] = {
#define X(name, senders)                                                                           \
    { vidloom_Envelope_##name##_tag, #name, senders }
    X(hello, MESSAGE_WORKER),
    X(request_work, MESSAGE_WORKER),
    X(progress, MESSAGE_WORKER),
    X(result, MESSAGE_WORKER),
    X(bye, MESSAGE_WORKER),
    X(heartbeat, MESSAGE_WORKER | MESSAGE_COORDINATOR),
    X(welcome, MESSAGE_COORDINATOR),
    X(lease, MESSAGE_COORDINATOR),
    X(revoke, MESSAGE_COORDINATOR),
    X(drain, MESSAGE_COORDINATOR),
    X(result_known, MESSAGE_COORDINATOR),
    X(refused, MESSAGE_COORDINATOR),
    X(put_blob, MESSAGE_CLIENT),
    X(submit, MESSAGE_CLIENT),
    X(get_jobs, MESSAGE_CLIENT),
    X(get_videos, MESSAGE_CLIENT),
    X(get_workers, MESSAGE_CLIENT),
    X(get_log, MESSAGE_CLIENT),
    X(control, MESSAGE_CLIENT),
    X(drain_worker, MESSAGE_CLIENT),
    X(blob_known, MESSAGE_COORDINATOR),
    X(accepted, MESSAGE_COORDINATOR),
    X(job_page, MESSAGE_COORDINATOR),
    X(video_page, MESSAGE_COORDINATOR),
    X(worker_page, MESSAGE_COORDINATOR),
    X(log_page, MESSAGE_COORDINATOR),
    X(done, MESSAGE_COORDINATOR),
#undef X
};

static size_t body_at(pb_size_t tag) {
    size_t i = 0;
    while (i < sizeof bodies / sizeof *bodies && bodies[i].tag != tag)
        i++;
    return i;
}

unsigned message_senders(pb_size_t body) {
    size_t i = body_at(body);
    return i < sizeof bodies / sizeof *bodies ? bodies[i].senders : 0;
}

const char *message_name(pb_size_t body) {
    size_t i = body_at(body);
    return i < sizeof bodies / sizeof *bodies ? bodies[i].name : "unknown";
}

void message_begin(vidloom_Envelope *envelope, pb_size_t body) {
    pb_field_iter_t field;
    envelope->version = PROTO_VERSION;
    envelope->request = 0;
    envelope->which_body = body;
    if (pb_field_iter_begin(&field, vidloom_Envelope_fields, envelope) &&
        pb_field_iter_find(&field, body))
        memset(field.pData, 0, field.data_size);
}

static size_t frame_limit(pb_size_t body) {
    return message_senders(body) & MESSAGE_COORDINATOR ? PROTO_FRAME_TO_PEER
                                                       : PROTO_FRAME_TO_COORDINATOR;
}

/* -- checks ----------------------------------------------------------------------------------- */

/* Every text in the message is UTF-8 that ends. Returns the name's tag of one that is not, else 0.
 * The depth is that of the schema: envelope, page, entry. */
static pb_size_t bad_text(const pb_msgdesc_t *fields, const void *message) {
    pb_field_iter_t field;
    if (!pb_field_iter_begin_const(&field, fields, message))
        return 0;
    do {
        size_t count = 1;
        if (PB_ATYPE(field.type) != PB_ATYPE_STATIC)
            continue;
        if (PB_HTYPE(field.type) == PB_HTYPE_REPEATED)
            count = *(const pb_size_t *)field.pSize;
        else if (PB_HTYPE(field.type) == PB_HTYPE_ONEOF)
            count = *(const pb_size_t *)field.pSize == field.tag;
        for (size_t i = 0; i < count; i++) {
            const char *item = (const char *)field.pData + i * field.data_size;
            if (PB_LTYPE(field.type) == PB_LTYPE_STRING) {
                size_t length = strnlen(item, field.data_size);
                if (length == field.data_size || !text_is_utf8(item, length, NULL))
                    return field.tag;
            } else if (PB_LTYPE_IS_SUBMSG(field.type)) {
                pb_size_t tag = bad_text(field.submsg_desc, item);
                if (tag)
                    return tag;
            }
        }
    } while (pb_field_iter_next(&field));
    return 0;
}

static bool is_kind(vidloom_Kind kind) {
    return (unsigned)kind <= vidloom_KIND_MUX;
}

/* What the types alone do not say. NULL: it is right. */
static const char *wrong_in(const vidloom_Envelope *envelope) {
    switch (envelope->which_body) {
    case vidloom_Envelope_progress_tag: {
        double fraction = envelope->body.progress.fraction;
        return fraction >= 0 && fraction <= 1 ? NULL : "the fraction is not within 0 and 1";
    }
    case vidloom_Envelope_lease_tag: {
        const vidloom_Lease *lease = &envelope->body.lease;
        if (!is_kind(lease->kind))
            return "an unknown kind of task";
        for (size_t i = 0; i < lease->inputs.count; i++) {
            if (bad_text(vidloom_Artifact_fields, &lease->inputs.items[i]))
                return "an input's name is not UTF-8";
        }
        return NULL;
    }
    case vidloom_Envelope_control_tag:
        return (unsigned)envelope->body.control.action <= vidloom_ACTION_RETRY
                   ? NULL
                   : "an unknown action";
    case vidloom_Envelope_video_page_tag:
        for (size_t i = 0; i < envelope->body.video_page.videos_count; i++) {
            if (!is_kind(envelope->body.video_page.videos[i].kind))
                return "an unknown kind of task";
        }
        return NULL;
    case vidloom_Envelope_worker_page_tag:
        for (size_t i = 0; i < envelope->body.worker_page.workers_count; i++) {
            if (!is_kind(envelope->body.worker_page.workers[i].kind))
                return "an unknown kind of task";
        }
        return NULL;
    case vidloom_Envelope_log_page_tag:
        for (size_t i = 0; i < envelope->body.log_page.entries_count; i++) {
            if (!is_kind(envelope->body.log_page.entries[i].kind))
                return "an unknown kind of task";
        }
        return NULL;
    default:
        return NULL;
    }
}

static enum error_code check(const vidloom_Envelope *envelope, struct error *error) {
    const char *name = message_name(envelope->which_body);
    pb_size_t tag = bad_text(vidloom_Envelope_fields, envelope);
    if (tag)
        return error_set(error, ERR_FORMAT, "message %s: the text in field %d is not UTF-8", name,
                         (int)tag);
    const char *wrong = wrong_in(envelope);
    if (wrong)
        return error_set(error, ERR_FORMAT, "message %s: %s", name, wrong);
    return ERR_OK;
}

/* -- slices ----------------------------------------------------------------------------------- */

static bool encode_slice(pb_ostream_t *stream, const pb_field_t *field) {
    if (field->descriptor == vidloom_Lease_fields && field->tag == vidloom_Lease_inputs_tag) {
        const struct proto_inputs *inputs = field->pData;
        for (size_t i = 0; i < inputs->count; i++) {
            if (!pb_encode_tag_for_field(stream, field) ||
                !pb_encode_submessage(stream, vidloom_Artifact_fields, &inputs->items[i]))
                return false;
        }
        return true;
    }
    const struct proto_bytes *slice = field->pData;
    return slice->length == 0 || (pb_encode_tag_for_field(stream, field) &&
                                  pb_encode_string(stream, slice->bytes, slice->length));
}

static bool decode_slice(pb_istream_t *stream, const pb_field_t *field) {
    if (field->descriptor == vidloom_Lease_fields && field->tag == vidloom_Lease_inputs_tag) {
        /* The lease is within the envelope of a struct message, and the inputs are after it. */
        struct proto_inputs *inputs = field->pData;
        struct message *message =
            (struct message *)(void *)((char *)field->message -
                                       offsetof(struct message, envelope.body.lease));
        if (inputs->count >= PROTO_INPUTS_MAX)
            PB_RETURN_ERROR(stream, "too many inputs");
        if (!pb_decode(stream, vidloom_Artifact_fields, &message->inputs[inputs->count]))
            return false;
        inputs->items = message->inputs;
        inputs->count++;
        return true;
    }
    /* A stream from a buffer keeps its place in `state`: point there instead of copying. */
    struct proto_bytes *slice = field->pData;
    size_t limit =
        field->descriptor == vidloom_Lease_fields ? PROTO_PARAMETERS_BYTES : PROTO_BLOB_BYTES;
    if (stream->bytes_left > limit)
        PB_RETURN_ERROR(stream, "bytes overflow");
    slice->bytes = stream->state;
    slice->length = stream->bytes_left;
    return pb_read(stream, NULL, stream->bytes_left);
}

/* Named in vidloom.options: nanopb calls it for the fields that are slices. */
bool proto_field_callback(pb_istream_t *istream, pb_ostream_t *ostream, const pb_field_t *field) {
    return ostream ? encode_slice(ostream, field) : decode_slice(istream, field);
}

/* -- encode, decode --------------------------------------------------------------------------- */

static bool write_to_buffer(pb_ostream_t *stream, const pb_byte_t *bytes, size_t length) {
    struct buffer *buffer = stream->state;
    buffer_add(buffer, bytes, length);
    return !buffer->failed;
}

enum error_code message_encode(struct buffer *out, vidloom_Envelope *envelope,
                               struct error *error) {
    const char *name = message_name(envelope->which_body);
    size_t limit = frame_limit(envelope->which_body);
    out->length = 0;
    envelope->version = PROTO_VERSION;
    if (message_senders(envelope->which_body) == 0)
        return error_set(error, ERR_FORMAT, "a message without a body");
    if (envelope->which_body == vidloom_Envelope_lease_tag) {
        const vidloom_Lease *lease = &envelope->body.lease;
        if (lease->inputs.count > PROTO_INPUTS_MAX)
            return error_set(error, ERR_LIMIT, "a lease with %zu inputs; at most %d",
                             lease->inputs.count, PROTO_INPUTS_MAX);
        if (lease->parameters.length > PROTO_PARAMETERS_BYTES)
            return error_set(error, ERR_LIMIT, "a lease with %zu bytes of parameters; at most %u",
                             lease->parameters.length, PROTO_PARAMETERS_BYTES);
    }
    if (envelope->which_body == vidloom_Envelope_put_blob_tag &&
        envelope->body.put_blob.data.length > PROTO_BLOB_BYTES)
        return error_set(error, ERR_LIMIT, "a piece of %zu bytes; at most %u",
                         envelope->body.put_blob.data.length, PROTO_BLOB_BYTES);
    enum error_code code = check(envelope, error);
    if (code != ERR_OK)
        return code;
    pb_ostream_t stream = {.callback = write_to_buffer, .state = out, .max_size = limit};
    if (!pb_encode(&stream, vidloom_Envelope_fields, envelope)) {
        out->length = 0;
        if (out->failed)
            return error_set(error, ERR_MEMORY, "no memory for a message %s", name);
        const char *why = PB_GET_ERROR(&stream);
        if (strcmp(why, "stream full") == 0)
            return error_set(error, ERR_LIMIT, "a message %s of more than %zu bytes", name, limit);
        return error_set(error, ERR_FORMAT, "message %s: %s", name, why);
    }
    return ERR_OK;
}

/* The two fields that every version has, and which body it is; all else is skipped. */
static bool read_header(vidloom_Envelope *envelope, const void *frame, size_t length) {
    pb_istream_t stream = pb_istream_from_buffer(frame, length);
    envelope->version = 0;
    envelope->request = 0;
    while (stream.bytes_left) {
        pb_wire_type_t type;
        uint32_t tag;
        bool end;
        uint64_t value = 0;
        if (!pb_decode_tag(&stream, &type, &tag, &end))
            return end;
        if (type == PB_WT_VARINT &&
            (tag == vidloom_Envelope_version_tag || tag == vidloom_Envelope_request_tag)) {
            if (!pb_decode_varint(&stream, &value))
                return false;
            if (tag == vidloom_Envelope_version_tag)
                envelope->version = (uint32_t)(value > UINT32_MAX ? UINT32_MAX : value);
            else
                envelope->request = value;
        } else if (!pb_skip_field(&stream, type)) {
            return false;
        }
    }
    return true;
}

enum error_code message_decode(struct message *out, const void *frame, size_t length,
                               struct error *error) {
    vidloom_Envelope *envelope = &out->envelope;
    envelope->which_body = 0;
    if (length > PROTO_FRAME_MAX)
        return error_set(error, ERR_LIMIT, "a frame of %zu bytes; at most %u", length,
                         PROTO_FRAME_MAX);
    if (!read_header(envelope, frame, length))
        return error_set(error, ERR_FORMAT, "a frame that is not a message");
    if (envelope->version != PROTO_VERSION)
        return error_set(error, ERR_UNSUPPORTED,
                         "the other side speaks version %u of the protocol, this one %u: update "
                         "the older one",
                         envelope->version, PROTO_VERSION);
    pb_istream_t stream = pb_istream_from_buffer(frame, length);
    bool good = pb_decode(&stream, vidloom_Envelope_fields, envelope);
    const char *name = message_name(envelope->which_body);
    if (!good) {
        const char *why = PB_GET_ERROR(&stream);
        bool large = strstr(why, "overflow") || strstr(why, "too many");
        return error_set(error, large ? ERR_LIMIT : ERR_FORMAT, "message %s: %s", name, why);
    }
    if (message_senders(envelope->which_body) == 0)
        return error_set(error, ERR_FORMAT, "a message of an unknown kind");
    if (length > frame_limit(envelope->which_body))
        return error_set(error, ERR_LIMIT, "a message %s of %zu bytes; at most %zu", name, length,
                         frame_limit(envelope->which_body));
    return check(envelope, error);
}

/* -- fields ----------------------------------------------------------------------------------- */

void message_set_text(char *out, size_t out_bytes, const char *text) {
    if (out_bytes == 0)
        return;
    size_t length = strnlen(text, out_bytes), at = 0, bad;
    if (length == out_bytes) {
        /* Cut before a character, not in it; a character has at most three more bytes. */
        length--;
        for (int i = 0; i < 3 && length > 0 && ((unsigned char)text[length] & 0xC0) == 0x80; i++)
            length--;
    }
    memcpy(out, text, length);
    out[length] = '\0';
    while (!text_is_utf8(out + at, length - at, &bad)) {
        out[at + bad] = '?';
        at += bad + 1;
    }
}

enum error_code message_code(uint32_t code) {
    return code < ERROR_CODE_COUNT ? (enum error_code)code : ERR_INTERNAL;
}

void message_set_hash(pb_byte_t out[HASH_BYTES], const struct hash *hash) {
    memcpy(out, hash->bytes, HASH_BYTES);
}

struct hash message_hash(const pb_byte_t bytes[HASH_BYTES]) {
    struct hash hash;
    memcpy(hash.bytes, bytes, HASH_BYTES);
    return hash;
}

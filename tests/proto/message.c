#include "proto/message.h"

#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "base/text.h"
#include "tests/base/test.h"

#include <pb_common.h>

static vidloom_Envelope *sent;
static struct message *got;
static char *parameters;
static vidloom_Artifact *inputs;

static const pb_size_t bodies[] = {
    vidloom_Envelope_hello_tag,        vidloom_Envelope_request_work_tag,
    vidloom_Envelope_progress_tag,     vidloom_Envelope_result_tag,
    vidloom_Envelope_bye_tag,          vidloom_Envelope_heartbeat_tag,
    vidloom_Envelope_welcome_tag,      vidloom_Envelope_lease_tag,
    vidloom_Envelope_revoke_tag,       vidloom_Envelope_drain_tag,
    vidloom_Envelope_result_known_tag, vidloom_Envelope_refused_tag,
    vidloom_Envelope_put_blob_tag,     vidloom_Envelope_submit_tag,
    vidloom_Envelope_get_jobs_tag,     vidloom_Envelope_get_videos_tag,
    vidloom_Envelope_get_workers_tag,  vidloom_Envelope_get_log_tag,
    vidloom_Envelope_control_tag,      vidloom_Envelope_drain_worker_tag,
    vidloom_Envelope_blob_known_tag,   vidloom_Envelope_accepted_tag,
    vidloom_Envelope_job_page_tag,     vidloom_Envelope_video_page_tag,
    vidloom_Envelope_worker_page_tag,  vidloom_Envelope_log_page_tag,
    vidloom_Envelope_done_tag};
#define BODIES (sizeof bodies / sizeof *bodies)

static int set_up(void **state) {
    (void)state;
    sent = calloc(1, sizeof *sent);
    got = calloc(1, sizeof *got);
    parameters = calloc(1, PROTO_BLOB_BYTES);
    inputs = calloc(PROTO_INPUTS_MAX, sizeof *inputs);
    return sent && got && parameters && inputs ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    free(sent);
    free(got);
    free(parameters);
    free(inputs);
    return 0;
}

/* Fill every field of a message to its limit: by the descriptors, so that none is forgotten. */
static void fill(const pb_msgdesc_t *fields, void *message, bool full) {
    pb_field_iter_t field;
    if (!pb_field_iter_begin(&field, fields, message))
        return; /* a message without fields */
    do {
        size_t count = 1;
        if (PB_ATYPE(field.type) != PB_ATYPE_STATIC)
            continue;
        if (PB_HTYPE(field.type) == PB_HTYPE_REPEATED) {
            count = full ? field.array_size : 1;
            *(pb_size_t *)field.pSize = (pb_size_t)count;
        }
        if (PB_HTYPE(field.type) == PB_HTYPE_OPTIONAL && field.pSize)
            *(bool *)field.pSize = true;
        for (size_t i = 0; i < count; i++) {
            char *item = (char *)field.pData + i * field.data_size;
            if (PB_LTYPE_IS_SUBMSG(field.type)) {
                fill(field.submsg_desc, item, full);
            } else if (PB_LTYPE(field.type) == PB_LTYPE_STRING) {
                size_t length = full ? field.data_size - 1u : 3u;
                memset(item, 'x', length);
                item[length] = '\0';
            } else if (PB_LTYPE(field.type) == PB_LTYPE_BOOL) {
                *(bool *)item = true;
            } else if (PB_LTYPE(field.type) == PB_LTYPE_FIXED64) {
                double number = 0.75;
                memcpy(item, &number, sizeof number); /* a nonce takes any bits */
            } else {
                memset(item, full ? 0xFF : 3, field.data_size);
            }
        }
    } while (pb_field_iter_next(&field));
}

/* Enumerations look like numbers to the descriptors: give them values that exist. */
static void fill_body(pb_size_t body, bool full) {
    pb_field_iter_t field;
    message_begin(sent, body);
    assert_true(pb_field_iter_begin(&field, vidloom_Envelope_fields, sent));
    assert_true(pb_field_iter_find(&field, body));
    fill(field.submsg_desc, field.pData, full);
    sent->request = full ? UINT64_MAX : 1;
    for (size_t i = 0; i < PROTO_INPUTS_MAX; i++) {
        fill(vidloom_Artifact_fields, &inputs[i], full);
        inputs[i].size = i;
    }
    switch (body) {
    case vidloom_Envelope_lease_tag:
        sent->body.lease.kind = vidloom_KIND_MUX;
        sent->body.lease.parameters =
            (struct proto_bytes){parameters, full ? PROTO_PARAMETERS_BYTES : 3};
        sent->body.lease.inputs = (struct proto_inputs){inputs, full ? PROTO_INPUTS_MAX : 2};
        break;
    case vidloom_Envelope_put_blob_tag:
        sent->body.put_blob.data = (struct proto_bytes){parameters, full ? PROTO_BLOB_BYTES : 3};
        break;
    case vidloom_Envelope_control_tag:
        sent->body.control.action = vidloom_ACTION_RETRY;
        break;
    case vidloom_Envelope_video_page_tag:
        for (size_t i = 0; i < sent->body.video_page.videos_count; i++)
            sent->body.video_page.videos[i].kind = vidloom_KIND_DECODE;
        break;
    case vidloom_Envelope_worker_page_tag:
        for (size_t i = 0; i < sent->body.worker_page.workers_count; i++)
            sent->body.worker_page.workers[i].kind = vidloom_KIND_WINDOW;
        break;
    case vidloom_Envelope_log_page_tag:
        for (size_t i = 0; i < sent->body.log_page.entries_count; i++)
            sent->body.log_page.entries[i].kind = vidloom_KIND_TEXT;
        break;
    default:
        break;
    }
}

static void encode(struct buffer *buffer) {
    struct error error = {0};
    if (message_encode(buffer, sent, &error) != ERR_OK)
        fail_msg("%s: %s", message_name(sent->which_body), error.detail);
}

static void test_every_body_comes_back(void **state) {
    (void)state;
    struct error error = {0};
    for (size_t i = 0; i < BODIES; i++) {
        for (int full = 0; full < 2; full++) {
            struct buffer first = {0}, second = {0};
            fill_body(bodies[i], full);
            encode(&first);
            memset(got, 0xA5, sizeof *got);
            if (message_decode(got, first.data, first.length, &error) != ERR_OK)
                fail_msg("%s: %s", message_name(bodies[i]), error.detail);
            assert_int_equal(got->envelope.which_body, bodies[i]);
            assert_int_equal(got->envelope.request, full ? UINT64_MAX : 1);
            /* Encoding what came gives the same bytes, so nothing was lost. */
            assert_int_equal(message_encode(&second, &got->envelope, &error), ERR_OK);
            assert_int_equal(first.length, second.length);
            assert_memory_equal(first.data, second.data, first.length);
            buffer_close(&first);
            buffer_close(&second);
        }
    }
    fill_body(vidloom_Envelope_lease_tag, true);
    struct buffer buffer = {0};
    encode(&buffer);
    assert_int_equal(message_decode(got, buffer.data, buffer.length, &error), ERR_OK);
    assert_int_equal(got->envelope.body.lease.inputs.count, PROTO_INPUTS_MAX);
    assert_ptr_equal(got->envelope.body.lease.inputs.items, got->inputs);
    assert_int_equal(got->inputs[PROTO_INPUTS_MAX - 1].size, PROTO_INPUTS_MAX - 1);
    assert_int_equal(got->envelope.body.lease.parameters.length, PROTO_PARAMETERS_BYTES);
    buffer_close(&buffer);
}

static void test_truncations(void **state) {
    (void)state;
    struct error error;
    for (size_t i = 0; i < BODIES; i++) {
        struct buffer buffer = {0};
        fill_body(bodies[i], false);
        encode(&buffer);
        for (size_t length = 0; length < buffer.length; length++) {
            /* A copy of just that size: a read beyond it is seen. */
            char *cut = malloc(length + 1);
            assert_non_null(cut);
            memcpy(cut, buffer.data, length);
            enum error_code code = message_decode(got, cut, length, &error);
            /* Cut between two top-level fields it is whole; else it is refused. */
            assert_true(code == ERR_FORMAT || code == ERR_UNSUPPORTED);
            free(cut);
        }
        buffer_close(&buffer);
    }
}

static void test_mutations(void **state) {
    (void)state;
    struct error error;
    uint64_t n = 0;
    for (size_t i = 0; i < BODIES; i++) {
        struct buffer buffer = {0}, again = {0};
        fill_body(bodies[i], false);
        encode(&buffer);
        char *copy = malloc(buffer.length);
        assert_non_null(copy);
        for (int round = 0; round < 3000; round++) {
            memcpy(copy, buffer.data, buffer.length);
            uint32_t changes = 1 + random_below(4, 1, 1, n++);
            for (uint32_t k = 0; k < changes; k++) {
                uint32_t at = random_below((uint32_t)buffer.length, 1, 2, n++);
                copy[at] = (char)random_below(256, 1, 3, n++);
            }
            if (message_decode(got, copy, buffer.length, &error) == ERR_OK)
                assert_int_equal(message_encode(&again, &got->envelope, &error), ERR_OK);
        }
        free(copy);
        buffer_close(&buffer);
        buffer_close(&again);
    }
}

static enum error_code decode_bytes(const void *bytes, size_t length, struct error *error) {
    return message_decode(got, bytes, length, error);
}

static void test_refused(void **state) {
    (void)state;
    struct error error = {0};
    struct buffer buffer = {0};
    /* Another version, of which only the first two fields are known. */
    assert_int_equal(decode_bytes("\x08\x02\x10\x07\xFA\x01\x02hi", 9, &error), ERR_UNSUPPORTED);
    assert_int_equal(got->envelope.request, 7);
    assert_non_null(strstr(error.detail, "version 2"));
    assert_int_equal(decode_bytes("\x10\x07", 2, &error), ERR_UNSUPPORTED);
    /* No body; a body that does not exist yet. */
    assert_int_equal(decode_bytes("\x08\x01", 2, &error), ERR_FORMAT);
    assert_int_equal(decode_bytes("\x08\x01\xD2\x05\x02hi", 7, &error), ERR_FORMAT);
    assert_int_equal(decode_bytes("", 0, &error), ERR_UNSUPPORTED);
    assert_int_equal(decode_bytes("GET / HTTP/1.1\r\n", 16, &error), ERR_FORMAT);
    /* Too large, whatever is in it. */
    char *large = calloc(1, PROTO_FRAME_MAX + 1);
    assert_non_null(large);
    assert_int_equal(decode_bytes(large, PROTO_FRAME_MAX + 1, &error), ERR_LIMIT);
    /* A client's message of more than the coordinator takes: padded with an unknown field. */
    size_t pad = PROTO_FRAME_TO_COORDINATOR;
    static const uint8_t start[] = {8, 1, 0x82, 2, 0, 0xD2, 5}; /* get_jobs {}, field 90 */
    memcpy(large, start, sizeof start);
    large[7] = (char)(0x80 | (pad & 0x7F));
    large[8] = (char)(0x80 | (pad >> 7 & 0x7F));
    large[9] = (char)(pad >> 14);
    assert_int_equal(decode_bytes(large, 10 + pad, &error), ERR_LIMIT);
    free(large);
    /* A name longer than its place. */
    char hello[80] = "\x08\x01\x52\x43\x0A\x41";
    memset(hello + 6, 'x', 65);
    assert_int_equal(decode_bytes(hello, 71, &error), ERR_LIMIT);
    /* A hash of the wrong length. */
    assert_int_equal(decode_bytes("\x08\x01\xB2\x01\x04\x0A\x02xx", 9, &error), ERR_FORMAT);
    /* Text that is not UTF-8; a kind and an action that do not exist; a fraction of 2. */
    assert_int_equal(decode_bytes("\x08\x01\x52\x03\x0A\x01\xFF", 7, &error), ERR_FORMAT);
    assert_int_equal(decode_bytes("\x08\x01\xAA\x01\x02\x20\x06", 7, &error), ERR_FORMAT);
    assert_int_equal(decode_bytes("\x08\x01\xAA\x01\x02\x20\x05", 7, &error), ERR_OK);
    assert_int_equal(decode_bytes("\x08\x01\xA2\x02\x02\x10\x04", 7, &error), ERR_FORMAT);
    assert_int_equal(decode_bytes("\x08\x01\x62\x09\x29\0\0\0\0\0\0\0\x40", 13, &error),
                     ERR_FORMAT);

    message_begin(sent, vidloom_Envelope_put_blob_tag);
    sent->body.put_blob.data = (struct proto_bytes){parameters, PROTO_BLOB_BYTES + 1};
    assert_int_equal(message_encode(&buffer, sent, &error), ERR_LIMIT);
    message_begin(sent, vidloom_Envelope_lease_tag);
    sent->body.lease.inputs = (struct proto_inputs){inputs, PROTO_INPUTS_MAX + 1};
    assert_int_equal(message_encode(&buffer, sent, &error), ERR_LIMIT);
    message_begin(sent, vidloom_Envelope_lease_tag);
    sent->body.lease.parameters = (struct proto_bytes){parameters, PROTO_PARAMETERS_BYTES + 1};
    assert_int_equal(message_encode(&buffer, sent, &error), ERR_LIMIT);
    message_begin(sent, 999);
    assert_int_equal(message_encode(&buffer, sent, &error), ERR_FORMAT);
    message_begin(sent, vidloom_Envelope_refused_tag);
    memset(sent->body.refused.detail, 'x', sizeof sent->body.refused.detail); /* no end */
    assert_int_equal(message_encode(&buffer, sent, &error), ERR_FORMAT);
    memset(sent->body.refused.detail, 0xFF, 3);
    sent->body.refused.detail[3] = '\0';
    assert_int_equal(message_encode(&buffer, sent, &error), ERR_FORMAT);
    buffer_close(&buffer);
}

/* One input too many, and a slice too long, from a sender that does not keep the limits. */
static void test_slices_are_bounded(void **state) {
    (void)state;
    struct error error = {0};
    struct buffer lease = {0}, frame = {0};
    for (int i = 0; i < PROTO_INPUTS_MAX + 1; i++)
        buffer_add(&lease, "\x62\x00", 2);
    buffer_add(&frame, "\x08\x01\xAA\x01", 4);
    char size[3] = {(char)(0x80 | (lease.length & 0x7F)), (char)(0x80 | (lease.length >> 7 & 0x7F)),
                    (char)(lease.length >> 14)};
    buffer_add(&frame, size, 3);
    buffer_add(&frame, lease.data, lease.length);
    assert_int_equal(decode_bytes(frame.data, frame.length, &error), ERR_LIMIT);
    /* The same body twice is one body (protobuf merges them): the inputs of both count. */
    frame.length = 0;
    buffer_add(&frame, "\x08\x01\xAA\x01\x02\x62\x00\xAA\x01\x04\x62\x00\x62\x00", 14);
    assert_int_equal(decode_bytes(frame.data, frame.length, &error), ERR_OK);
    assert_int_equal(got->envelope.body.lease.inputs.count, 3);
    /* Another body in between starts afresh. */
    frame.length = 0;
    buffer_add(&frame, "\x08\x01\xAA\x01\x02\x62\x00\x72\x00\xAA\x01\x04\x62\x00\x62\x00", 16);
    assert_int_equal(decode_bytes(frame.data, frame.length, &error), ERR_OK);
    assert_int_equal(got->envelope.body.lease.inputs.count, 2);

    char *blob = calloc(1, PROTO_BLOB_BYTES + 1);
    assert_non_null(blob);
    size_t length = PROTO_PARAMETERS_BYTES + 1; /* as a lease's parameters */
    lease.length = frame.length = 0;
    char inner[4] = {0x5A, (char)(0x80 | (length & 0x7F)), (char)(0x80 | (length >> 7 & 0x7F)),
                     (char)(length >> 14)};
    buffer_add(&lease, inner, 4);
    buffer_add(&lease, blob, length);
    buffer_add(&frame, "\x08\x01\xAA\x01", 4);
    char outer[3] = {(char)(0x80 | (lease.length & 0x7F)),
                     (char)(0x80 | (lease.length >> 7 & 0x7F)), (char)(lease.length >> 14)};
    buffer_add(&frame, outer, 3);
    buffer_add(&frame, lease.data, lease.length);
    assert_int_equal(decode_bytes(frame.data, frame.length, &error), ERR_LIMIT);
    free(blob);
    buffer_close(&lease);
    buffer_close(&frame);
}

static void test_texts_and_codes(void **state) {
    (void)state;
    char out[8];
    message_set_text(out, sizeof out, "short");
    assert_string_equal(out, "short");
    message_set_text(out, sizeof out, "longer than that");
    assert_string_equal(out, "longer ");
    message_set_text(out, sizeof out, "12345\xE2\x82\xAC");
    assert_string_equal(out, "12345"); /* not half a character */
    message_set_text(out, sizeof out, "1234\xE2\x82\xAC");
    assert_string_equal(out, "1234\xE2\x82\xAC");
    message_set_text(out, sizeof out,
                     "a\xFF"
                     "b\xC3");
    assert_string_equal(out, "a?b?");
    message_set_text(out, sizeof out, "\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80");
    assert_true(text_is_utf8(out, strlen(out), NULL));
    message_set_text(out, 1, "x");
    assert_string_equal(out, "");
    assert_int_equal(message_code(ERR_STALE), ERR_STALE);
    assert_int_equal(message_code(12345), ERR_INTERNAL);
    assert_int_equal(message_senders(vidloom_Envelope_lease_tag), MESSAGE_COORDINATOR);
    assert_int_equal(message_senders(vidloom_Envelope_submit_tag), MESSAGE_CLIENT);
    assert_int_equal(message_senders(3), 0);
    assert_string_equal(message_name(vidloom_Envelope_get_log_tag), "get_log");
    /* Every body of the schema is in the tables. */
    for (pb_size_t tag = 3; tag < 100; tag++) {
        pb_field_iter_t field;
        assert_true(pb_field_iter_begin(&field, vidloom_Envelope_fields, sent));
        assert_int_equal(pb_field_iter_find(&field, tag), message_senders(tag) != 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_body_comes_back),
                                       cmocka_unit_test(test_truncations),
                                       cmocka_unit_test(test_mutations),
                                       cmocka_unit_test(test_refused),
                                       cmocka_unit_test(test_slices_are_bounded),
                                       cmocka_unit_test(test_texts_and_codes)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

#include "proto/endpoint.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zmq.h>

#include "base/clock.h"
#include "tests/base/test.h"

static struct endpoint_context *context;

static int set_up(void **state) {
    (void)state;
    struct error error;
    return endpoint_context_open(&context, &error) == ERR_OK ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    endpoint_context_close(&context);
    endpoint_context_close(&context);
    return 0;
}

static struct endpoint *open_endpoint(enum endpoint_role role) {
    struct endpoint *endpoint;
    struct error error;
    struct endpoint_config config = {.context = context, .role = role};
    assert_int_equal(endpoint_open(&endpoint, &config, &error), ERR_OK);
    return endpoint;
}

static struct endpoint *open_router(const char *address) {
    struct error error = {0};
    struct endpoint *router = open_endpoint(ENDPOINT_ROUTER);
    if (endpoint_bind(router, address, &error) != ERR_OK)
        fail_msg("%s", error.detail);
    return router;
}

static struct endpoint *open_dealer(const struct endpoint *router) {
    struct error error = {0};
    struct endpoint *dealer = open_endpoint(ENDPOINT_DEALER);
    if (endpoint_connect(dealer, endpoint_address(router), &error) != ERR_OK)
        fail_msg("%s", error.detail);
    return dealer;
}

/* Send, waiting for the connection if need be. */
static void send_text(struct endpoint *endpoint, uint64_t peer, const char *text) {
    struct error error;
    for (int tries = 0; tries < 100; tries++) {
        enum error_code code = endpoint_send(endpoint, peer, text, strlen(text), &error);
        if (code == ERR_OK)
            return;
        assert_int_equal(code, ERR_BUSY);
        assert_int_equal(endpoint_wait(&endpoint, 1, 50, true, &error), ERR_OK);
    }
    fail_msg("cannot send");
}

static bool receive(struct endpoint *endpoint, struct endpoint_frame *frame, int timeout_ms) {
    struct error error;
    int64_t end = clock_monotonic_ns() + timeout_ms * CLOCK_MS;
    while (!endpoint_receive(endpoint, frame)) {
        if (clock_monotonic_ns() >= end)
            return false;
        assert_int_equal(endpoint_wait(&endpoint, 1, 20, false, &error), ERR_OK);
    }
    return true;
}

static void expect_text(struct endpoint *endpoint, struct endpoint_frame *frame, const char *text) {
    assert_true(receive(endpoint, frame, 5000));
    assert_int_equal(frame->length, strlen(text));
    assert_memory_equal(frame->bytes, text, frame->length);
}

static void talk(const char *address) {
    struct endpoint *router = open_router(address);
    struct endpoint *a = open_dealer(router), *b = open_dealer(router);
    struct endpoint_frame frame;
    struct error error;
    send_text(a, 0, "from a");
    expect_text(router, &frame, "from a");
    uint64_t peer_a = frame.peer;
    send_text(b, 0, "from b");
    expect_text(router, &frame, "from b");
    uint64_t peer_b = frame.peer;
    assert_int_not_equal(peer_a, 0);
    assert_int_not_equal(peer_a, peer_b);
    send_text(router, peer_a, "to a");
    send_text(router, peer_b, "to b");
    send_text(router, peer_b, "");
    expect_text(a, &frame, "to a");
    assert_int_equal(frame.peer, 0);
    expect_text(b, &frame, "to b");
    expect_text(b, &frame, "");
    assert_false(endpoint_receive(a, &frame));

    /* A peer that vanished is gone, not a black hole. */
    endpoint_close(&a);
    enum error_code code = ERR_OK;
    for (int tries = 0; tries < 100 && code != ERR_NETWORK; tries++) {
        code = endpoint_send(router, peer_a, "x", 1, &error);
        assert_int_equal(endpoint_wait(&router, 1, 20, false, &error), ERR_OK);
    }
    assert_int_equal(code, ERR_NETWORK);
    assert_int_equal(endpoint_send(router, peer_b + 1000, "x", 1, &error), ERR_NETWORK);
    assert_int_equal(endpoint_send(router, 0, "x", 1, &error), ERR_NETWORK);
    assert_int_equal(endpoint_send(router, UINT64_MAX, "x", 1, &error), ERR_NETWORK);
    send_text(router, peer_b, "still there");
    expect_text(b, &frame, "still there");
    endpoint_close(&b);
    endpoint_close(&router);
    endpoint_close(&router);
}

static void test_inproc(void **state) {
    (void)state;
    talk("inproc://talk");
}

static void test_tcp(void **state) {
    (void)state;
    talk("tcp://127.0.0.1:*");
    talk("tcp://localhost:*");
}

static void test_connect_before_bind_and_again(void **state) {
    (void)state;
    struct error error;
    struct endpoint_frame frame;
    struct endpoint *router = open_router("tcp://127.0.0.1:*");
    char address[ENDPOINT_ADDRESS_BYTES];
    (void)snprintf(address, sizeof address, "%s", endpoint_address(router));
    struct endpoint *dealer = open_dealer(router);
    send_text(dealer, 0, "one");
    expect_text(router, &frame, "one");
    endpoint_close(&router);
    /* Nobody there: nothing is taken that would be lost. */
    enum error_code code = ERR_OK;
    for (int tries = 0; tries < 200 && code != ERR_BUSY; tries++) {
        (void)usleep(10000);
        code = endpoint_send(dealer, 0, "lost", 4, &error);
    }
    assert_int_equal(code, ERR_BUSY);
    router = open_router(address);
    send_text(dealer, 0, "two");
    do
        assert_true(receive(router, &frame, 5000));
    while (frame.length == 4);
    assert_int_equal(frame.length, 3);
    endpoint_close(&dealer);
    endpoint_close(&router);
}

static void test_full_queue(void **state) {
    (void)state;
    struct error error;
    struct endpoint *router = open_router("inproc://full");
    struct endpoint *dealer = open_dealer(router);
    struct endpoint_frame frame;
    send_text(dealer, 0, "hello");
    expect_text(router, &frame, "hello");
    uint64_t peer = frame.peer;
    int sent = 0;
    enum error_code code;
    while ((code = endpoint_send(router, peer, "work", 4, &error)) == ERR_OK && sent < 10000)
        sent++;
    assert_int_equal(code, ERR_BUSY);
    assert_in_range(sent, 1, 2 * PROTO_QUEUE_MESSAGES);
    /* Every one that was taken arrives, and no part of the one that was not. */
    for (int i = 0; i < sent; i++)
        expect_text(dealer, &frame, "work");
    assert_false(receive(dealer, &frame, 50));
    send_text(router, peer, "after");
    expect_text(dealer, &frame, "after");
    endpoint_close(&dealer);
    endpoint_close(&router);
}

static void test_sizes(void **state) {
    (void)state;
    struct error error;
    struct endpoint_frame frame;
    struct endpoint *router = open_router("tcp://127.0.0.1:*");
    struct endpoint *dealer = open_dealer(router);
    char *bytes = calloc(1, PROTO_FRAME_TO_PEER + 1);
    assert_non_null(bytes);
    send_text(dealer, 0, "hello");
    expect_text(router, &frame, "hello");
    uint64_t peer = frame.peer;
    assert_int_equal(endpoint_send(dealer, 0, bytes, PROTO_FRAME_TO_COORDINATOR + 1, &error),
                     ERR_LIMIT);
    assert_int_equal(endpoint_send(router, peer, bytes, PROTO_FRAME_TO_PEER + 1, &error),
                     ERR_LIMIT);
    assert_int_equal(endpoint_send(dealer, 0, bytes, PROTO_FRAME_TO_COORDINATOR, &error), ERR_OK);
    assert_true(receive(router, &frame, 5000));
    assert_int_equal(frame.length, PROTO_FRAME_TO_COORDINATOR);
    assert_int_equal(endpoint_send(router, peer, bytes, PROTO_FRAME_TO_PEER, &error), ERR_OK);
    assert_true(receive(dealer, &frame, 5000));
    assert_int_equal(frame.length, PROTO_FRAME_TO_PEER);
    free(bytes);
    endpoint_close(&dealer);
    endpoint_close(&router);
}

/* Peers that do not use this file. */
static void test_strangers(void **state) {
    (void)state;
    struct endpoint_frame frame;
    struct endpoint *router = open_router("tcp://127.0.0.1:*");
    struct endpoint *dealer = open_dealer(router);
    void *zmq = zmq_ctx_new();
    void *socket = zmq_socket(zmq, ZMQ_DEALER);
    int linger = 0;
    char *large = calloc(1, PROTO_FRAME_TO_COORDINATOR + 1);
    assert_non_null(large);
    (void)zmq_setsockopt(socket, ZMQ_LINGER, &linger, sizeof linger);
    assert_int_equal(zmq_connect(socket, endpoint_address(router)), 0);
    /* Several parts. */
    assert_int_equal(zmq_send(socket, "a", 1, ZMQ_SNDMORE), 1);
    assert_int_equal(zmq_send(socket, "b", 1, ZMQ_SNDMORE), 1);
    assert_int_equal(zmq_send(socket, "c", 1, 0), 1);
    assert_int_equal(zmq_send(socket, "good", 4, 0), 4);
    expect_text(router, &frame, "good");
    assert_int_equal(endpoint_dropped(router), 1);
    /* Too large: the connection is closed, and the message is not seen. */
    (void)zmq_send(socket, large, PROTO_FRAME_TO_COORDINATOR + 1, 0);
    assert_false(receive(router, &frame, 200));
    assert_int_equal(zmq_close(socket), 0);
    /* A routing id of its own choice, even one that looks like ours. */
    static const char *const ids[] = {"me", "\0abcdef", "abcde"};
    static const size_t lengths[] = {2, 7, 5};
    for (size_t i = 0; i < 3; i++) {
        socket = zmq_socket(zmq, ZMQ_DEALER);
        (void)zmq_setsockopt(socket, ZMQ_LINGER, &linger, sizeof linger);
        if (zmq_setsockopt(socket, ZMQ_ROUTING_ID, ids[i], lengths[i]) == 0) {
            assert_int_equal(zmq_connect(socket, endpoint_address(router)), 0);
            assert_int_equal(zmq_send(socket, "forged", 6, 0), 6);
            assert_false(receive(router, &frame, 200));
        }
        assert_int_equal(zmq_close(socket), 0);
    }
    assert_true(endpoint_dropped(router) >= 3);
    /* And the others are served as ever. */
    send_text(dealer, 0, "hello");
    expect_text(router, &frame, "hello");
    free(large);
    (void)zmq_ctx_term(zmq);
    endpoint_close(&dealer);
    endpoint_close(&router);
}

static void test_addresses(void **state) {
    (void)state;
    static const struct {
        const char *address;
        enum error_code bind, connect;
    } cases[] = {
        {"tcp://*:7310", ERR_UNSUPPORTED, ERR_UNSUPPORTED},
        {"tcp://0.0.0.0:7310", ERR_UNSUPPORTED, ERR_UNSUPPORTED},
        {"tcp://10.0.0.1:7310", ERR_UNSUPPORTED, ERR_UNSUPPORTED},
        {"tcp://[::]:7310", ERR_UNSUPPORTED, ERR_UNSUPPORTED},
        {"tcp://example.org:7310", ERR_UNSUPPORTED, ERR_UNSUPPORTED},
        {"tcp://127.0.0.1.example.org:7310", ERR_UNSUPPORTED, ERR_UNSUPPORTED},
        {"tcp://0177.0.0.1:7310", ERR_UNSUPPORTED, ERR_UNSUPPORTED},
        {"tcp://lo:7310", ERR_UNSUPPORTED, ERR_UNSUPPORTED},
        {"tcp://127.0.0.1;10.0.0.1:7310", ERR_USAGE, ERR_USAGE},
        {"tcp://127.0.0.1", ERR_USAGE, ERR_USAGE},
        {"tcp://:7310", ERR_USAGE, ERR_USAGE},
        {"tcp://127.0.0.1:0", ERR_USAGE, ERR_USAGE},
        {"tcp://127.0.0.1:65536", ERR_USAGE, ERR_USAGE},
        {"tcp://127.0.0.1:+99", ERR_USAGE, ERR_USAGE},
        {"tcp://127.0.0.1:99x", ERR_USAGE, ERR_USAGE},
        {"tcp://127.0.0.1:", ERR_USAGE, ERR_USAGE},
        {"tcp://127.0.0.1:*", ERR_OK, ERR_USAGE},
        {"127.0.0.1:7310", ERR_USAGE, ERR_USAGE},
        {"udp://127.0.0.1:7310", ERR_USAGE, ERR_USAGE},
        {"ipc:///tmp/x", ERR_USAGE, ERR_USAGE},
        {"inproc://", ERR_USAGE, ERR_USAGE},
        {"", ERR_USAGE, ERR_USAGE},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct error error = {0};
        struct endpoint *router = open_endpoint(ENDPOINT_ROUTER);
        struct endpoint *dealer = open_endpoint(ENDPOINT_DEALER);
        if (endpoint_bind(router, cases[i].address, &error) != cases[i].bind)
            fail_msg("bind %s: %s", cases[i].address, error.detail);
        if (endpoint_connect(dealer, cases[i].address, &error) != cases[i].connect)
            fail_msg("connect %s: %s", cases[i].address, error.detail);
        endpoint_close(&dealer);
        endpoint_close(&router);
    }
    struct error error;
    struct endpoint *router = open_router("tcp://127.0.0.1:*");
    struct endpoint *second = open_endpoint(ENDPOINT_ROUTER);
    assert_int_equal(endpoint_bind(second, endpoint_address(router), &error), ERR_BUSY);
    assert_non_null(strstr(error.detail, "something else"));
    char longest[400];
    memset(longest, '1', sizeof longest - 1);
    memcpy(longest, "tcp://", 6);
    longest[399] = '\0';
    assert_int_equal(endpoint_bind(second, longest, &error), ERR_USAGE);
    memcpy(longest + 245, ":80", 4);
    assert_int_equal(endpoint_bind(second, longest, &error), ERR_USAGE);
    endpoint_close(&second);
    endpoint_close(&router);
}

static void *wake_later(void *endpoint) {
    (void)usleep(50000);
    endpoint_wake(endpoint);
    return NULL;
}

static void test_wait_and_wake(void **state) {
    (void)state;
    struct error error;
    struct endpoint *endpoints[2] = {open_router("inproc://wake-a"),
                                     open_router("inproc://wake-b")};
    int64_t start = clock_monotonic_ns();
    assert_int_equal(endpoint_wait(endpoints, 2, 30, false, &error), ERR_OK);
    assert_true(clock_monotonic_ns() - start >= 25 * CLOCK_MS);
    pthread_t thread;
    start = clock_monotonic_ns();
    assert_int_equal(pthread_create(&thread, NULL, wake_later, endpoints[1]), 0);
    assert_int_equal(endpoint_wait(endpoints, 2, 10000, false, &error), ERR_OK);
    assert_true(clock_monotonic_ns() - start < 5 * CLOCK_S);
    assert_int_equal(pthread_join(thread, NULL), 0);
    /* Woken before it waits: it does not wait; and only once. */
    endpoint_wake(endpoints[0]);
    endpoint_wake(endpoints[0]);
    start = clock_monotonic_ns();
    assert_int_equal(endpoint_wait(endpoints, 2, 10000, false, &error), ERR_OK);
    assert_true(clock_monotonic_ns() - start < 5 * CLOCK_S);
    start = clock_monotonic_ns();
    assert_int_equal(endpoint_wait(endpoints, 2, 30, false, &error), ERR_OK);
    assert_true(clock_monotonic_ns() - start >= 25 * CLOCK_MS);
    assert_int_equal(endpoint_wait(NULL, 0, 0, false, &error), ERR_OK);
    endpoint_close(&endpoints[0]);
    endpoint_close(&endpoints[1]);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_inproc),
                                       cmocka_unit_test(test_tcp),
                                       cmocka_unit_test(test_connect_before_bind_and_again),
                                       cmocka_unit_test(test_full_queue),
                                       cmocka_unit_test(test_sizes),
                                       cmocka_unit_test(test_strangers),
                                       cmocka_unit_test(test_addresses),
                                       cmocka_unit_test(test_wait_and_wake)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

#include "proto/endpoint.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <zmq.h>

#include "base/text.h"

#define ENDPOINTS_WAIT_MAX 32
#define HOST_BYTES         128
#define ROUTING_ID_BYTES   5 /* of the ids that ZeroMQ chooses: a zero, then a number */

struct endpoint_context {
    void *zmq;
};

struct endpoint {
    void *socket;
    enum endpoint_role role;
    int wake;        /* eventfd */
    zmq_msg_t frame; /* the last one received: its bytes are lent out */
    uint64_t dropped;
    char address[ENDPOINT_ADDRESS_BYTES];
};

/* -- context ---------------------------------------------------------------------------------- */

enum error_code endpoint_context_open(struct endpoint_context **out, struct error *error) {
    *out = NULL;
    struct endpoint_context *context = calloc(1, sizeof *context);
    if (!context)
        return error_set(error, ERR_MEMORY, "no memory for a ZeroMQ context");
    context->zmq = zmq_ctx_new();
    if (!context->zmq) {
        enum error_code code =
            error_set(error, ERR_NETWORK, "cannot start ZeroMQ: %s", zmq_strerror(errno));
        free(context);
        return code;
    }
    (void)zmq_ctx_set(context->zmq, ZMQ_MAX_SOCKETS, 1023);
    (void)zmq_ctx_set(context->zmq, ZMQ_BLOCKY, 0);
    *out = context;
    return ERR_OK;
}

void endpoint_context_close(struct endpoint_context **context) {
    if (!*context)
        return;
    while (zmq_ctx_term((*context)->zmq) != 0 && errno == EINTR) {
    }
    free(*context);
    *context = NULL;
}

/* -- open and close --------------------------------------------------------------------------- */

static bool set_option(struct endpoint *endpoint, int option, int value) {
    return zmq_setsockopt(endpoint->socket, option, &value, sizeof value) == 0;
}

/* No ZMTP pings (ZMQ_HEARTBEAT_IVL): in libzmq 4.3.4 a peer that leaves while its inbound queue is
 * full makes the ping's timer write to a dead engine, which aborts the process. Workers'
 * heartbeats, clients' repeated requests and TCP's keepalive find dead connections. */
static bool set_options(struct endpoint *endpoint) {
    bool router = endpoint->role == ENDPOINT_ROUTER;
    int64_t frame_max = router ? PROTO_FRAME_TO_COORDINATOR : PROTO_FRAME_TO_PEER;
    return set_option(endpoint, ZMQ_LINGER, 0) &&
           set_option(endpoint, ZMQ_SNDHWM, PROTO_QUEUE_MESSAGES) &&
           set_option(endpoint, ZMQ_RCVHWM, PROTO_QUEUE_MESSAGES) &&
           set_option(endpoint, ZMQ_IMMEDIATE, 1) &&
           set_option(endpoint, ZMQ_HANDSHAKE_IVL, PROTO_HANDSHAKE_MS) &&
           set_option(endpoint, ZMQ_RECONNECT_IVL, PROTO_RECONNECT_MS) &&
           set_option(endpoint, ZMQ_RECONNECT_IVL_MAX, PROTO_RECONNECT_MAX_MS) &&
           set_option(endpoint, ZMQ_TCP_KEEPALIVE, 1) &&
           (!router || set_option(endpoint, ZMQ_ROUTER_MANDATORY, 1)) &&
           zmq_setsockopt(endpoint->socket, ZMQ_MAXMSGSIZE, &frame_max, sizeof frame_max) == 0;
}

enum error_code endpoint_open(struct endpoint **out, const struct endpoint_config *config,
                              struct error *error) {
    *out = NULL;
    struct endpoint *endpoint = calloc(1, sizeof *endpoint);
    if (!endpoint)
        return error_set(error, ERR_MEMORY, "no memory for an endpoint");
    endpoint->role = config->role;
    (void)zmq_msg_init(&endpoint->frame);
    endpoint->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    endpoint->socket =
        zmq_socket(config->context->zmq, config->role == ENDPOINT_ROUTER ? ZMQ_ROUTER : ZMQ_DEALER);
    if (endpoint->wake < 0 || !endpoint->socket || !set_options(endpoint)) {
        enum error_code code =
            error_set(error, ERR_NETWORK, "cannot make a socket: %s", zmq_strerror(errno));
        endpoint_close(&endpoint);
        return code;
    }
    *out = endpoint;
    return ERR_OK;
}

void endpoint_close(struct endpoint **endpoint) {
    if (!*endpoint)
        return;
    (void)zmq_msg_close(&(*endpoint)->frame);
    if ((*endpoint)->socket)
        (void)zmq_close((*endpoint)->socket);
    if ((*endpoint)->wake >= 0)
        (void)close((*endpoint)->wake);
    free(*endpoint);
    *endpoint = NULL;
}

/* -- addresses -------------------------------------------------------------------------------- */

static enum error_code not_an_address(const char *address, struct error *error) {
    return error_set(error, ERR_USAGE,
                     "'%s' is not an address: expected tcp://HOST:PORT, such as "
                     "tcp://127.0.0.1:7310, or inproc://NAME",
                     address);
}

/* Whether the host part of tcp://HOST:PORT is this machine alone, by its spelling: names other than
 * "localhost" are not looked up, because what they mean can change. */
static bool is_loopback(const char *host) {
    struct in_addr four;
    struct in6_addr six;
    char bare[64];
    if (strcmp(host, "localhost") == 0)
        return true;
    if (inet_pton(AF_INET, host, &four) == 1)
        return ntohl(four.s_addr) >> 24 == 127;
    size_t length = strlen(host);
    if (length < 3 || length >= sizeof bare || host[0] != '[' || host[length - 1] != ']')
        return false;
    memcpy(bare, host + 1, length - 2);
    bare[length - 2] = '\0';
    return inet_pton(AF_INET6, bare, &six) == 1 && IN6_IS_ADDR_LOOPBACK(&six);
}

/* Check an address and spell it as ZeroMQ should see it. */
static enum error_code check_address(struct endpoint *endpoint, char out[ENDPOINT_ADDRESS_BYTES],
                                     const char *address, bool bind, struct error *error) {
    size_t length = strnlen(address, ENDPOINT_ADDRESS_BYTES);
    if (length >= ENDPOINT_ADDRESS_BYTES)
        return error_set(error, ERR_USAGE, "an address of more than %d bytes",
                         ENDPOINT_ADDRESS_BYTES - 1);
    if (strncmp(address, "inproc://", 9) == 0 && length > 9) {
        memcpy(out, address, length + 1);
        return ERR_OK;
    }
    if (strncmp(address, "tcp://", 6) != 0)
        return not_an_address(address, error);
    char host[HOST_BYTES];
    const char *port = strrchr(address + 6, ':');
    int64_t number = 0;
    if (!port || port == address + 6 || port - address - 6 >= HOST_BYTES)
        return not_an_address(address, error);
    memcpy(host, address + 6, (size_t)(port - address) - 6);
    host[port - address - 6] = '\0';
    port++;
    if (strlen(port) > 5)
        return not_an_address(address, error);
    bool any = bind && strcmp(port, "*") == 0;
    if (!any && (*port == '+' || !text_to_int(port, &number) || number < 1 || number > 65535))
        return not_an_address(address, error);
    /* A source address ("tcp://A;B:1") or an interface's name would pass the check and then mean
     * something else. */
    if (strpbrk(host, ";/@ "))
        return not_an_address(address, error);
    if (!is_loopback(host))
        return error_set(error, ERR_UNSUPPORTED,
                         "%s is beyond this machine, and there are no keys: anyone could %s; use "
                         "127.0.0.1 (over an SSH tunnel from elsewhere)",
                         address, bind ? "give work to it or take work from it" : "answer");
    if (host[0] == '[' && !set_option(endpoint, ZMQ_IPV6, 1))
        return error_set(error, ERR_NETWORK, "%s: no IPv6 here", address);
    (void)snprintf(out, ENDPOINT_ADDRESS_BYTES, "tcp://%s:%.5s",
                   strcmp(host, "localhost") == 0 ? "127.0.0.1" : host, port);
    return ERR_OK;
}

enum error_code endpoint_bind(struct endpoint *endpoint, const char *address, struct error *error) {
    char spelled[ENDPOINT_ADDRESS_BYTES];
    enum error_code code = check_address(endpoint, spelled, address, true, error);
    if (code != ERR_OK)
        return code;
    if (zmq_bind(endpoint->socket, spelled) != 0)
        return error_set(error, errno == EADDRINUSE ? ERR_BUSY : ERR_NETWORK,
                         "cannot listen at %s: %s", address,
                         errno == EADDRINUSE ? "something else does already" : zmq_strerror(errno));
    size_t length = sizeof endpoint->address;
    if (zmq_getsockopt(endpoint->socket, ZMQ_LAST_ENDPOINT, endpoint->address, &length) != 0)
        (void)snprintf(endpoint->address, sizeof endpoint->address, "%s", spelled);
    return ERR_OK;
}

enum error_code endpoint_connect(struct endpoint *endpoint, const char *address,
                                 struct error *error) {
    char spelled[ENDPOINT_ADDRESS_BYTES];
    enum error_code code = check_address(endpoint, spelled, address, false, error);
    if (code != ERR_OK)
        return code;
    if (zmq_connect(endpoint->socket, spelled) != 0)
        return error_set(error, ERR_NETWORK, "cannot connect to %s: %s", address,
                         zmq_strerror(errno));
    return ERR_OK;
}

const char *endpoint_address(const struct endpoint *endpoint) {
    return endpoint->address;
}

/* -- send and receive ------------------------------------------------------------------------- */

enum error_code endpoint_send(struct endpoint *endpoint, uint64_t peer, const void *bytes,
                              size_t length, struct error *error) {
    bool router = endpoint->role == ENDPOINT_ROUTER;
    size_t limit = router ? PROTO_FRAME_TO_PEER : PROTO_FRAME_TO_COORDINATOR;
    if (length > limit)
        return error_set(error, ERR_LIMIT, "a frame of %zu bytes; at most %zu", length, limit);
    int sent = 0;
    if (router) {
        uint8_t id[ROUTING_ID_BYTES] = {0};
        uint32_t number = (uint32_t)(peer - 1);
        if (peer == 0 || peer > UINT64_C(1) << 32)
            return error_set(error, ERR_NETWORK, "there is no such peer");
        for (size_t i = 0; i < 4; i++)
            id[1 + i] = (uint8_t)(number >> (24 - 8 * i));
        do
            sent = zmq_send(endpoint->socket, id, sizeof id, ZMQ_DONTWAIT | ZMQ_SNDMORE);
        while (sent < 0 && errno == EINTR);
    }
    if (sent >= 0) {
        do
            sent = zmq_send(endpoint->socket, bytes, length, ZMQ_DONTWAIT);
        while (sent < 0 && errno == EINTR);
    }
    if (sent >= 0)
        return ERR_OK;
    if (errno == EAGAIN)
        return error_set(error, ERR_BUSY,
                         router ? "the peer does not take its messages" : "not connected");
    return error_set(error, ERR_NETWORK, "cannot send: %s",
                     errno == EHOSTUNREACH ? "the peer is gone" : zmq_strerror(errno));
}

/* The next part into endpoint->frame. False: nothing is there. */
static bool receive_part(struct endpoint *endpoint, bool *more) {
    int got;
    do
        got = zmq_msg_recv(&endpoint->frame, endpoint->socket, ZMQ_DONTWAIT);
    while (got < 0 && errno == EINTR);
    *more = got >= 0 && zmq_msg_more(&endpoint->frame);
    return got >= 0;
}

bool endpoint_receive(struct endpoint *endpoint, struct endpoint_frame *out) {
    bool more, router = endpoint->role == ENDPOINT_ROUTER;
    /* A message is there whole or not at all, so no part waits for another. */
    while (receive_part(endpoint, &more)) {
        bool good = true;
        uint64_t peer = 0;
        if (router) {
            const uint8_t *id = zmq_msg_data(&endpoint->frame);
            good = zmq_msg_size(&endpoint->frame) == ROUTING_ID_BYTES && id[0] == 0 && more;
            for (size_t i = 1; good && i < ROUTING_ID_BYTES; i++)
                peer = peer << 8 | id[i];
            peer++; /* 0 is nobody */
            if (more)
                (void)receive_part(endpoint, &more);
        }
        if (good && !more) {
            *out = (struct endpoint_frame){.bytes = zmq_msg_data(&endpoint->frame),
                                           .length = zmq_msg_size(&endpoint->frame),
                                           .peer = peer};
            return true;
        }
        while (more && receive_part(endpoint, &more)) {
        }
        endpoint->dropped++;
    }
    return false;
}

uint64_t endpoint_dropped(const struct endpoint *endpoint) {
    return endpoint->dropped;
}

/* -- wait ------------------------------------------------------------------------------------- */

enum error_code endpoint_wait(struct endpoint *const *endpoints, size_t count, int timeout_ms,
                              bool sending, struct error *error) {
    zmq_pollitem_t items[2 * ENDPOINTS_WAIT_MAX];
    if (count > ENDPOINTS_WAIT_MAX)
        return error_set(error, ERR_INTERNAL, "waiting for %zu endpoints; at most %d", count,
                         ENDPOINTS_WAIT_MAX);
    for (size_t i = 0; i < count; i++) {
        bool out = sending && endpoints[i]->role == ENDPOINT_DEALER;
        items[2 * i] = (zmq_pollitem_t){.socket = endpoints[i]->socket,
                                        .events = (short)(ZMQ_POLLIN | (out ? ZMQ_POLLOUT : 0))};
        items[2 * i + 1] = (zmq_pollitem_t){.fd = endpoints[i]->wake, .events = ZMQ_POLLIN};
    }
    int ready = zmq_poll(items, (int)(2 * count), timeout_ms < 0 ? -1 : timeout_ms);
    if (ready < 0 && errno != EINTR)
        return error_set(error, ERR_INTERNAL, "cannot wait for messages: %s", zmq_strerror(errno));
    for (size_t i = 0; ready > 0 && i < count; i++) {
        uint64_t times;
        if (items[2 * i + 1].revents)
            (void)!read(endpoints[i]->wake, &times, sizeof times);
    }
    return ERR_OK;
}

void endpoint_wake(struct endpoint *endpoint) {
    const uint64_t once = 1;
    int before = errno;
    (void)!write(endpoint->wake, &once, sizeof once);
    errno = before;
}

/* Sessions: the workers that have said hello. Looked for by walking: a coordinator has thousands at
 * most, and the walk is over pointers' first fields. */
#include <stdlib.h>
#include <string.h>

#include "base/grow.h"
#include "coordinator/server_internal.h"

struct session *session_of_peer(const struct server *server, uint64_t peer) {
    for (int i = 0; i < server->session_count; i++)
        if (server->sessions[i]->peer == peer)
            return server->sessions[i];
    return NULL;
}

struct session *session_of_id(const struct server *server, uint64_t id) {
    for (int i = 0; i < server->session_count; i++)
        if (server->sessions[i]->id == id)
            return server->sessions[i];
    return NULL;
}

struct session *session_of_nonce(const struct server *server, uint64_t nonce) {
    for (int i = 0; i < server->session_count; i++)
        if (server->sessions[i]->nonce == nonce)
            return server->sessions[i];
    return NULL;
}

struct session *session_of_name(const struct server *server, const char *name) {
    for (int i = 0; i < server->session_count; i++)
        if (strcmp(server->sessions[i]->name, name) == 0)
            return server->sessions[i];
    return NULL;
}

struct session *session_add(struct server *server, uint64_t peer, uint64_t nonce) {
    struct session **sessions = grow(server->sessions, &server->session_capacity,
                                     (size_t)server->session_count, sizeof(struct session *));
    if (!sessions)
        return NULL;
    server->sessions = sessions;
    struct session *session = calloc(1, sizeof *session);
    if (!session)
        return NULL;
    session->id = ++server->last_session;
    session->peer = peer;
    session->nonce = nonce;
    server->sessions[server->session_count++] = session;
    return session;
}

void session_remove(struct server *server, struct session *session) {
    for (int i = 0; i < server->session_count; i++) {
        if (server->sessions[i] != session)
            continue;
        server->sessions[i] = server->sessions[--server->session_count];
        free(session->held);
        free(session);
        return;
    }
}

bool session_hold(struct session *session, const struct held *held) {
    struct held *larger =
        grow(session->held, &session->held_capacity, (size_t)session->held_count, sizeof *larger);
    if (!larger)
        return false;
    session->held = larger;
    session->held[session->held_count++] = *held;
    return true;
}

const struct held *session_find_held(const struct session *session, uint64_t epoch) {
    for (int i = 0; i < session->held_count; i++)
        if (session->held[i].epoch == epoch)
            return &session->held[i];
    return NULL;
}

void session_drop_held(struct session *session, uint64_t epoch) {
    for (int i = 0; i < session->held_count; i++)
        if (session->held[i].epoch == epoch)
            session->held[i--] = session->held[--session->held_count];
}

void sessions_close(struct server *server) {
    while (server->session_count > 0)
        session_remove(server, server->sessions[server->session_count - 1]);
    free(server->sessions);
}

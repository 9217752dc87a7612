/* Revisions: a number that rises with every change of a video that a client may want to see. They
 * begin at the time of open, so that a number of an earlier coordinator is older than any of this
 * one, and who asks with it is told everything. */
#include <stdlib.h>
#include <string.h>

#include "base/grow.h"
#include "coordinator/server_internal.h"

/* The place of the job's entry, or where it belongs. */
static size_t find_place(const struct server *server, uint64_t job) {
    size_t low = 0, high = server->change_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (server->changes[middle].job < job)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool has_entry(const struct server *server, size_t place, uint64_t job) {
    return place < server->change_count && server->changes[place].job == job;
}

static bool add_entry(struct server *server, size_t place, uint64_t job) {
    struct job_status status;
    if (!scheduler_job_status(server->scheduler, job, &status))
        return false;
    struct job_changes *changes =
        grow(server->changes, &server->change_capacity, server->change_count, sizeof *changes);
    if (!changes)
        return false;
    server->changes = changes;
    struct job_changes entry = {.job = job, .count = status.videos};
    entry.revisions = calloc((size_t)status.videos + 1, sizeof *entry.revisions);
    if (!entry.revisions)
        return false;
    memmove(&server->changes[place + 1], &server->changes[place],
            (server->change_count - place) * sizeof *server->changes);
    server->changes[place] = entry;
    server->change_count++;
    return true;
}

/* Without memory for a job's revisions its videos all count as never changed: who follows sees the
 * job's numbers move, and every video again when it asks anew. */
void server_touch(struct server *server, uint64_t job, int video) {
    size_t place = find_place(server, job);
    server->revision++;
    if (video < 0 || (!has_entry(server, place, job) && !add_entry(server, place, job)))
        return;
    if (video < server->changes[place].count)
        server->changes[place].revisions[video] = server->revision;
}

uint64_t server_revision_of(const struct server *server, uint64_t job, int video) {
    size_t place = find_place(server, job);
    if (!has_entry(server, place, job) || server->changes[place].revisions[video] == 0)
        return server->first_revision;
    return server->changes[place].revisions[video];
}

void changes_close(struct server *server) {
    for (size_t i = 0; i < server->change_count; i++)
        free(server->changes[i].revisions);
    free(server->changes);
}

/* A disk that a test can fill: a tmpfs in a mount namespace of the test's process, so nothing
 * outside sees it and it goes with the process. Needs root or user namespaces, and one thread;
 * where there is neither, the tests that need it are skipped. */
#ifndef VIDLOOM_TESTS_WORKER_SMALL_DISK_H
#define VIDLOOM_TESTS_WORKER_SMALL_DISK_H

#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/mount.h>
#include <unistd.h>

static inline bool small_disk_put(const char *path, const char *text, int length) {
    int descriptor = open(path, O_WRONLY | O_CLOEXEC);
    bool done = descriptor >= 0 && write(descriptor, text, (size_t)length) == length;
    if (descriptor >= 0)
        close(descriptor);
    return done;
}

/* Without root: a user namespace in which this user is root. */
static inline bool small_disk_namespace(void) {
    char users[64], groups[64];
    int users_length = snprintf(users, sizeof users, "0 %u 1", (unsigned)geteuid());
    int groups_length = snprintf(groups, sizeof groups, "0 %u 1", (unsigned)getegid());
    if (!unshare(CLONE_NEWNS))
        return true;
    return !unshare(CLONE_NEWUSER | CLONE_NEWNS) &&
           small_disk_put("/proc/self/setgroups", "deny", 4) &&
           small_disk_put("/proc/self/uid_map", users, users_length) &&
           small_disk_put("/proc/self/gid_map", groups, groups_length);
}

/* Mount an empty disk of `bytes` at the folder. */
static inline bool small_disk_mount(const char *folder, size_t bytes) {
    char options[64];
    snprintf(options, sizeof options, "size=%zu", bytes);
    return small_disk_namespace() && !mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) &&
           !mount("tmpfs", folder, "tmpfs", 0, options);
}

static inline bool small_disk_resize(const char *folder, size_t bytes) {
    char options[64];
    snprintf(options, sizeof options, "size=%zu", bytes);
    return !mount("tmpfs", folder, "tmpfs", MS_REMOUNT, options);
}

#endif

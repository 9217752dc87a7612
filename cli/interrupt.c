#include "cli/interrupt.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

_Static_assert(ATOMIC_BOOL_LOCK_FREE == 2, "the flag is written by a signal handler");

static atomic_bool asked;

static void on_signal(int number) {
    static const char show_cursor[] = "\x1b[?25h\n";
    if (!atomic_exchange(&asked, true))
        return;
    if (isatty(STDERR_FILENO) && write(STDERR_FILENO, show_cursor, sizeof show_cursor - 1) < 0)
        _exit(130);
    _exit(130);
}

/* nohup, and shells for what they put into the background, hand down that a signal is ignored. */
static void watch_unless_ignored(int number, const struct sigaction *action) {
    struct sigaction inherited;
    if (sigaction(number, NULL, &inherited) == 0 && inherited.sa_handler != SIG_IGN)
        sigaction(number, action, NULL);
}

void interrupt_watch(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    sigemptyset(&action.sa_mask);
    sigaction(SIGTERM, &action, NULL);
    watch_unless_ignored(SIGINT, &action);
    watch_unless_ignored(SIGHUP, &action);
}

bool interrupt_asked(void) {
    return atomic_load(&asked);
}

const atomic_bool *interrupt_flag(void) {
    return &asked;
}

void interrupt_ask(void) {
    atomic_store(&asked, true);
}

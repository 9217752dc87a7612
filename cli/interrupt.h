/* Ctrl-C (SIGINT), SIGTERM and SIGHUP: the first asks to stop, the second ends at once with status
 * 130. SIGINT and SIGHUP stay ignored if they were when the program began. Holds the program's one
 * writable global: a signal handler can reach nothing else. */
#ifndef VIDLOOM_CLI_INTERRUPT_H
#define VIDLOOM_CLI_INTERRUPT_H

#include <stdatomic.h>
#include <stdbool.h>

void interrupt_watch(void);
bool interrupt_asked(void);
void interrupt_ask(void);                /* as the first signal does; any thread */
const atomic_bool *interrupt_flag(void); /* for calls that take a flag to look at */

#endif

/* The ledger in memory, gone with the process. */
#ifndef VIDLOOM_TESTS_COORDINATOR_LEDGER_MEMORY_H
#define VIDLOOM_TESTS_COORDINATOR_LEDGER_MEMORY_H

#include "coordinator/ledger.h"

MUST_CHECK enum error_code ledger_memory_open(struct ledger **out, struct error *error);
/* Counts as an opening, as after a restart that kept what was there. */
void ledger_memory_reopen(struct ledger *ledger);

#endif

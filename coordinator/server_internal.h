/* The server's insides, shared by server*.c only. See server.h for what it promises.
 *
 *   server.c           life, the loop
 *   server_recover.c   from the ledger to a scheduler, part files of dead epochs
 *   server_commit.c    one turn's end: commit, publish, answers and leases
 *   server_submit.c    a submission: uploads, the job reader, checks of output paths
 *   server_worker.c    workers' sessions: their messages to events, actions to messages
 *   server_client.c    clients' requests
 *   server_uploads.c, server_publish.c   files */
#ifndef VIDLOOM_COORDINATOR_SERVER_INTERNAL_H
#define VIDLOOM_COORDINATOR_SERVER_INTERNAL_H

#include "base/file.h"
#include "coordinator/ledger.h"
#include "coordinator/scheduler.h"
#include "coordinator/server.h"
#include "coordinator/server_publish.h"
#include "coordinator/server_uploads.h"

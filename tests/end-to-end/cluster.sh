#!/bin/sh
# A coordinator and workers as processes, over TCP on loopback: submit, status, workers, logs,
# pause, resume, drain; a worker and the coordinator killed on the way. The files are those of
# vidloom run.
set -u
# shellcheck source=tests/end-to-end/lib.sh
. "$(dirname "$0")/lib.sh"

tiny_job alone alone
tiny_job team team
ok "vidloom run" "$vidloom" run --quiet --state alone-state alone.yaml

# A port that is free now; two tests at once would each take their own.
# Below those that the system gives out by itself.
port=$((10000 + $$ % 20000))
clients=tcp://127.0.0.1:$port
workers=tcp://127.0.0.1:$((port + 1))

start_coordinator() {
    "$vidloom" coordinator --state team-state --clients "$clients" --workers "$workers" \
        --silence 2 --lease 3 2>>coordinator.log &
    coordinator=$!
    children="$children $coordinator"
}
start_worker() {
    "$vidloom" worker --coordinator "$workers" --name "$1" --threads 1 2>>"$1.log" &
    worker=$!
    children="$children $worker"
}

expect 3 "coordinator" "$vidloom" status --coordinator "$clients" --timeout 0.5
expect 3 "coordinator" "$vidloom" worker --coordinator "$workers" --patience 0.5 --log none

start_coordinator
ok "submit" "$vidloom" submit --coordinator "$clients" team.yaml
ok "submitting again is the same job" sh -c \
    "'$vidloom' submit --coordinator $clients team.yaml | grep -q known"
ok "status" "$vidloom" status --coordinator "$clients"
says "names the job" 'tiny'
ok "status of a job" "$vidloom" status --coordinator "$clients" tiny
says "names its videos" 'three'
expect 2 "tinny" "$vidloom" status --coordinator "$clients" tinny
ok "pause" "$vidloom" pause --coordinator "$clients" tiny # before a worker could end it
start_worker first
ok "resume" "$vidloom" resume --coordinator "$clients" tiny

start_worker second
kill -9 "$worker"
start_worker third
kill -9 "$coordinator"
sleep 0.3
start_coordinator
ok "following to the end" timeout 120 "$vidloom" status --coordinator "$clients" --watch tiny
ok "the same bytes as alone" same_videos alone team
ok "and nothing else" only_videos team
# On a loaded machine a worker may come back only after the job's end.
tries=0
until "$vidloom" workers --coordinator "$clients" | grep -q third || [ "$tries" -eq 100 ]; do
    tries=$((tries + 1))
    sleep 0.3
done
ok "workers" "$vidloom" workers --coordinator "$clients"
says "names one" 'third'
ok "logs" "$vidloom" logs --coordinator "$clients" --attempts tiny
says "tells of windows" 'window'
ok "drain" "$vidloom" drain --coordinator "$clients" third
expect 2 "nobody" "$vidloom" drain --coordinator "$clients" nobody

# Two coordinators on one ledger.
expect 1 "$coordinator" "$vidloom" coordinator --state team-state --log none \
    --clients "tcp://127.0.0.1:*" --workers "tcp://127.0.0.1:*"
kill -TERM "$coordinator"
status=0
wait "$coordinator" || status=$?
ok "a coordinator ends in order" test "$status" -eq 0

# -- a worker that may not take what a keyframe needs, which its VAE is part of: told by the model's
# name, and the same again is not what is advised
clients=tcp://127.0.0.1:$((port + 2))
workers=tcp://127.0.0.1:$((port + 3))
"$vidloom" coordinator --state short-state --clients "$clients" --workers "$workers" --log none &
children="$children $!"
"$vidloom" worker --coordinator "$workers" --name short --memory 300KiB --log none &
children="$children $!"
tiny_job short short
expect 1 "model $tiny: " \
    "$vidloom" submit --wait --coordinator "$clients" short.yaml
ok "with its VAE" grep -q "(transformer, VAE) in BF16 take" expect.err
ok "more memory is advised" grep -q "^to try them again: .*more memory" expect.err
ok "and not the same again" not grep -q "^to try them again: .*$clients" expect.err

summary

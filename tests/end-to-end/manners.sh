#!/bin/sh
# Signals, standard streams and exit statuses: how the program behaves among others.
set -u
# shellcheck source=tests/end-to-end/lib.sh
. "$(dirname "$0")/lib.sh"

# Below the ports that the system gives out by itself.
port=$((10000 + $$ % 20000))
clients=tcp://127.0.0.1:$port

# The command to go on with is the one that was given, quoted.
printf 'model: %s\noutput: {path: "out/{video}.mp4", size: 64x48}\nvideos: [{name: long, prompt: a, %s}]\n' \
    "$tiny" "seconds: 600, steps: 2" >"my job.yaml"
"$vidloom" run --quiet --log info --state "my state" --workers 2 "my job.yaml" 2>stopped.err &
child=$!
children="$children $child"
tries=0
until grep -q "job=1 state=running" stopped.err || [ "$tries" -eq 600 ]; do
    tries=$((tries + 1))
    sleep 0.1
done
kill -TERM "$child"
status=0
wait "$child" || status=$?
ok "a signal gives 130" test "$status" -eq 130
ok "and the whole command" grep -qxF \
    "to go on from there: $vidloom run --quiet --log info --state 'my state' --workers 2 'my job.yaml'" stopped.err

# What was ignored when it began stays ignored, as nohup wants it.
(
    trap '' HUP
    exec "$vidloom" coordinator --state served --clients "$clients" --workers 'tcp://127.0.0.1:*' \
        2>coordinator.log
) &
coordinator=$!
children="$children $coordinator"
ok "a coordinator serves" "$vidloom" status --coordinator "$clients"
kill -HUP "$coordinator"
ok "and goes on after an ignored SIGHUP" "$vidloom" status --coordinator "$clients"
expect 1 "something else does already" "$vidloom" coordinator --state other --log none \
    --clients "$clients" --workers 'tcp://127.0.0.1:*'
kill -TERM "$coordinator"
wait "$coordinator"
expect 2 "beyond this machine" "$vidloom" coordinator --state other --log none \
    --clients "tcp://0.0.0.0:$port" --workers 'tcp://127.0.0.1:*'
expect 3 "has not answered" "$vidloom" cancel --coordinator "$clients" --timeout 0.3 1 2

# No file of ours takes the number of a stream that is closed.
tiny_job closed closed
ok "closed streams" sh -c "'$vidloom' run --state closed-state closed.yaml <&- >&- 2>&- ||
    test -e closed/three.mp4"
ok "leave the ledger whole" "$vidloom" check --state closed-state closed.yaml
says "with what was done" "3 of 3"
ok "a closed stdout is an error" sh -c "! '$vidloom' help >&- 2>/dev/null"

# A shot that begins no window does nothing: that is told, and kept with the job.
cat >shots.yaml <<YAML
model: $tiny
output: {path: "shots.mp4", size: 64x48}
videos: [{name: a, prompt: a, steps: 1, shots: [{seconds: 0.25}, {seconds: 0.1875, motion: b}, {seconds: 1}]}]
YAML
ok "a shot without a window" "$vidloom" check shots.yaml
says "check tells" "note: video a: shot 2 of 3"
ok "it runs" "$vidloom" run --progress lines --state shots.state shots.yaml
says "run tells" "note: video a: shot 2 of 3"
ok "it runs quietly" sh -c "[ -z \"\$('$vidloom' run --quiet --state quiet.state --overwrite shots.yaml 2>&1)\" ]"

# Two videos to one place by two names.
mkdir real
ln -s real link
printf 'model: %s\noutput: {size: 64x48}\ndefaults: {seconds: 1, prompt: a}\nvideos:\n' "$tiny" >two.yaml
printf '  - {name: a, output: {path: real/x.mp4}}\n  - {name: b, output: {path: link/x.mp4}}\n' >>two.yaml
expect 2 "two.yaml:6:" "$vidloom" check two.yaml
ln -s loop.yaml loop.yaml
expect 2 "loop.yaml" "$vidloom" run loop.yaml

summary

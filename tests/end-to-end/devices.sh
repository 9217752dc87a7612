#!/bin/sh
# Several devices in one machine, played by three that compute on the CPU behind a wall (cuda:0 and
# cuda:1 of one class, cuda:2 of another): one command starts a worker for each, files never mix
# classes and do not depend on how many devices there are.
set -u
# shellcheck source=tests/end-to-end/lib.sh
. "$(dirname "$0")/lib.sh"

bare=$vidloom
mkdir bin
cp "$bare" bin/vidloom
cp "$4" bin/libvidloom_cuda.so
mkdir broken
cp "$bare" broken/vidloom
cp "$5" broken/libvidloom_cuda.so
vidloom=$work/bin/vidloom

# Small enough for plain C, and one for each device.
job() {
    cat >"$1.yaml" <<YAML
job: tiny
model: $tiny
output: {path: "$1/{video}.mp4", size: 32x32}
defaults: {steps: 1, seconds: 1}
videos:
  - {name: one, prompt: a red balloon, motion: it rises, seed: 1}
  - {name: two, prompt: a yellow car, motion: it moves right, seed: 2}
  - {name: three, prompt: a red balloon, motion: it sinks, seed: 3}
YAML
}

for name in one both pair plain every four five; do
    job "$name"
done
ok "one device" "$vidloom" run --quiet --state state1 --device cuda:0 one.yaml
ok "two of its class" "$vidloom" run --log info --state state2 --device cuda:0,cuda:1 both.yaml
says "both have joined" 'behind a wall, device 0'
says "both have joined" 'behind a wall, device 1'
ok "give the same bytes" same_videos one both
ok "two on one device" "$vidloom" run --log info --workers 2 --state state7 --device cuda:0 pair.yaml
says "share its work" 'local-2 on cuda:0 takes decode and mux'
ok "and give the same bytes" same_videos one pair
ok "a device of another class" "$vidloom" run --quiet --state state3 --device cuda:2 plain.yaml
ok "auto takes every GPU" "$vidloom" run --log info --state state4 every.yaml
says "the third as well" 'behind a wall, device 2'
of_one_class() {
    for video in one two three; do
        cmp "one/$video.mp4" "every/$video.mp4" || cmp "plain/$video.mp4" "every/$video.mp4" ||
            return 1
    done
}
ok "every file is of one class" of_one_class
# Memory is planned as the device holds it.
planned() {
    "$vidloom" check --json --device "$1" one.yaml | tr ',' '\n' | grep '"weight_bytes"'
}
planned_apart() {
    [ -n "$(planned cpu)" ] && [ "$(planned cpu)" != "$(planned cuda:0)" ]
}
ok "check plans for the device" planned_apart
ok "check names it" "$vidloom" check --device cuda:1 one.yaml
says "check names it" 'for each worker on cuda:1'
ok "inspect plans for it" "$vidloom" inspect --device cuda:0 "$tiny"
says "inspect plans for it" 'device cuda'
# Time is that of an earlier job on devices of the same class; elsewhere it is reckoned.
reckoned() {
    "$vidloom" check --json --state state1 --device "$1" one.yaml | grep -q "\"estimate_measured\": *$2"
}
ok "check knows the time on that device" reckoned cuda:0 true
ok "and on one of its class" reckoned cuda:1 true
ok "but not on one of another" reckoned cuda:2 false

# One of two that fails leaves its work to the other.
ok "a broken device" "$work/broken/vidloom" run --log info --state state6 four.yaml
says "is told of" 'on cuda:1 has ended: '
says "with its words" 'device 1 is broken'
ok "and changes no file" same_videos one four

expect 2 "there is no device 3: there are 3, from 0" "$vidloom" run --device cuda:0,cuda:3 one.yaml
expect 2 "cuda:1 is there twice" "$vidloom" run --device cuda:1,cuda:1 one.yaml
expect 2 "--device cpu needs no GPU" "$bare" run --device nogpu:0 one.yaml
expect 2 "33 workers on each of 2 devices: at most 64" "$vidloom" run --workers 33 \
    --device cuda:0,cuda:1 --state state5 five.yaml

# Over TCP: one process, a worker for each device.
port=$((10000 + $$ % 20000))
clients=tcp://127.0.0.1:$port
workers=tcp://127.0.0.1:$((port + 1))
"$vidloom" coordinator --state team-state --clients "$clients" --workers "$workers" \
    2>coordinator.log &
children="$children $!"
"$vidloom" worker --coordinator "$workers" --name team --device cuda:0,cuda:1 2>worker.log &
worker=$!
"$vidloom" worker --coordinator "$workers" --name exact --device cuda:0 --dtype f32 \
    --kinds text 2>exact.log &
children="$children $!"
children="$children $worker"
job team
ok "submit and wait" timeout 120 "$vidloom" submit --coordinator "$clients" --wait team.yaml
ok "the same bytes" same_videos one team
ok "workers" "$vidloom" workers --coordinator "$clients"
says "the first" 'team-1'
says "the second" 'team-2'
says "their class" 'walled-best '
says "the type of arithmetic is of the class" 'walled-best-f32'
kill -TERM "$worker"
status=0
wait "$worker" || status=$?
ok "a signal ends both in order" test "$status" -eq 0

summary

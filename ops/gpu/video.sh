#!/bin/sh
# Seconds from a job to its encoded file, with random weights:
#
#     sh ops/gpu/video.sh BUILD [TABLE [full|small]]
#
# BUILD is a whole build (FFmpeg, ZeroMQ), with libvidloom_cuda.so where TABLE is cuda:0. A coordinator
# and one worker run as processes; three jobs go to them one after another: 5 s of 480p by a 1.3B model
# (cold: the worker opens the model and measures its kernels), 5 s of another text (warm: nothing of the
# first is used again but what is open), and 60 s by windows. 4 steps without guidance, as distilled
# models have them. Prints lines for ops/gpu/table.sh; what happens goes to stderr. The model, 17 GB, is
# made once, in BUILD/check-video. small: an untrained model of the tests, for machines without a GPU.
set -eu
cd "$(dirname "$0")/../.."
build=${1:?usage: video.sh BUILD [TABLE [full|small]]}
table=${2:-cuda:0}
size=${3:-full}
vidloom=$build/vidloom
[ -x "$vidloom" ] || { echo "video.sh: there is no $vidloom: build it first" >&2; exit 1; }
work=$build/check-video
mkdir -p "$work"
work=$(cd "$work" && pwd)
rm -rf "$work/state" "$work/out"

children=
finish() {
    status=$?
    for child in $children; do
        kill "$child" 2>/dev/null || true
    done
    wait
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

# The tests' tokenizer will do: its pieces are the first of the vocabulary.
make_model() {
    rm -rf "$work/making"
    "$build/tests/worker/model/random_folder" windows-1.3B "$work/making" keyframe window \
        text_encoder vae
    cp tests/vectors/random_wan/tokenizer/* "$work/making/tokenizer/"
    mv "$work/making" "$work/model"
}

# job NAME LENGTH PROMPT: of one video.
job() {
    cat >"$work/$1.yaml" <<YAML
job: $1
model: $model
output: {path: "$work/out/$1.mp4", size: $pixels, fps: 16}
defaults: {steps: 4, guidance: 1}
videos: [{name: a, prompt: $3, $2, seed: 1}]
YAML
}

# The whole of a job, from the command to the published file; what its tasks took goes to stderr.
measure() {
    failed=
    begun=$(date +%s%N)
    "$vidloom" submit --quiet --wait --coordinator "$clients" "$work/$2.yaml" >&2 || failed=$?
    ended=$(date +%s%N)
    "$vidloom" logs --attempts --coordinator "$clients" "$2" >&2 || true
    [ -z "$failed" ] || return "$failed"
    [ -s "$work/out/$2.mp4" ] || { echo "video.sh: there is no $work/out/$2.mp4" >&2; return 1; }
    printf '%s\t%s\ts\t%s\n' "$1" "$(((ended - begun) / 1000000))e-3" "$3"
}

if [ "$size" = full ]; then
    model=$work/model pixels=832x480 short='frames: 81' long='seconds: 60'
    [ -d "$model" ] || make_model >&2
else
    model=$PWD/tests/vectors/random_wan pixels=64x48 short='seconds: 1' long='seconds: 4'
fi
job cold "$short" 'a red balloon over a lake'
job warm "$short" 'a yellow car on a bridge'
job minute "$long" 'a boat on a river'

port=$((10000 + $$ % 20000))
clients=tcp://127.0.0.1:$port
workers=tcp://127.0.0.1:$((port + 1))
"$vidloom" coordinator --state "$work/state" --clients "$clients" --workers "$workers" >&2 &
children=$!
"$vidloom" worker --device "$table" --coordinator "$workers" >&2 &
children="$children $!"

printf 'size\t%s\n' "$size"
measure video_5s_cold cold "a short video, text to encoded file, the first time"
measure video_5s warm "a short video, text to encoded file, warm"
measure video_60s minute "a longer video by windows"

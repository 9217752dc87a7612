#!/bin/sh
# Jobs for models of the published kinds, of random weights and reduced width (the golden folders of
# tests/parity with a text encoder): LoRAs, narrow weights, noise levels, prefix windows, experts,
# windows between two pictures or of text alone, little memory. What a job says makes a difference, and nothing else.
set -u
# shellcheck source=tests/end-to-end/lib.sh
. "$(dirname "$0")/lib.sh"
make_weights=$4
golden=$source/tests/parity/golden

# model NAME: a golden folder, made whole.
model() {
    mkdir -p "$1/text_encoder"
    for part in model_index.json scheduler transformer transformer_2 vae image_encoder; do
        [ ! -e "$golden/$1/$part" ] || cp -r "$golden/$1/$part" "$1/"
    done
    cp -r "$tiny/tokenizer" "$1/"
    sed 's/"vocab_size": *[0-9]*/"vocab_size": 640/' "$golden/umt5/config.json" \
        >"$1/text_encoder/config.json"
    "$make_weights" text "$1/text_encoder/model.safetensors" 24
    chmod -R u+w "$1"
}

# job NAME [LINE...]: NAME.yaml with a video of two windows, whose pictures go into NAME/: they are
# what it looks like and nothing else, where a file names its job.
job() {
    name=$1
    shift
    {
        printf '%s\n' "$@"
        cat <<YAML
output: {path: "$name/", codec: png, size: 64x64}
videos: [{name: a, prompt: a red balloon, motion: it rises, frames: 130, seed: 1}]
YAML
    } >"$name.yaml"
}

run() {
    "$vidloom" run --quiet --state "$1.state" "$1.yaml"
}
made() {
    job "$@"
    ok "$1 runs" run "$1"
}
# Folders of pictures: whatever else their provenance tells.
equal() {
    [ -n "$(ls "$1")" ] && diff -r -x provenance.json "$1" "$2"
}
differ() {
    [ "$(ls "$1")" = "$(ls "$2")" ] && ! diff -rq -x provenance.json "$1" "$2"
}

model ti2v
"$make_weights" lora style.safetensors 40
"$make_weights" lora other.safetensors 64
lora='lora: [{file: ./style.safetensors, strength: 0.05}]'
levels='defaults: {windows: prefix, timesteps: [1000, 750, 500, 250], shift: 5, guidance: 1}'

# -- a TI2V model: prefix windows, LoRA, int8, a list of timesteps
made all 'model: ./ti2v' 'weights: int8' "$lora" "$levels"
made twice 'model: ./ti2v' 'weights: int8' "$lora" "$levels"
ok "the same job twice" equal all twice
made plain 'model: ./ti2v' 'weights: int8' "$levels"
ok "a LoRA makes a difference" differ all plain
made wide 'model: ./ti2v' "$lora" "$levels"
ok "int8 makes a difference" differ all wide
made weak 'model: ./ti2v' 'weights: int8' \
    'lora: [{file: ./style.safetensors, strength: 0.04}]' "$levels"
ok "its strength makes a difference" differ all weak
made keyframe 'model: ./ti2v' 'weights: int8' \
    'lora: [{file: ./style.safetensors, strength: 0.05, stage: keyframe}]' "$levels"
ok "its stage makes a difference" differ all keyframe
made sigmas 'model: ./ti2v' 'weights: int8' "$lora" \
    'defaults: {windows: prefix, sigmas: [1, 0.9375, 0.8333333333333334, 0.625], guidance: 1}'
ok "timesteps are shifted noise levels" equal all sigmas
made published 'model: ./ti2v' 'weights: int8' "$lora" \
    'defaults: {windows: prefix, keyframe: {steps: 4}, window: {steps: self-forcing}}'
ok "a published list" differ all published

# -- the file itself: the same bytes, and what it tells of how it was made
for folder in file again; do
    {
        printf '%s\n' 'job: file' 'model: ./ti2v' 'weights: int8' "$lora" "$levels"
        echo "output: {path: $folder/a.mkv, codec: ffv1, size: 64x64}"
        echo 'videos: [{name: a, prompt: a red balloon, motion: it rises, frames: 130, seed: 1}]'
    } >file.yaml
    ok "$folder" "$vidloom" run --quiet --state "$folder-2.state" file.yaml
done
ok "the same job twice, the file" same file/a.mkv again/a.mkv
ok "inspect" "$vidloom" inspect file/a.mkv
says "its levels" 'sigmas     1 0.9375 0.833333 0.625 0'
says "its weights" 'weights    int8'

# -- little memory
job little 'model: ./ti2v' 'weights: int8' "$lora" "$levels"
ok "little memory" "$vidloom" run --quiet --state little.state --memory 14MiB little.yaml
ok "the same with little memory" equal all little
expect 1 "model ./ti2v: " "$vidloom" run --quiet --state none.state --memory 300KiB little.yaml
ok "and what may be taken" grep -q "are allowed" expect.err
# The largest shortage of all stages, weights and work apart: what it says is enough.
expect 1 "at least" "$vidloom" check --memory 1 little.yaml
enough=$(sed -n 's/.* take \([0-9]*\)[0-9.]* \([KM]iB\) at least.*/\1.99\2/p' expect.err)
ok "the largest shortage" sh -c "grep -q 'of weights' expect.err && grep -q 'of work' expect.err"
ok "as much is enough" "$vidloom" check --memory "$enough" little.yaml

# -- what does not fit is told before anything runs
job bad 'model: ./ti2v' 'lora:' '  - {file: ./style.safetensors}' '  - {file: ./other.safetensors}'
expect 2 "bad.yaml:4:12: lora: " "$vidloom" check bad.yaml
expect 2 "the LoRA is made for another model" "$vidloom" run --quiet bad.yaml
job bad 'model: ./ti2v' 'lora: [{file: ./ti2v/text_encoder/model.safetensors}]'
expect 2 "is none that a LoRA has" "$vidloom" check bad.yaml
job bad 'model: ./ti2v' 'defaults: {guidance_low: 2}'
expect 2 "bad.yaml:2:26: guidance_low" "$vidloom" check bad.yaml
job bad 'model: ./ti2v' 'defaults: {steps: lightx2}'
expect 2 'did you mean "lightx2v"' "$vidloom" check bad.yaml
job bad 'model: ./ti2v' 'defaults: {end_image: style.png}'
expect 2 "end_image: model ./ti2v cannot end a window" "$vidloom" check bad.yaml

ok "inspect of a prefix model" "$vidloom" inspect ./ti2v
says "sides that are multiples" 'multiples of 32, 32 to 4096'

# -- two experts, a first and a last picture
cat >pictures.yaml <<YAML
model: ./ti2v
output: {path: "pictures/", codec: png, size: 64x64}
videos: [{name: a, prompt: a red balloon, frames: 2, seeds: 1, steps: 2, guidance: 1}]
YAML
model i2v-a14b
model flf2v
ok "pictures" "$vidloom" run --quiet --state pictures.state pictures.yaml
first=$(find pictures -name '*.png' | sort | head -n 1)
last=$(find pictures -name '*.png' | sort | tail -n 1)
# between NAME MODEL KEYS: a video of 13 frames between the two.
between() {
    cat >"$1.yaml" <<YAML
model: ./$2
output: {path: "$1/", codec: png, size: 64x64}
videos: [{name: a, prompt: a car, image: $first, frames: 13, seed: 1, $3}]
YAML
    ok "$1 runs" run "$1"
}
ok "inspect of experts" "$vidloom" inspect ./i2v-a14b
says "where they change" 'experts     2: one for times from 900 up'
between experts i2v-a14b "steps: 4, end_image: $last"
computes() { # NAME FRAMES
    "$vidloom" check --json "$1.yaml" | grep -q "\"frames_computed\":$2,"
}
between low i2v-a14b "steps: 4, end_image: $last, guidance_low: 1"
ok "the second expert's guidance" differ experts low
between open i2v-a14b "steps: 4"
ok "a short video is a short window" computes open 13
ok "the last picture makes a difference" differ experts open
between flf flf2v "steps: 2, guidance: 1, end_image: $last"
between other flf2v "steps: 2, guidance: 1, end_image: $first"
ok "which it is makes one, too" differ flf other
sed -i 's/, end_image: [^,}]*//' flf.yaml
expect 2 "give the video an end_image" "$vidloom" check flf.yaml
"$make_weights" lora high_noise.safetensors 40
cat >half.yaml <<YAML
model: ./i2v-a14b
lora: [{file: ./high_noise.safetensors, strength: 0.05}]
output: {path: "half/", codec: png, size: 64x64}
videos: [{name: a, prompt: a car, image: $first, frames: 13, seed: 1, steps: 4}]
YAML
ok "a LoRA of one expert" run half
ok "makes a difference" differ half open
goes_to() {
    "$vidloom" check "$1.yaml" | grep -q "^window *0.05  $2 .*high_noise"
}
ok "check says which expert" goes_to half high
sed 's/half/said/; s/strength/expert: low, strength/' half.yaml >said.yaml
ok "and the one that the job names" goes_to said low
ok "it runs" run said
cp high_noise.safetensors low-poly.safetensors
sed 's/half/poly/; s/high_noise/low-poly/' half.yaml >poly.yaml
warns() { # NAME: the warning, once
    test "$("$vidloom" check "$1.yaml" 2>&1 >/dev/null | grep -c 'warning: LoRA.*give it expert')" = 1
}
ok "of an unclear name check warns" warns poly
warned() { grep '^warning: LoRA ./low-poly' "$1"; }
"$vidloom" run --state poly.state poly.yaml 2>poly.run
ok "and so does run" warned poly.run
port=$((10000 + $$ % 20000))
"$vidloom" coordinator --state away.state --log none --clients "tcp://127.0.0.1:$port" \
    --workers "tcp://127.0.0.1:*" &
coordinator=$!
children="$children $coordinator"
sed 's|"poly/"|"away/"|' poly.yaml >away.yaml
"$vidloom" submit --coordinator "tcp://127.0.0.1:$port" away.yaml >submit.out 2>poly.submit || cat poly.submit
same_warning() { [ "$(warned poly.run)" = "$(warned poly.submit)" ]; }
ok "and submit, with the coordinator's word" warned poly.submit
ok "in the same words" same_warning
kill "$coordinator"
sed 's/strength/expert: both, strength/' poly.yaml >both.yaml
ok "not where the job says so" not warns both
# Of a stage that no video has, no LoRA is shown.
loras_of() { "$vidloom" check "$1.yaml" | grep " 0.05 " | cut -d ' ' -f 1 | tr '\n' ' '; }
job drawn 'model: ./ti2v' "$lora"
sed "s|seed:|image: $first, seed:|; s|drawn|given|" drawn.yaml >given.yaml
ok "a LoRA is of keyframe and window" test "$(loras_of drawn)" = "keyframe window "
ok "of the window alone where there are pictures" test "$(loras_of given)" = "window "
cp drawn.yaml eight.yaml
echo 'defaults: {attention: 8bit}' >>eight.yaml
"$vidloom" check --dtype f32 eight.yaml >eight.out 2>eight.err
ok "attention in 8 bits has no effect in f32" grep -q '^warning: attention: 8bit .*in f32$' eight.err
cat >pair.yaml <<YAML
model: {keyframe: ./ti2v, window: ./i2v-a14b}
output: {path: "pair/", codec: png, size: 64x64}
videos: [{name: a, prompt: a car, frames: 13, seed: 1}]
YAML
encodes() { "$vidloom" check pair.yaml | grep -q "^text .* ./$1\$"; }
ok "check of two models shows a text encoder" encodes ti2v
ok "and the other" encodes i2v-a14b
# number JOB STAGE KEY: of a stage, or ("") of the whole job.
number() {
    "$vidloom" check --json "$1.yaml" | grep -o "${2:+\"stage\":\"$2\"[^\}]*}\"$3\":[0-9]*" |
        head -n 1 | sed 's/.*://'
}
largest_work() {
    "$vidloom" check --json "$1.yaml" | grep -o '"work_bytes":[0-9]*' | sed 's/.*://' |
        sort -n | tail -n 1
}
job once 'model: ./ti2v'
job twice 'model: ./ti2v' 'lora: [{file: ./style.safetensors, stage: keyframe}]'
once=$(($(number once text held_bytes) + $(number once window held_bytes) + $(largest_work once)))
ok "a transformer for both stages and the VAE count once" \
    test "$(number once "" memory_bytes)" = "$once"
ok "a keyframe's task has the VAE beside the transformer, as a window's" \
    test "$(number once keyframe held_bytes)" = "$(number once window held_bytes)"
ok "with a LoRA for one of them, the transformer twice" \
    test "$(number twice "" memory_bytes)" -ge $((once + $(number once keyframe held_bytes)))
ok "is another one" differ said half

# -- text to video: one window, as long as is asked for, and no longer than the model makes
first_picture() { # of folder $1
    find "$1" -name '*.png' | sort | head -n 1
}

for kind in t2v t2v-a14b; do
    model $kind
    cp -r "$golden/i2v/vae" $kind/
    chmod -R u+w $kind
    ok "inspect $kind" "$vidloom" inspect ./$kind
    says "what it makes windows from" 'windows of 81 frames, from text alone'
    # text FOLDER KEYS
    text() {
        cat >"$1.yaml" <<YAML
model: ./$kind
output: {path: "$1/", codec: png, size: 64x64}
videos: [{name: a, prompt: a red balloon, motion: it rises, steps: 2, $2}]
YAML
    }
    text $kind-14 "frames: 14, seed: 1"
    ok "$kind checks" "$vidloom" check $kind-14.yaml
    says "one window" 'window           1'
    ok "$kind runs" run $kind-14
    ok "$kind: the frames that were asked for" test "$(find $kind-14 -name '*.png' | wc -l)" = 14
    text $kind-17 "frames: 17, seed: 1"
    ok "$kind runs, 17" run $kind-17
    ok "$kind: the same start of 14 and 17" cmp "$(first_picture $kind-14)" "$(first_picture $kind-17)"
    text $kind-seed "frames: 14, seed: 2"
    ok "$kind runs, another seed" run $kind-seed
    ok "$kind: another seed makes a difference" differ $kind-14 $kind-seed
    text bad "frames: 82, seed: 1"
    expect 2 "bad.yaml:3:79: frames: model ./$kind makes a video from its text alone" \
        "$vidloom" check bad.yaml
    text bad "frames: 9, image: $first"
    expect 2 "bad.yaml:3:89: image: model ./$kind makes a video from its text alone" \
        "$vidloom" check bad.yaml
done

# -- two models of two experts each: what either is guided by
cat >scales.yaml <<YAML
model: {keyframe: ./t2v-a14b, window: ./i2v-a14b}
output: {path: "scales/", codec: png, size: 64x64}
defaults: {keyframe: {guidance: 4, guidance_low: 3}, window: {guidance: 3.5}}
videos: [{name: a, prompt: a car, frames: 13, seed: 1}]
YAML
scales() { "$vidloom" check scales.yaml | grep -q '^a .* 4, 3  *3.5, 3.5  *scales'; }
ok "check shows both guidances" scales
scales_json() {
    "$vidloom" check --json scales.yaml | grep -q '"keyframe_guidance":4,"keyframe_guidance_low":3,"guidance":3.5,"guidance_low":3.5,'
}
ok "and so does its JSON" scales_json

summary

#!/bin/sh
# Bad input: every row is a command, the exit status and what the one line on stderr must say.
set -u
# shellcheck source=tests/end-to-end/lib.sh
. "$(dirname "$0")/lib.sh"

# job TEXT: a job file with the given videos, and what else it says.
job() {
    printf '%s\n' "$1" >job.yaml
}
good_video="videos: [{name: a, prompt: a red balloon, seconds: 1}]"

# -- the command line
expect 2 "expected a verb" "$vidloom"
expect 2 "did you mean 'run'" "$vidloom" rnu job.yaml
expect 2 "'vidloom help' lists them" "$vidloom" frobnicate
expect 2 "expected JOB.yaml" "$vidloom" run
expect 2 "one argument too many" "$vidloom" check a.yaml b.yaml
expect 2 "did you mean --state" "$vidloom" run --sate x job.yaml
expect 2 "expected a whole number from 1 to 64" "$vidloom" run --workers 0 job.yaml
expect 2 "expected a whole number from 1 to 64" "$vidloom" run --workers 1e3 job.yaml
expect 2 "expected DIR after it" "$vidloom" run job.yaml --state
expect 2 "expected one of bf16, f32" "$vidloom" check --dtype int8 job.yaml
expect 2 "--watch needs a job" "$vidloom" status --watch
expect 2 "there is no task kind" "$vidloom" worker --kinds windo --log none
ok "--help" "$vidloom" run --help
ok "help" "$vidloom" help run
ok "--version" "$vidloom" --version

# -- job files that are not one
mkdir folder
: >empty.yaml
head -c 4096 /dev/urandom >binary.yaml
head -c 104857600 /dev/zero | tr '\0' 'a' >huge.yaml
mkfifo pipe.yaml
for verb in check run; do
    expect 2 "no.yaml" "$vidloom" $verb no.yaml
    expect 2 "folder" "$vidloom" $verb folder
    expect 2 "empty.yaml" "$vidloom" $verb empty.yaml
    expect 2 "binary.yaml" "$vidloom" $verb binary.yaml
    expect 2 "huge.yaml" "$vidloom" $verb huge.yaml
    expect 2 "pipe.yaml" "$vidloom" $verb pipe.yaml
done

# -- YAML that is not a job: each line is "fragment|text", with ; for a new line
while IFS='|' read -r fragment text; do
    [ -n "$fragment" ] || continue
    printf '%s\n' "$text" | tr ';' '\n' | sed "s,MODEL,$tiny," >job.yaml
    expect 2 "job.yaml:" "$vidloom" check job.yaml
    if ! grep -qF -- "$fragment" expect.err; then
        failed=$((failed + 1))
        echo "FAILED: '$text' does not say '$fragment':"
        cat expect.err
    fi
done <<'ROWS'
did you mean "videos"|model: MODEL;vidoes: [{prompt: a}]
job.yaml:3:1|model: MODEL;videos: [{prompt: a, seconds: 1}];model: MODEL
anchor|model: &m MODEL;videos: [{prompt: a, seconds: 1}]
alias|model: MODEL;videos: [{prompt: *a, seconds: 1}]
seconds|model: MODEL;videos: [{prompt: a, seconds: -1}]
seconds|model: MODEL;videos: [{prompt: a, seconds: 1e99}]
seconds|model: MODEL;videos: [{prompt: a, seconds: .nan}]
seconds|model: MODEL;videos: [{prompt: a, seconds: nan}]
seconds|model: MODEL;videos: [{prompt: a, seconds: many}]
prompt|model: MODEL;videos: [{prompt: "", seconds: 1}]
prompt|model: MODEL;videos: [{prompt: [a], seconds: 1}]
name|model: MODEL;videos: [{name: ../a, prompt: a, seconds: 1}]
name|model: MODEL;videos: [{name: a/b, prompt: a, seconds: 1}]
size|model: MODEL;output: {size: 65x48};videos: [{prompt: a, seconds: 1}]
size|model: MODEL;output: {size: 0x0};videos: [{prompt: a, seconds: 1}]
size|model: MODEL;output: {size: 100000x100000};videos: [{prompt: a, seconds: 1}]
codec|model: MODEL;output: {codec: h265};videos: [{prompt: a, seconds: 1}]
steps|model: MODEL;videos: [{prompt: a, seconds: 1, steps: 0}]
seed|model: MODEL;videos: [{prompt: a, seconds: 1, seed: -1}]
seeds|model: MODEL;videos: [{prompt: a, seconds: 1, seeds: 8..1}]
videos|model: MODEL
videos|model: MODEL;videos: []
image|model: MODEL;videos: [{prompt: a, seconds: 1, image: no.png}]
noise|model: MODEL;videos: [{prompt: a, seconds: 1, noise: 0.5}]
windows|model: MODEL;videos: [{prompt: a, seconds: 1, windows: overlap 999}]
limits|model: MODEL;videos: [{prompt: a, seconds: 1, limits: {drift: 2}}]
weights|model: MODEL;weights: int3;videos: [{prompt: a, seconds: 1}]
lora|model: MODEL;lora: [{file: none.safetensors}];videos: [{prompt: a, seconds: 1}]
lora|model: MODEL;lora: [{file: /etc/passwd}];videos: [{prompt: a, seconds: 1}]
no-such-model|model: no-such-model;videos: [{prompt: a, seconds: 1}]
ROWS

printf 'model: %s\nvideos:\n  - {name: a, seconds: 1, prompt: "\377"}\n' "$tiny" >job.yaml
expect 2 "job.yaml" "$vidloom" check job.yaml
{
    printf 'model: %s\nvideos:\n  - {name: a, seconds: 1, prompt: "' "$tiny"
    head -c 100000 /dev/zero | tr '\0' 'a'
    printf '"}\n'
} >job.yaml
expect 2 "prompt" "$vidloom" check job.yaml

# -- images that are not one
echo "not a picture" >text.png
job "{model: $tiny, videos: [{name: a, prompt: a, seconds: 1, image: text.png}]}"
expect 2 "text.png" "$vidloom" run --quiet job.yaml
expect 2 "text.png" "$vidloom" check job.yaml
job "{model: $tiny, videos: [{name: a, prompt: a, seconds: 1, image: folder}]}"
expect 2 "folder" "$vidloom" check job.yaml

damaged() {
    rm -rf damaged
    cp -r "$tiny" damaged
    chmod -R u+w damaged
    job "{model: ./damaged, $good_video}"
}
# -- a tokenizer that no run could open
tokenizer() { # FRAGMENT
    expect 2 "$1" "$vidloom" check job.yaml
    expect 2 "$1" "$vidloom" inspect ./damaged
}
ok "inspect lists the tokenizer" "$vidloom" inspect "$tiny"
says "and its pieces" ' pieces'
damaged
echo garbage >damaged/tokenizer/spiece.model
tokenizer damaged/tokenizer/spiece.model
damaged
truncate -s 100 damaged/tokenizer/spiece.model
tokenizer damaged/tokenizer/spiece.model
damaged
echo '{"model": {"type": "BPE"}}' >damaged/tokenizer/tokenizer.json
tokenizer damaged/tokenizer/tokenizer.json

# -- weights: cut short, header damaged, a shape that is not the architecture's
weights=damaged/window/diffusion_pytorch_model.safetensors
damaged
truncate -s 1000 "$weights"
expect 2 "damaged/window" "$vidloom" check job.yaml
expect 2 "damaged/window" "$vidloom" inspect ./damaged
sed -i 's/"d_ff": *[0-9]*/"d_ff": 7/' damaged/text_encoder/config.json
expect 2 "damaged/" "$vidloom" inspect ./damaged
ok "and what else is wrong" sh -c "cat expect.out expect.err | grep -q damaged/text_encoder &&
    cat expect.out expect.err | grep -q damaged/window"
damaged
truncate -s -1 "$weights"
expect 2 "damaged/window" "$vidloom" check job.yaml
damaged
: >"$weights"
expect 2 "damaged/window" "$vidloom" check job.yaml
damaged
printf '\377\377\377\377\377\377\377\177' | dd of="$weights" conv=notrunc status=none
expect 2 "damaged/window" "$vidloom" check job.yaml
damaged
printf '}' | dd of="$weights" bs=1 seek=8 conv=notrunc status=none
expect 2 "damaged/window" "$vidloom" check job.yaml
damaged
rm "$weights"
expect 2 "damaged/window" "$vidloom" check job.yaml
damaged
sed -i 's/"num_layers": *[0-9]*/"num_layers": 77/' damaged/window/config.json
expect 2 "damaged/window" "$vidloom" check job.yaml

# -- places that cannot be written
job "{model: $tiny, output: {path: \"text.png/{video}.mp4\"}, $good_video}"
expect 2 "text.png" "$vidloom" run --quiet job.yaml
job "{model: $tiny, output: {path: \"kept/{video}.mp4\", overwrite: true}, $good_video}"
mkdir -p kept/a.mp4
echo precious >kept/a.mp4/file
expect 1 "kept/a.mp4 is there and is a folder" "$vidloom" run --quiet job.yaml
ok "a folder stays where it is" test -f kept/a.mp4/file
job "{model: $tiny, $good_video}"
expect 1 "text.png" "$vidloom" run --quiet --state text.png/state job.yaml

# -- two coordinators on one ledger; a worker with no coordinator
"$vidloom" coordinator --state shared --clients 'tcp://127.0.0.1:*' --workers 'tcp://127.0.0.1:*' \
    --log none &
first=$!
children=$first
until [ -e shared/ledger.db ]; do sleep 0.1; done
expect 1 "another coordinator uses this ledger" "$vidloom" run --quiet --state shared job.yaml
kill -TERM "$first"
wait "$first"
expect 3 "coordinator" "$vidloom" worker --coordinator tcp://127.0.0.1:9 --patience 1 --log none

# -- configuration files
printf 'threds: 3\n' >worker.yaml
expect 2 "worker.yaml:1:1: threds is not a key" "$vidloom" worker --config worker.yaml
printf 'threads: -3\n' >worker.yaml
expect 2 "worker.yaml:1:10: threads: expected a whole number" "$vidloom" worker --config worker.yaml
expect 2 "none.yaml" "$vidloom" coordinator --config none.yaml
expect 2 "tcp" "$vidloom" worker --coordinator nonsense --log none

# -- files to inspect
printf '\107\0\0\0\0\0\0\0{"a\\u001b[2J\\n\\u009bb":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}' >names.safetensors
ok "a tensor's name is not obeyed" sh -c "'$vidloom' inspect names.safetensors | grep -qxF '  a?[2J??b'"
expect 2 "no.mp4" "$vidloom" inspect no.mp4
expect 2 "text.png" "$vidloom" inspect text.png
expect 2 "folder" "$vidloom" inspect folder

# -- the shipped examples are right
if [ -f "$source/models/pocket/model_index.json" ]; then
    for example in demo example; do
        ok "$example.yaml" "$vidloom" check --models "$source/models" \
            "$source/configs/jobs/$example.yaml"
    done
fi

summary

#!/bin/sh
# vidloom run: files are whole and right, equal jobs give equal bytes, with 1 and 3 workers, and a
# second run has nothing to do.
set -u
# shellcheck source=tests/end-to-end/lib.sh
. "$(dirname "$0")/lib.sh"

tiny_job first first
tiny_job second second
tiny_job three three

ok "a job runs" "$vidloom" run --state state1 first.yaml
says "it ends with a table" 'than real time'
for video in one two three; do
    ok "ffprobe reads $video" ffprobe -v error -show_streams "first/$video.mp4"
    ok "$video decodes without an error" sh -c \
        "ffmpeg -v error -i first/$video.mp4 -f null - 2>&1 | grep -c . | grep -qx 0"
done
frames() {
    ffprobe -v error -count_frames -select_streams v -show_entries stream=nb_read_frames \
        -of csv=p=0 "$1" | tr -d ,
}
ok "frames are as many as asked for" test "$(frames first/two.mp4)" -eq 48
ok "only whole files" only_videos first

cp first/one.mp4 before.mp4
ok "a second run has nothing to do" "$vidloom" run --state state1 --json first.yaml
says "it says so" '"state":"done"'
ok "and changes nothing" same first/one.mp4 before.mp4

ok "the same job elsewhere" "$vidloom" run --state state2 second.yaml
ok "gives the same bytes" same_videos first second
ok "three workers" "$vidloom" run --state state3 --workers 3 three.yaml
ok "give the same bytes" same_videos first three

ok "provenance is read back" "$vidloom" inspect first/one.mp4
says "with the prompt" 'a red balloon'
ok "as JSON" sh -c "'$vidloom' inspect --json first/one.mp4 | grep -q '\"seed\":1'"
ok "check knows what is done" sh -c \
    "'$vidloom' check --state state1 --json first.yaml | grep -q '\"done\":3'"

# A file that someone else put there is not overwritten, unless asked.
tiny_job foreign foreign
mkdir foreign
echo precious >foreign/one.mp4
expect 1 "foreign/one.mp4 is there already" "$vidloom" run --quiet --state state4 foreign.yaml
ok "a foreign file stays" grep -q precious foreign/one.mp4
ok "unless asked" "$vidloom" run --quiet --state state4 --overwrite foreign.yaml
ok "then it is replaced" same foreign/one.mp4 first/one.mp4

# What windows were measured to be, and a limit that no redraw keeps.
cat >limits.yaml <<YAML
job: limits
model: $tiny
output: {path: "limits/{video}.mp4", size: 64x48}
defaults: {steps: 1, limits: {drift: 0.0001, redraws: 1}}
videos:
  - {name: past, prompt: a red balloon, motion: it rises, seconds: 2}
  - {name: free, prompt: a red balloon, seconds: 1, limits: {drift: 1}}
YAML
told() {
    grep -qF -- "$1" limits.out
}
ok "a limit that stays broken fails nothing" sh -c \
    "'$vidloom' run --state state5 limits.yaml >limits.out 2>&1"
ok "the table has the measures" told 'drift   seam  redraws  file'
ok "the video and its limit are named" told 'warning: past: drift 0.'
ok "with the redraws" told 'is past the limit of 0.0001 after '
ok "one video is warned of" sh -c 'grep -c ^warning: limits.out | grep -qx 1'
ok "JSON has them" sh -c "'$vidloom' run --state state5 --json limits.yaml >limits.json"
ok "of the video and of the job" sh -c \
    'grep -c "\"redraws\":[1-9].*\"past_limits\":\[\"drift\"\]" limits.json | grep -qx 2'

# Memory does not grow with the length of the video.
peak() {
    "$vidloom" bench --only video --model "$tiny" --seconds "$1" --json |
        tr '{' '\n' | sed -n 's/.*peak memory","value":\([0-9]*\).*/\1/p'
}
short=$(peak 4)
long=$(peak 40)
ok "memory for 40 s ($long MiB) as for 4 s ($short MiB)" test "$((long * 10))" -le \
    "$((short * 11))"

summary

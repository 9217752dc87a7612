#!/bin/sh
# vidloom run: files are whole and right, equal jobs give equal bytes, with 1 and 3 workers, and a
# second run has nothing to do.
set -u
. "$(dirname "$0")/lib.sh"

tiny_job first first
tiny_job second second
tiny_job three three

ok "a job runs" "$vidloom" run --state state1 first.yaml
ok "it ends with a table" grep -q 'than real time' check.out
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
ok "it says so" grep -q '"state":"done"' check.out
ok "and changes nothing" same first/one.mp4 before.mp4

ok "the same job elsewhere" "$vidloom" run --state state2 second.yaml
ok "gives the same bytes" same_videos first second
ok "three workers" "$vidloom" run --state state3 --workers 3 three.yaml
ok "give the same bytes" same_videos first three

ok "provenance is read back" "$vidloom" inspect first/one.mp4
ok "with the prompt" grep -q 'a red balloon' check.out
ok "as JSON" sh -c "'$vidloom' inspect --json first/one.mp4 | grep -q '\"seed\":1'"
ok "check knows what is done" sh -c \
    "'$vidloom' check --state state1 --json first.yaml | grep -q '\"done\":3'"

# A file that someone else put there is not overwritten, unless asked.
tiny_job foreign foreign
mkdir foreign
echo precious >foreign/one.mp4
expect 1 "foreign/one.mp4" "$vidloom" run --quiet --state state4 foreign.yaml
ok "a foreign file stays" grep -q precious foreign/one.mp4
ok "the others are made" test -f foreign/two.mp4
ok "unless asked" "$vidloom" run --quiet --state state4 --overwrite foreign.yaml
ok "then it is replaced" same foreign/one.mp4 first/one.mp4

summary

#!/bin/sh
# Killed with kill -9 at random moments and resumed, and stopped with Ctrl-C: in the end the files
# are those of a run that nobody disturbed, and there was never a partial one.
#   kill.sh VIDLOOM SOURCE MEASURE [KILLS]
set -u
# shellcheck source=tests/end-to-end/lib.sh
. "$(dirname "$0")/lib.sh"
kills=${4:-20}

tiny_job calm calm
tiny_job hurt hurt
start=$(date +%s%N)
ok "an undisturbed run" "$vidloom" run --quiet --state calm-state calm.yaml
took=$(($(date +%s%N) - start)) # ns

# The moments are random but the same in every run of the test: a linear congruential generator.
random=12345
next_random() { # 0 .. $1-1 into $random_value
    random=$(((random * 1103515245 + 12345) % 2147483648))
    random_value=$((random / 65536 % $1))
}

whole_or_absent() {
    for video in one two three; do
        if [ -e "hurt/$video.mp4" ]; then
            cmp "calm/$video.mp4" "hurt/$video.mp4" || return 1
        fi
    done
}

count=0
while [ "$count" -lt "$kills" ]; do
    count=$((count + 1))
    "$vidloom" run --quiet --state hurt-state hurt.yaml 2>/dev/null &
    child=$!
    next_random 1000
    sleep "$(awk "BEGIN { print $took / 1e9 * $random_value / 1000 / 2 }")"
    kill -9 "$child" 2>/dev/null
    wait "$child" 2>/dev/null
    ok "nothing partial after kill $count" whole_or_absent
done
ok "the job ends after $kills kills" "$vidloom" run --quiet --state hurt-state hurt.yaml
ok "with the same bytes" same_videos calm hurt
ok "and nothing else" only_videos hurt

# A signal: in order, with status 130, and it says how to go on.
tiny_job stopped stopped
"$vidloom" run --state stopped-state stopped.yaml 2>stopped.err >stopped.out &
child=$!
sleep "$(awk "BEGIN { print $took / 1e9 / 3 }")"
kill -TERM "$child" # a background command of sh ignores Ctrl-C
status=0
wait "$child" || status=$?
ok "it gives 130" test "$status" -eq 130
ok "and says how to go on" grep -q "go on from there: $vidloom run --state stopped-state stopped.yaml" stopped.err
ok "nothing partial is left" sh -c '! ls -A stopped 2>/dev/null | grep -q part'
ok "which it does" "$vidloom" run --quiet --state stopped-state stopped.yaml
ok "to the same bytes" same_videos calm stopped

summary

# Shared by the end-to-end tests: . lib.sh
# Called as: TEST.sh VIDLOOM SOURCE MEASURE. Every test works in a folder of its own, removed at the
# end, and ends with "N passed, N failed".
# shellcheck shell=sh disable=SC2034 # variables are used by the tests

vidloom=$1
source=$2
measure=$3
passed=0
failed=0
skip=77 # ctest's SKIP_RETURN_CODE
tiny=$source/tests/vectors/random_wan # untrained, but complete and quick

work=$(mktemp -d)
children=
finish() {
    status=$?
    for child in $children; do
        kill -9 "$child" 2>/dev/null || true
    done
    cd /
    rm -rf "$work"
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM
cd "$work" || exit 1

# ok NAME COMMAND...: one check.
ok() {
    name=$1
    shift
    if "$@" >check.out 2>&1; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED: $name: $*"
        sed 's/^/    /' check.out
    fi
}

# says NAME FRAGMENT: what the last ok printed has it.
says() {
    if grep -qF -- "$2" check.out; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED: $1: '$2' is not in:"
        sed 's/^/    /' check.out
    fi
}

# expect STATUS FRAGMENT COMMAND...: exit status, and one line on stderr that has the fragment.
expect() {
    want=$1
    fragment=$2
    shift 2
    got=0
    timeout 60 "$@" >expect.out 2>expect.err || got=$?
    if [ "$got" -eq "$want" ] && grep -qF -- "$fragment" expect.err &&
        [ "$(grep -c '^vidloom: ' expect.err)" -eq 1 ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED: $*: exit status $got, expected $want and '$fragment'"
        sed 's/^/    /' expect.err
    fi
}

not() { ! "$@"; }

same() {
    cmp "$1" "$2"
}

# The job that the mechanical tests run: three videos of four windows and more, one from an image
# less, in NAME.yaml, written to OUT.
tiny_job() {
    cat >"$1.yaml" <<YAML
job: tiny
model: $tiny
output: {path: "$2/{video}.mp4", size: 64x48}
defaults: {steps: 2}
videos:
  - {name: one, prompt: a red balloon, motion: it rises, seconds: 4, seed: 1}
  - {name: two, prompt: a yellow car, motion: it moves right, seconds: 3, seed: 2}
  - {name: three, prompt: a red balloon, motion: it sinks, seconds: 2, seed: 3}
YAML
}

same_videos() {
    for video in one two three; do
        cmp "$1/$video.mp4" "$2/$video.mp4" || return 1
    done
}

# No part files, nothing but the three.
only_videos() {
    [ "$(find "$1" -mindepth 1 | wc -l)" -eq 3 ]
}

summary() {
    echo "$passed passed, $failed failed"
    [ "$failed" -eq 0 ]
}

#!/bin/sh
# The CUDA table against plain C and against what is asked of it:
#
#     sh ops/gpu/check.sh [--table NAME:INDEX] [--only PART,...] [--size full|small]
#                         [--seconds N] [--report FILE] [--commit ID]
#
# Needs nvcc, CMake, ninja or make, a C++ compiler; no network and, but for video, none of the worker's
# libraries.
# PART, in the order in which they are done, with what they took on 16 cores and one H100:
#   build      what the other parts run, the table for the card that nvidia-smi finds alone; some 30 s, by
#              its first 16 (then a test did not compile)
#   vectors    every operation's tests over the table; 10 s
#   bench      speed at Wan2.1's shapes with random weights beside the machine's ceilings, a process a
#              group, and PyTorch on the same shapes where it is installed; 90 s
#   models     text encoder, transformer, VAE, samplers and whole requests against the tensors that the
#              published classes gave; 6 s
#   memory     the operations' tests under compute-sanitizer, where it is installed: memcheck, and racecheck
#              where shared memory is written and read; 10 s and more than 8
#   resources  registers and spills of attention against ops/gpu/resources.txt; 80 seconds on 2 cores, and
#              the same on every machine: no work for one with a GPU
#   video      text to encoded file by the whole program (video.sh): not part of all, and not for a
#              machine that can fetch nothing: it needs ops/install.sh build's packages (FFmpeg, ZeroMQ,
#              SentencePiece...) beside nvcc; 60 s, and its build
# --seconds: when so many are over, what is left is not done, and what is being done is ended. The table
# says so; it counts as neither passed nor failed, but the exit status is not 0.
# --report puts the figures into FILE, between its two marks (ops/gpu/RESULTS.md); a figure that was not
# measured is "compiled, not yet run" there. --commit: where there is no git to ask.
# $OUT, where it is set, is a folder for the results: FILE is copied there, and check-parts.txt (what was
# done), check-figures.txt (what was measured), check-clocks.txt and check.log (all output of every step)
# are written there as it goes. Else these are in the build folder.
# Tables for machines without a GPU, so that this script is tested too: cpu:0 and walled:0 (neither
# needs nvcc; bench with --size small), emulated:0, emulated:1 (of Hopper's kind) and
# emulated:3 (of Ada's); slow.
# Ends with one table and "N passed, N failed, N not done"; the exit status is 0 when all passed that was
# not skipped.
set -eu
here=$(pwd)
cd "$(dirname "$0")/../.."
PATH=$PATH:/usr/local/cuda/bin
table=cuda:0
only=all
size=full
seconds=
report=
commit=$(git rev-parse --short HEAD 2>/dev/null || echo unknown)
while [ $# -gt 1 ]; do
    case $1 in
        --table) table=$2 ;;
        --only) only=$2 ;;
        --size) size=$2 ;;
        --seconds) seconds=$2 ;;
        --report)
            case $2 in
                /*) report=$2 ;;
                *) report=$here/$2 ;;
            esac
            ;;
        --commit) commit=$2 ;;
        *) echo "check.sh: what is $1? Its head lists the options" >&2; exit 2 ;;
    esac
    shift 2
done
[ $# -eq 0 ] || { echo "check.sh: $1 wants a value" >&2; exit 2; }
[ -n "$(echo "$only" | tr -d ', ')" ] || { echo "check.sh: --only wants a part" >&2; exit 2; }
for name in $(echo "$only" | tr , ' '); do
    case $name in
        all | build | resources | vectors | models | bench | memory | video) ;;
        *)
            echo "check.sh: there is no part '$name': build, vectors, bench, models, memory, resources," \
                "video and all are there" >&2
            exit 2
            ;;
    esac
done
case $size in
    full | small) ;;
    *) echo "check.sh: there is no size '$size': full or small" >&2; exit 2 ;;
esac
case $seconds in
    *[!0-9]* | 0*) echo "check.sh: --seconds '$seconds': a whole number of seconds is wanted" >&2; exit 2 ;;
esac
deadline=${seconds:+$(($(date +%s) + seconds))}
case ${table%%:*} in
    cpu | walled) build=build-bare whole=build cuda=OFF patience=10 ;;
    cuda) build=build-cuda-bare whole=build-cuda cuda=ON patience=1 ;;
    emulated) build=build-cuda-bare whole=build-cuda cuda=ON patience=10 ;;
    *)
        echo "check.sh: there is no table '$table': cuda:N, and without a GPU cpu:0, walled:0, emulated:N" >&2
        exit 2
        ;;
esac
operations="attention attention8 linear conv rows layout int8 f8 norm_linear"
jobs=$(nproc)
passed=0
failed=0
undone=0 # for lack of time
home=${OUT:-$build}
lines=$home/check-figures.txt # "key<TAB>value<TAB>unit<TAB>what[<TAB>error]"
parts=$home/check-parts.txt   # what was done, for the table at the end
log=$home/check.log
clocks=$home/check-clocks.txt

say() {
    echo "$1" | tee -a "$parts"
}

# Whether there is time; then how much, as `limit`, and what a step is called that it does not suffice
# for, as `late`.
grant() {
    limit=$(($1 * patience))
    begun=$(date +%s)
    late=FAILED
    if [ -n "$deadline" ] && [ $((deadline - begun)) -lt "$limit" ]; then
        limit=$((deadline - begun))
        late="not done: no time left"
    fi
    [ "$limit" -ge 2 ]
}

# count TITLE STATUS SECONDS FIRST: counts what was done; of a failure, shows the end of what $log has of
# it, from line FIRST on. Status 77: skipped, for the reason that the last line gives.
count() {
    if [ "$2" -eq 0 ]; then
        passed=$((passed + 1))
        say "$1: passed, $3 s"
    elif [ "$2" -eq 77 ]; then
        say "$1: skipped: $(tail -n 1 "$log")"
    elif [ "$3" -ge "$limit" ] && [ "$late" != FAILED ]; then
        undone=$((undone + 1))
        say "$1: $late; ended after $3 s"
    else
        failed=$((failed + 1))
        tail -n "+$4" "$log" | tail -n 30
        if [ "$3" -lt "$limit" ]; then say "$1: FAILED, $3 s"; else say "$1: FAILED, ended after $3 s"; fi
    fi
}

# The line of $log that comes next, after a heading.
heading() {
    echo "== $1" >>"$log"
    first=$(($(wc -l <"$log") + 1))
}

# step LIMIT TITLE COMMAND...: COMMAND is for `limited`, or a function that calls it: it has LIMIT
# seconds on a GPU, where a kernel may hang and time is short.
step() {
    title=$2
    if ! grant "$1"; then
        undone=$((undone + 1))
        say "$title: $late"
        return
    fi
    shift 2
    heading "$title"
    status=0
    "$@" >>"$log" 2>&1 || status=$?
    count "$title" "$status" $(($(date +%s) - begun)) "$first"
}

# steps LIMIT TITLE FUNCTION NAME...: `FUNCTION NAME`, as step has it, of all names beside each other:
# most of their time is the CPU's, for what plain C gives.
steps() {
    title=$2 function=$3
    if ! grant "$1"; then
        shift 3
        undone=$((undone + $#))
        say "$title, $*: $late"
        return
    fi
    shift 3
    for name in "$@"; do
        (
            status=0
            "$function" "$name" >"$build/check-$name.log" 2>&1 || status=$?
            echo "$status $(($(date +%s) - begun))" >"$build/check-$name.done"
        ) &
        eval "process_$name=$!"
    done
    for name in "$@"; do
        eval "wait \$process_$name" || true
        read -r status took <"$build/check-$name.done" || { status=1 took=0; }
        heading "$title: $name"
        cat "$build/check-$name.log" >>"$log" || true
        rm -f "$build/check-$name.done" "$build/check-$name.log"
        count "$title: $name" "$status" "$took" "$first"
    done
}

# What ignores the first signal, as a process that waits for a GPU may, is killed 5 s later.
limited() {
    rest=$((begun + limit - $(date +%s)))
    timeout -k 5 "$((rest > 0 ? rest : 1))" "$@"
}

part() {
    case ,$only, in
        *,all,* | *,"$1",*) return 0 ;;
    esac
    return 1
}

# The table is looked for beside the program that loads it.
place_table() {
    library=libvidloom_${table%%:*}.so
    [ "$library" != libvidloom_cpu.so ] || return 0
    from=$build/$library
    [ -f "$from" ] || from=$build/tests/kernels/$library
    for folder in tests/kernels tests/worker/model tests/parity worker/model; do
        [ "$from" = "$build/$folder/$library" ] || cp "$from" "$build/$folder/" || return 1
    done
}

# The machine code of the card at hand is a third of what is built for all.
architectures() {
    card=
    if [ "${table%%:*}" = cuda ] && command -v nvidia-smi >/dev/null; then
        card=$(nvidia-smi --id="${table##*:}" --query-gpu=compute_cap --format=csv,noheader |
            sed -n 's/^\([0-9]*\)\.\([0-9]*\)$/\1\2-real/p')
    fi
    if [ -n "$card" ]; then
        echo "-DVIDLOOM_CUDA_ARCHITECTURES=$card"
    else
        echo -UVIDLOOM_CUDA_ARCHITECTURES # as the build has it
    fi
}

# What is run, and no more: a warning in anything else is no reason to have no results.
build_all() {
    set -- vidloom_speed vidloom_parity test_model_parity test_model_vae test_model_sampler
    for name in $operations; do
        set -- "$@" "test_kernels_$name"
    done
    [ "${table%%:*}" = cpu ] || set -- "$@" "vidloom_${table%%:*}"
    limited cmake -S . -B "$build" -DCMAKE_BUILD_TYPE=RelWithDebInfo -DVIDLOOM_BARE=ON \
        "-DVIDLOOM_CUDA=$cuda" "$(architectures)" &&
        limited cmake --build "$build" -j "$jobs" --target "$@" && place_table
}

# measure GROUP: of vidloom_speed's, a process each, so that one failure takes no other's figures along.
# What is printed before a failure counts.
measure() {
    limited "$build/worker/model/vidloom_speed" --table "$table" --size "$size" --only "$1" >>"$lines"
}

measure_torch() {
    command -v python3 >/dev/null || { echo "no python3"; return 77; }
    limited python3 ops/gpu/torch_bench.py --size "$size" >>"$lines"
}

check_operation() {
    limited "$build/tests/kernels/test_kernels_$1" "$table"
}

check_model() {
    if [ "$1" = golden ]; then
        limited "$build/tests/parity/parity" tests/parity/golden --table "$table"
    else
        limited "$build/tests/worker/model/test_model_$1" --table "$table"
    fi
}

sanitize() {
    [ "${table%%:*}" = cuda ] || { echo "a table without a GPU"; return 77; }
    command -v compute-sanitizer >/dev/null || { echo "no compute-sanitizer"; return 77; }
    limited compute-sanitizer --tool "$1" --error-exitcode 9 "$build/tests/kernels/test_kernels_$2" "$table"
}

check_memory() {
    sanitize memcheck "$1"
}

check_races() {
    sanitize racecheck "$1"
}

# Packages of the whole build that are not there.
missing_packages() {
    command -v pkg-config >/dev/null || { echo pkg-config; return; }
    for package in libavformat libavcodec libswscale libavutil libzmq libsodium yaml-0.1 sqlite3 \
        sentencepiece libutf8proc; do
        pkg-config --exists "$package" || echo "$package"
    done
}

build_whole() {
    limited cmake -S . -B "$whole" -DCMAKE_BUILD_TYPE=RelWithDebInfo "-DVIDLOOM_CUDA=$cuda" || return 1
    set -- vidloom random_folder
    [ "$cuda" = OFF ] || set -- "$@" "vidloom_${table%%:*}"
    limited cmake --build "$whole" -j "$jobs" --target "$@"
}

measure_video() {
    limited sh ops/gpu/video.sh "$whole" "$table" "$size" >>"$lines"
}

# Clocks and power while it measures: they explain a slow run.
watch_card() {
    command -v nvidia-smi >/dev/null || return 0
    nvidia-smi --id="${table##*:}" --query-gpu=clocks.sm,power.draw,temperature.gpu,utilization.gpu \
        --format=csv,noheader,nounits --loop-ms=500 >"$clocks" 2>/dev/null &
    watcher=$!
}

say_clocks() {
    [ -n "${watcher:-}" ] || return 0
    kill "$watcher" 2>/dev/null || true
    wait "$watcher" 2>/dev/null || true
    # Of the samples at work: builds of plans and weights on the host leave the card idle.
    sort -n "$clocks" | awk -F', ' '
        $4 >= 50 {
            clock[++busy] = $1
            power = $2 > power ? $2 : power
            heat = $3 > heat ? $3 : heat
        }
        END {
            if (busy > 0)
                printf "clocks, %d busy samples of %d: %s to %s MHz, median %s; at most %s W, %s C\n",
                    busy, NR, clock[1], clock[busy], clock[int((busy + 1) / 2)], power, heat
        }' | tee -a "$parts"
}

show_figures() {
    sh ops/gpu/table.sh "$lines"
}

# "card, driver; date, commit" of the report.
stamp() {
    card=$(awk -F '\t' '$1 == "device" { print $4; exit }' "$lines")
    if [ "${table%%:*}" = cuda ] && command -v nvidia-smi >/dev/null; then
        card=$(nvidia-smi --id="${table##*:}" --query-gpu=name,driver_version \
            --format=csv,noheader | sed 's/, /, driver /')
    fi
    echo "${card:-$table}; $(date -u +%F), commit $commit"
}

# The lines between the marks of $report are replaced; a new file has nothing else.
write_report() {
    [ -f "$report" ] || printf '<!-- figures -->\n<!-- end of figures -->\n' >"$report"
    # 1: a figure is less than what is asked, which the report is to show.
    sh ops/gpu/table.sh "$lines" "$(stamp)" >"$build/check-report.txt" || [ $? -eq 1 ] || return 1
    awk -v table="$build/check-report.txt" '
        /^<!-- end of figures -->/ { within = 0; marks++ }
        !within { print }
        /^<!-- figures -->/ {
            within = 1
            marks++
            while ((getline line < table) > 0) print line
        }
        END { exit marks != 2 }
    ' "$report" >"$report.new" && mv "$report.new" "$report" || return 1
    [ -z "${OUT:-}" ] || cp "$report" "$OUT/"
}

mkdir -p "$build" "$home"
: >"$parts"
: >"$lines"
: >"$log"
if command -v nvidia-smi >/dev/null; then
    say "$(nvidia-smi --query-gpu=name,driver_version,clocks.sm,power.limit --format=csv,noheader || true)"
fi
say "commit $commit, $(date -u +%F), table $table"
if part build; then
    step 300 build build_all
fi
if part vectors; then
    # shellcheck disable=SC2086 # a list of names
    steps 90 vectors check_operation $operations
fi
if part bench; then
    watch_card
    for name in denoise vae attention linear; do
        step 120 "bench: $name" measure "$name"
    done
    step 120 "bench: PyTorch" measure_torch
    for name in elementwise conv denoise8; do
        step 120 "bench: $name" measure "$name"
    done
    say_clocks
fi
if part models; then
    steps 120 models check_model parity vae sampler golden
fi
if part memory; then
    # shellcheck disable=SC2086 # a list of names
    steps 300 memory check_memory $operations
    steps 300 races check_races rows norm_linear int8
fi
if part resources && [ "$cuda" = ON ]; then
    step 300 resources limited sh ops/gpu/resources.sh
fi
case ,$only, in
    *,video,*)
        missing=$(missing_packages | tr '\n' ' ')
        if [ -n "$missing" ]; then
            failed=$((failed + 1)) # it was asked for by name
            say "video: FAILED: not on this machine: ${missing}(sh ops/install.sh build)"
        else
            step 600 "video: build" build_whole
            step 600 "video: text to file" measure_video
        fi
        ;;
esac
deadline= # what is left takes no time, and is what the rest was done for
[ -z "$report" ] || step 60 "report: $report" write_report
if [ -s "$lines" ]; then
    step 60 "figures: at least what is asked" show_figures
fi
echo
cat "$parts"
[ ! -s "$lines" ] || show_figures || true
echo "$passed passed, $failed failed, $undone not done"
[ $((failed + undone)) -eq 0 ]

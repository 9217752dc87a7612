#!/bin/sh
# The CUDA table against plain C and against what is asked of it:
#
#     sh ops/gpu/check.sh [--table NAME:INDEX] [--only PART,...] [--size full|small]
#                         [--report FILE] [--commit ID]
#
# Needs nvcc, CMake, ninja or make, a C++ compiler; no network and, but for video, none of the worker's
# libraries.
# PART, with the time to expect on 16 cores and one H200:
#   build      the bare build with the CUDA table and its tests; 2 minutes
#   resources  registers and spills of attention against ops/gpu/resources.txt; 20 seconds
#   vectors    every operation's tests over the table; 1 minute
#   models     text encoder, transformer, VAE, samplers and whole requests against the tensors that the
#              published classes gave; 1 minute
#   bench      speed at Wan2.1's shapes with random weights beside the machine's ceilings, and PyTorch
#              on the same shapes where it is installed; 2 minutes
#   memory     the operations' tests under compute-sanitizer's memcheck, where it is installed; 4 minutes
#   video      text to encoded file by the whole program (video.sh): not part of all, as it needs
#              ops/install.sh build's packages beside nvcc; 6 minutes, half of it the build
# --report puts the figures into FILE, between its two marks (ops/gpu/RESULTS.md); a figure that was not
# measured is "compiled, not yet run" there. --commit: where there is no git to ask.
# Tables for machines without a GPU, so that this script is tested too: cpu:0 and walled:0 (neither
# needs nvcc; bench with --size small), emulated:0, emulated:1 (of Hopper's kind) and
# emulated:3 (of Ada's); slow.
# Ends with one table and "N passed, N failed"; the exit status is 1 when one failed.
set -eu
cd "$(dirname "$0")/../.."
PATH=$PATH:/usr/local/cuda/bin
table=cuda:0
only=all
size=full
report=
commit=$(git rev-parse --short HEAD 2>/dev/null || echo unknown)
while [ $# -gt 1 ]; do
    case $1 in
        --table) table=$2 ;;
        --only) only=$2 ;;
        --size) size=$2 ;;
        --report) report=$2 ;;
        --commit) commit=$2 ;;
        *) echo "check.sh: what is $1?" >&2; exit 2 ;;
    esac
    shift 2
done
[ $# -eq 0 ] || { echo "check.sh: $1 wants a value" >&2; exit 2; }
for name in $(echo "$only" | tr , ' '); do
    case $name in
        all | build | resources | vectors | models | bench | memory | video) ;;
        *) echo "check.sh: there is no part '$name'" >&2; exit 2 ;;
    esac
done
case $size in
    full | small) ;;
    *) echo "check.sh: there is no size '$size': full or small" >&2; exit 2 ;;
esac
case ${table%%:*} in
    cpu | walled) build=build-bare whole=build cuda=OFF ;;
    *) build=build-cuda-bare whole=build-cuda cuda=ON ;;
esac
operations="rows layout linear int8 f8 norm_linear conv attention attention8"
jobs=$(nproc)
passed=0
failed=0
lines=$build/check-figures.txt # "key<TAB>value<TAB>unit<TAB>what"
parts=$build/check-parts.txt   # what was done, for the table at the end

say() {
    echo "$1" | tee -a "$parts"
}

# step NAME COMMAND...: run, count, show the end of a failure's output.
step() {
    title=$1
    shift
    begun=$(date +%s)
    if "$@" >"$build/check.log" 2>&1; then
        passed=$((passed + 1))
        say "$title: passed, $(($(date +%s) - begun)) s"
    else
        failed=$((failed + 1))
        tail -n 30 "$build/check.log"
        say "$title: FAILED, $(($(date +%s) - begun)) s"
    fi
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

build_all() {
    cmake -S . -B "$build" -DCMAKE_BUILD_TYPE=RelWithDebInfo -DVIDLOOM_BARE=ON "-DVIDLOOM_CUDA=$cuda" &&
        cmake --build "$build" -j "$jobs" && place_table
}

# What is printed before a failure counts.
measure_ours() {
    timeout 300 "$build/worker/model/vidloom_speed" --table "$table" --size "$size" >>"$lines"
}

measure_torch() {
    timeout 240 python3 ops/gpu/torch_bench.py --size "$size" >>"$lines"
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
    cmake -S . -B "$whole" -DCMAKE_BUILD_TYPE=RelWithDebInfo "-DVIDLOOM_CUDA=$cuda" || return 1
    set -- vidloom random_folder
    [ "$cuda" = OFF ] || set -- "$@" "vidloom_${table%%:*}"
    cmake --build "$whole" -j "$jobs" --target "$@"
}

measure_video() {
    timeout 600 sh ops/gpu/video.sh "$whole" "$table" "$size" >>"$lines"
}

# Clocks and power while it measures: they explain a slow run.
watch_card() {
    command -v nvidia-smi >/dev/null || return 0
    nvidia-smi --id="${table##*:}" --query-gpu=clocks.sm,power.draw,temperature.gpu \
        --format=csv,noheader,nounits --loop-ms=500 >"$build/check-clocks.txt" 2>/dev/null &
    watcher=$!
}

say_clocks() {
    [ -n "${watcher:-}" ] || return 0
    kill "$watcher" 2>/dev/null || true
    wait "$watcher" 2>/dev/null || true
    sort -n "$build/check-clocks.txt" | awk -F', ' '
        { clock[NR] = $1; power = $2 > power ? $2 : power; heat = $3 > heat ? $3 : heat }
        END {
            if (NR > 0)
                printf "clocks while measuring: %s to %s MHz, median %s; at most %s W, %s C\n",
                    clock[1], clock[NR], clock[int((NR + 1) / 2)], power, heat
        }' | tee -a "$parts"
}

show_figures() {
    sh ops/gpu/table.sh "$lines"
}

# "card, driver; date, commit" of the report.
stamp() {
    card=$(awk -F '\t' '$1 == "device" { print $4 }' "$lines")
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
    ' "$report" >"$report.new" && mv "$report.new" "$report"
}

mkdir -p "$build"
: >"$parts"
: >"$lines"
if command -v nvidia-smi >/dev/null; then
    say "$(nvidia-smi --query-gpu=name,driver_version,clocks.sm,power.limit --format=csv,noheader || true)"
fi
say "commit $commit, $(date -u +%F), table $table"
if part build; then
    step build build_all
fi
if part resources && [ "$cuda" = ON ]; then
    step resources sh ops/gpu/resources.sh
fi
if part vectors; then
    for name in $operations; do
        step "vectors: $name" timeout 300 "$build/tests/kernels/test_kernels_$name" "$table"
    done
fi
if part models; then
    for name in parity vae sampler; do
        step "models: $name" timeout 600 "$build/tests/worker/model/test_model_$name" \
            --table "$table"
    done
    step "models: golden" timeout 600 "$build/tests/parity/parity" tests/parity/golden \
        --table "$table"
fi
if part bench; then
    watch_card
    step "bench: ours" measure_ours
    step "bench: PyTorch" measure_torch
    say_clocks
fi
if part memory; then
    for name in $operations; do
        if command -v compute-sanitizer >/dev/null && [ "${table%%:*}" = cuda ]; then
            step "memory: $name" timeout 300 compute-sanitizer --error-exitcode 9 \
                "$build/tests/kernels/test_kernels_$name" "$table"
        else
            say "memory: $name: skipped: no compute-sanitizer, or a table without a GPU"
        fi
    done
fi
case ,$only, in
    *,video,*)
        missing=$(missing_packages | tr '\n' ' ')
        if [ -n "$missing" ]; then
            failed=$((failed + 1)) # it was asked for by name
            say "video: FAILED: not on this machine: ${missing}(sh ops/install.sh build)"
        else
            step "video: build" build_whole
            step "video: text to file" measure_video
        fi
        ;;
esac
[ -z "$report" ] || step "report: $report" write_report
if [ -s "$lines" ]; then
    step "figures: at least what is asked" show_figures
fi
echo
cat "$parts"
[ ! -s "$lines" ] || show_figures || true
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]

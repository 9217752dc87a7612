#!/bin/sh
# The CUDA table against plain C: sh ops/gpu/check.sh [--table NAME:INDEX] [--only PART]
# Needs nvcc, CMake, ninja or make, a C++ compiler; no network and none of the worker's libraries.
# PART, with the time to expect on 16 cores:
#   build      the bare build with the CUDA table and its tests; 2 minutes
#   resources  registers and spills of attention against ops/gpu/resources.txt; 20 seconds
#   vectors    every operation's tests over the table; 1 minute
#   models     text encoder, transformer, VAE, samplers and whole requests against the tensors that the
#              published classes gave; 1 minute
#   memory     the operations' tests under compute-sanitizer's memcheck, where it is installed; 4 minutes
# Tables for machines without a GPU, so that this script is tested too: cpu:0 and walled:0 (neither
# needs nvcc), emulated:0 and emulated:1 (of Hopper's kind; slow). Ends with "N passed, N failed"; the exit status is 1 when one
# failed.
set -eu
cd "$(dirname "$0")/../.."
PATH=$PATH:/usr/local/cuda/bin
table=cuda:0
only=all
while [ $# -gt 1 ]; do
    case $1 in
        --table) table=$2 ;;
        --only) only=$2 ;;
        *) echo "check.sh: what is $1?" >&2; exit 2 ;;
    esac
    shift 2
done
[ $# -eq 0 ] || { echo "check.sh: $1 wants a value" >&2; exit 2; }
case $only in
    all | build | resources | vectors | models | memory) ;;
    *) echo "check.sh: there is no part '$only'" >&2; exit 2 ;;
esac
case ${table%%:*} in
    cpu | walled) build=build-bare cuda=OFF ;;
    *) build=build-cuda-bare cuda=ON ;;
esac
jobs=$(nproc)
passed=0
failed=0

# step NAME COMMAND...: run, count, show the end of a failure's output.
step() {
    title=$1
    shift
    begun=$(date +%s)
    if "$@" >"$build/check.log" 2>&1; then
        passed=$((passed + 1))
        echo "$title: passed, $(($(date +%s) - begun)) s"
    else
        failed=$((failed + 1))
        tail -n 30 "$build/check.log"
        echo "$title: FAILED, $(($(date +%s) - begun)) s"
    fi
}

part() {
    [ "$only" = all ] || [ "$only" = "$1" ]
}

# The table is looked for beside the program that loads it.
place_table() {
    library=libvidloom_${table%%:*}.so
    [ "$library" != libvidloom_cpu.so ] || return 0
    from=$build/$library
    [ -f "$from" ] || from=$build/tests/kernels/$library
    for folder in tests/kernels tests/worker/model tests/parity; do
        [ "$from" = "$build/$folder/$library" ] || cp "$from" "$build/$folder/" || return 1
    done
}

build_all() {
    cmake -S . -B "$build" -DCMAKE_BUILD_TYPE=RelWithDebInfo -DVIDLOOM_BARE=ON "-DVIDLOOM_CUDA=$cuda" &&
        cmake --build "$build" -j "$jobs" && place_table
}

mkdir -p "$build"
if command -v nvidia-smi >/dev/null; then
    nvidia-smi --query-gpu=name,driver_version,clocks.sm,power.limit --format=csv,noheader || true
fi
echo "commit $(git rev-parse --short HEAD 2>/dev/null || echo unknown), $(date -u +%F), table $table"
if part build; then
    step build build_all
fi
if part resources && [ "$cuda" = ON ]; then
    step resources sh ops/gpu/resources.sh
fi
for name in rows layout linear int8 conv attention; do
    program=$build/tests/kernels/test_kernels_$name
    if part vectors; then
        step "vectors: $name" timeout 300 "$program" "$table"
    fi
    if part memory; then
        if command -v compute-sanitizer >/dev/null && [ "${table%%:*}" = cuda ]; then
            step "memory: $name" timeout 300 compute-sanitizer --error-exitcode 9 "$program" "$table"
        else
            echo "memory: $name: skipped: no compute-sanitizer, or a table without a GPU"
        fi
    fi
done
if part models; then
    for name in parity vae sampler; do
        step "models: $name" timeout 600 "$build/tests/worker/model/test_model_$name" \
            --table "$table"
    done
    step "models: golden" timeout 600 "$build/tests/parity/parity" tests/parity/golden \
        --table "$table"
fi
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]

#!/bin/sh
# What the kernels on tensor cores take of the machine, by ptxas: sh ops/gpu/resources.sh [NVCC]
# Prints a line for each kernel and architecture and compares them with ops/gpu/resources.txt:
# no kernel may spill; the other numbers must be the table's, when nvcc is the table's. Where there is
# cuobjdump (not in every toolkit), the machine code of Hopper's attention must have its softmax before the
# wait for the second product, which the assembler may move.
# "sh ops/gpu/resources.sh > ops/gpu/resources.txt" after a change that is meant.
set -eu
cd "$(dirname "$0")/../.."
nvcc=${1:-nvcc}
table=ops/gpu/resources.txt
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# report FILE ARCHITECTURE: a line for each kernel.
report() {
    "$nvcc" -std=c++17 -O3 -Xptxas -v -I. -Ikernels/cuda -gencode "arch=compute_$2,code=sm_$2" \
        -cubin -o "$work/cubin" "kernels/cuda/$1.cu" 2>"$work/log" || { cat "$work/log" >&2; exit 1; }
    awk -v file="$1" -v arch="$2" '
        /Compiling entry function/ {
            type = /kernelI4bf16/ ? "bf16" : /kernelI3f16/ ? "f16" : /kernelIf/ ? "f32" : /kernelI2i8/ ? "i8" : /kernelI7f8_e4m3/ ? "f8" : "-"
            match($0, /_Z[0-9]+/)
            name = substr($0, RSTART + RLENGTH, substr($0, RSTART + 2, RLENGTH - 2))
            sub(/_kernel$/, "", name)
            what = /Li128E/ ? "128" : /Li64E/ ? "64" : name
        }
        /bytes spill stores/ { stack = $1; stores = $5; loads = $9 }
        /Used [0-9]+ registers/ {
            printf "%s sm_%s %s %s: %s registers, %s bytes of stack, %s stored, %s loaded by spills\n",
                file, arch, type, what, $5, stack, stores, loads
        }
        /C7514|serialized/ { printf "%s sm_%s: products are serialized\n", file, arch }
    ' "$work/log" | sort
}

# overlap FILE: a line where a kernel waits for both products before its softmax.
overlap() {
    command -v cuobjdump >/dev/null || {
        echo "resources: there is no cuobjdump: not checked that attention's softmax overlaps" >&2
        return 0
    }
    cuobjdump -sass "$work/cubin" | awk -v file="$1" '
        /DEPBAR.LE gsb0, 0x1/ { between = 1; exponentials = 0 }
        /MUFU.EX2/ { exponentials++ }
        /DEPBAR.LE gsb0, 0x0/ && between {
            if (exponentials < 32) print file ": the softmax does not overlap with the product"
            between = 0
        }
    '
}

{
    "$nvcc" --version | sed -n 's/^Cuda compilation tools, /nvcc /p'
    for file in attention_any attention_sm80 attention_wide attention8_sm80 attention8 int8 rounding; do
        for arch in 80 90 120; do
            report "$file" "$arch"
        done
    done
    for file in attention_sm90 attention8_sm90 int8_sm90; do
        report "$file" 90a
        [ "$file" != attention_sm90 ] || overlap "$file"
    done
} | tee "$work/now"

if grep -Ev ' 0 stored, 0 loaded|^nvcc' "$work/now" >&2; then
    echo "resources: a kernel spills, or waits where it need not" >&2
    exit 1
fi
[ -s "$table" ] || exit 0
if [ "$(head -n 1 "$table")" != "$(head -n 1 "$work/now")" ]; then
    echo "resources: the table is of another nvcc: only spills were checked" >&2
elif ! diff "$table" "$work/now" >&2; then
    echo "resources: not what $table says" >&2
    exit 1
fi

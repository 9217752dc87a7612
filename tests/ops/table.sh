#!/bin/sh
# ops/gpu/table.sh: shares of the largest rival, what is met, what is not, and the report's words for
# what was not measured. sh table.sh SOURCE
set -u
table=$1/ops/gpu/table.sh
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

# expect STATUS FRAGMENT [STAMP]: of the lines in $work/lines.
expect() {
    status=0
    sh "$table" "$work/lines" ${3:+"$3"} >"$work/out" || status=$?
    if [ "$status" -ne "$1" ] || ! grep -qE -- "$2" "$work/out"; then
        failed=$((failed + 1))
        echo "FAILED: exit status $status, expected $1 and '$2':"
        cat "$work/out"
    fi
}

lines() {
    printf 'size\tfull\n' >"$work/lines"
    # shellcheck disable=SC2059 # a format is what it gets
    printf "$1" >>"$work/lines"
}

lines 'attention_128\t680\tTFLOP/s\nmatmul\t700\tTFLOP/s\nvae_decode\t0.7\ts\n'
expect 0 '^attention bf16, 12 .* 680 TFLOP/s +0.90 +1.05 $' # no rival, no judgement
expect 0 '^Wan2.1 VAE decode.* 0.7 .* aim$'
lines 'attention_128\t680\tTFLOP/s\ntorch_sdpa_128_flash\t600\t-\ntorch_sdpa_128_cudnn\t700\t-\n'
expect 0 ' 680 TFLOP/s +700 +0.97 .* ok$'
expect 0 '\| 680 TFLOP/s \| 700 \| 0.97 \| 0.90 \| 1.05 \| H200; today \|' 'H200; today'
expect 0 '^\| 1.3B, 4 steps.*\| compiled, not yet run \|.*\| 2.2 \| 1.7 \|' 'H200; today'
lines 'attention_128\t500\tTFLOP/s\ntorch_sdpa_128_cudnn\t700\t-\n'
expect 1 ' 0.71 .* LESS$'
lines 'denoise\t2.3\ts\n'
expect 1 ' 2.3 .* LESS$'
printf 'size\tsmall\ndenoise\t9\ts\ta small one\n' >"$work/lines"
expect 0 '^a small one .* 9 '
[ "$failed" -eq 0 ] && echo "all as expected"

#!/bin/sh
# Compare vidloom's text path with the live reference on a fresh corpus: sh tests/parity/text.sh [--seed N] [--count N]
# A line each for cleaning and for every tokenizer, with the number of texts that differ; exit status 1 if any does.
# `text.sh golden` writes the golden files that ctest reads. The first run installs the reference (no torch) into a
# virtual environment under build/.
set -eu
cd "$(dirname "$0")/../.."
what=compare
if [ "${1:-}" = golden ]; then
    what=golden
    shift
fi
venv=build/text-venv
work=build/text-parity
if [ ! -f $venv/ready ]; then
    python3 -m venv $venv
    $venv/bin/pip install --quiet ftfy==6.3.1 regex sentencepiece==0.2.3 protobuf transformers==5.24.0 tokenizers==0.23.3
    $venv/bin/pip install --quiet --no-deps diffusers==0.42.1
    touch $venv/ready
fi
[ -f build/build.ninja ] || cmake --preset release >/dev/null
cmake --build build --target text_probe -- --quiet
exec $venv/bin/python tests/parity/text_compare.py $what --probe build/tests/worker/model/text_probe --work $work "$@"

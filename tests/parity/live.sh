#!/bin/sh
# The comparison with the reference, afresh:
#
#   sh tests/parity/live.sh [--seed N] [--only NAME] [--width D --heads H --layers L --frames F --size WxH]
#
# Makes random models of every published kind at these shapes with the pinned reference (in a virtual environment
# of its own, which the first run installs: some GB), runs our code over them in f32 and bf16, prints a line a
# case with its relative error and bound, and exits 1 if one is over. NAME is a model (umt5, clip, t2v, i2v, flf2v,
# ti2v, t2v-a14b, i2v-a14b) or a part of a case's name (transformer, lora, trajectory, decode, euler, …).
# Everything it makes is under build/. With --golden it makes the committed cases again instead.
set -eu
cd "$(dirname "$0")/../.."
venv=build/parity/venv wanted=tests/parity/requirements.txt out=build/parity/live
if ! cmp -s "$wanted" "$venv/installed.txt"; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --requirement "$wanted"
    cp "$wanted" "$venv/installed.txt"
fi
if [ "${1:-}" = --golden ]; then
    exec "$venv/bin/python" tests/parity/make.py --golden --out tests/parity/golden
fi
only=
for argument; do
    [ "$only" = next ] && only=$argument
    [ "$argument" = --only ] && only=next
done
"$venv/bin/python" tests/parity/make.py --out "$out" "$@"
[ -f build/build.ninja ] || cmake --preset release >/dev/null
cmake --build build --target vidloom_parity >/dev/null
exec build/tests/parity/parity "$out" ${only:+--only "$only"}

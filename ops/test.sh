#!/bin/sh
# Install, build, run every test: sh ops/test.sh [ctest argument...]
# Ends with ctest's line of counts; the exit status is ctest's.
set -eu
cd "$(dirname "$0")/.."

sh ops/install.sh build test
if [ ! -f build/build.ninja ]; then
    cmake --preset release >/dev/null
fi
cmake --build build -- --quiet
exec ctest --test-dir build --parallel "$(nproc)" --output-on-failure "$@"

#!/bin/sh
# From nothing to video: install, build, run configs/jobs/demo.yaml.
#   sh ops/demo.sh
# Ends with where the files are, how long each took, and how that compares with real time. A second
# run builds nothing and makes nothing again: the job is done.
set -eu
cd "$(dirname "$0")/.."

sh ops/install.sh build
if [ ! -f build/build.ninja ]; then
    cmake --preset release >/dev/null
fi
echo "building in build/"
cmake --build build --target vidloom -- --quiet
exec build/vidloom run configs/jobs/demo.yaml

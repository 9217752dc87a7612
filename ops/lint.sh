#!/bin/bash
# The linters, over every C file of ours: bash ops/lint.sh [BUILD]
# BUILD is a configured build folder with compile_commands.json (default: build). Ends with
# "N passed, N failed"; the exit status is 1 when one failed.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
build=${1:-build}
jobs=$(nproc)
passed=0
failed=0

mapfile -t sources < <(git ls-files --cached --others --exclude-standard -- '*.c')
mapfile -t headers < <(git ls-files --cached --others --exclude-standard -- '*.h')
mapfile -t scripts < <(git ls-files --cached --others --exclude-standard -- '*.sh' .ci/run)

# check NAME COMMAND...: run, count, show the output of a failure.
check() {
    local name=$1 output
    shift
    if output=$("$@" 2>&1); then
        passed=$((passed + 1))
        echo "lint: $name: passed"
    else
        failed=$((failed + 1))
        printf '%s\n' "$output" | tail -n 200
        printf '%s\n' "$output" | grep -E '(error|warning):' # again in short: some have long traces
        echo "lint: $name: FAILED"
    fi
}

format() {
    clang-format --dry-run -Werror "${sources[@]}" "${headers[@]}"
}

# Only files that this build compiles: clang-tidy needs their flags.
tidy() {
    local compiled
    mapfile -t compiled < <(for source in "${sources[@]}"; do
        grep -q "\"file\": \".*/$source\"" "$build/compile_commands.json" && echo "$source"
    done)
    printf '%s\0' "${compiled[@]}" |
        xargs -0 -P "$jobs" -n 4 clang-tidy --quiet -p "$build" --warnings-as-errors='*'
}

analyse() {
    cppcheck --quiet --error-exitcode=1 -j "$jobs" --std=c11 --language=c --inline-suppr \
        --enable=warning,performance,portability --suppress=missingIncludeSystem \
        --suppress=normalCheckLevelMaxBranches -D_GNU_SOURCE -DVIDLOOM_VERSION='"lint"' -I. \
        "${sources[@]}"
}

manual() {
    diff -u ops/vidloom.1 <("$build/vidloom" help --man)
}

check clang-format format
check clang-tidy tidy
check cppcheck analyse
check shellcheck shellcheck -x "${scripts[@]}"
[ -x "$build/vidloom" ] && check "manual page" manual

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]

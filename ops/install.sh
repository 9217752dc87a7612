#!/bin/sh
# Install the Debian packages that vidloom needs: sh ops/install.sh [build] [test] [lint]
# Without arguments: build. Calls apt only when something is missing; needs root only then.
set -eu

folder=$(cd "$(dirname "$0")" && pwd)
missing=

for group in "${@:-build}"; do
    packages=$(sed -n "s/^$group //p" "$folder/packages.txt")
    if [ -z "$packages" ]; then
        echo "install.sh: there is no group '$group' in ops/packages.txt" >&2
        exit 2
    fi
    for package in $packages; do
        status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
        [ "$status" = installed ] || missing="$missing $package"
    done
done

[ -n "$missing" ] || exit 0

echo "install.sh: installing$missing"
if [ "$(id -u)" -ne 0 ]; then
    echo "install.sh: not root; run: apt-get install$missing" >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
# The lists of a fresh machine are empty or old: get them only when the packages are not found.
# shellcheck disable=SC2086 # a list of words is meant
if ! apt-get install -qq -y --no-install-recommends $missing >/dev/null 2>&1; then
    apt-get update -qq
    apt-get install -qq -y --no-install-recommends $missing >/dev/null
fi

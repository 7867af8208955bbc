#!/usr/bin/env bash
# The demo: publishes a real git repository into an embedded Walrus, mounts it as a
# folder, lists and reads it, compares it with its checkout, and unmounts it.
set -euo pipefail

bin=$(realpath "$1")
repo=${2:-$(git rev-parse --show-toplevel 2>/dev/null || true)}
# shellcheck source=stage.sh
. "$(dirname "$0")/stage.sh"
stage demo

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
run() { printf '$ %s\n' "${*//$work/\~}"; "$@"; }
fs() { printf '$ walgit-fs %s\n' "${*//$work/\~}"; "$bin" "$@"; }

if [ -z "$repo" ]; then # not in a clone: use a generated history
    repo=$work/repo
    git init -q "$repo"
    cp -r src README.md Cargo.toml "$repo"
    git -C "$repo" add -A
    git -C "$repo" -c user.name=demo -c user.email=demo@localhost commit -qm "The sources of walgit-fs"
fi

say "An embedded Walrus, 25 ms away"
start_devnet --latency-ms 25
echo "$url"
export WALGIT_FS_AGGREGATOR=$url WALGIT_FS_PUBLISHER=$url

say "Publish a git repository"
fs publish "$repo" --name demo

say "Mount it"
fs mount demo "$work/mnt"

say "Browse it"
run ls "$work/mnt"
run head -n 5 "$work/mnt/README.md"
requests=$(grep -c '^GET' "$work/requests" || true)
echo "  … $requests requests to Walrus so far"

say "Compare it with a checkout"
git -C "$repo" archive --format=tar HEAD | (mkdir "$work/checkout" && tar -xf - -C "$work/checkout")
run diff -r "$work/checkout" "$work/mnt"
echo "no difference in $(find "$work/checkout" -type f | wc -l) files"

say "Statistics"
fs status
fs log demo -n 5

say "Unmount it"
fs unmount "$work/mnt"
[ -z "$(ls -A "$work/mnt")" ]
echo
echo "demo: done"

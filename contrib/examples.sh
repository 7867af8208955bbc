#!/usr/bin/env bash
# Runs the examples of all crates. Each must succeed and print something.
#
# usage: examples.sh DIR, where DIR holds the compiled examples
set -euo pipefail
dir=$(realpath "$1")
cd "$(dirname "$0")/.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

for source in crates/*/examples/*.rs; do
    name=$(basename "$source" .rs)
    # The usage line names the only argument, if any: an existing FILE or DIR, a new LOG.
    args=()
    case "$(grep -m 1 '^//! usage:' "$source" || true)" in
    *FILE)
        cp README.md "$scratch/$name"
        args=("$scratch/$name")
        ;;
    *LOG) args=("$scratch/$name.log") ;;
    *DIR) args=("$(mktemp -d "$scratch/XXXXXX")") ;;
    esac
    if ! said=$("$dir/$name" "${args[@]}" 2>&1) || [ -z "$said" ]; then
        echo "examples: $source failed: $said" >&2
        exit 1
    fi
    echo "$source: $(echo "$said" | head -n 1)"
done

#!/usr/bin/env bash
# Fuzzes every decoder for a limited time, guided by coverage, on the stable
# compiler. Starts with the inputs in fuzz/corpus.
#
# usage: contrib/fuzz.sh [SECONDS] [--keep]
#   SECONDS  for each decoder; default 30
#   --keep   add a minimal set of inputs that reach new code to fuzz/corpus
set -euo pipefail
cd "$(dirname "$0")/../fuzz"
seconds=${1:-30}
keep=${2:-}
most=100 # inputs kept per check, the shortest
flags="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4"
flags="$flags -Cllvm-args=-sanitizer-coverage-inline-8bit-counters"
flags="$flags -Cllvm-args=-sanitizer-coverage-pc-table -Ccodegen-units=1"
target=${CARGO_TARGET_DIR:-target}/fuzz
# Naming the target keeps the flags from build scripts.
host=$(rustc -vV | sed -n 's/^host: //p')
RUSTFLAGS="$flags" CARGO_TARGET_DIR="$target" cargo build --release --quiet --target "$host"
work=$(realpath "$target")/corpus
program=$target/$host/release/fuzz
for inputs in corpus/*; do # the tests ensure that every check has inputs
    name=$(basename "$inputs")
    export CHECK=$name
    mkdir -p "$work/$name"
    said=$(mktemp)
    # Small inputs suffice to trigger decoder bugs, and keep the corpus small.
    "$program" -max_total_time="$seconds" -max_len=4096 -rss_limit_mb=512 -timeout=10 -verbosity=0 \
        -print_final_stats=1 -artifact_prefix="$work/crash-$name-" "$work/$name" "corpus/$name" \
        >"$said" 2>&1 || {
        cat "$said"
        echo "fuzz: $name failed; the input is $(ls "$work/crash-$name-"* 2>/dev/null)" >&2
        exit 1
    }
    stat() { sed -n "s/^stat::$1: *//p" "$said"; }
    echo "fuzz: $name passed $(stat number_of_executed_units) inputs in $seconds s," \
        "$(stat new_units_added) reached new code, $(stat peak_rss_mb) MB"
    rm "$said"
    if [ "$keep" = --keep ]; then
        few=$(mktemp -d)
        "$program" -set_cover_merge=1 -use_counters=0 -max_len=4096 -verbosity=0 "$few" "corpus/$name" "$work/$name" >/dev/null 2>&1
        # Seeds written by hand stay.
        find "corpus/$name" -type f ! -name 'seed-*' -delete
        ls -Sr "$few" | head -n "$most" | (cd "$few" && xargs -r cp -n -t "$OLDPWD/corpus/$name")
        rm -r "$few"
        echo "fuzz: $name keeps $(find "corpus/$name" -type f | wc -l) inputs," \
            "$(du -sb "corpus/$name" | cut -f1) bytes"
    fi
done

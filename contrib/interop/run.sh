#!/usr/bin/env bash
# Third-party Walrus clients store and read through `walgit-fs devnet`:
#
#   @mysten/walrus   the official SDK: its encoder must yield the same blob IDs,
#                    quilts and patch IDs, and its reader must read quilts of
#                    walgit-fs
#   sui-graphql-macros  contains the schema of the Sui chain, which must cover all
#                    queries of walgit-fs
#   walrus-python    a client of the HTTP API: all its calls, and errors
#
# usage: run.sh PROGRAM DIR; installs the clients into DIR.
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

# Versions known to match the current network.
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

# Node resolves packages relative to the script.
cp "$here/client.mjs" "$dir/client.mjs"
node "$dir/client.mjs" "$url" "$bin"
"$dir/venv/bin/python" "$here/client.py" "$url"
cargo run --quiet --manifest-path "$here/schema/Cargo.toml" --target-dir "$dir/schema"
echo "interop: done"

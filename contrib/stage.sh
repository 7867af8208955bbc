# Sourced by demo scripts: a temporary directory, state that is separate from the
# user's, and an embedded Walrus. Needs $bin and a name.

stage() { # stage NAME: sets $work
    work=$(mktemp -d "${TMPDIR:-/tmp}/walgit-fs-$1.XXXXXX")
    devnet=""
    trap leave_stage EXIT
    export XDG_CONFIG_HOME=$work/config XDG_DATA_HOME=$work/data XDG_CACHE_HOME=$work/cache
    export XDG_STATE_HOME=$work/state XDG_RUNTIME_DIR=$work/run
    mkdir -m 700 "$work/run"
    mkdir "$work/mnt"
}

leave_stage() {
    "$bin" unmount "$work/mnt" --lazy >/dev/null 2>&1 || true
    [ -z "$devnet" ] || kill "$devnet" 2>/dev/null || true
    rm -rf "$work"
}

start_devnet() { # start_devnet ARGUMENT…: sets $url; logs requests to $work/requests
    "$bin" devnet --dir "$work/walrus" --listen 127.0.0.1:0 --log-requests "$@" \
        >"$work/requests" 2>/dev/null &
    devnet=$!
    for _ in $(seq 100); do
        url=$(sed -n 's/^listening on //p' "$work/requests")
        [ -n "$url" ] && return
        sleep 0.05
    done
    echo "the embedded Walrus did not start" >&2
    return 1
}

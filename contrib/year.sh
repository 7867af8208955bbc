#!/usr/bin/env bash
# Simulates a year: publishes a git repository every week into an embedded Walrus
# with epochs of two weeks, renews needed blobs, collects unreferenced ones, and
# verifies the result.
set -euo pipefail

bin=$(realpath "$1")
weeks=${2:-52}
# shellcheck source=stage.sh
. "$(dirname "$0")/stage.sh"
stage year
start_devnet
mkdir -p "$work/config/walgit-fs"
# Replaced heads are not retained: the system clock does not follow the simulated
# year.
cat >"$work/config/walgit-fs/config.toml" <<END
network = "year"
[networks.year]
aggregators = ["$url"]
publishers = ["$url"]
admin = "$url"
epochs = 3
[networks.year.price]           # as on mainnet
storage = 0.0105794
[retention]
default_days = 0
rules = []
END

repo=$work/repo
git init -q -b main "$repo"
commit() {
    git -C "$repo" add -A
    git -C "$repo" -c user.name=Ada -c user.email=ada@example.org commit -qm "$1"
}
mkdir "$repo/src"
for n in $(seq 60); do
    seq "$n" 7 2000 | sed "s/^/line of file $n, number /" >"$repo/src/file$n.txt"
done
commit "The beginning"

# Extracts a number from the JSON output of a command.
number() { grep -o "\"$1\": *[0-9.e-]*" | head -n 1 | sed 's/.*: *//'; }

printf '%5s %6s %6s %14s %9s %9s %11s %11s\n' \
    week epoch blobs billed new renewed collected "spent (USD)"
spent=0
for week in $(seq "$weeks"); do
    echo "written in week $week" >>"$repo/src/file$((week % 60 + 1)).txt"
    seq "$week" 3 900 >"$repo/src/week$week.txt"
    commit "Week $week"
    told=$("$bin" publish "$repo" --name it --json)
    new=$(number bytes_billed <<<"$told")
    cost=$(sed -n 's/.*"cost": "\([0-9.e-]*\) .*/\1/p' <<<"$told")
    if ((week % 8 == 0)); then # compact eight publishes
        told=$("$bin" compact it --force --json)
        cost="$cost + $(number bytes_billed <<<"$told") / 1000000000 * 3 * 0.0105794"
    fi
    renewed=0 collected=0
    if ((week % 2 == 0)); then # an epoch ends
        collected=$("$bin" gc --grace 0s --json | number billed)
        told=$("$bin" renew --json)
        renewed=$(number renewed <<<"$told")
        cost="$cost + $(number spent <<<"$told")"
        "$bin" debug epoch --advance 1 --force >/dev/null
    fi
    spent=$(awk "BEGIN { print $spent + $cost }")
    if ((week % 4 == 0 || week == 1)); then
        told=$("$bin" cost it --json)
        printf '%5s %6s %6s %14s %9s %9s %11s %11.4f\n' "$week" \
            "$("$bin" debug epoch --json | number epoch)" "$(number blobs <<<"$told")" \
            "$(number billed <<<"$told")" "$((new / 1000000)) MB" "$renewed" \
            "$((${collected:-0} / 1000000)) MB" "$spent"
    fi
done

echo
"$bin" fsck it --remote
"$bin" mount it "$work/mnt"
diff -r --exclude .git "$repo" "$work/mnt"
files=$(git -C "$repo" ls-files | wc -l)
echo "$files files, identical to the checkout; $(ls "$work/mnt/.walgit/commits" | wc -l) commits"
alone=$(awk "BEGIN { print $files * 66.034 / 1000 * 0.0105794 * $weeks / 2 }")
echo "spent $spent USD in $weeks weeks; one blob per file, newest files only: $alone USD"
"$bin" unmount "$work/mnt"

#!/bin/sh
# Build a preset, and say so in one line: build.sh PRESET JOBS [TARGET...]. On a terminal the line shows the progress.
# What the compiler says is shown when the build fails, and kept in build/PRESET/build.log.
set -eu

preset=$1
jobs=$2
shift 2
cd "$(dirname "$0")/.."
log=build/$preset/build.log
[ -t 1 ] && terminal=1 || terminal=0
[ $# -eq 0 ] || set -- --target "$@"

began=$(date +%s)
{
    cmake --build --preset "$preset" -j "$jobs" "$@" 2>&1 && echo 0 >"$log.status" || echo $? >"$log.status"
} | tee "$log" | awk -v preset="$preset" -v terminal="$terminal" '
    function say(text) { printf terminal ? "\r\033[K%s" : "%s\n", text; fflush() }
    / (Building|Linking) / {
        if (!said++) say("Building " preset " ...")
        if (terminal) { percent = $0; sub(/\].*/, "", percent); sub(/^\[ */, "", percent); say("Building " preset ": " percent) }
    }
    END { if (said && terminal) printf "\r\033[K" }'
status=$(cat "$log.status")
rm -f "$log.status"
if [ "$status" != 0 ]; then
    grep -Ev '^\[ *[0-9]+%\]|^(gmake|make)(\[[0-9]+\])?: ' "$log" >&2 || true
    echo "build.sh: building $preset failed; all of it is in $log" >&2
    exit "$status"
fi
took=$(($(date +%s) - began))
[ "$took" -lt 3 ] || echo "Built $preset in ${took} s"

#!/bin/sh
# Run clang-tidy over the sources in some folders, and show its warnings: tidy.sh TOOL JOBS FOLDER... The commands are
# those of the clang preset, which has to be configured; .clang-tidy has the checks. Exit status: 0; 1 with warnings.
set -eu

tool=$1
jobs=$2
shift 2
cd "$(dirname "$0")/.."
log=build/clang/tidy.log
list=build/clang/tidy.list

python3 - "$PWD" "$@" <<'EOF' >"$list"
import json
import sys

root, folders = sys.argv[1], tuple(f"{sys.argv[1]}/{folder}/" for folder in sys.argv[2:])
with open("build/clang/compile_commands.json", encoding="utf-8") as f:
    files = {entry["file"] for entry in json.load(f)}
for name in sorted(files):
    if name.startswith(folders):
        print(name[len(root) + 1:], end="\0")
EOF
count=$(tr -cd '\0' <"$list" | wc -c)
if [ "$count" = 0 ]; then
    echo "tidy.sh: no sources in: $*" >&2
    exit 1
fi
began=$(date +%s)
# Standard error counts the warnings in headers of the system, which are not shown.
if ! xargs -0 -n 1 -P "$jobs" "$tool" --quiet -p build/clang <"$list" >"$log" 2>"$log.err"; then
    cat "$log"
    grep -v '^[0-9]* warnings\? generated\.$' "$log.err" || true
    echo "tidy.sh: $tool has warnings; they are in $log" >&2
    exit 1
fi
echo "$tool: $count files, no warnings ($(($(date +%s) - began)) s)"

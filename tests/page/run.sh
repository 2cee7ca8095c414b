#!/bin/sh
# The test of the status page, or 77 and what is missing for it. scripts/setup.sh ci installs that.
set -eu

page=$(cd "$(dirname "$0")" && pwd)
modules=${LASTCALL_PAGE_MODULES:-$page/../../build/page/node_modules}
skip() {
    echo "skipped: needs $1 (scripts/setup.sh ci)"
    exit 77
}
command -v node >/dev/null 2>&1 || skip node
command -v chromium >/dev/null 2>&1 || skip chromium
[ -d "$modules/playwright-core" ] || skip playwright-core
NODE_PATH=$modules exec node "$page/page_test.js" "$@"

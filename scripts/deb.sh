#!/bin/sh
# Build the Debian packages from the files that git knows, in a copy of them, and have lintian look at the result:
# deb.sh JOBS. The packages are left in build/deb.
set -eu

jobs=$1
cd "$(dirname "$0")/.."
version=$(dpkg-parsechangelog -S Version)
tree=build/deb/lastcall-$version
log=build/deb/build.log

rm -rf build/deb
mkdir -p "$tree"
git ls-files -z | tar --create --null --files-from=- --ignore-failed-read | tar --extract --directory="$tree"

began=$(date +%s)
echo "Building the packages ..."
if ! (cd "$tree" && DEB_BUILD_OPTIONS="parallel=$jobs" dpkg-buildpackage -us -uc -b) >"$log" 2>&1; then
    tail -n 30 "$log" >&2
    echo "deb.sh: dpkg-buildpackage failed; all of it is in $log" >&2
    exit 1
fi
rm -rf "$tree"
root=""
[ "$(id -u)" != 0 ] || root=--allow-root
# These packages are not uploaded to Debian, where an upload closes a bug.
# shellcheck disable=SC2086 # an option or none
lintian $root --suppress-tags initial-upload-closes-no-bugs --fail-on error,warning --tag-display-limit 0 build/deb/*.changes
echo "Built in $(($(date +%s) - began)) s, lintian has no complaint:"
ls -s --block-size=K build/deb/*.deb

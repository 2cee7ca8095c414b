#!/bin/sh
# Check that a tool has the version that the sources are held to: pinned.sh TOOL VERSION PACKAGE. If the tool is
# missing, install the package.
set -eu

tool=$1
version=$2
package=$3
command -v "$tool" >/dev/null 2>&1 || "$(dirname "$0")/setup.sh" packages "$package"
found=$("$tool" --version 2>/dev/null | sed -n 's/.*version \([0-9]*\)\..*/\1/p' | head -n 1)
if [ "$found" != "$version" ]; then
    echo "pinned.sh: $tool has version ${found:-unknown}, expected $version (Debian package $package)" >&2
    exit 69
fi

#!/bin/sh
# Compare the interface of liblastcall.so.0 with the committed one, tests/abi/liblastcall.abi: abi.sh LIBRARY [--update]
#
# What programs were built for must stay: a function that is gone, another parameter, a field that has moved is an
# error. What was added is listed, and is no error. --update commits to the interface as it is now; that is right for
# additions, and for a change only together with another soname, or before the first release that has the library.
set -eu

library=$1
update=${2:-}
cd "$(dirname "$0")/.."
committed=tests/abi/liblastcall.abi
now=$(mktemp)
trap 'rm -f "$now"' EXIT

abidw --exported-interfaces-only --drop-undefined-syms --drop-private-types --headers-dir include/lastcall \
    --suppressions tests/abi/private.supp --no-corpus-path --no-comp-dir-path --no-show-locs --no-elf-needed \
    --no-parameter-names --type-id-style hash --out-file "$now" "$library"
sed -i "s|path='[^']*/library/|path='library/|" "$now" # wherever this tree is
functions=$(grep -c "<elf-symbol name='lc_" "$now" || true)
if [ "$functions" -lt 50 ]; then
    echo "abi.sh: $library has only $functions functions of lastcall.h: was it built with debug information?" >&2
    exit 1
fi
if [ "$update" = --update ]; then
    cp "$now" "$committed"
    echo "$committed: $functions functions"
    exit 0
fi

status=0
said=$(abidiff "$committed" "$now" 2>&1) || status=$?
# Bits of the status: 4 something has changed, 8 in a way that breaks programs, 1 and 2 abidiff itself failed.
if [ $((status & 11)) != 0 ]; then
    printf '%s\n' "$said" >&2
    echo "abi.sh: programs that were built for $committed may not work with $library" >&2
    exit 1
fi
if [ $((status & 4)) != 0 ]; then
    printf '%s\n' "$said"
    # A changed parameter or field is a change, and nothing that was only added.
    if printf '%s\n' "$said" | grep -Eq '([1-9][0-9]* Removed|[1-9][0-9]* Changed)'; then
        echo "abi.sh: programs that were built for $committed may not work with $library" >&2
        exit 1
    fi
    echo "Added since $committed; make abi ARGS=--update commits to it"
fi
echo "The interface of liblastcall.so.0 is what it was: $functions functions"

#!/bin/sh
# Install what is missing, with apt-get as root or through sudo; else print the command to type.
#
#   setup.sh build    compiler, libraries, test framework
#   setup.sh bench    and the load tools and servers that bench/ measures against
#   setup.sh ci       and the second compiler, the formatter, valgrind, and what tests compare with or hand on to
#   setup.sh packages NAME...    these alone
set -eu

build="gcc libc6-dev make cmake pkg-config libh2o-evloop-dev libssl-dev libyaml-dev libbrotli-dev libcurl4-openssl-dev libsystemd-dev zlib1g-dev libjansson-dev libcmocka-dev libnghttp2-dev python3"
bench="wrk h2o nginx-light openssl gnuplot-nox"
ci="clang libclang-rt-14-dev clang-format valgrind h2o php-fpm curl openssl systemd"

case "${1:-build}" in
build) packages="$build" ;;
bench) packages="$build $bench" ;;
ci) packages="$build $ci" ;;
packages)
    shift
    packages="$*"
    ;;
*)
    echo "setup.sh: ${1}: want build, bench, ci or packages" >&2
    exit 64
    ;;
esac

missing=""
for package in $packages; do
    state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    # Any nginx will do.
    [ "$package" = nginx-light ] && command -v nginx >/dev/null 2>&1 && state=installed
    [ "$state" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

command="apt-get update && apt-get install -y --no-install-recommends$missing"
if ! command -v apt-get >/dev/null 2>&1; then
    echo "setup.sh: this machine has no apt-get; the Debian names of what is missing are:$missing" >&2
    exit 69
elif [ "$(id -u)" = 0 ]; then
    as_root=""
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
    as_root="sudo env DEBIAN_FRONTEND=noninteractive" # sudo hands no variables on
else
    echo "setup.sh: some packages are missing. Type, as root:" >&2
    echo "    $command" >&2
    exit 69
fi

# The servers that are measured must not start as services: nothing here listens beyond loopback.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap '$as_root rm -f "$policy"' EXIT
    trap 'exit 130' INT # without these two dash ends, and leaves the file
    trap 'exit 143' TERM
    printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
    $as_root chmod 755 "$policy"
fi
echo "Installing:$missing"
export DEBIAN_FRONTEND=noninteractive
$as_root apt-get update -qq >/dev/null 2>&1 || true # what that means, the next one says
# shellcheck disable=SC2086 # a list of names
if ! said=$($as_root apt-get install -y -qq --no-install-recommends $missing 2>&1); then
    echo "setup.sh: apt-get failed: $(printf '%s\n' "$said" | grep '^E:' | head -n 1)" >&2
    exit 69
fi

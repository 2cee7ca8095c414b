#!/bin/sh
# Install what is missing, with apt-get as root or through sudo; else print the command for root, in one line. What
# is installed already takes neither.
#
#   setup.sh build    compiler, libraries, test framework
#   setup.sh bench    and the load tools and servers that bench/ measures against
#   setup.sh ci       and the second compiler, clang-format, clang-tidy, valgrind, and what tests compare with, hand on
#                     to or look through: a browser, and what drives it (from npm, into build/page)
#   setup.sh coverage and what makes a report of gcc's coverage data
#   setup.sh deb      and what builds and checks the Debian packages
#   setup.sh packages NAME...    these alone
set -eu

build="gcc libc6-dev make cmake pkg-config libh2o-evloop-dev libssl-dev libyaml-dev libbrotli-dev libcurl4-openssl-dev libboost-context-dev libsystemd-dev zlib1g-dev libjansson-dev libhiredis-dev libxxhash-dev libcmocka-dev libnghttp2-dev libsqlite3-dev python3"
bench="wrk nghttp2-client h2o nginx-light openssl gnuplot-nox"
ci="clang libclang-rt-14-dev clang-format-14 clang-tidy-14 valgrind h2o php-fpm curl openssl redis-server prometheus chromium nodejs npm systemd libseccomp-dev python3-yaml scdoc zsh"
deb="debhelper dpkg-dev fakeroot git lintian scdoc"

what="${1:-build}"
case "$what" in
build) packages="$build" ;;
bench) packages="$build $bench" ;;
ci) packages="$build $ci" ;;
coverage) packages="$build gcovr redis-server" ;;
deb) packages="$build $deb" ;;
packages)
    shift
    packages="$*"
    ;;
*)
    echo "setup.sh: ${1}: expected build, bench, ci, coverage, deb or packages" >&2
    exit 64
    ;;
esac

# What the test of the status page drives the browser with: once, and again when the lock file changes.
install_page() {
    page="$(dirname "$0")/../build/page"
    source="$(dirname "$0")/../tests/page"
    if [ -d "$page/node_modules/playwright-core" ] && cmp -s "$source/package-lock.json" "$page/package-lock.json"; then
        return
    fi
    echo "Installing: playwright-core"
    mkdir -p "$page"
    cp "$source/package.json" "$page"
    cp "$source/package-lock.json" "$page"
    rm -rf "$page/node_modules"
    if ! said=$(cd "$page" && npm ci --ignore-scripts --no-audit --no-fund 2>&1); then
        echo "setup.sh: npm failed: $(printf '%s\n' "$said" | head -n 1)" >&2
        exit 69
    fi
}

missing=""
for package in $packages; do
    state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    # Any nginx will do, and any Node.
    [ "$package" = nginx-light ] && command -v nginx >/dev/null 2>&1 && state=installed
    # Other packages of Node bring it along.
    [ "$package" = npm ] && command -v npm >/dev/null 2>&1 && state=installed
    [ "$package" = nodejs ] && command -v node >/dev/null 2>&1 && state=installed
    [ "$state" = installed ] || missing="$missing $package"
done
if [ -z "$missing" ]; then
    [ "$what" != ci ] || install_page
    exit 0
fi

command="apt-get update && apt-get install -y --no-install-recommends$missing"
if ! command -v apt-get >/dev/null 2>&1; then
    echo "setup.sh: this machine has no apt-get; the Debian names of what is missing are:$missing" >&2
    exit 69
elif [ "$(id -u)" = 0 ]; then
    as_root=""
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
    as_root="sudo env DEBIAN_FRONTEND=noninteractive" # sudo hands no variables on
else
    echo "setup.sh: packages are missing, and only root can install them: $command" >&2
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
if ! said=$($as_root apt-get -o DPkg::Lock::Timeout=120 install -y -qq --no-install-recommends $missing 2>&1); then
    echo "setup.sh: apt-get failed: $(printf '%s\n' "$said" | grep '^E:' | head -n 1)" >&2
    exit 69
fi
[ "$what" != ci ] || install_page

#!/bin/sh
# The public header alone, without a warning, for each compiler that is installed: C11 and later, C++11 and later.
#     compile.sh INCLUDE-FOLDER
set -eu
include=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
done=0

# Every macro of the header is used once, because only then it is compiled.
cat > "$work/use.h" <<'END'
#include <lastcall/lastcall.h>
#include <lastcall/lastcall.h>
static void use_all(lc_req *req, void *user)
{
    struct lc_route_options options = LC_ROUTE_OPTIONS_INIT;
    struct lc_part part = LC_PART_INIT;
    struct lc_answer answer = LC_ANSWER_INIT;
    (void)user;
    options.flags = LC_INLINE | LC_RECORD;
    if (lc_next_part(req, &part) == 1 && lc_sendf(req, 200, NULL, "%d", (int)part.count) != LC_OK)
        (void)lc_fail(req, 500, lc_strerror(LC_E_ARG));
    lc_answer_free(&answer);
    (void)options;
}
int init(lc_server *server, const char *name, const char *args, void **state);
int init(lc_server *server, const char *name, const char *args, void **state)
{
    (void)args;
    (void)state;
    return lc_name(server, name, use_all, NULL);
}
LC_MODULE("name", "1", init, NULL);
END
cp "$work/use.h" "$work/use.c"
cat "$work/use.h" - > "$work/use.cc" <<'END'
static void throws(lc_req *, void *) { throw 1; }
int safe(lc_server *server);
int safe(lc_server *server) { return lc_handle(server, "/", lc_safe<throws>, nullptr); }
END

check() {
    command -v "$1" > /dev/null || return 0
    "$1" -std="$2" -Wall -Wextra -Wshadow -Wconversion -pedantic -Werror -I"$include" -c -o "$work/use.o" "$3"
    done=$((done + 1))
}
for compiler in gcc clang; do
    for standard in c11 c17; do check $compiler $standard "$work/use.c"; done
done
for compiler in g++ clang++; do
    for standard in c++11 c++14 c++17 c++20; do check $compiler $standard "$work/use.cc"; done
done
echo "$done compilers and standards"
[ "$done" -gt 0 ]

#include <jansson.h>
#include <stdio.h>
#include <yaml.h>

#include "brotli.h"
#include "cli_launch.h"
#include "h2o_api.h"
#include "options_p.h"

/* --help and --version. */

void options_print_help(const struct flags *flags)
{
    (void)fputs(
        "Usage: lastcall [OPTION]... [-- PROGRAM [ARG]...]\n"
        "       lastcall COMMAND [OPTION]...\n\n"
        "An HTTP server that stops without losing a request: SIGTERM, SIGINT or SIGQUIT "
        "drains it; a\nsecond one that comes at least --force-after (250ms) later forces "
        "the end. PROGRAM is your\napplication, at the URL of --proxy or on the port that it "
        "finds in PORT: it is started first and\nstopped last.\n",
        stdout);
    flags_print(flags);
    (void)fputs("\nCommands, each with its own --help:\n", stdout);
    cli_print_commands();
    (void)fputs("\nDurations are written 250ms, 10s, 2m, 1h.\n\n"
                "Routes without --conf and --proxy: / waits 3 s in a worker; /hello answers at "
                "once; /sleep?ms=N\nblocks a worker; /burn?us=N computes in one; /stream?kb=N&ms=M "
                "sends N KiB over M ms; /files/\nserves --root.\n\n"
                "Exit status: 0 drained clean; 3 the deadline passed, and unfinished requests are "
                "reported; 4 forced\nby a second signal; 64 wrong usage; 69 cannot listen, or "
                "cannot start the application; 78 wrong\nconfiguration; otherwise that of the "
                "application, which ended by itself.\n",
                stdout);
}

void options_print_version(const struct flags *flags)
{
    uint32_t brotli = brotli_version();

    (void)flags;
    (void)printf("lastcall %s\nlibh2o: %s\nOpenSSL: %s\nlibyaml: %s\nlibbrotli: "
                 "%u.%u.%u\njansson: %s\n",
                 LASTCALL_VERSION, H2O_VERSION, OpenSSL_version(OPENSSL_VERSION),
                 yaml_get_version_string(), brotli >> 24, brotli >> 12 & 0xfff, brotli & 0xfff,
                 JANSSON_VERSION);
}

/* libFuzzer: `lastcall -t` on any configuration: libh2o's configurators and ours terminate, and
 * report at least one error when they refuse it. The target reads, runs and opens nothing of the
 * machine: the files are pieces of the input, and any other open(2) gets no descriptor. */

#include <assert.h>
#include <openssl/ssl.h>
#include <stdio.h>

#include "config.h"
#include "coord.h"
#include "log.h"
#include "options.h"
#include "pieces.h"
#include "server.h"
#include "server_config.h"

static unsigned errors;

/* -Wl,--wrap=log_line: counted, not written. */
void __wrap_log_line(enum log_level level, const char *event, json_t *fields, const char *format,
                     ...);

void __wrap_log_line(enum log_level level, const char *event, json_t *fields, const char *format,
                     ...)
{
    char text[2048];
    va_list args;

    (void)event;
    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    json_decref(fields);
    errors += level == LOG_LEVEL_ERROR;
}

int LLVMFuzzerInitialize(int *argc, char ***argv);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    return OPENSSL_init_ssl(0, NULL) == 1 ? 0 : 1; /* while it may still open its files */
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct options options = {.conf = "a", .test = true, .threads = 1, .workers = 1, .queue = 1};
    struct server *server = NULL;

    errors = 0;
    pieces_begin(bytes, size);
    int status = server_create(NULL, &server);
    if (status == 0)
        status = config_apply(&options, server);
    if (status == 0) {
        const struct server_config config = {.threads = 1, .workers = 1, .queue = 1};
        status = server_configure(server, &config, true);
    }
    pieces_end();
    assert(status == 0 || status == EXIT_STATUS_CONFIG || status == EXIT_STATUS_UNAVAILABLE);
    assert((status == 0) == (errors == 0));
    server_destroy(server);
    return 0;
}

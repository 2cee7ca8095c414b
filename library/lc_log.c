#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "thread.h"
#include "lc_server_p.h"

/* Where the lines of a server go: to the function of lc_on_log(), or to standard error. The first
 * error of a start is kept for lc_errmsg(). */

#define EVENT_OF_PROGRAM "application"

static void keep_error(lc_server *server, const char *text)
{
    (void)pthread_mutex_lock(&server->mu);
    if (server->stage == LC_STARTING && server->error[0] == '\0')
        (void)snprintf(server->error, sizeof(server->error), "%s", text);
    (void)pthread_mutex_unlock(&server->mu);
}

static NOT_LOOKED_INTO void call_line(lc_server *server, int level, const char *event,
                                      const char *text, const char *json)
{
    struct lc_called called;

    lc_called_begin(&called, server, "the function of", "lc_on_log()");
    LC_NOTHING_PASSES();
    server->log.line(level, event, text, json, server->log.user);
    lc_called_end(&called);
}

static void on_line(void *arg, enum log_level level, const char *event, json_t *fields,
                    const char *text)
{
    static _Thread_local bool is_in_line; /* the function runs on this thread */
    lc_server *server = arg;

    if (level == LOG_LEVEL_ERROR && strcmp(event, EVENT_OF_PROGRAM) != 0)
        keep_error(server, text);
    /* A call of the library in that function, which is not allowed, must not wait for itself. */
    if (server->log.line == NULL || is_in_line) {
        log_write(level, event, fields, text);
        return;
    }
    char *json = log_json_line(level, event, fields, text);
    (void)pthread_mutex_lock(&server->log.mu);
    is_in_line = true;
    call_line(server, (int)level, event, text, json != NULL ? json : "{}");
    is_in_line = false;
    (void)pthread_mutex_unlock(&server->log.mu);
    free(json);
}

void lc_log_init(lc_server *server)
{
    (void)pthread_mutex_init(&server->log.mu, NULL);
    server->scope.line = on_line;
    server->scope.arg = server;
}

void lc_log_release(lc_server *server)
{
    (void)pthread_mutex_destroy(&server->log.mu);
}

int lc_on_log(lc_server *server,
              void (*line)(int level, const char *event, const char *text, const char *json,
                           void *user),
              void *user)
{
    if (server == NULL)
        return LC_E_ARG;
    if (LC_IS_LATE(server))
        return LC_E_STATE;
    server->log.line = line;
    server->log.user = user;
    return LC_OK;
}

void lc_log(lc_server *server, int level, const char *format, ...)
{
    char text[1024];
    va_list args;

    if (server == NULL || format == NULL)
        return;
    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    enum log_level as = level <= LC_LOG_ERROR     ? LOG_LEVEL_ERROR
                        : level == LC_LOG_WARNING ? LOG_LEVEL_WARN
                                                  : LOG_LEVEL_INFO;
    const struct scope *before = scope_enter(&server->scope);
    log_line(as, EVENT_OF_PROGRAM, NULL, "%s", text);
    (void)scope_enter(before);
}

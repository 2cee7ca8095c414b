#include "log_seen.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "log.h"

#define MOST 64

static struct {
    pthread_mutex_t mu;
    unsigned count;
    char event[MOST][32];
    char text[MOST][512];
} seen = {.mu = PTHREAD_MUTEX_INITIALIZER};

void __wrap_log_line(enum log_level level, const char *event, json_t *fields, const char *format,
                     ...) __attribute__((format(printf, 4, 5)));

void __wrap_log_line(enum log_level level, const char *event, json_t *fields, const char *format,
                     ...)
{
    va_list args;

    (void)level;
    json_decref(fields);
    (void)pthread_mutex_lock(&seen.mu);
    unsigned i = seen.count++ % MOST;
    (void)snprintf(seen.event[i], sizeof(seen.event[i]), "%s", event);
    va_start(args, format);
    (void)vsnprintf(seen.text[i], sizeof(seen.text[i]), format, args);
    va_end(args);
    (void)pthread_mutex_unlock(&seen.mu);
}

unsigned log_seen(const char *event, const char *text)
{
    unsigned found = 0;

    (void)pthread_mutex_lock(&seen.mu);
    for (unsigned i = 0; i < seen.count && i < MOST; i++)
        found += strcmp(seen.event[i], event) == 0 && strstr(seen.text[i], text) != NULL;
    (void)pthread_mutex_unlock(&seen.mu);
    return found;
}

unsigned log_seen_all(void)
{
    (void)pthread_mutex_lock(&seen.mu);
    unsigned count = seen.count;
    (void)pthread_mutex_unlock(&seen.mu);
    return count;
}

void log_seen_reset(void)
{
    (void)pthread_mutex_lock(&seen.mu);
    seen.count = 0;
    (void)pthread_mutex_unlock(&seen.mu);
}

#include "clock.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "require.h"

#define LONGEST_S (30.0 * 24 * 3600)

uint64_t clock_now_ns(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_MONOTONIC, &ts); /* cannot fail for this clock on Linux */
    return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

void clock_cond_init(pthread_cond_t *cond)
{
    pthread_condattr_t attr;
    int err = pthread_condattr_init(&attr);

    REQUIRE(err == 0);
    err = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    REQUIRE(err == 0);
    err = pthread_cond_init(cond, &attr);
    REQUIRE(err == 0); /* on Linux none of the three calls can fail with these arguments */
    (void)pthread_condattr_destroy(&attr);
}

struct timespec clock_timespec(uint64_t ns)
{
    /* CLOCK_NEVER must fit into time_t: it is 584 years, and as good as never. */
    return (struct timespec){.tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S)};
}

uint64_t clock_stood_ns(uint64_t due_ns, uint64_t now_ns)
{
    const uint64_t usual_ns = NS_PER_S / 2;

    /* CLOCK_NEVER: nobody was waited for. */
    if (due_ns == CLOCK_NEVER || now_ns < due_ns || now_ns - due_ns <= usual_ns)
        return 0;
    return now_ns - due_ns - usual_ns;
}

int clock_poll_ms(uint64_t now_ns, uint64_t until_ns)
{
    if (until_ns == CLOCK_NEVER)
        return -1;
    if (until_ns <= now_ns)
        return 0;
    uint64_t ms = (until_ns - now_ns - 1) / NS_PER_MS + 1;
    return ms < INT_MAX ? (int)ms : INT_MAX;
}

int clock_parse_duration(const char *text, uint64_t *ret_ns)
{
    static const struct {
        const char *name;
        double seconds;
    } units[] = {{"ms", 1e-3}, {"s", 1}, {"m", 60}, {"h", 3600}};
    char *end;

    /* strtod() also accepts spaces, signs, hexadecimal, "inf" and "nan"; a duration has digits
     * only. */
    if (!isdigit((unsigned char)text[0]) || strpbrk(text, "xXpPeE") != NULL)
        return -EINVAL;
    double number = strtod(text, &end);
    if (*end == '\0' && number == 0) {
        *ret_ns = 0;
        return 0;
    }
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (strcmp(end, units[i].name) == 0) {
            double seconds = number * units[i].seconds;
            if (!(seconds <= LONGEST_S))
                return -EINVAL;
            *ret_ns = (uint64_t)llround(seconds * (double)NS_PER_S);
            return 0;
        }
    }
    return -EINVAL;
}

char *clock_format_duration(uint64_t ns, char buf[CLOCK_TEXT_SIZE])
{
    double value;
    const char *unit;

    if (ns >= 60 * NS_PER_S) {
        uint64_t seconds = (ns + NS_PER_S / 2) / NS_PER_S;
        if (seconds % 60 == 0)
            (void)snprintf(buf, CLOCK_TEXT_SIZE, "%llum", (unsigned long long)(seconds / 60));
        else
            (void)snprintf(buf, CLOCK_TEXT_SIZE, "%llum%llus", (unsigned long long)(seconds / 60),
                           (unsigned long long)(seconds % 60));
        return buf;
    }
    if (ns >= NS_PER_S) {
        value = (double)ns / (double)NS_PER_S;
        unit = "s";
    } else if (ns >= NS_PER_MS) {
        value = (double)ns / (double)NS_PER_MS;
        unit = "ms";
    } else {
        value = (double)ns / (double)NS_PER_US;
        unit = "us";
    }
    (void)snprintf(buf, CLOCK_TEXT_SIZE, "%.3g%s", value, unit);
    /* 999.9 rounds to 1e+03: write it out. */
    if (strchr(buf, 'e') != NULL)
        (void)snprintf(buf, CLOCK_TEXT_SIZE, "%.0f%s", value, unit);
    return buf;
}

uint64_t clock_wall_ms(void)
{
    struct timespec ts;

    (void)clock_gettime(CLOCK_REALTIME, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / NS_PER_MS;
}

char *clock_format_wall(char buf[CLOCK_TEXT_SIZE + 8])
{
    struct timespec ts;
    struct tm tm;

    (void)clock_gettime(CLOCK_REALTIME, &ts);
    (void)gmtime_r(&ts.tv_sec, &tm);
    size_t n = strftime(buf, CLOCK_TEXT_SIZE, "%Y-%m-%dT%H:%M:%S", &tm);
    (void)snprintf(buf + n, CLOCK_TEXT_SIZE + 8 - n, ".%03ldZ", ts.tv_nsec / 1000000);
    return buf;
}

#include "budget.h"

#include <errno.h>
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "log.h"
#include "notify.h"
#include "thread.h"

#ifdef LASTCALL_SYSTEMD
#include <dlfcn.h>
#include <systemd/sd-bus.h>
#endif

#define BUS_PATIENCE_US UINT64_C(2000000)

struct budget {
    /* immutable after budget_start */
    struct drain_config drain;
    struct budget_tail tail;
    pthread_t thread;
};

uint64_t budget_needed_ns(const struct drain_config *drain, const struct budget_tail *tail)
{
    return drain->lame_duck_ns + drain_longest_ns(drain) + tail->linger_ns + tail->app_grace_ns;
}

bool budget_text(const struct drain_config *drain, const struct budget_tail *tail,
                 uint64_t budget_ns, const char *limit, char *text, size_t size)
{
    char needed[CLOCK_TEXT_SIZE], lame[CLOCK_TEXT_SIZE], longest[CLOCK_TEXT_SIZE],
        linger[CLOCK_TEXT_SIZE], grace[CLOCK_TEXT_SIZE], budget[CLOCK_TEXT_SIZE];

    if (budget_needed_ns(drain, tail) <= budget_ns)
        return false;
    (void)snprintf(
        text, size,
        "a stop may take %s (lame-duck %s + deadline %s + linger %s%s%s), and %s is %s: what "
        "is left then is killed, not drained; raise that limit, or lower drain.deadline",
        clock_format_duration(budget_needed_ns(drain, tail), needed),
        drain->lame_duck_ns > 0 ? clock_format_duration(drain->lame_duck_ns, lame) : "0",
        clock_format_duration(drain_longest_ns(drain), longest),
        clock_format_duration(tail->linger_ns, linger),
        tail->app_grace_ns > 0 ? " + the application's grace " : "",
        tail->app_grace_ns > 0 ? clock_format_duration(tail->app_grace_ns, grace) : "", limit,
        clock_format_duration(budget_ns, budget));
    return true;
}

static void check(const struct drain_config *drain, const struct budget_tail *tail,
                  uint64_t budget_ns, const char *limit)
{
    char text[512];

    if (budget_text(drain, tail, budget_ns, limit, text, sizeof(text)))
        log_line(LOG_LEVEL_WARN, "budget",
                 json_pack("{s:I, s:I, s:s}", "needed_ms",
                           (json_int_t)(budget_needed_ns(drain, tail) / NS_PER_MS), "budget_ms",
                           (json_int_t)(budget_ns / NS_PER_MS), "limit", limit),
                 "%s", text);
}

/* ---- asking the manager ---- */

#ifdef LASTCALL_SYSTEMD
/* libsystemd is loaded by a process that has a manager to ask, and not linked. It brings six other
 * libraries, which every process would map at its start and the kernel unmap at its end, between
 * the last response and the exit. */
#define SYSTEMD_NAME "libsystemd.so.0"
#define SYSTEMD_FUNCTIONS                                                                          \
    X(sd_bus_call_method)                                                                          \
    X(sd_bus_close_unref)                                                                          \
    X(sd_bus_get_property_trivial)                                                                 \
    X(sd_bus_is_ready)                                                                             \
    X(sd_bus_message_read)                                                                         \
    X(sd_bus_message_unref)                                                                        \
    X(sd_bus_open_system)                                                                          \
    X(sd_bus_open_user)                                                                            \
    X(sd_bus_process)                                                                              \
    X(sd_bus_set_method_call_timeout)                                                              \
    X(sd_bus_wait)

/* The thread that asks; a process has one. */
static struct {
#define X(name) __typeof__(name) *name;
    SYSTEMD_FUNCTIONS
#undef X
} systemd;

static bool load_systemd(void)
{
    static const struct {
        const char *name;
        void **ret_function;
    } functions[] = {
#define X(name) {#name, (void **)(void *)&systemd.name},
        SYSTEMD_FUNCTIONS
#undef X
    };
    void *library = dlopen(SYSTEMD_NAME, RTLD_NOW | RTLD_LOCAL); /* it cannot be unloaded again */

    for (size_t i = 0; library != NULL && i < sizeof(functions) / sizeof(functions[0]); i++) {
        *functions[i].ret_function = dlsym(library, functions[i].name);
        if (*functions[i].ret_function == NULL)
            return false;
    }
    return library != NULL;
}

static bool is_users_manager(void)
{
    const char *path = getenv("NOTIFY_SOCKET");
    return path != NULL && strncmp(path, "/run/user/", 10) == 0;
}

/* libsystemd's own time-out for a bus that does not answer is too long. */
static int wait_ready(sd_bus *bus)
{
    uint64_t until_ns = clock_now_ns() + BUS_PATIENCE_US * NS_PER_US;

    for (;;) {
        int err = systemd.sd_bus_is_ready(bus);
        if (err != 0)
            return err;
        err = systemd.sd_bus_process(bus, NULL);
        uint64_t now_ns = clock_now_ns();
        if (err < 0 || now_ns >= until_ns)
            return err < 0 ? err : -ETIMEDOUT;
        if (err == 0)
            (void)systemd.sd_bus_wait(bus, (until_ns - now_ns) / NS_PER_US);
    }
}

/* Ask for the unit by our process id: its name need not be known. */
static int read_stop_timeout(sd_bus *bus, uint64_t *ret_us)
{
    sd_bus_message *reply = NULL;
    const char *unit;

    (void)systemd.sd_bus_set_method_call_timeout(bus, BUS_PATIENCE_US);
    int err = systemd.sd_bus_call_method(
        bus, "org.freedesktop.systemd1", "/org/freedesktop/systemd1",
        "org.freedesktop.systemd1.Manager", "GetUnitByPID", NULL, &reply, "u", (uint32_t)getpid());
    if (err >= 0)
        err = systemd.sd_bus_message_read(reply, "o", &unit);
    if (err >= 0)
        err = systemd.sd_bus_get_property_trivial(bus, "org.freedesktop.systemd1", unit,
                                                  "org.freedesktop.systemd1.Service",
                                                  "TimeoutStopUSec", NULL, 't', ret_us);
    systemd.sd_bus_message_unref(reply);
    return err;
}

static void *budget_thread(void *arg)
{
    const struct budget *budget = arg;
    sd_bus *bus = NULL;
    uint64_t us = UINT64_MAX;

    if (!load_systemd())
        return NULL;
    int err =
        is_users_manager() ? systemd.sd_bus_open_user(&bus) : systemd.sd_bus_open_system(&bus);
    if (err >= 0)
        err = wait_ready(bus);
    if (err >= 0)
        err = read_stop_timeout(bus, &us);
    systemd.sd_bus_close_unref(bus);
    /* The largest number means infinity. */
    if (err >= 0 && us < UINT64_MAX / NS_PER_US)
        check(&budget->drain, &budget->tail, us * NS_PER_US, "TimeoutStopSec=");
    return NULL;
}

static int ask(struct budget *budget)
{
    return thread_start(&budget->thread, "budget", budget_thread, budget);
}
#define CAN_ASK true
#else
static int ask(struct budget *budget)
{
    (void)budget;
    return -ENOSYS;
}
#define CAN_ASK false
#endif

/* ---- life ---- */

int budget_start(const struct drain_config *drain, const struct budget_tail *tail,
                 uint64_t given_ns, struct budget **ret_budget)
{
    *ret_budget = NULL;
    if (given_ns != 0)
        check(drain, tail, given_ns, "the grace budget");
    /* A master's worker does not ask either: its master does. */
    if (!CAN_ASK || !notify_wanted() || getenv("NOTIFY_SOCKET") == NULL)
        return 0;
    struct budget *budget = calloc(1, sizeof(*budget));
    if (budget == NULL)
        return -ENOMEM;
    budget->drain = *drain;
    budget->tail = *tail;
    int err = ask(budget);
    if (err != 0) {
        free(budget);
        return err;
    }
    *ret_budget = budget;
    return 0;
}

void budget_stop(struct budget *budget)
{
    if (budget == NULL)
        return;
    (void)pthread_join(budget->thread, NULL);
    free(budget);
}

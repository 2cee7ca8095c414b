#include "heartbeat.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"
#include "file.h"
#include "log.h"
#include "notify.h"
#include "thread.h"

struct heartbeat {
    /* immutable after heartbeat_start */
    struct heartbeat_config config;
    uint64_t manager_every_ns; /* 0: the manager has no watchdog */
    pthread_t thread;
    /* the thread's own */
    uint64_t file_at_ns; /* when the next beat of each is due; CLOCK_NEVER: none */
    uint64_t manager_at_ns;
    bool failed_said;
    bool withheld;
    /* mu */
    pthread_mutex_t mu;
    pthread_cond_t wake;
    bool stopping;
};

bool heartbeat_wanted(const struct heartbeat_config *config)
{
    return config->file != NULL || notify_watchdog_ns() != 0;
}

/* Open it again each time: the supervisor may remove the file. */
static void touch(struct heartbeat *heartbeat)
{
    const char *path = heartbeat->config.file;
    int fd = file_open(path, O_WRONLY | O_CREAT, 0644);
    int err = fd < 0 ? fd : futimens(fd, NULL) != 0 ? -errno : 0;

    if (fd >= 0)
        (void)close(fd);
    if (err != 0 && !heartbeat->failed_said)
        log_line(LOG_LEVEL_WARN, "heartbeat-failed",
                 json_pack("{s:o}", "file", log_json_text(path)),
                 "cannot touch the heartbeat %s: %s (it will be tried again; logged once)", path,
                 file_error_text(err));
    heartbeat->failed_said = err != 0;
}

static void say_withheld(struct heartbeat *heartbeat, bool withheld)
{
    if (withheld == heartbeat->withheld)
        return;
    heartbeat->withheld = withheld;
    if (withheld)
        log_line(LOG_LEVEL_WARN, "heartbeat-withheld", NULL,
                 "no heartbeat until loops and pool move again");
    else
        log_line(LOG_LEVEL_INFO, "heartbeat-resumed", NULL, "the heartbeat resumes");
}

/* The next multiple of `every_ns` after `at_ns` that is in the future: missed beats are not
 * repeated. */
static uint64_t next_ns(uint64_t at_ns, uint64_t every_ns, uint64_t now_ns)
{
    return at_ns + every_ns > now_ns ? at_ns + every_ns : now_ns + every_ns;
}

static void beat(struct heartbeat *heartbeat, uint64_t now_ns)
{
    bool file = now_ns >= heartbeat->file_at_ns, manager = now_ns >= heartbeat->manager_at_ns;

    if (!file && !manager)
        return;
    bool moving = heartbeat->config.is_moving(heartbeat->config.arg);
    /* The manager first: the disk may be slow. */
    if (manager && moving)
        notify_send("WATCHDOG=1");
    if (file && moving)
        touch(heartbeat);
    say_withheld(heartbeat, !moving);
    if (manager)
        heartbeat->manager_at_ns =
            next_ns(heartbeat->manager_at_ns, heartbeat->manager_every_ns, now_ns);
    if (file)
        heartbeat->file_at_ns = next_ns(heartbeat->file_at_ns, heartbeat->config.every_ns, now_ns);
}

/* Returns false when it is time to end. */
static bool sleep_until(struct heartbeat *heartbeat, uint64_t until_ns)
{
    struct timespec until = clock_timespec(until_ns);
    int err = 0;

    (void)pthread_mutex_lock(&heartbeat->mu);
    while (!heartbeat->stopping && err == 0)
        err = pthread_cond_timedwait(&heartbeat->wake, &heartbeat->mu, &until);
    bool goes_on = !heartbeat->stopping;
    (void)pthread_mutex_unlock(&heartbeat->mu);
    return goes_on;
}

static void *heartbeat_thread(void *arg)
{
    struct heartbeat *heartbeat = arg;
    uint64_t now_ns = clock_now_ns();

    heartbeat->file_at_ns = heartbeat->config.file != NULL ? now_ns : CLOCK_NEVER;
    heartbeat->manager_at_ns = heartbeat->manager_every_ns != 0 ? now_ns : CLOCK_NEVER;
    do
        beat(heartbeat, clock_now_ns());
    while (sleep_until(heartbeat, heartbeat->file_at_ns < heartbeat->manager_at_ns
                                      ? heartbeat->file_at_ns
                                      : heartbeat->manager_at_ns));
    return NULL;
}

static void release(struct heartbeat *heartbeat)
{
    (void)pthread_cond_destroy(&heartbeat->wake);
    (void)pthread_mutex_destroy(&heartbeat->mu);
    free(heartbeat);
}

int heartbeat_start(const struct heartbeat_config *config, struct heartbeat **ret_heartbeat)
{
    struct heartbeat *heartbeat = calloc(1, sizeof(*heartbeat));

    if (heartbeat == NULL)
        return -ENOMEM;
    heartbeat->config = *config;
    heartbeat->manager_every_ns = notify_watchdog_ns() / 2; /* as sd_watchdog_enabled(3) advises */
    (void)pthread_mutex_init(&heartbeat->mu, NULL);
    clock_cond_init(&heartbeat->wake);
    int err = thread_start(&heartbeat->thread, "heartbeat", heartbeat_thread, heartbeat);
    if (err != 0) {
        release(heartbeat);
        return err;
    }
    *ret_heartbeat = heartbeat;
    return 0;
}

void heartbeat_stop(struct heartbeat *heartbeat)
{
    if (heartbeat == NULL)
        return;
    (void)pthread_mutex_lock(&heartbeat->mu);
    heartbeat->stopping = true;
    (void)pthread_cond_signal(&heartbeat->wake);
    (void)pthread_mutex_unlock(&heartbeat->mu);
    (void)pthread_join(heartbeat->thread, NULL);
    release(heartbeat);
}

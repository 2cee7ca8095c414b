#include "watch.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"
#include "log.h"
#include "thread.h"
#include "wakeup.h"

#define POLL_NS (1 * NS_PER_S)
#define POLL_LEAST_NS (10 * NS_PER_MS)
#define LOOKS_AN_AGE 4 /* looks at the stale file, per stale_after_ns */

struct watch {
    /* immutable after watch_start */
    struct watch_config config;
    struct coord *coord;
    pthread_t thread;
    int stop_fd; /* see wakeup.h; rung by watch_stop() */
    /* the thread's own */
    int inotify_fd; /* -1: no events, only polling */
    int folder_wd;  /* -1: none */
    char *folder;   /* the folder of folder_wd; a prefix of config.exists */
    bool exists_fired, stale_fired, closed_fired;
    bool exists_unreadable_said, stale_unreadable_said;
    bool beat_seen;
    struct timespec beat;  /* its last known modification time */
    uint64_t beat_seen_ns; /* when that was first seen */
};

bool watch_wanted(const struct watch_config *config)
{
    return config->exists != NULL || config->stale_file != NULL || config->closed_fd >= 0;
}

/* ---- looking at paths ---- */

/* Does the path exist? A failure to find out is logged once. */
static bool look_at(const char *path, struct stat *ret_st, bool *said)
{
    if (stat(path, ret_st) == 0) {
        *said = false;
        return true;
    }
    if (errno != ENOENT && errno != ENOTDIR && !*said) {
        *said = true;
        log_line(LOG_LEVEL_WARN, "trigger-unreadable", NULL,
                 "cannot look at %s: %s (it will be tried again; logged once)", path,
                 strerrordesc_np(errno));
    }
    return false;
}

/* The deepest folder of config.exists that exists. */
static char *nearest_folder(const char *path)
{
    char *folder = malloc(strlen(path) + 3);
    struct stat st;

    if (folder == NULL)
        return NULL;
    (void)sprintf(folder, "%s%s", path[0] == '/' ? "" : "./", path);
    for (;;) {
        char *slash = strrchr(folder, '/');
        while (slash > folder && slash[-1] == '/')
            slash--;
        bool is_root = slash == folder;
        slash[is_root ? 1 : 0] = '\0';
        if (is_root || strchr(folder, '/') == NULL ||
            (stat(folder, &st) == 0 && S_ISDIR(st.st_mode)))
            return folder;
    }
}

/* Watch the folder in which the path would appear. A deeper folder may appear while the watch is
 * set up, so repeat until the deepest one is the watched one. */
static void follow_folder(struct watch *watch)
{
    const uint32_t events =
        IN_CREATE | IN_MOVED_TO | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR;

    while (watch->inotify_fd >= 0) {
        char *folder = nearest_folder(watch->config.exists);
        if (folder == NULL || (watch->folder_wd >= 0 && strcmp(folder, watch->folder) == 0)) {
            free(folder);
            return;
        }
        if (watch->folder_wd >= 0)
            (void)inotify_rm_watch(watch->inotify_fd, watch->folder_wd);
        watch->folder_wd = inotify_add_watch(watch->inotify_fd, folder, events);
        free(watch->folder);
        watch->folder = folder;
        if (watch->folder_wd <
            0) /* the folder is gone, or inotify has no watch left: the next look tries again */
            return;
    }
}

static void look_for_path(struct watch *watch)
{
    struct stat st;

    if (watch->config.exists == NULL || watch->exists_fired)
        return;
    /* First set the watch, then look: an event reports what appears later, and the look sees what
     * is there. */
    follow_folder(watch);
    if (!look_at(watch->config.exists, &st, &watch->exists_unreadable_said))
        return;
    watch->exists_fired = true;
    coord_request_drain(watch->coord, "when-exists", watch->config.exists);
}

static void look_at_beat(struct watch *watch, uint64_t now_ns)
{
    struct stat st;
    char age[CLOCK_TEXT_SIZE], detail[512];

    if (watch->config.stale_file == NULL || watch->stale_fired)
        return;
    if (look_at(watch->config.stale_file, &st, &watch->stale_unreadable_said) &&
        (!watch->beat_seen || st.st_mtim.tv_sec != watch->beat.tv_sec ||
         st.st_mtim.tv_nsec != watch->beat.tv_nsec)) {
        watch->beat_seen = true;
        watch->beat = st.st_mtim;
        watch->beat_seen_ns = now_ns;
    }
    if (!watch->beat_seen || now_ns - watch->beat_seen_ns < watch->config.stale_after_ns)
        return;
    watch->stale_fired = true;
    (void)snprintf(detail, sizeof(detail), "%s, not touched for %s", watch->config.stale_file,
                   clock_format_duration(now_ns - watch->beat_seen_ns, age));
    coord_request_drain(watch->coord, "when-stale", detail);
}

/* The look finds out what has happened. Only the exchange of the folder under the same name needs
 * handling here. */
static void take_events(struct watch *watch)
{
    _Alignas(struct inotify_event) char bytes[4096];

    ssize_t n = read(watch->inotify_fd, bytes, sizeof(bytes));
    for (ssize_t at = 0; at < n;) {
        const struct inotify_event *event = (const void *)(bytes + at);
        at += (ssize_t)(sizeof(*event) + event->len);
        if (event->wd != watch->folder_wd ||
            (event->mask & (IN_IGNORED | IN_DELETE_SELF | IN_MOVE_SELF)) == 0)
            continue;
        (void)inotify_rm_watch(watch->inotify_fd, watch->folder_wd);
        watch->folder_wd = -1;
    }
}

/* ---- the descriptor ---- */

static void look_at_descriptor(struct watch *watch, short seen)
{
    char waste[4096], detail[32];
    ssize_t n = -1;

    if ((seen & POLLIN) != 0) {
        n = read(watch->config.closed_fd, waste, sizeof(waste));
        if (n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR)))
            return; /* there may be more data before the end */
    } else if ((seen & (POLLHUP | POLLERR | POLLNVAL)) == 0) {
        return;
    }
    watch->closed_fired = true;
    (void)snprintf(detail, sizeof(detail), "descriptor %d", watch->config.closed_fd);
    coord_request_drain(watch->coord, "when-closed", detail);
}

/* ---- the thread ---- */

static int patience_ms(const struct watch *watch)
{
    bool paths = watch->config.exists != NULL && !watch->exists_fired;
    bool beat = watch->config.stale_file != NULL && !watch->stale_fired;
    uint64_t ns = watch->config.poll_ns;

    if (!paths && !beat)
        return -1;
    if (beat && watch->config.stale_after_ns / LOOKS_AN_AGE < ns)
        ns = watch->config.stale_after_ns / LOOKS_AN_AGE;
    if (ns < POLL_LEAST_NS)
        ns = POLL_LEAST_NS;
    return clock_poll_ms(0, ns);
}

static void *watch_thread(void *arg)
{
    struct watch *watch = arg;

    for (;;) {
        struct pollfd fds[] = {
            {.fd = watch->stop_fd, .events = POLLIN},
            {.fd = watch->exists_fired ? -1 : watch->inotify_fd, .events = POLLIN},
            {.fd = watch->closed_fired ? -1 : watch->config.closed_fd, .events = POLLIN},
        };

        look_for_path(watch);
        look_at_beat(watch, clock_now_ns());
        if (watch->exists_fired)
            fds[1].fd = -1;
        (void)poll(fds, sizeof(fds) / sizeof(fds[0]), patience_ms(watch));
        if (fds[0].revents != 0)
            return NULL;
        if (fds[1].revents != 0)
            take_events(watch);
        if (fds[2].revents != 0)
            look_at_descriptor(watch, fds[2].revents);
    }
}

static void release(struct watch *watch)
{
    if (watch->stop_fd >= 0)
        (void)close(watch->stop_fd);
    if (watch->inotify_fd >= 0)
        (void)close(watch->inotify_fd);
    free(watch->folder);
    free(watch);
}

int watch_start(const struct watch_config *config, struct coord *coord, struct watch **ret_watch)
{
    if (config->closed_fd >= 0 && fcntl(config->closed_fd, F_GETFD) < 0)
        return -EBADF;
    struct watch *watch = calloc(1, sizeof(*watch));
    if (watch == NULL)
        return -ENOMEM;
    watch->config = *config;
    if (watch->config.poll_ns == 0)
        watch->config.poll_ns = POLL_NS;
    watch->coord = coord;
    watch->folder_wd = -1;
    /* Children must not inherit it. */
    if (config->closed_fd >= 0)
        (void)fcntl(config->closed_fd, F_SETFD, FD_CLOEXEC);
    /* Without inotify (each user has few instances) polling remains. */
    watch->inotify_fd = config->exists != NULL ? inotify_init1(IN_NONBLOCK | IN_CLOEXEC) : -1;
    watch->stop_fd = wakeup_open();
    int err = watch->stop_fd < 0 ? watch->stop_fd : 0;
    if (err == 0)
        err = thread_start(&watch->thread, "watch", watch_thread, watch);
    if (err != 0) {
        release(watch);
        return err;
    }
    *ret_watch = watch;
    return 0;
}

void watch_stop(struct watch *watch)
{
    if (watch == NULL)
        return;
    wakeup_ring(watch->stop_fd);
    (void)pthread_join(watch->thread, NULL);
    release(watch);
}

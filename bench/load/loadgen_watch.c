#include "loadgen_watch.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

/* A pidfd in the epoll set reports the exit at once. Without one (a kernel before 5.3, a seccomp
 * filter) the run polls /proc every few milliseconds. */

int load_watch_open(struct load *l)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = l};

    if (l->options->server_pid == 0)
        return 0;
    l->server_pidfd = (int)syscall(SYS_pidfd_open, l->options->server_pid, 0U);
    if (l->server_pidfd < 0)
        return 0; /* the run polls instead */
    return epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, l->server_pidfd, &event) == 0 ? 0 : -errno;
}

void load_watch_close(struct load *l)
{
    if (l->server_pidfd >= 0)
        (void)close(l->server_pidfd); /* also removes it from the epoll set */
    l->server_pidfd = -1;
}

/* A zombie has closed its sockets, so it counts as gone. In /proc/PID/stat the state follows the
 * last parenthesis of the name. */
static bool is_zombie(pid_t pid)
{
    char path[32];
    char line[512];

    (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid); /* fits */
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return false;
    size_t len = fread(line, 1, sizeof(line) - 1, file);
    (void)fclose(file); /* only read */
    line[len] = '\0';
    const char *paren = strrchr(line, ')');
    return paren != NULL && (strncmp(paren, ") Z", 3) == 0 || strncmp(paren, ") X", 3) == 0);
}

bool load_watch_poll(const struct load *l)
{
    const struct load_options *o = l->options;

    if (o->server_is_gone != NULL && o->server_is_gone(o->server_is_gone_arg))
        return true;
    if (o->server_pid == 0 || l->server_pidfd >= 0)
        return false;
    return (kill(o->server_pid, 0) != 0 && errno == ESRCH) || is_zombie(o->server_pid);
}

void load_watch_gone(struct load *l)
{
    l->gone = true;
    l->result->gone_ns = l->now_ns;
    load_watch_close(l);
}

#include "loadgen_p.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The server's process: a pidfd in the epoll set of the run tells its end as precisely as any other
 * event. Where there is none (a kernel before 5.3, a filter), /proc is asked every few
 * milliseconds.
 */

int load_watch_open(struct load *l)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = l};

    if (l->options->server_pid == 0)
        return 0;
    l->server_pidfd = (int)syscall(SYS_pidfd_open, l->options->server_pid, 0U);
    if (l->server_pidfd < 0)
        return 0; /* the poll finds out why */
    return epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, l->server_pidfd, &event) == 0 ? 0 : -errno;
}

void load_watch_close(struct load *l)
{
    if (l->server_pidfd >= 0)
        (void)close(l->server_pidfd); /* leaves the epoll set with it */
    l->server_pidfd = -1;
}

/* A zombie has closed its sockets: gone as well. The state is behind the name's last parenthesis.
 */
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

#include "upstream.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"

#define PATIENCE_NS (10 * NS_PER_S)

static void close_fd(int *fd)
{
    if (*fd >= 0)
        (void)close(*fd);
    *fd = -1;
}

void upstream_release(struct upstream *upstream)
{
    close_fd(&upstream->fd);
    close_fd(&upstream->stderr_fd);
    close_fd(&upstream->conns_fd);
    close_fd(&upstream->pid_file_fd);
    inherit_release(&upstream->listeners);
}

static ino_t inode_of_stderr(void)
{
    struct stat st;
    return fstat(STDERR_FILENO, &st) == 0 ? st.st_ino : 0;
}

void upstream_take_stderr(struct upstream *upstream)
{
    if (upstream->stderr_fd >= 0 && inode_of_stderr() == upstream->words_inode)
        (void)dup2(upstream->stderr_fd, STDERR_FILENO);
    close_fd(&upstream->stderr_fd);
}

static int receive_until(int fd, uint64_t until_ns, struct handover_message *message)
{
    for (;;) {
        int err = handover_receive(fd, message);
        if (err != -EAGAIN)
            return err;
        struct pollfd in = {.fd = fd, .events = POLLIN};
        uint64_t now_ns = clock_now_ns();
        if (now_ns >= until_ns)
            return -ETIMEDOUT;
        (void)poll(&in, 1, (int)((until_ns - now_ns) / NS_PER_MS) + 1);
    }
}

static int take(struct upstream *upstream, struct handover_message *message)
{
    switch (message->type) {
    case HANDOVER_HELLO:
        upstream->generation = handover_get_number(message, HANDOVER_GENERATION, 1);
        upstream->is_master = handover_get_number(message, HANDOVER_IS_MASTER, 0) != 0;
        upstream->runs_app = handover_get_number(message, HANDOVER_RUNS_APP, 0) != 0;
        close_fd(&upstream->stderr_fd);
        upstream->stderr_fd = handover_take_fd(message, 0);
        return 0;
    case HANDOVER_LISTENER:
        return inherit_add(&upstream->listeners, message);
    case HANDOVER_BEGIN:
        close_fd(&upstream->conns_fd);
        close_fd(&upstream->pid_file_fd);
        upstream->conns_fd = handover_take_fd(message, 0);
        upstream->pid_file_fd = handover_take_fd(message, 1);
        (void)handover_get_text(message, HANDOVER_PID_FILE, upstream->pid_file,
                                sizeof(upstream->pid_file));
        return 0;
    default:
        return 0; /* of a newer one, which can do without our taking it */
    }
}

static int take_all(struct upstream *upstream, struct handover_message *message)
{
    uint64_t until_ns = clock_now_ns() + PATIENCE_NS;
    bool greeted = false;

    for (;;) {
        int err = receive_until(upstream->fd, until_ns, message);
        if (err != 0)
            return err;
        greeted |= message->type == HANDOVER_HELLO;
        err = greeted ? take(upstream, message) : -EPROTO;
        handover_release(message);
        if (err != 0 || message->type == HANDOVER_BEGIN)
            return err;
    }
}

int upstream_open(struct upstream *ret_upstream, char *error, size_t error_size)
{
    struct upstream upstream = {
        .fd = -1, .stderr_fd = -1, .conns_fd = -1, .pid_file_fd = -1, .generation = 1};
    struct handover_message message = {0};
    upstream.words_inode = inode_of_stderr();
    const char *text = getenv(HANDOVER_ENVIRONMENT);
    char *end = NULL, why[HANDOVER_WHY_SIZE];

    if (text == NULL) {
        int err = inherit_from_environment(&upstream.listeners, error, error_size);
        if (err == 0)
            *ret_upstream = upstream;
        else
            inherit_release(&upstream.listeners);
        return err;
    }
    long fd = strtol(text, &end, 10);
    int err = text[0] < '0' || text[0] > '9' || *end != '\0' || fd <= STDERR_FILENO || fd > 1048576
                  ? -EBADF
                  : handover_check_peer((int)fd, &upstream.pid);
    if (err == 0) {
        upstream.fd = (int)fd;
        (void)fcntl(upstream.fd, F_SETFD, FD_CLOEXEC);
        err = take_all(&upstream, &message);
    }
    if (err == 0)
        *ret_upstream = upstream;
    else {
        (void)snprintf(error, error_size, "cannot take over (" HANDOVER_ENVIRONMENT "=%.20s): %s",
                       text, handover_why(err, &message, why));
        upstream_release(&upstream);
    }
    (void)unsetenv(HANDOVER_ENVIRONMENT);
    return err;
}

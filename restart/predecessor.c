#include "predecessor.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"
#include "file.h"
#include "log.h"

#define PATIENCE_NS (10 * NS_PER_S)

void predecessor_release(struct predecessor *predecessor)
{
    file_close(&predecessor->fd);
    file_close(&predecessor->stderr_fd);
    file_close(&predecessor->conns_fd);
    file_close(&predecessor->pid_file_fd);
    inherit_release(&predecessor->listeners);
}

static ino_t inode_of_stderr(void)
{
    struct stat st;
    return fstat(STDERR_FILENO, &st) == 0 ? st.st_ino : 0;
}

void predecessor_take_stderr(struct predecessor *predecessor)
{
    if (predecessor->stderr_fd >= 0 && inode_of_stderr() == predecessor->stderr_pipe_inode)
        (void)dup2(predecessor->stderr_fd, STDERR_FILENO);
    log_look(-1);
    file_close(&predecessor->stderr_fd);
}

static int receive_until(int fd, uint64_t until_ns, struct message *message)
{
    for (;;) {
        int err = handover_receive(fd, message);
        if (err != -EAGAIN)
            return err;
        struct pollfd in = {.fd = fd, .events = POLLIN};
        uint64_t now_ns = clock_now_ns();
        if (now_ns >= until_ns)
            return -ETIMEDOUT;
        (void)poll(&in, 1, clock_poll_ms(now_ns, until_ns));
    }
}

static int take(struct predecessor *predecessor, struct message *message)
{
    switch (message->type) {
    case HANDOVER_HELLO:
        predecessor->generation = message_get_number(message, HANDOVER_GENERATION, 1);
        predecessor->is_master = message_get_number(message, HANDOVER_IS_MASTER, 0) != 0;
        predecessor->runs_app = message_get_number(message, HANDOVER_RUNS_APP, 0) != 0;
        predecessor->open_files = message_get_number(message, HANDOVER_OPEN_FILES, 0);
        file_close(&predecessor->stderr_fd);
        predecessor->stderr_fd = message_take_fd(message, 0);
        log_look(predecessor->stderr_fd);
        return 0;
    case HANDOVER_LISTENER:
        return inherit_add(&predecessor->listeners, message);
    case HANDOVER_BEGIN:
        file_close(&predecessor->conns_fd);
        file_close(&predecessor->pid_file_fd);
        predecessor->conns_fd = message_take_fd(message, 0);
        predecessor->pid_file_fd = message_take_fd(message, 1);
        (void)message_get_text(message, HANDOVER_PID_FILE, predecessor->pid_file,
                               sizeof(predecessor->pid_file));
        return 0;
    default:
        return 0; /* from a newer version: can be skipped */
    }
}

static int take_all(struct predecessor *predecessor, struct message *message)
{
    uint64_t until_ns = clock_now_ns() + PATIENCE_NS;
    bool greeted = false;

    for (;;) {
        int err = receive_until(predecessor->fd, until_ns, message);
        if (err != 0)
            return err;
        greeted |= message->type == HANDOVER_HELLO;
        err = greeted ? take(predecessor, message) : -EPROTO;
        message_release(message);
        if (err != 0 || message->type == HANDOVER_BEGIN)
            return err;
    }
}

int predecessor_open(struct predecessor *ret_predecessor, char *error, size_t error_size)
{
    struct predecessor predecessor = {.fd = -1,
                                      .notify_fd = -1,
                                      .stderr_fd = -1,
                                      .conns_fd = -1,
                                      .pid_file_fd = -1,
                                      .generation = 1};
    struct message message = {0};
    predecessor.stderr_pipe_inode = inode_of_stderr();
    const char *text = getenv(MESSAGE_ENVIRONMENT);
    char *end = NULL, why[HANDOVER_WHY_SIZE];

    if (text == NULL) {
        int err = inherit_from_environment(&predecessor.listeners, error, error_size);
        if (err == 0)
            *ret_predecessor = predecessor;
        else
            inherit_release(&predecessor.listeners);
        return err;
    }
    long fd = strtol(text, &end, 10);
    int err = text[0] < '0' || text[0] > '9' || *end != '\0' || fd <= STDERR_FILENO || fd > 1048576
                  ? -EBADF
                  : message_check_peer((int)fd, &predecessor.pid);
    if (err == 0) {
        predecessor.fd = (int)fd;
        (void)fcntl(predecessor.fd, F_SETFD, FD_CLOEXEC);
        err = take_all(&predecessor, &message);
    }
    if (predecessor.is_master)
        predecessor.notify_fd = predecessor.fd;
    if (err == 0)
        *ret_predecessor = predecessor;
    else {
        (void)snprintf(error, error_size, "cannot take over (" MESSAGE_ENVIRONMENT "=%.20s): %s",
                       text, handover_why(err, &message, why));
        predecessor_release(&predecessor);
    }
    (void)unsetenv(MESSAGE_ENVIRONMENT);
    return err;
}

void predecessor_notify(void *arg, const char *text)
{
    const struct predecessor *predecessor = arg;
    struct message message;

    handover_begin(&message, HANDOVER_NOTIFY);
    message_put_text(&message, HANDOVER_TEXT, text);
    (void)message_send(predecessor->notify_fd, &message);
}

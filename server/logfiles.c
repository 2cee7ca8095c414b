#include "logfiles.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "h2o_api.h"
#include "log.h"

/* The loops write to their logs through descriptors that they keep for good. dup3(2) puts another
 * file under such a descriptor between one write(2) and the next, so nobody has to be stopped for
 * it. */

struct logfile {
    char *path;
    int fd;
    struct logfile *next;
};

/* immutable after start: logs are opened while the configuration is read */
static struct logfile *files;

static int last_error; /* of h2o_access_log_open_log() */

int logfiles_take_error(void)
{
    int err = last_error;
    last_error = 0;
    return err;
}

static int open_append(const char *path)
{
    return open(path, O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC | O_NOCTTY, 0644);
}

static void note(const char *path, int fd)
{
    struct logfile *file = malloc(sizeof(*file));
    char *copy = strdup(path);

    if (file == NULL || copy == NULL) { /* it is written to, and will not be opened again */
        free(file);
        free(copy);
        return;
    }
    *file = (struct logfile){.path = copy, .fd = fd, .next = files};
    files = file;
}

/* The library has a function of this name, and its access logs come here in place of there (see
 * config.c). */
int h2o_access_log_open_log(const char *path)
{
    if (path[0] == '|') {
        int (*library)(const char *);
        void *symbol = dlsym(RTLD_NEXT, "h2o_access_log_open_log");
        memcpy(&library, &symbol, sizeof(library));
        return library(path);
    }
    int fd = open_append(path);
    if (fd >= 0)
        note(path, fd);
    else
        last_error = errno;
    return fd;
}

bool logfiles_redirect(const char *path, char *error, size_t error_size)
{
    bool is_command = path[0] == '|';
    int fd = is_command ? h2o_access_log_open_log(path) : open_append(path);
    int err = is_command ? ECHILD : errno;

    if (fd < 0) {
        (void)snprintf(error, error_size, "cannot log to %s: %s", path, strerrordesc_np(err));
        return false;
    }
    /* A command that has stopped reading costs lines, and must not cost a loop that the library
     * writes one from. */
    if (fd >= 0 && is_command)
        (void)fcntl(fd, F_SETFL, O_NONBLOCK);
    bool done = dup2(fd, STDOUT_FILENO) >= 0 && dup2(fd, STDERR_FILENO) >= 0;
    if (!done)
        (void)snprintf(error, error_size, "cannot log to %s: %s", path, strerrordesc_np(errno));
    (void)close(fd);
    if (done && !is_command) {
        note(path, STDOUT_FILENO);
        note(path, STDERR_FILENO);
    }
    return done;
}

void logfiles_reopen(void)
{
    size_t reopened = 0;

    for (const struct logfile *file = files; file != NULL; file = file->next) {
        bool is_standard = file->fd <= STDERR_FILENO; /* children may have it */
        int fd = open_append(file->path);
        if (fd >= 0 && dup3(fd, file->fd, is_standard ? 0 : O_CLOEXEC) >= 0)
            reopened += file->fd != STDOUT_FILENO; /* the same file as standard error's */
        else
            log_line(LOG_LEVEL_ERROR, "log-reopen-failed", NULL,
                     "cannot open %s again: %s (logging goes on where it did)", file->path,
                     strerrordesc_np(errno));
        if (fd >= 0)
            (void)close(fd);
    }
    log_line(LOG_LEVEL_INFO, "logs-reopened", NULL, "opened %zu log file%s again", reopened,
             reopened == 1 ? "" : "s");
}

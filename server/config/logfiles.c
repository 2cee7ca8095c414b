#include "logfiles.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "file.h"
#include "h2o_api.h"
#include "log.h"
#include "library.h"

/* The loops never change the descriptors of their logs. dup3(2) puts another file under such a
 * descriptor between two calls of write(2), so the loops need not stop. */

struct logfile {
    char *path;
    int fd;
    struct logfile *next;
};

struct logfiles {
    struct logfile
        *first; /* immutable after start: logs are opened while the configuration is read */
};

/* libh2o tells logfiles_open_log() the path alone. */
static _Thread_local struct logfiles *collecting;
static _Thread_local int last_error; /* of logfiles_open_log() */

struct logfiles *logfiles_create(void)
{
    return calloc(1, sizeof(struct logfiles));
}

void logfiles_free(struct logfiles *files)
{
    while (files != NULL && files->first != NULL) {
        struct logfile *file = files->first;
        files->first = file->next;
        free(file->path);
        free(file);
    }
    free(files);
}

void logfiles_collect(struct logfiles *files)
{
    collecting = files;
}

int logfiles_take_error(void)
{
    int err = last_error;
    last_error = 0;
    return err;
}

static void note(struct logfiles *files, const char *path, int fd)
{
    struct logfile *file = malloc(sizeof(*file));
    char *copy = strdup(path);

    if (files == NULL || file == NULL || copy == NULL) { /* it is used, but never reopened */
        free(file);
        free(copy);
        return;
    }
    *file = (struct logfile){.path = copy, .fd = fd, .next = files->first};
    files->first = file;
}

int logfiles_open_log(const char *path)
{
    if (path[0] == '|')
        return library.h2o_access_log_open_log(path);
    int fd = file_open_log(path);
    if (fd >= 0)
        note(collecting, path, fd);
    else
        last_error = -fd;
    return fd >= 0 ? fd : -1; /* libh2o knows no other error */
}

bool logfiles_redirect(struct logfiles *files, const char *path, char *error, size_t error_size)
{
    bool is_command = path[0] == '|';
    int fd = is_command ? logfiles_open_log(path) : file_open_log(path);
    int err = is_command ? -ECHILD : fd;

    if (fd < 0) {
        (void)snprintf(error, error_size, "cannot log to %s: %s", path, file_error_text(err));
        return false;
    }
    /* If the command stops reading, lines are lost; a loop that writes one must not wait. */
    if (fd >= 0 && is_command)
        (void)fcntl(fd, F_SETFL, O_NONBLOCK);
    bool done = dup2(fd, STDOUT_FILENO) >= 0 && dup2(fd, STDERR_FILENO) >= 0;
    if (!done)
        (void)snprintf(error, error_size, "cannot log to %s: %s", path, strerrordesc_np(errno));
    (void)close(fd);
    if (done && !is_command) {
        note(files, path, STDOUT_FILENO);
        note(files, path, STDERR_FILENO);
    }
    return done;
}

/* Is the file at this path another one than the open file? */
static bool was_moved(const struct logfile *file)
{
    struct stat named, open;

    if (fstat(file->fd, &open) != 0)
        return false;
    if (stat(file->path, &named) != 0)
        return errno == ENOENT;
    return named.st_dev != open.st_dev || named.st_ino != open.st_ino;
}

static void reopen(const struct logfile *file, size_t *reopened)
{
    bool is_standard = file->fd <= STDERR_FILENO; /* children inherit it */
    int fd = file_open_log(file->path), err = fd < 0 ? fd : 0;

    if (fd >= 0 && dup3(fd, file->fd, is_standard ? 0 : O_CLOEXEC) < 0)
        err = -errno;
    if (err == 0)
        *reopened += file->fd != STDOUT_FILENO; /* the same file as standard error's */
    else
        log_line(LOG_LEVEL_ERROR, "log-reopen-failed", NULL,
                 "cannot open %s again: %s (still logging to the old file)", file->path,
                 file_error_text(err));
    if (fd >= 0)
        (void)close(fd);
}

/* The signal thread and the restart thread may call this at the same time: the lock makes sure that
 * the file opened last is the newest. */
static size_t reopen_all(const struct logfiles *files, bool moved_only)
{
    static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
    size_t reopened = 0;

    (void)pthread_mutex_lock(&mu);
    for (const struct logfile *file = files != NULL ? files->first : NULL; file != NULL;
         file = file->next)
        if (!moved_only || was_moved(file))
            reopen(file, &reopened);
    (void)pthread_mutex_unlock(&mu);
    return reopened;
}

static void say(size_t reopened)
{
    log_line(LOG_LEVEL_INFO, "logs-reopened", NULL, "opened %zu log file%s again", reopened,
             reopened == 1 ? "" : "s");
}

void logfiles_reopen(const struct logfiles *files)
{
    say(reopen_all(files, false));
}

void logfiles_follow(const struct logfiles *files)
{
    size_t reopened = reopen_all(files, true);

    if (reopened > 0)
        say(reopened);
}

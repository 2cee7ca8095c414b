#include "dispositions.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <libgen.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "file.h"
#include "log.h"

#define X(id, name) name,
static const char *const outcomes[] = {DISPOSITION_OUTCOMES(X)};
#undef X

struct dispositions {
    char *path;    /* the .done file */
    int fd;        /* -1: only read, or the file does not exist */
    int lock_fd;   /* -1: only read */
    void *by_id;   /* tsearch(3) of struct disposition, which own their `answer` */
    char *pending; /* lines to write */
    size_t pending_bytes;
    size_t garbage;
    uint64_t first_garbage;
};

const char *disposition_outcome_name(enum disposition_outcome outcome)
{
    return outcomes[outcome];
}

/* ---- the set of them ---- */

static int compare(const void *a, const void *b)
{
    return strcmp(((const struct disposition *)a)->id, ((const struct disposition *)b)->id);
}

static void free_mark(void *node)
{
    struct disposition *disposition = node;
    free((char *)(uintptr_t)disposition->answer);
    free(disposition);
}

/* The later decision counts, but a final one stays. */
static int remember(struct dispositions *dispositions, const struct disposition *disposition)
{
    struct disposition **found = tfind(disposition, &dispositions->by_id, compare);
    char *answer = disposition->answer != NULL ? strdup(disposition->answer) : NULL;

    if (disposition->answer != NULL && answer == NULL)
        return -ENOMEM;
    if (found == NULL) {
        struct disposition *copy = calloc(1, sizeof(*copy));
        if (copy != NULL) {
            memcpy(copy->id, disposition->id, sizeof(copy->id));
            found = tsearch(copy, &dispositions->by_id, compare);
        }
        if (copy == NULL || found == NULL) {
            free(copy);
            free(answer);
            return -ENOMEM;
        }
    } else if ((*found)->outcome == DISPOSITION_SETTLED) {
        free(answer);
        return 0;
    }
    free((char *)(uintptr_t)(*found)->answer);
    **found = *disposition;
    (*found)->answer = answer;
    return 0;
}

const struct disposition *dispositions_find(const struct dispositions *dispositions, const char *id)
{
    struct disposition key = {.outcome = DISPOSITION_NONE};

    if (strlen(id) >= sizeof(key.id))
        return NULL;
    memcpy(key.id, id, strlen(id) + 1);
    struct disposition *const *found = tfind(&key, &dispositions->by_id, compare);
    return found != NULL ? *found : NULL;
}

/* ---- reading ---- */

static uint64_t parse_time(const char *text)
{
    struct tm tm = {0};
    unsigned ms = 0;
    const char *rest = text != NULL ? strptime(text, "%Y-%m-%dT%H:%M:%S", &tm) : NULL;

    if (rest == NULL || (*rest == '.' && sscanf(rest + 1, "%3u", &ms) != 1))
        return 0;
    time_t seconds = timegm(&tm);
    return seconds > 0 ? (uint64_t)seconds * 1000 + ms : 0;
}

static int read_line(struct dispositions *dispositions, const char *line, size_t length,
                     uint64_t offset)
{
    json_t *root = json_loadb(line, length, 0, NULL);
    const char *id = json_string_value(json_object_get(root, "id"));
    const char *name = json_string_value(json_object_get(root, "outcome"));
    struct disposition disposition = {.outcome = DISPOSITION_NONE};
    int err = 0;

    for (size_t i = 1; name != NULL && i < DISPOSITION_OUTCOME_COUNT; i++)
        if (strcmp(name, outcomes[i]) == 0)
            disposition.outcome = (enum disposition_outcome)i;
    if (id == NULL || strlen(id) != sizeof(disposition.id) - 1 ||
        disposition.outcome == DISPOSITION_NONE) {
        if (dispositions->garbage++ == 0)
            dispositions->first_garbage = offset;
    } else {
        memcpy(disposition.id, id, sizeof(disposition.id));
        disposition.status = (int)json_integer_value(json_object_get(root, "status"));
        disposition.attempt = (unsigned)json_integer_value(json_object_get(root, "attempt"));
        disposition.at_ms = parse_time(json_string_value(json_object_get(root, "at")));
        disposition.not_before_ms =
            parse_time(json_string_value(json_object_get(root, "not_before")));
        disposition.answer = json_string_value(
            json_object_get(root, disposition.outcome == DISPOSITION_QUEUED ? "stream" : "answer"));
        err = remember(dispositions, &disposition);
    }
    json_decref(root);
    return err;
}

static int read_all(struct dispositions *dispositions, bool *ret_torn)
{
    char *line = NULL;
    size_t size = 0;
    uint64_t offset = 0;
    ssize_t length;
    int err = 0;
    int fd = fcntl(dispositions->fd, F_DUPFD_CLOEXEC, 0);
    FILE *file = fd >= 0 ? fdopen(fd, "r") : NULL;

    *ret_torn = false;
    if (file == NULL) {
        err = -errno;
        if (fd >= 0)
            (void)close(fd);
        return err;
    }
    errno = 0;
    while (err == 0 && (length = getline(&line, &size, file)) > 0) {
        bool whole = line[length - 1] == '\n';
        *ret_torn = !whole; /* its writer was killed: the line does not count */
        if (whole && length > 1)
            err = read_line(dispositions, line, (size_t)length - 1, offset);
        offset += (uint64_t)length;
    }
    if (err == 0 && ferror(file))
        err = errno != 0 ? -errno : -EIO;
    free(line);
    (void)fclose(file);
    return err;
}

/* ---- opening ---- */

static int fail(char *error, int err, const char *what, const char *path)
{
    (void)snprintf(error, DISPOSITIONS_ERROR_SIZE, "%s %.200s: %s", what, path,
                   strerrordesc_np(-err));
    return err;
}

/* Open or create a file beside the archive `path`, to write. The folder may belong to another user,
 * and root could be made to write through a link, so the file must be like one of ours. If root
 * creates the file, it gives it to the archive's owner, whose server writes it later. */
static int open_beside(const char *path, const char *name, int flags, bool *ret_made)
{
    const int how = flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
    struct stat st;

    int fd = open(name, how);
    *ret_made = fd < 0 && errno == ENOENT;
    if (*ret_made)
        fd = open(name, how | O_CREAT | O_EXCL, 0600);
    if (fd < 0 && *ret_made && errno == EEXIST) { /* another process was faster */
        *ret_made = false;
        fd = open(name, how);
    }
    if (fd < 0)
        return -errno;
    if (*ret_made && geteuid() == 0 && stat(path, &st) == 0)
        (void)!fchown(fd, st.st_uid, st.st_gid);
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_nlink == 1)
        return fd;
    (void)close(fd);
    return -EEXIST;
}

static int take_lock(struct dispositions *dispositions, const char *path, char *error)
{
    char lock[4096], holder[64] = "";
    bool made;

    if (snprintf(lock, sizeof(lock), "%s.lock", path) >= (int)sizeof(lock))
        return fail(error, -ENAMETOOLONG, "cannot lock", path);
    dispositions->lock_fd = open_beside(path, lock, O_RDWR, &made);
    if (dispositions->lock_fd < 0)
        return fail(error, dispositions->lock_fd, "cannot open", lock);
    if (flock(dispositions->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        int err = errno == EWOULDBLOCK ? -EBUSY : -errno;
        ssize_t n = pread(dispositions->lock_fd, holder, sizeof(holder) - 1, 0);
        holder[n > 0 ? strspn(holder, "0123456789") : 0] = '\0';
        if (err != -EBUSY)
            return fail(error, err, "cannot lock", lock);
        (void)snprintf(error, DISPOSITIONS_ERROR_SIZE,
                       "%.200s is in use by process %s: wait for it, or stop it", path,
                       holder[0] != '\0' ? holder : "(unknown)");
        return err;
    }
    int n = snprintf(holder, sizeof(holder), "%ld\n", (long)getpid());
    if (ftruncate(dispositions->lock_fd, 0) == 0) /* only for the message above */
        (void)!pwrite(dispositions->lock_fd, holder, (size_t)n, 0);
    return 0;
}

/* A new file is on the disk only after its folder was flushed. */
static int sync_folder(const char *path)
{
    char *copy = strdup(path);
    int err = copy != NULL ? file_sync_folder(dirname(copy)) : -ENOMEM;

    free(copy);
    return err;
}

static int open_done(struct dispositions *dispositions, const char *path, bool to_write,
                     char *error)
{
    bool torn = false, made = false;

    if (asprintf(&dispositions->path, "%s.done", path) < 0) {
        dispositions->path = NULL;
        return fail(error, -ENOMEM, "cannot read the dispositions of", path);
    }
    if (to_write)
        dispositions->fd = open_beside(path, dispositions->path, O_RDWR | O_APPEND, &made);
    else if ((dispositions->fd = open(dispositions->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)) < 0)
        dispositions->fd = -errno;
    if (dispositions->fd == -ENOENT && !to_write)
        return 0;
    if (dispositions->fd < 0)
        return fail(error, dispositions->fd, "cannot open", dispositions->path);
    int err = made ? sync_folder(dispositions->path) : 0;
    if (err == 0)
        err = read_all(dispositions, &torn);
    if (err == 0 && torn && to_write && write(dispositions->fd, "\n", 1) != 1)
        err = -errno;
    return err == 0 ? 0 : fail(error, err, "cannot read", dispositions->path);
}

int dispositions_open(const char *path, bool to_write, struct dispositions **ret_marks,
                      char error[DISPOSITIONS_ERROR_SIZE])
{
    struct dispositions *dispositions = calloc(1, sizeof(*dispositions));

    if (dispositions == NULL)
        return fail(error, -ENOMEM, "cannot read the dispositions of", path);
    dispositions->fd = dispositions->lock_fd = -1;
    int err = to_write ? take_lock(dispositions, path, error) : 0;
    if (err == 0)
        err = open_done(dispositions, path, to_write, error);
    if (err != 0) {
        dispositions_close(dispositions);
        return err;
    }
    *ret_marks = dispositions;
    return 0;
}

void dispositions_close(struct dispositions *dispositions)
{
    if (dispositions == NULL)
        return;
    if (dispositions->fd >= 0)
        (void)close(dispositions->fd);
    if (dispositions->lock_fd >= 0)
        (void)close(dispositions->lock_fd); /* which releases the lock */
    tdestroy(dispositions->by_id, free_mark);
    free(dispositions->pending);
    free(dispositions->path);
    free(dispositions);
}

/* ---- writing ---- */

static char *line_of(const struct disposition *disposition)
{
    char at[UNFINISHED_TIME_SIZE], not_before[UNFINISHED_TIME_SIZE];
    json_t *root = json_pack("{s:s, s:s, s:s}", "id", disposition->id, "outcome",
                             outcomes[disposition->outcome], "at",
                             unfinished_format_time(disposition->at_ms, at));
    int err = root == NULL;

    if (disposition->attempt != 0) {
        err |= json_object_set_new(root, "status", json_integer(disposition->status));
        err |= json_object_set_new(root, "attempt", json_integer(disposition->attempt));
    }
    if (disposition->not_before_ms != 0)
        err |= json_object_set_new(
            root, "not_before",
            json_string(unfinished_format_time(disposition->not_before_ms, not_before)));
    if (disposition->answer != NULL)
        err |= json_object_set_new(root,
                                   disposition->outcome == DISPOSITION_QUEUED ? "stream" : "answer",
                                   log_json_text(disposition->answer));
    char *line = err == 0 ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    return line;
}

int dispositions_add(struct dispositions *dispositions, const struct disposition *disposition)
{
    char *line = line_of(disposition);
    size_t length = line != NULL ? strlen(line) : 0;
    char *grown = line != NULL
                      ? realloc(dispositions->pending, dispositions->pending_bytes + length + 1)
                      : NULL;

    if (grown != NULL) {
        dispositions->pending = grown;
        memcpy(grown + dispositions->pending_bytes, line, length);
        grown[dispositions->pending_bytes + length] = '\n';
        dispositions->pending_bytes += length + 1;
    }
    free(line);
    return grown != NULL ? remember(dispositions, disposition) : -ENOMEM;
}

int dispositions_flush(struct dispositions *dispositions)
{
    size_t done = 0;
    int err = 0;

    if (dispositions->pending_bytes == 0)
        return 0;
    off_t end = lseek(dispositions->fd, 0, SEEK_END);
    while (done < dispositions->pending_bytes && err == 0) {
        ssize_t n = write(dispositions->fd, dispositions->pending + done,
                          dispositions->pending_bytes - done);
        if (n > 0)
            done += (size_t)n;
        else if (n == 0 || errno != EINTR)
            err = n == 0 ? -EIO : -errno;
    }
    if (err == 0 && fdatasync(dispositions->fd) != 0)
        err = -errno;
    if (err != 0) {
        (void)!ftruncate(dispositions->fd,
                         end); /* if this fails, the next reader skips the torn line */
        return err;
    }
    dispositions->pending_bytes = 0;
    return 0;
}

size_t dispositions_garbage(const struct dispositions *dispositions, uint64_t *ret_first_offset)
{
    *ret_first_offset = dispositions->first_garbage;
    return dispositions->garbage;
}

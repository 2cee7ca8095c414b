#include "marks.h"

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

#include "log.h"

#define X(id, name) name,
static const char *const outcomes[] = {MARK_OUTCOMES(X)};
#undef X

struct marks {
    char *path;    /* of the .done file */
    int fd;        /* -1: only read, or nothing there */
    int lock_fd;   /* -1: only read */
    void *by_id;   /* tsearch(3) of struct mark, whose answer is its own */
    char *pending; /* lines to be written */
    size_t pending_bytes;
    size_t garbage;
    uint64_t first_garbage;
};

const char *mark_outcome_name(enum mark_outcome outcome)
{
    return outcomes[outcome];
}

uint64_t marks_now_ms(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_REALTIME, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* ---- the set of them ---- */

static int compare(const void *a, const void *b)
{
    return strcmp(((const struct mark *)a)->id, ((const struct mark *)b)->id);
}

static void free_mark(void *node)
{
    struct mark *mark = node;
    free((char *)(uintptr_t)mark->answer);
    free(mark);
}

/* The later decision holds; but what is settled stays settled. */
static int remember(struct marks *marks, const struct mark *mark)
{
    struct mark **found = tfind(mark, &marks->by_id, compare);
    char *answer = mark->answer != NULL ? strdup(mark->answer) : NULL;

    if (mark->answer != NULL && answer == NULL)
        return -ENOMEM;
    if (found == NULL) {
        struct mark *copy = calloc(1, sizeof(*copy));
        if (copy != NULL) {
            memcpy(copy->id, mark->id, sizeof(copy->id));
            found = tsearch(copy, &marks->by_id, compare);
        }
        if (copy == NULL || found == NULL) {
            free(copy);
            free(answer);
            return -ENOMEM;
        }
    } else if ((*found)->outcome == MARK_SETTLED) {
        free(answer);
        return 0;
    }
    free((char *)(uintptr_t)(*found)->answer);
    **found = *mark;
    (*found)->answer = answer;
    return 0;
}

const struct mark *marks_find(const struct marks *marks, const char *id)
{
    struct mark key = {.outcome = MARK_NONE};

    if (strlen(id) >= sizeof(key.id))
        return NULL;
    memcpy(key.id, id, strlen(id) + 1);
    struct mark *const *found = tfind(&key, &marks->by_id, compare);
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

static int read_line(struct marks *marks, const char *line, size_t length, uint64_t offset)
{
    json_t *root = json_loadb(line, length, 0, NULL);
    const char *id = json_string_value(json_object_get(root, "id"));
    const char *name = json_string_value(json_object_get(root, "outcome"));
    struct mark mark = {.outcome = MARK_NONE};
    int err = 0;

    for (size_t i = 1; name != NULL && i < MARK_OUTCOME_COUNT; i++)
        if (strcmp(name, outcomes[i]) == 0)
            mark.outcome = (enum mark_outcome)i;
    if (id == NULL || strlen(id) != sizeof(mark.id) - 1 || mark.outcome == MARK_NONE) {
        if (marks->garbage++ == 0)
            marks->first_garbage = offset;
    } else {
        memcpy(mark.id, id, sizeof(mark.id));
        mark.status = (int)json_integer_value(json_object_get(root, "status"));
        mark.attempt = (unsigned)json_integer_value(json_object_get(root, "attempt"));
        mark.at_ms = parse_time(json_string_value(json_object_get(root, "at")));
        mark.not_before_ms = parse_time(json_string_value(json_object_get(root, "not_before")));
        mark.answer = json_string_value(
            json_object_get(root, mark.outcome == MARK_QUEUED ? "stream" : "answer"));
        err = remember(marks, &mark);
    }
    json_decref(root);
    return err;
}

static int read_all(struct marks *marks, bool *ret_torn)
{
    char *line = NULL;
    size_t size = 0;
    uint64_t offset = 0;
    ssize_t length;
    int err = 0;
    int fd = dup(marks->fd);
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
        *ret_torn = !whole; /* its writer was killed: the decision was not made */
        if (whole && length > 1)
            err = read_line(marks, line, (size_t)length - 1, offset);
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
    (void)snprintf(error, MARKS_ERROR_SIZE, "%s %.200s: %s", what, path, strerrordesc_np(-err));
    return err;
}

/* Open, or make, a file beside the archive `path`, to write. The folder may be another user's, and
 * root writes where a link leads: what is there must be a file like one of ours. What root makes is
 * given to the archive's owner, whose server has to go on with it. */
static int open_beside(const char *path, const char *name, int flags, bool *ret_made)
{
    const int how = flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
    struct stat st;

    int fd = open(name, how);
    *ret_made = fd < 0 && errno == ENOENT;
    if (*ret_made)
        fd = open(name, how | O_CREAT | O_EXCL, 0600);
    if (fd < 0 && *ret_made && errno == EEXIST) { /* another one was faster */
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

static int take_lock(struct marks *marks, const char *path, char *error)
{
    char lock[4096], holder[64] = "";
    bool made;

    if (snprintf(lock, sizeof(lock), "%s.lock", path) >= (int)sizeof(lock))
        return fail(error, -ENAMETOOLONG, "cannot lock", path);
    marks->lock_fd = open_beside(path, lock, O_RDWR, &made);
    if (marks->lock_fd < 0)
        return fail(error, marks->lock_fd, "cannot open", lock);
    if (flock(marks->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        int err = errno == EWOULDBLOCK ? -EBUSY : -errno;
        ssize_t n = pread(marks->lock_fd, holder, sizeof(holder) - 1, 0);
        holder[n > 0 ? strspn(holder, "0123456789") : 0] = '\0';
        if (err != -EBUSY)
            return fail(error, err, "cannot lock", lock);
        (void)snprintf(error, MARKS_ERROR_SIZE,
                       "%.200s is being worked on by process %s: wait for it, or stop it", path,
                       holder[0] != '\0' ? holder : "(unknown)");
        return err;
    }
    int n = snprintf(holder, sizeof(holder), "%ld\n", (long)getpid());
    if (ftruncate(marks->lock_fd, 0) == 0) /* for the message above, no more */
        (void)!pwrite(marks->lock_fd, holder, (size_t)n, 0);
    return 0;
}

/* A new name in a folder is on the disk when the folder is. */
static void sync_folder(const char *path)
{
    char *copy = strdup(path);
    int fd = copy != NULL ? open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

    if (fd >= 0) {
        (void)fsync(fd); /* where a folder cannot be synced, nothing more can be done */
        (void)close(fd);
    }
    free(copy);
}

static int open_done(struct marks *marks, const char *path, bool to_write, char *error)
{
    bool torn = false, made = false;

    if (asprintf(&marks->path, "%s.done", path) < 0) {
        marks->path = NULL;
        return fail(error, -ENOMEM, "cannot read the marks of", path);
    }
    if (to_write)
        marks->fd = open_beside(path, marks->path, O_RDWR | O_APPEND, &made);
    else if ((marks->fd = open(marks->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)) < 0)
        marks->fd = -errno;
    if (marks->fd == -ENOENT && !to_write)
        return 0;
    if (marks->fd < 0)
        return fail(error, marks->fd, "cannot open", marks->path);
    if (made)
        sync_folder(marks->path);
    int err = read_all(marks, &torn);
    if (err == 0 && torn && to_write && write(marks->fd, "\n", 1) != 1)
        err = -errno;
    return err == 0 ? 0 : fail(error, err, "cannot read", marks->path);
}

int marks_open(const char *path, bool to_write, struct marks **ret_marks,
               char error[MARKS_ERROR_SIZE])
{
    struct marks *marks = calloc(1, sizeof(*marks));

    if (marks == NULL)
        return fail(error, -ENOMEM, "cannot read the marks of", path);
    marks->fd = marks->lock_fd = -1;
    int err = to_write ? take_lock(marks, path, error) : 0;
    if (err == 0)
        err = open_done(marks, path, to_write, error);
    if (err != 0) {
        marks_close(marks);
        return err;
    }
    *ret_marks = marks;
    return 0;
}

void marks_close(struct marks *marks)
{
    if (marks == NULL)
        return;
    if (marks->fd >= 0)
        (void)close(marks->fd);
    if (marks->lock_fd >= 0)
        (void)close(marks->lock_fd); /* and so the lock is free */
    tdestroy(marks->by_id, free_mark);
    free(marks->pending);
    free(marks->path);
    free(marks);
}

/* ---- writing ---- */

static char *line_of(const struct mark *mark)
{
    char at[UNFINISHED_TIME_SIZE], not_before[UNFINISHED_TIME_SIZE];
    json_t *root = json_pack("{s:s, s:s, s:s}", "id", mark->id, "outcome", outcomes[mark->outcome],
                             "at", unfinished_format_time(mark->at_ms, at));
    int err = root == NULL;

    if (mark->attempt != 0) {
        err |= json_object_set_new(root, "status", json_integer(mark->status));
        err |= json_object_set_new(root, "attempt", json_integer(mark->attempt));
    }
    if (mark->not_before_ms != 0)
        err |= json_object_set_new(
            root, "not_before",
            json_string(unfinished_format_time(mark->not_before_ms, not_before)));
    if (mark->answer != NULL)
        err |= json_object_set_new(root, mark->outcome == MARK_QUEUED ? "stream" : "answer",
                                   log_json_text(mark->answer));
    char *line = err == 0 ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    return line;
}

int marks_add(struct marks *marks, const struct mark *mark)
{
    char *line = line_of(mark);
    size_t length = line != NULL ? strlen(line) : 0;
    char *grown = line != NULL ? realloc(marks->pending, marks->pending_bytes + length + 1) : NULL;

    if (grown != NULL) {
        marks->pending = grown;
        memcpy(grown + marks->pending_bytes, line, length);
        grown[marks->pending_bytes + length] = '\n';
        marks->pending_bytes += length + 1;
    }
    free(line);
    return grown != NULL ? remember(marks, mark) : -ENOMEM;
}

int marks_flush(struct marks *marks)
{
    size_t done = 0;
    int err = 0;

    if (marks->pending_bytes == 0)
        return 0;
    off_t end = lseek(marks->fd, 0, SEEK_END);
    while (done < marks->pending_bytes && err == 0) {
        ssize_t n = write(marks->fd, marks->pending + done, marks->pending_bytes - done);
        if (n > 0)
            done += (size_t)n;
        else if (n == 0 || errno != EINTR)
            err = n == 0 ? -EIO : -errno;
    }
    if (err == 0 && fdatasync(marks->fd) != 0)
        err = -errno;
    if (err != 0) {
        (void)!ftruncate(marks->fd, end); /* else the next reader skips what is torn */
        return err;
    }
    marks->pending_bytes = 0;
    return 0;
}

size_t marks_garbage(const struct marks *marks, uint64_t *ret_first_offset)
{
    *ret_first_offset = marks->first_garbage;
    return marks->garbage;
}

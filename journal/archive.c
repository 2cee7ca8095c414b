#include "archive.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "archive_reader.h"
#include "clock.h"
#include "file.h"

#define LOCK_LOOK_MS 5
#define WRITE_BYTES (1 << 20)
#define DAY_NAME_SIZE 64
#define DAY_MS UINT64_C(86400000)

/* ---- the lock ---- */

int archive_try_lock(int fd)
{
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

    if (fcntl(fd, F_OFD_SETLK, &whole) == 0)
        return 0;
    return errno == EACCES ? -EAGAIN : -errno;
}

int archive_lock(const char *dir, uint64_t until_ns, int *ret_fd)
{
    char *path;

    if (asprintf(&path, "%s/archive.lock", dir) < 0)
        return -ENOMEM;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    int err = fd < 0 ? -errno : archive_try_lock(fd);
    free(path);
    /* F_OFD_SETLKW has no time limit, and this thread takes no signal that could end it. */
    while (err == -EAGAIN && clock_now_ns() < until_ns) {
        struct timespec pause = clock_timespec(LOCK_LOOK_MS * NS_PER_MS);
        (void)nanosleep(&pause, NULL);
        err = archive_try_lock(fd);
    }
    if (err != 0 && fd >= 0)
        (void)close(fd);
    if (err == 0)
        *ret_fd = fd;
    return err == -EAGAIN ? -ETIMEDOUT : err;
}

/* ---- ids that are there ---- */

typedef char id_text[UNFINISHED_ID_SIZE];

struct ids {
    id_text *items;
    size_t count, room;
};

static int by_id(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(id_text));
}

static int add_id(struct ids *ids, const char *id)
{
    if (ids->count == ids->room) {
        size_t room = ids->room == 0 ? 64 : 2 * ids->room;
        id_text *grown = realloc(ids->items, room * sizeof(*grown));
        if (grown == NULL)
            return -ENOMEM;
        ids->items = grown;
        ids->room = room;
    }
    memcpy(ids->items[ids->count++], id, sizeof(id_text));
    return 0;
}

static bool has_id(const struct ids *ids, const char *id)
{
    return ids->count > 0 && bsearch(id, ids->items, ids->count, sizeof(id_text), by_id) != NULL;
}

/* Our lines begin with the schema and the id: parsing them whole would take far longer. */
static int add_ids_of(struct ids *ids, const char *dir, const char *name)
{
    char *path, *line = NULL;
    size_t size = 0;
    ssize_t len;
    id_text id = "";
    int err = 0;

    if (asprintf(&path, "%s/%s", dir, name) < 0)
        return -ENOMEM;
    int fd = file_open_regular(path);
    free(path);
    if (fd == -ENOENT || fd == -ENOTSUP) /* it is gone, or is not one of our files */
        return 0;
    FILE *file = fd >= 0 ? fdopen(fd, "r") : NULL;
    if (file == NULL) {
        err = fd < 0 ? fd : -errno;
        if (fd >= 0)
            (void)close(fd);
        return err;
    }
    while (err == 0 && (len = getline(&line, &size, file)) > 0) {
        const char *at = line[len - 1] == '\n' ? strstr(line, "\"id\":") : NULL;
        if (at != NULL && sscanf(at + 5, " \"%32[0-9a-f]\"", id) == 1 &&
            strlen(id) == sizeof(id) - 1)
            err = add_id(ids, id);
    }
    free(line);
    (void)fclose(file);
    return err;
}

static void format_day(uint64_t ms, char name[DAY_NAME_SIZE])
{
    time_t seconds = (time_t)(ms / 1000);
    struct tm tm = {0};

    (void)gmtime_r(&seconds, &tm);
    (void)strftime(name, DAY_NAME_SIZE, "unfinished-%Y%m%d.ndjson", &tm);
}

static int is_day(const struct dirent *entry)
{
    return archive_is_day_file(entry->d_name);
}

/* The ids of the days since the record began, and of one more day, because clocks are set back. */
static int find_ids(const char *dir, uint64_t since_ms, struct ids *ids)
{
    struct dirent **entries;
    char first[DAY_NAME_SIZE];
    int err = 0, n = scandir(dir, &entries, is_day, alphasort);

    if (n < 0)
        return -errno;
    format_day(since_ms > DAY_MS ? since_ms - DAY_MS : 0, first);
    for (int i = 0; i < n; i++) {
        if (err == 0 && strcmp(entries[i]->d_name, first) >= 0)
            err = add_ids_of(ids, dir, entries[i]->d_name);
        free(entries[i]);
    }
    free(entries);
    if (ids->count > 0)
        qsort(ids->items, ids->count, sizeof(id_text), by_id);
    return err;
}

/* ---- the file of the day ---- */

struct day_file {
    int fd;
    bool is_new;
    uint64_t began_at; /* its size when the move began */
    char *buffer;      /* not yet written */
    size_t used, room;
};

/* Cut the file after the last newline: the writer of what follows was killed while it wrote. */
static int cut_part_of_line(int fd, uint64_t *size)
{
    char bytes[4096];
    uint64_t end = *size;

    while (end > 0) {
        size_t n = end < sizeof(bytes) ? (size_t)end : sizeof(bytes);
        if (pread(fd, bytes, n, (off_t)(end - n)) != (ssize_t)n)
            return errno != 0 ? -errno : -EIO;
        const char *newline = memrchr(bytes, '\n', n);
        if (newline != NULL) {
            end = end - n + (size_t)(newline - bytes) + 1;
            break;
        }
        end -= n;
    }
    if (end != *size && ftruncate(fd, (off_t)end) != 0)
        return -errno;
    *size = end;
    return 0;
}

static int open_day(const char *path, struct day_file *file)
{
    struct stat st;

    memset(file, 0, sizeof(*file));
    file->fd = open(path, O_RDWR | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (file->fd < 0 && errno == ENOENT) {
        file->fd = open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        file->is_new = true;
    }
    if (file->fd < 0 || fstat(file->fd, &st) != 0)
        return -errno;
    if (!S_ISREG(st.st_mode))
        return -EEXIST;
    file->began_at = (uint64_t)st.st_size;
    errno = 0;
    return cut_part_of_line(file->fd, &file->began_at);
}

static int write_out(struct day_file *file)
{
    const char *at = file->buffer;

    while (file->used > 0) {
        ssize_t n = write(file->fd, at, file->used);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        at += n;
        file->used -= (size_t)n;
    }
    return 0;
}

static int add_line(struct day_file *file, const char *line)
{
    size_t n = strlen(line) + 1;

    if (file->used + n > WRITE_BYTES) {
        int err = write_out(file);
        if (err != 0)
            return err;
    }
    if (file->used + n > file->room) {
        size_t room = file->used + n > WRITE_BYTES ? file->used + n : WRITE_BYTES;
        char *grown = realloc(file->buffer, room);
        if (grown == NULL)
            return -ENOMEM;
        file->buffer = grown;
        file->room = room;
    }
    memcpy(file->buffer + file->used, line, n - 1);
    file->buffer[file->used + n - 1] = '\n';
    file->used += n;
    return 0;
}

/* After a loss of power a new file exists only if its folder was flushed, too. */
static int flush(struct day_file *file, const char *dir)
{
    int err = write_out(file);

    if (err == 0 && fdatasync(file->fd) != 0)
        err = -errno;
    return err != 0 || !file->is_new ? err : file_sync_folder(dir);
}

/* ---- a move ---- */

struct mover {
    const struct archive_move *move;
    struct archive_moved *moved;
    struct record record;
    struct ids ids; /* the ids in the archive */
    struct day_file file;
    uint32_t *units; /* heads to be freed once their lines are flushed */
    size_t unit_count, unit_room;
    uint64_t now_ms;
};

static int note_unit(struct mover *m, uint32_t unit)
{
    if (m->unit_count == m->unit_room) {
        size_t room = m->unit_room == 0 ? 64 : 2 * m->unit_room;
        uint32_t *grown = realloc(m->units, room * sizeof(*grown));
        if (grown == NULL)
            return -ENOMEM;
        m->units = grown;
        m->unit_room = room;
    }
    m->units[m->unit_count++] = unit;
    return 0;
}

static int write_request(struct mover *m, struct unfinished *u)
{
    u->reason = m->move->reason;
    u->class = unfinished_classify(u->state, &u->method);
    u->archived_ms = m->now_ms;
    u->age_ms = u->archived_ms > u->began_ms ? (double)(u->archived_ms - u->began_ms) : 0;
    char *line = unfinished_line(u);
    if (line == NULL)
        return -ENOMEM;
    int err = add_line(&m->file, line);
    free(line);
    return err;
}

static int move_item(struct mover *m, struct record_item *item)
{
    int err;

    if (item->kind != RECORD_REQUEST) {
        m->moved->torn += item->kind == RECORD_TORN;
        m->moved->damaged += item->kind == RECORD_DAMAGED;
        if (m->move->on_bad != NULL)
            m->move->on_bad(m->move->arg, item);
        return 0;
    }
    if (clock_now_ns() >= m->move->until_ns)
        return -ETIMEDOUT;
    err = note_unit(m, item->unit);
    if (err != 0)
        return err;
    if (has_id(&m->ids, item->request.id)) {
        m->moved->doubles++;
        return 0;
    }
    err = write_request(m, &item->request);
    if (err == 0)
        m->moved->count++;
    else
        m->unit_count--;
    return err;
}

static int move_items(struct mover *m)
{
    struct record_item item;
    uint32_t index = 0;
    int found, err = 0;

    while (err == 0 && (found = record_next(&m->record, &index, &item)) != 0) {
        if (found < 0)
            return found;
        bool skipped = m->move->skip != NULL && item.unit != JOURNAL_NO_UNIT &&
                       m->move->skip[item.unit / m->record.header.units];
        if (!skipped)
            err = move_item(m, &item);
        unfinished_release(&item.request);
    }
    return err;
}

static _Atomic uint64_t *commit_of(const struct mover *m, uint32_t unit)
{
    struct journal_unit *at = (void *)((uint8_t *)m->move->bytes + JOURNAL_HEADER_BYTES +
                                       (size_t)unit * JOURNAL_UNIT_BYTES);
    return &at->commit;
}

static void free_units(struct mover *m)
{
    for (size_t i = 0; i < m->unit_count; i++)
        atomic_store_explicit(commit_of(m, m->units[i]), JOURNAL_FREE, memory_order_release);
}

static uint64_t count_left(const struct mover *m)
{
    uint64_t left = 0;

    for (uint32_t i = 0; i < m->record.units; i++)
        left += atomic_load_explicit(commit_of(m, i), memory_order_relaxed) > JOURNAL_WRITING;
    return left;
}

/* Undo the move. */
static void take_back(struct mover *m)
{
    m->file.used = 0;
    m->moved->count = m->moved->doubles = 0;
    m->unit_count = 0;
    if (m->file.fd >=
        0) /* it may fail: whole lines have ids, and the next move cuts off a part of a line */
        (void)!ftruncate(m->file.fd, (off_t)m->file.began_at);
}

static int move_all(struct mover *m)
{
    char name[DAY_NAME_SIZE];
    const struct archive_move *move = m->move;
    int err = 0;

    if (move->may_be_there)
        err = find_ids(move->dir, m->record.header.started_ms, &m->ids);
    if (err != 0)
        return err;
    format_day(m->now_ms, name);
    (void)snprintf(m->moved->path, sizeof(m->moved->path), "%s/%s", move->dir, name);
    err = open_day(m->moved->path, &m->file);
    if (err != 0)
        return err;
    int cut_short = move_items(m);
    m->moved->from = m->file.began_at;
    if (cut_short == 0 || cut_short == -ETIMEDOUT)
        err = flush(&m->file, move->dir);
    else
        err = cut_short;
    if (err != 0) {
        take_back(m);
        return err;
    }
    free_units(m);
    m->moved->to = (uint64_t)lseek(m->file.fd, 0, SEEK_END);
    return cut_short;
}

static bool has_requests(const struct mover *m)
{
    uint32_t units = m->record.header.units;

    for (uint32_t i = 0; i < m->record.units; i++)
        if ((m->move->skip == NULL || !m->move->skip[i / units]) &&
            atomic_load_explicit(commit_of(m, i), memory_order_relaxed) != JOURNAL_FREE)
            return true;
    return m->record.size < m->record.header.file_bytes;
}

int archive_move(const struct archive_move *move, struct archive_moved *ret_moved)
{
    char why[UNFINISHED_WHY_SIZE];
    struct mover m = {.move = move, .moved = ret_moved, .file.fd = -1, .now_ms = clock_wall_ms()};

    memset(ret_moved, 0, sizeof(*ret_moved));
    int err = record_open(move->bytes, move->size, &m.record, why);
    if (err != 0)
        return err;
    if (has_requests(&m)) {
        err = move_all(&m);
        ret_moved->left = count_left(&m);
        if (m.file.is_new && m.file.fd >= 0 && ret_moved->from == ret_moved->to &&
            lseek(m.file.fd, 0, SEEK_END) == 0)
            (void)unlink(ret_moved->path); /* it is empty */
        if (ret_moved->count == 0 && err == 0)
            ret_moved->path[0] = '\0';
    }
    if (m.file.fd >= 0)
        (void)close(m.file.fd);
    free(m.file.buffer);
    free(m.units);
    free(m.ids.items);
    return err;
}

#include "journal_p.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "archive.h"
#include "clock.h"
#include "log.h"
#include "record.h"

/* Recovers what dead processes left in the folder of the journal: each `inflight.PID` whose lock is
 * free. A server that starts, or a replay, moves its requests to the archive. */

#define BAD_NAMED 20 /* in one file */
#define LOCK_PATIENCE_NS (10 * NS_PER_S)

struct bad {
    const char *path;
    unsigned named;
};

static void name_bad(void *arg, const struct record_item *item)
{
    struct bad *bad = arg;

    if (bad->named++ < BAD_NAMED)
        log_line(LOG_LEVEL_WARN, item->kind == RECORD_TORN ? "record-torn" : "record-damaged",
                 json_pack("{s:s, s:I}", "path", bad->path, "offset", (json_int_t)item->offset),
                 "%s: the slot at offset %" PRIu64 " is lost: %s", bad->path, item->offset,
                 item->why);
}

static void log_moved(const char *path, uint64_t pid, const struct archive_moved *moved)
{
    if (moved->count > 0)
        log_line(LOG_LEVEL_WARN, "archived",
                 json_pack("{s:I, s:s, s:s, s:I}", "count", (json_int_t)moved->count, "path",
                           moved->path, "reason", "crashed", "pid", (json_int_t)pid),
                 "%" PRIu64 " request%s archived to %s: process %" PRIu64
                 " ended without answering",
                 moved->count, moved->count == 1 ? "" : "s", moved->path, pid);
    if (moved->doubles > 0) /* its owner has told nobody: its move was not over when it ended */
        log_line(
            LOG_LEVEL_WARN, "archived-before",
            json_pack("{s:I, s:I}", "count", (json_int_t)moved->doubles, "pid", (json_int_t)pid),
            "%" PRIu64 " request%s of process %" PRIu64
            " had been archived already, when that process ended in the middle of the move",
            moved->doubles, moved->doubles == 1 ? "" : "s", pid);
    if (moved->torn + moved->damaged > 0)
        log_line(LOG_LEVEL_WARN, "record-bad",
                 json_pack("{s:s, s:I, s:I}", "path", path, "torn", (json_int_t)moved->torn,
                           "damaged", (json_int_t)moved->damaged),
                 "%s: %" PRIu64 " slot%s torn (its writer was killed before any handler ran), "
                 "%" PRIu64 " damaged",
                 path, moved->torn, moved->torn == 1 ? "" : "s", moved->damaged);
}

/* Keep a damaged file as evidence, under another name. */
static void put_aside(const char *dir, const char *path, uint64_t pid)
{
    char *aside = NULL;

    if (asprintf(&aside, "%s/damaged-inflight.%" PRIu64 "-%lld", dir, pid, (long long)time(NULL)) <
        0)
        return;
    if (rename(path, aside) == 0)
        log_line(LOG_LEVEL_WARN, "record-kept", NULL, "%s is kept as %s", path, aside);
    free(aside);
}

static void recover_mapped(struct journal *journal, const char *path, void *bytes, size_t size)
{
    char why[UNFINISHED_WHY_SIZE];
    struct record record;
    struct archive_moved *moved = calloc(1, sizeof(*moved));
    struct bad bad = {.path = path};

    if (moved == NULL)
        return;
    if (record_open(bytes, size, &record, why) != 0) {
        log_line(LOG_LEVEL_WARN, "record-foreign", NULL, "%s is left alone: %s", path, why);
        free(moved);
        return;
    }
    const struct archive_move move = {.dir = journal->dir,
                                      .bytes = bytes,
                                      .size = size,
                                      .reason = UNFINISHED_REASON_CRASHED,
                                      .until_ns = CLOCK_NEVER,
                                      .may_be_there = true,
                                      .on_bad = name_bad,
                                      .arg = &bad};
    int err = archive_move(&move, moved);
    if (err != 0)
        log_line(LOG_LEVEL_ERROR, "archive-failed", NULL,
                 "cannot archive what is in %s: %s (it stays there, and the next start tries "
                 "again)",
                 path, strerrordesc_np(-err));
    log_moved(path, record.header.pid, moved);
    journal_count(&journal->archived, moved->count);
    journal_count(&journal->torn, moved->torn);
    journal_count(&journal->damaged, moved->damaged);
    if (err == 0 && moved->damaged > 0)
        put_aside(journal->dir, path, record.header.pid);
    else if (err == 0)
        (void)unlink(path);
    free(moved);
}

static void recover_file(struct journal *journal, const char *name, bool is_new)
{
    struct stat st;
    char *path = journal_path_in(journal->dir, name);
    int fd = path != NULL ? open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK) : -1;
    int err = path == NULL ? -ENOMEM : fd < 0 ? -errno : archive_try_lock(fd);

    if (err == -EAGAIN) {
        ; /* its owner is alive */
    } else if (err != 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        log_line(LOG_LEVEL_WARN, "record-foreign", NULL, "%s is left alone: %s", path,
                 err != 0 ? strerrordesc_np(-err) : "not a regular file");
    } else if (is_new) {
        (void)unlink(path);
    } else {
        size_t size = (size_t)st.st_size;
        void *bytes =
            size > 0 ? mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;
        if (bytes == MAP_FAILED) {
            log_line(LOG_LEVEL_WARN, "record-foreign", NULL, "%s is left alone: %s", path,
                     size > 0 ? strerrordesc_np(errno) : "it is empty");
        } else {
            recover_mapped(journal, path, bytes, size);
            (void)munmap(bytes, size);
        }
    }
    if (fd >= 0)
        (void)close(fd);
    free(path);
}

static int is_inflight(const struct dirent *entry)
{
    return strncmp(entry->d_name, "inflight", strlen("inflight")) == 0;
}

void journal_recover_all(struct journal *journal)
{
    struct dirent **entries;
    int n = scandir(journal->dir, &entries, is_inflight, alphasort);

    for (int i = 0; i < n; i++) {
        bool is_new = false;
        if (record_is_name(entries[i]->d_name, &is_new))
            recover_file(journal, entries[i]->d_name, is_new);
        else
            log_line(LOG_LEVEL_WARN, "record-foreign", NULL,
                     "%s/%s is left alone: not the name of a record", journal->dir,
                     entries[i]->d_name);
        free(entries[i]);
    }
    if (n >= 0)
        free(entries);
}

int journal_recover(const char *dir, uint64_t *ret_archived)
{
    struct journal journal = {.fd = -1, .dir = strdup(dir)};
    int lock_fd, err = journal.dir != NULL ? 0 : -ENOMEM;

    if (err == 0)
        err = archive_lock(dir, clock_now_ns() + LOCK_PATIENCE_NS, &lock_fd);
    if (err == 0) {
        journal_recover_all(&journal);
        (void)close(lock_fd);
        *ret_archived = atomic_load_explicit(&journal.archived, memory_order_relaxed);
    }
    free(journal.dir);
    return err;
}

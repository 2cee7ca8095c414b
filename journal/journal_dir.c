/* The folder of the journal, at the start and the end of a process:
 *
 *     take its lock              one process at a time works in the folder; see archive.h
 *     read or create redact.key
 *     for each inflight.*        whose lock is free: its owner is dead, move what it left
 *     create inflight.PID        lock it, map it
 *     release the folder's lock
 *
 * The kernel ties a file's lock to its open file description and releases it with the last
 * descriptor. So the owner is alive if and only if the lock is held, even if its process id was
 * reused. Files of other names, and files that are not records, stay, and the log names them. */

#include "journal_p.h"

#include <errno.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "archive.h"
#include "clock.h"
#include "exit_status.h"

#define LOCK_PATIENCE_NS (10 * NS_PER_S)

/* ---- the folder ---- */

static int check_dir(const char *dir, char *error)
{
    struct stat st;

    if (stat(dir, &st) != 0)
        return journal_fail(
            error, EXIT_STATUS_CONFIG,
            "cannot keep the in-flight record in %s: %s (create the folder, owned by the "
            "user that the server runs as)",
            dir, strerrordesc_np(errno));
    if (!S_ISDIR(st.st_mode))
        return journal_fail(error, EXIT_STATUS_CONFIG,
                            "cannot keep the in-flight record in %s: not a directory", dir);
    return 0;
}

static int check_dir_is_ours(const char *dir, char *error)
{
    struct stat st = {0};

    (void)stat(dir, &st);
    if (st.st_uid != geteuid())
        return journal_fail(
            error, EXIT_STATUS_CONFIG,
            "cannot keep the in-flight record in %s: it belongs to user %ju and this is "
            "user %ju (chown it, or name another folder, such as %s/journal)",
            dir, (uintmax_t)st.st_uid, (uintmax_t)geteuid(), dir);
    if ((st.st_mode & (S_IWGRP | S_IWOTH)) != 0)
        return journal_fail(error, EXIT_STATUS_CONFIG,
                            "cannot keep the in-flight record in %s: others may write there (chmod "
                            "go-w it)",
                            dir);
    return 0;
}

static int lock_dir(const char *dir, int *ret_fd, char *error)
{
    int err = archive_lock(dir, clock_now_ns() + LOCK_PATIENCE_NS, ret_fd);

    if (err == -ETIMEDOUT)
        return journal_fail(
            error, EXIT_STATUS_UNAVAILABLE,
            "cannot keep the in-flight record in %s: another process has held its lock "
            "for 10 s",
            dir);
    if (err == -ENOSPC)
        return journal_fail(error, EXIT_STATUS_UNAVAILABLE,
                            "cannot keep the in-flight record in %s: the disk is full", dir);
    if (err != 0)
        return journal_fail(error, EXIT_STATUS_CONFIG, "cannot keep the in-flight record in %s: %s",
                            dir, strerrordesc_np(-err));
    return 0;
}

static int open_locked(struct journal *journal, const struct journal_config *config, char *error)
{
    uint8_t key[JOURNAL_KEY_BYTES];
    bool redacts = journal->redact.count > 0;
    int status = redacts ? journal_take_key(journal->dir, key, error) : 0;

    if (status == 0) {
        journal_recover_all(journal);
        status = journal_make_record(journal, config, redacts ? key : NULL, error);
    }
    OPENSSL_cleanse(key, sizeof(key));
    return status;
}

int journal_open(const struct journal_config *config, struct journal **ret_journal, char *error)
{
    struct journal *journal = calloc(1, sizeof(*journal));
    int lock_fd = -1;

    if (journal == NULL)
        return journal_fail(error, EXIT_STATUS_UNAVAILABLE, "no memory to start");
    journal->fd = -1;
    atomic_init(&journal->users, 1);
    journal->max_body = config->max_body;
    journal->sync = config->sync;
    journal->page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    journal->wall_minus_mono_ms = (int64_t)clock_wall_ms() - (int64_t)(clock_now_ns() / NS_PER_MS);
    journal->dir = strdup(config->dir);
    int status = journal->dir == NULL || RAND_bytes(journal->id_salt, 4) != 1
                     ? journal_fail(error, EXIT_STATUS_UNAVAILABLE, "no memory to start")
                     : journal_read_lists(journal, config, error);
    if (status == 0)
        status = check_dir(config->dir, error);
    if (status == 0)
        status = check_dir_is_ours(config->dir, error);
    if (status == 0)
        status = lock_dir(config->dir, &lock_fd, error);
    if (status == 0)
        status = open_locked(journal, config, error);
    if (lock_fd >= 0)
        (void)close(lock_fd);
    if (status != 0)
        journal_destroy(journal);
    else
        *ret_journal = journal;
    return status;
}

int journal_check(const struct journal_config *config, char *error)
{
    struct journal lists = {0};
    int status = journal_read_lists(&lists, config, error);

    if (status == 0 && !config->is_made)
        status = check_dir(config->dir, error);
    free(lists.methods.memory);
    free(lists.paths.memory);
    free(lists.redact.memory);
    return status;
}

/* ---- the end ---- */

uint64_t journal_count_left(const struct journal *journal)
{
    uint64_t left = 0;

    for (unsigned i = 0; i < journal->part_count; i++)
        for (uint32_t j = 0,
                      top = atomic_load_explicit(&journal->parts[i].top, memory_order_relaxed);
             j < top; j++)
            left += atomic_load_explicit(&journal->parts[i].units[j].commit,
                                         memory_order_relaxed) != JOURNAL_FREE;
    return left;
}

void journal_leave(struct journal *journal)
{
    if (journal != NULL && journal_count_left(journal) == 0)
        (void)unlink(journal->path);
}

void journal_drop(struct journal *journal)
{
    if (atomic_fetch_sub_explicit(&journal->users, 1, memory_order_acq_rel) > 1)
        return;
    for (unsigned i = 0; journal->parts != NULL && i < journal->part_count; i++) {
        free(journal->parts[i].free);
        EVP_MAC_CTX_free(journal->parts[i].mac);
    }
    free(journal->parts);
    if (journal->map != NULL)
        (void)munmap(journal->map, journal->map_bytes);
    free(journal->methods.memory);
    free(journal->paths.memory);
    free(journal->redact.memory);
    free(journal->path);
    free(journal->dir);
    free(journal);
}

void journal_destroy(struct journal *journal)
{
    if (journal == NULL)
        return;
    /* The record has no owner from here on. A move that still runs has the folder's lock, and the
     * next owner waits for that. */
    if (journal->fd >= 0)
        (void)close(journal->fd);
    journal->fd = -1;
    journal_drop(journal);
}

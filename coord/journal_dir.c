#include "journal_p.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <openssl/core_names.h>
#include <openssl/rand.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

#include "archive.h"
#include "clock.h"
#include "coord.h"
#include "log.h"

/* The folder of the journal, as a process comes and goes:
 *
 *     take its lock              one process at a time is in it; see archive.h
 *     read or make redact.key
 *     each inflight.* whose lock nobody holds: its owner is dead, move what it left
 *     make inflight.PID, lock it, map it
 *     give the lock back
 *
 * A file's lock belongs to its open file description and goes with the last descriptor of it, so
 * its owner is alive if and only if the lock is held, whatever became of the process id. Files of
 * other names, and those that are no record, are left alone and named. */

#define LOCK_PATIENCE_NS (10 * NS_PER_S)
#define KEY_BYTES 32
#define UNITS_LEAST 64  /* in a partition */
#define RESERVE_PART 16 /* of the units, one in so many */
#define BAD_NAMED 20    /* slots of one file */
#define NAMES_TRIED 100
#define SAME_NAME_SIZE 64

static int fail(char *error, int status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static int fail(char *error, int status, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    (void)vsnprintf(error, JOURNAL_ERROR_SIZE, format, args);
    va_end(args);
    return status;
}

static char *path_in(const char *dir, const char *name)
{
    char *path;
    return asprintf(&path, "%s/%s", dir, name) < 0 ? NULL : path;
}

/* ---- the lists ---- */

static int split(const char *what, const char *list, struct journal_words *ret_words, char *error)
{
    struct journal_words words = {.memory = strdup(list != NULL ? list : "")};
    char *rest = words.memory, *word;

    if (words.memory == NULL)
        return fail(error, COORD_EXIT_UNAVAILABLE, "no memory to start");
    while ((word = strsep(&rest, ",")) != NULL) {
        word += strspn(word, " ");
        size_t len = strlen(word);
        while (len > 0 && word[len - 1] == ' ')
            word[--len] = '\0';
        if (len == 0)
            continue;
        if (words.count == JOURNAL_WORDS_MAX) {
            free(words.memory);
            return fail(error, COORD_EXIT_CONFIG, "journal.%s: want at most %d", what,
                        JOURNAL_WORDS_MAX);
        }
        words.items[words.count++] = (struct unfinished_text){word, len};
    }
    *ret_words = words;
    return 0;
}

static int read_lists(struct journal *journal, const struct journal_config *config, char *error)
{
    int status = split("methods", config->methods, &journal->methods, error);

    if (status == 0)
        status = split("paths", config->paths, &journal->paths, error);
    if (status == 0)
        status = split("redact", config->redact, &journal->redact, error);
    if (status != 0)
        return status;
    for (size_t i = 0; i < journal->redact.count; i++) /* as libh2o has them */
        for (char *at = journal->redact.items[i].base; *at != '\0'; at++)
            *at = *at >= 'A' && *at <= 'Z' ? (char)(*at + 32) : *at;
    for (size_t i = 0; i < journal->methods.count; i++)
        journal->every_method |= strcmp(journal->methods.items[i].base, "*") == 0;
    journal->every_path = journal->paths.count == 0;
    for (size_t i = 0; i < journal->paths.count; i++) {
        const char *path = journal->paths.items[i].base;
        if (path[0] != '/' && path[0] != '*')
            return fail(error, COORD_EXIT_CONFIG,
                        "journal.paths: %s must begin with a / (or be a pattern: *)", path);
        journal->has_patterns |= strpbrk(path, "*?[") != NULL;
    }
    return 0;
}

/* ---- the folder ---- */

static int check_dir(const char *dir, char *error)
{
    struct stat st;

    if (stat(dir, &st) != 0)
        return fail(error, COORD_EXIT_CONFIG,
                    "cannot keep the in-flight record in %s: %s (make the folder, owned by the "
                    "user that the server runs as)",
                    dir, strerrordesc_np(errno));
    if (!S_ISDIR(st.st_mode))
        return fail(error, COORD_EXIT_CONFIG,
                    "cannot keep the in-flight record in %s: not a directory", dir);
    return 0;
}

static int check_dir_is_ours(const char *dir, char *error)
{
    struct stat st = {0};

    (void)stat(dir, &st);
    if (st.st_uid != geteuid())
        return fail(error, COORD_EXIT_CONFIG,
                    "cannot keep the in-flight record in %s: it belongs to user %ju and this is "
                    "user %ju (chown it, or name another folder)",
                    dir, (uintmax_t)st.st_uid, (uintmax_t)geteuid());
    if ((st.st_mode & (S_IWGRP | S_IWOTH)) != 0)
        return fail(error, COORD_EXIT_CONFIG,
                    "cannot keep the in-flight record in %s: others may write there (chmod "
                    "go-w it)",
                    dir);
    return 0;
}

static int lock_dir(const char *dir, int *ret_fd, char *error)
{
    int err = archive_lock(dir, clock_now_ns() + LOCK_PATIENCE_NS, ret_fd);

    if (err == -ETIMEDOUT)
        return fail(error, COORD_EXIT_UNAVAILABLE,
                    "cannot keep the in-flight record in %s: another process has held its lock "
                    "for 10 s",
                    dir);
    if (err == -ENOSPC)
        return fail(error, COORD_EXIT_UNAVAILABLE,
                    "cannot keep the in-flight record in %s: the disk is full", dir);
    if (err != 0)
        return fail(error, COORD_EXIT_CONFIG, "cannot keep the in-flight record in %s: %s", dir,
                    strerrordesc_np(-err));
    return 0;
}

/* ---- the key ---- */

static int make_key(const char *path, uint8_t key[KEY_BYTES])
{
    char *temporary;

    if (RAND_bytes(key, KEY_BYTES) != 1)
        return -EIO;
    if (asprintf(&temporary, "%s.new", path) < 0)
        return -ENOMEM;
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    int err = fd < 0 ? -errno : 0;
    if (err == 0 && write(fd, key, KEY_BYTES) != KEY_BYTES)
        err = errno != 0 ? -errno : -ENOSPC;
    if (err == 0 && fsync(fd) != 0)
        err = -errno;
    if (fd >= 0)
        (void)close(fd);
    if (err == 0 && rename(temporary, path) != 0)
        err = -errno;
    free(temporary);
    return err;
}

static int read_key(const char *path, uint8_t key[KEY_BYTES])
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

    if (fd < 0)
        return -errno;
    int err = fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size != KEY_BYTES ||
                      read(fd, key, KEY_BYTES) != KEY_BYTES
                  ? -EBADMSG
                  : 0;
    (void)close(fd);
    return err;
}

static int take_key(const char *dir, uint8_t key[KEY_BYTES], char *error)
{
    char *path = path_in(dir, "redact.key");
    int err = path == NULL ? -ENOMEM : read_key(path, key), status = 0;

    if (err == -ENOENT)
        err = make_key(path, key);
    if (err == -EBADMSG)
        status =
            fail(error, COORD_EXIT_CONFIG,
                 "%s is not a key of %d bytes (remove it, and a new one is made)", path, KEY_BYTES);
    else if (err != 0)
        status = fail(error, err == -ENOSPC ? COORD_EXIT_UNAVAILABLE : COORD_EXIT_CONFIG,
                      "cannot have the key of the in-flight record in %s: %s", dir,
                      strerrordesc_np(-err));
    free(path);
    return status;
}

static EVP_MAC_CTX *keyed_mac(const uint8_t key[KEY_BYTES])
{
    char digest[] = "SHA256";
    const OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
                                 OSSL_PARAM_construct_end()};
    EVP_MAC *mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    EVP_MAC_CTX *ctx = mac != NULL ? EVP_MAC_CTX_new(mac) : NULL;

    EVP_MAC_free(mac);
    if (ctx != NULL && EVP_MAC_init(ctx, key, KEY_BYTES, params) == 1)
        return ctx;
    EVP_MAC_CTX_free(ctx);
    return NULL;
}

/* ---- what dead owners left ---- */

/* `inflight.PID`, `inflight.PID.N`; or with `.new` behind it: never finished. */
static bool is_record_name(const char *name, bool *ret_is_new)
{
    size_t n = strlen("inflight.");

    if (strncmp(name, "inflight.", n) != 0)
        return false;
    size_t digits = strspn(name + n, "0123456789");
    n += digits;
    if (digits > 0 && name[n] == '.' && name[n + 1] >= '0' && name[n + 1] <= '9')
        n += 1 + strspn(name + n + 1, "0123456789");
    *ret_is_new = strcmp(name + n, ".new") == 0;
    return digits > 0 && (name[n] == '\0' || *ret_is_new);
}

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

static void add_count(_Atomic uint64_t *count, uint64_t n)
{
    atomic_store_explicit(count, atomic_load_explicit(count, memory_order_relaxed) + n,
                          memory_order_relaxed);
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
    if (moved->torn + moved->damaged > 0)
        log_line(LOG_LEVEL_WARN, "record-bad",
                 json_pack("{s:s, s:I, s:I}", "path", path, "torn", (json_int_t)moved->torn,
                           "damaged", (json_int_t)moved->damaged),
                 "%s: %" PRIu64 " slot%s torn (its writer was killed before any handler ran), "
                 "%" PRIu64 " damaged",
                 path, moved->torn, moved->torn == 1 ? "" : "s", moved->damaged);
}

/* Evidence is kept, under a name that is no record's. */
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
    add_count(&journal->archived, moved->count);
    add_count(&journal->torn, moved->torn);
    add_count(&journal->damaged, moved->damaged);
    if (err == 0 && moved->damaged > 0)
        put_aside(journal->dir, path, record.header.pid);
    else if (err == 0)
        (void)unlink(path);
    free(moved);
}

static void recover_file(struct journal *journal, const char *name, bool is_new)
{
    struct stat st;
    char *path = path_in(journal->dir, name);
    int fd = path != NULL ? open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK) : -1;
    int err = fd < 0 ? -errno : archive_try_lock(fd);

    if (err == -EAGAIN) {
        ; /* its owner is alive */
    } else if (err != 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        log_line(LOG_LEVEL_WARN, "record-foreign", NULL, "%s is left alone: %s", path,
                 err != 0 ? strerrordesc_np(-err) : "no plain file");
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

static void recover_all(struct journal *journal)
{
    struct dirent **entries;
    int n = scandir(journal->dir, &entries, is_inflight, alphasort);

    for (int i = 0; i < n; i++) {
        bool is_new = false;
        if (is_record_name(entries[i]->d_name, &is_new))
            recover_file(journal, entries[i]->d_name, is_new);
        else
            log_line(LOG_LEVEL_WARN, "record-foreign", NULL,
                     "%s/%s is left alone: no record has such a name", journal->dir,
                     entries[i]->d_name);
        free(entries[i]);
    }
    if (n >= 0)
        free(entries);
}

/* ---- a record of our own ---- */

static void read_boot_id(char *text, size_t size)
{
    FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");

    if (file == NULL)
        return;
    if (fgets(text, (int)size, file) != NULL)
        text[strcspn(text, "\n")] = '\0';
    (void)fclose(file);
}

static uint64_t wall_ms(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / NS_PER_MS;
}

static void write_header(struct journal *journal, uint32_t units, const uint8_t key[KEY_BYTES])
{
    struct journal_header h = {.version = JOURNAL_VERSION,
                               .byte_order = JOURNAL_BYTE_ORDER,
                               .header_bytes = JOURNAL_HEADER_BYTES,
                               .unit_bytes = JOURNAL_UNIT_BYTES,
                               .partitions = journal->part_count,
                               .units = units,
                               .file_bytes = journal->map_bytes,
                               .pid = (uint64_t)getpid(),
                               .started_ms = wall_ms(),
                               .server = "lastcall/" LASTCALL_VERSION};
    uint8_t digest[32] = {0};

    memcpy(h.magic, JOURNAL_MAGIC, sizeof(h.magic));
    read_boot_id(h.boot_id, sizeof(h.boot_id));
    if (key != NULL) {
        (void)EVP_Digest(key, KEY_BYTES, digest, NULL, EVP_sha256(), NULL);
        for (size_t i = 0; i < 8; i++)
            (void)sprintf(h.key_id + 2 * i, "%02x", digest[i]);
    }
    h.checksum = XXH3_64bits(&h, offsetof(struct journal_header, checksum));
    memcpy(journal->map, &h, sizeof(h));
}

static int make_part(struct journal *journal, unsigned index, uint32_t units,
                     const uint8_t key[KEY_BYTES])
{
    struct journal_part *part = &journal->parts[index];

    part->journal = journal;
    part->index = (uint8_t)index;
    part->first = index * units;
    part->unit_count = part->free_count = units;
    part->reserve = units / RESERVE_PART;
    part->units =
        (void *)(journal->map + JOURNAL_HEADER_BYTES + (size_t)part->first * JOURNAL_UNIT_BYTES);
    part->free = malloc(units * sizeof(*part->free));
    if (key != NULL)
        part->mac = keyed_mac(key);
    if (part->free == NULL || (key != NULL && part->mac == NULL))
        return -ENOMEM;
    for (uint32_t i = 0; i < units; i++) /* from the front */
        part->free[i] = part->first + units - 1 - i;
    return 0;
}

static int open_file(struct journal *journal, size_t bytes, const char *temporary, char *error)
{
    journal->fd = open(temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    int err = journal->fd < 0 ? -errno : archive_try_lock(journal->fd);
    /* All of it, now: a store to a page without a block would be a SIGBUS once the disk is full. */
    if (err == 0)
        err = -posix_fallocate(journal->fd, 0, (off_t)bytes);
    if (err == -ENOSPC || err == -EDQUOT || err == -EFBIG)
        return fail(error, COORD_EXIT_UNAVAILABLE,
                    "no room for an in-flight record of %zu MiB in %s: %s (free some, or lower "
                    "journal.max-inflight-bytes)",
                    bytes >> 20, journal->dir, strerrordesc_np(-err));
    if (err != 0)
        return fail(error, COORD_EXIT_CONFIG, "cannot make an in-flight record in %s: %s",
                    journal->dir, strerrordesc_np(-err));
    journal->map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, journal->fd, 0);
    if (journal->map == MAP_FAILED) {
        journal->map = NULL;
        return fail(error, COORD_EXIT_UNAVAILABLE, "cannot map an in-flight record of %zu MiB: %s",
                    bytes >> 20, strerrordesc_np(errno));
    }
    journal->map_bytes = bytes;
    return 0;
}

/* In a container every process may be number 1; what stands there already is not ours to touch. */
static char *free_name(const char *dir)
{
    char name[SAME_NAME_SIZE];

    for (unsigned i = 0; i < NAMES_TRIED; i++) {
        int n = snprintf(name, sizeof(name), "inflight.%ld", (long)getpid());
        if (i > 0)
            (void)snprintf(name + n, sizeof(name) - (size_t)n, ".%u", i);
        char *path = path_in(dir, name);
        if (path == NULL || access(path, F_OK) != 0)
            return path;
        free(path);
    }
    return NULL;
}

static int make_record(struct journal *journal, const struct journal_config *config,
                       const uint8_t key[KEY_BYTES], char *error)
{
    uint64_t units = config->max_inflight_bytes / JOURNAL_UNIT_BYTES / config->partitions;
    char *temporary = NULL;

    if (units < UNITS_LEAST)
        return fail(error, COORD_EXIT_CONFIG,
                    "journal.max-inflight-bytes %" PRIu64 ": %u loops want at least %" PRIu64,
                    config->max_inflight_bytes, config->partitions,
                    (uint64_t)UNITS_LEAST * JOURNAL_UNIT_BYTES * config->partitions);
    journal->part_count = config->partitions;
    journal->parts = aligned_alloc(64, config->partitions * sizeof(*journal->parts));
    journal->path = free_name(journal->dir);
    if (journal->parts == NULL || journal->path == NULL ||
        asprintf(&temporary, "%s.new", journal->path) < 0)
        return fail(error, COORD_EXIT_UNAVAILABLE, "no memory, or no free name, for a record");
    memset(journal->parts, 0, config->partitions * sizeof(*journal->parts));
    int status =
        open_file(journal, JOURNAL_HEADER_BYTES + units * JOURNAL_UNIT_BYTES * config->partitions,
                  temporary, error);
    if (status == 0)
        write_header(journal, (uint32_t)units, key);
    for (unsigned i = 0; i < config->partitions && status == 0; i++)
        if (make_part(journal, i, (uint32_t)units, key) != 0)
            status = fail(error, COORD_EXIT_UNAVAILABLE, "no memory for a record");
    if (status == 0 && config->sync == JOURNAL_SYNC_MSYNC)
        (void)fsync(journal->fd); /* its size and its header; slots follow one by one */
    if (status == 0 && rename(temporary, journal->path) != 0)
        status = fail(error, COORD_EXIT_UNAVAILABLE, "cannot make %s: %s", journal->path,
                      strerrordesc_np(errno));
    if (status != 0)
        (void)unlink(temporary);
    free(temporary);
    return status;
}

static int open_locked(struct journal *journal, const struct journal_config *config, char *error)
{
    uint8_t key[KEY_BYTES];
    bool redacts = journal->redact.count > 0;
    int status = redacts ? take_key(journal->dir, key, error) : 0;

    if (status == 0) {
        recover_all(journal);
        status = make_record(journal, config, redacts ? key : NULL, error);
    }
    OPENSSL_cleanse(key, sizeof(key));
    return status;
}

int journal_open(const struct journal_config *config, struct journal **ret_journal, char *error)
{
    struct journal *journal = calloc(1, sizeof(*journal));
    int lock_fd = -1;

    if (journal == NULL)
        return fail(error, COORD_EXIT_UNAVAILABLE, "no memory to start");
    journal->fd = -1;
    journal->max_body = config->max_body;
    journal->sync = config->sync;
    journal->page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    journal->wall_minus_mono_ms = (int64_t)wall_ms() - (int64_t)(clock_now_ns() / NS_PER_MS);
    journal->dir = strdup(config->dir);
    int status = journal->dir == NULL || RAND_bytes(journal->id_salt, 4) != 1
                     ? fail(error, COORD_EXIT_UNAVAILABLE, "no memory to start")
                     : read_lists(journal, config, error);
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
    int status = read_lists(&lists, config, error);

    if (status == 0)
        status = check_dir(config->dir, error);
    free(lists.methods.memory);
    free(lists.paths.memory);
    free(lists.redact.memory);
    return status;
}

/* ---- the end ---- */

static uint64_t count_left(const struct journal *journal)
{
    uint64_t left = 0;

    for (unsigned i = 0; i < journal->part_count; i++)
        for (uint32_t j = 0; j < journal->parts[i].unit_count; j++)
            left += atomic_load_explicit(&journal->parts[i].units[j].commit,
                                         memory_order_relaxed) != JOURNAL_FREE;
    return left;
}

void journal_leave(struct journal *journal)
{
    if (journal != NULL && count_left(journal) == 0)
        (void)unlink(journal->path);
}

void journal_destroy(struct journal *journal)
{
    if (journal == NULL)
        return;
    for (unsigned i = 0; journal->parts != NULL && i < journal->part_count; i++) {
        free(journal->parts[i].free);
        EVP_MAC_CTX_free(journal->parts[i].mac);
    }
    free(journal->parts);
    if (journal->map != NULL)
        (void)munmap(journal->map, journal->map_bytes);
    if (journal->fd >= 0)
        (void)close(journal->fd);
    free(journal->methods.memory);
    free(journal->paths.memory);
    free(journal->redact.memory);
    free(journal->path);
    free(journal->dir);
    free(journal);
}

/* ---- the coordinator's move ---- */

/* On a thread of its own, because a disk may take longer than there is time, and nothing ends a
 * thread that waits for one. The coordinator goes on without it then, and the process ends: what
 * that leaves half done, the next start takes up (move note, archive.h). So the job is freed by
 * whoever is the second to leave it. */
struct move_job {
    struct journal *journal;
    enum unfinished_reason reason;
    uint64_t until_ns;
    bool skip[JOURNAL_PARTITIONS_MAX];
    /* mu */
    pthread_mutex_t mu;
    pthread_cond_t over;
    bool is_over, is_left;
    int err;
    struct archive_moved moved;
};

static void free_job(struct move_job *job)
{
    (void)pthread_cond_destroy(&job->over);
    (void)pthread_mutex_destroy(&job->mu);
    free(job);
}

static struct move_job *make_job(struct journal *journal, enum unfinished_reason reason,
                                 bool loops_are_quiet, uint64_t until_ns)
{
    struct move_job *job = calloc(1, sizeof(*job));

    if (job == NULL)
        return NULL;
    job->journal = journal;
    job->reason = reason;
    job->until_ns = until_ns;
    (void)pthread_mutex_init(&job->mu, NULL);
    clock_cond_init(&job->over);
    /* acquire: pairs with journal_freeze(); a loop that is not frozen still writes */
    for (unsigned i = 0; i < journal->part_count; i++)
        job->skip[i] = !loops_are_quiet &&
                       !atomic_load_explicit(&journal->parts[i].frozen, memory_order_acquire);
    return job;
}

/* So much of the time is for the disk: what has been written by then is flushed, and has left. */
static uint64_t write_until_ns(uint64_t until_ns)
{
    uint64_t now_ns = clock_now_ns();
    return now_ns < until_ns ? now_ns + (until_ns - now_ns) / 5 * 3 : until_ns;
}

static int move_now(struct move_job *job, struct archive_moved *ret_moved)
{
    struct journal *journal = job->journal;
    int lock_fd;
    const struct archive_move move = {.dir = journal->dir,
                                      .bytes = journal->map,
                                      .size = journal->map_bytes,
                                      .skip = job->skip,
                                      .reason = job->reason,
                                      .until_ns = write_until_ns(job->until_ns)};

    int err = archive_lock(journal->dir, job->until_ns, &lock_fd);
    if (err != 0)
        return err;
    err = archive_move(&move, ret_moved);
    (void)close(lock_fd);
    return err;
}

static void *move_thread(void *arg)
{
    struct move_job *job = arg;
    struct archive_moved *moved = calloc(1, sizeof(*moved));
    int err = moved != NULL ? move_now(job, moved) : -ENOMEM;

    (void)pthread_mutex_lock(&job->mu);
    job->is_over = true;
    job->err = err;
    if (moved != NULL)
        job->moved = *moved;
    bool is_left = job->is_left;
    (void)pthread_cond_signal(&job->over);
    (void)pthread_mutex_unlock(&job->mu);
    free(moved);
    if (is_left)
        free_job(job);
    return NULL;
}

/* Returns whether it came to an end in time. */
static bool await(struct move_job *job)
{
    struct timespec until = clock_timespec(job->until_ns);
    int err = 0;

    (void)pthread_mutex_lock(&job->mu);
    while (!job->is_over && err == 0)
        err = pthread_cond_timedwait(&job->over, &job->mu, &until);
    bool is_over = job->is_over;
    job->is_left = !is_over;
    (void)pthread_mutex_unlock(&job->mu);
    return is_over;
}

static void log_left(const struct journal *journal, uint64_t left, int err)
{
    log_line(LOG_LEVEL_ERROR, "archive-failed",
             json_pack("{s:I, s:s}", "left", (json_int_t)left, "path", journal->path),
             "cannot archive %" PRIu64 " request%s: %s (on record in %s, and the next start "
             "archives them)",
             left, left == 1 ? "" : "s",
             err == -ETIMEDOUT ? "there is no more time" : strerrordesc_np(-err), journal->path);
}

void journal_archive(struct journal *journal, enum unfinished_reason reason, bool loops_are_quiet,
                     uint64_t until_ns, struct journal_archived *ret_archived)
{
    struct move_job *job = make_job(journal, reason, loops_are_quiet, until_ns);
    pthread_t thread;
    sigset_t all, before;
    int err = job == NULL ? -ENOMEM : 0;
    bool is_over = false;

    memset(ret_archived, 0, sizeof(*ret_archived));
    if (job != NULL) {
        (void)sigfillset(&all);
        (void)pthread_sigmask(SIG_BLOCK, &all, &before);
        err = -pthread_create(&thread, NULL, move_thread, job);
        (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
        if (err != 0) { /* then here, and as long as the disk takes */
            (void)move_thread(job);
            is_over = true;
        } else {
            is_over = await(job);
            err = is_over ? pthread_join(thread, NULL) : pthread_detach(thread);
        }
        err = is_over ? job->err : -ETIMEDOUT;
    }
    if (is_over) {
        ret_archived->count = job->moved.count;
        if (job->moved.count > 0)
            memcpy(ret_archived->path, job->moved.path, sizeof(ret_archived->path));
        add_count(&journal->archived, job->moved.count);
        free_job(job);
    }
    ret_archived->left = count_left(journal);
    if (ret_archived->left > 0)
        log_left(journal, ret_archived->left, err != 0 ? err : -ETIMEDOUT);
}

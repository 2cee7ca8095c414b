/* Creates this process's in-flight file: its size on the disk, its header, its partitions. */

#include "journal_p.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "archive.h"
#include "clock.h"
#include "exit_status.h"
#include "file.h"
#include "require.h"

#define UNITS_LEAST 64  /* in a partition */
#define RESERVE_PART 16 /* one unit in so many is reserved for heads */
#define NAMES_TRIED 100
#define SAME_NAME_SIZE 64

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

static void write_header(struct journal *journal, uint32_t units,
                         const uint8_t key[JOURNAL_KEY_BYTES])
{
    struct journal_header h = {.version = JOURNAL_VERSION,
                               .byte_order = JOURNAL_BYTE_ORDER,
                               .header_bytes = JOURNAL_HEADER_BYTES,
                               .unit_bytes = JOURNAL_UNIT_BYTES,
                               .partitions = journal->part_count,
                               .units = units,
                               .file_bytes = journal->map_bytes,
                               .pid = (uint64_t)getpid(),
                               .started_ms = clock_wall_ms(),
                               .server = "lastcall/" LASTCALL_VERSION};
    uint8_t digest[32] = {0};

    REQUIRE(journal->map != NULL);
    memcpy(h.magic, JOURNAL_MAGIC, sizeof(h.magic));
    read_boot_id(h.boot_id, sizeof(h.boot_id));
    if (key != NULL) {
        (void)EVP_Digest(key, JOURNAL_KEY_BYTES, digest, NULL, EVP_sha256(), NULL);
        for (size_t i = 0; i < 8; i++)
            (void)sprintf(h.key_id + 2 * i, "%02x", digest[i]);
    }
    h.checksum = XXH3_64bits(&h, offsetof(struct journal_header, checksum));
    memcpy(journal->map, &h, sizeof(h));
}

static int make_part(struct journal *journal, unsigned index, uint32_t units,
                     const uint8_t key[JOURNAL_KEY_BYTES])
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
        part->mac = journal_keyed_mac(key);
    if (part->free == NULL || (key != NULL && part->mac == NULL))
        return -ENOMEM;
    for (uint32_t i = 0; i < units; i++) /* take_unit() begins at the front */
        part->free[i] = part->first + units - 1 - i;
    return 0;
}

static int open_file(struct journal *journal, size_t bytes, const char *temporary, char *error)
{
    journal->fd = open(temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    int err = journal->fd < 0 ? -errno : archive_try_lock(journal->fd);
    /* Allocate the whole file now: on a full disk, a store to a page without a block raises SIGBUS.
     */
    if (err == 0)
        err = -posix_fallocate(journal->fd, 0, (off_t)bytes);
    if (err == -ENOSPC || err == -EDQUOT || err == -EFBIG)
        return journal_fail(
            error, EXIT_STATUS_UNAVAILABLE,
            "no room for an in-flight record of %zu MiB in %s: %s (free some, or lower "
            "journal.max-inflight-bytes)",
            bytes >> 20, journal->dir, strerrordesc_np(-err));
    if (err != 0)
        return journal_fail(error, EXIT_STATUS_CONFIG, "cannot make an in-flight record in %s: %s",
                            journal->dir, strerrordesc_np(-err));
    journal->map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, journal->fd, 0);
    if (journal->map == MAP_FAILED) {
        journal->map = NULL;
        return journal_fail(error, EXIT_STATUS_UNAVAILABLE,
                            "cannot map an in-flight record of %zu MiB: %s", bytes >> 20,
                            strerrordesc_np(errno));
    }
    journal->map_bytes = bytes;
    return 0;
}

/* In a container every process may have the process id 1. Do not touch an existing file. */
static char *free_name(const char *dir)
{
    char name[SAME_NAME_SIZE];

    for (unsigned i = 0; i < NAMES_TRIED; i++) {
        int n = snprintf(name, sizeof(name), "inflight.%ld", (long)getpid());
        if (i > 0)
            (void)snprintf(name + n, sizeof(name) - (size_t)n, ".%u", i);
        char *path = journal_path_in(dir, name);
        if (path == NULL || access(path, F_OK) != 0)
            return path;
        free(path);
    }
    return NULL;
}

/* Neither the file nor its name may be lost with the power: the slots are flushed one by one, into
 * this file. */
static int have_on_disk(const struct journal *journal, char *error)
{
    int err = fsync(journal->fd) != 0 ? -errno : file_sync_folder(journal->dir);

    if (err != 0)
        (void)unlink(journal->path); /* it is empty */
    return err == 0
               ? 0
               : journal_fail(error, EXIT_STATUS_UNAVAILABLE,
                              "cannot flush %s to the disk, as journal.sync: msync requires: %s",
                              journal->path, strerrordesc_np(-err));
}

int journal_make_record(struct journal *journal, const struct journal_config *config,
                        const uint8_t key[JOURNAL_KEY_BYTES], char *error)
{
    uint64_t units = config->max_inflight_bytes / JOURNAL_UNIT_BYTES / config->partitions;
    char *temporary = NULL;

    if (units < UNITS_LEAST)
        return journal_fail(error, EXIT_STATUS_CONFIG,
                            "journal.max-inflight-bytes %" PRIu64
                            ": %u loops want at least %" PRIu64,
                            config->max_inflight_bytes, config->partitions,
                            (uint64_t)UNITS_LEAST * JOURNAL_UNIT_BYTES * config->partitions);
    journal->part_count = config->partitions;
    journal->parts = aligned_alloc(64, config->partitions * sizeof(*journal->parts));
    journal->path = free_name(journal->dir);
    if (journal->parts == NULL || journal->path == NULL ||
        asprintf(&temporary, "%s.new", journal->path) < 0)
        return journal_fail(error, EXIT_STATUS_UNAVAILABLE,
                            "no memory, or no free name, for a record");
    memset(journal->parts, 0, config->partitions * sizeof(*journal->parts));
    int status =
        open_file(journal, JOURNAL_HEADER_BYTES + units * JOURNAL_UNIT_BYTES * config->partitions,
                  temporary, error);
    if (status == 0)
        write_header(journal, (uint32_t)units, key);
    for (unsigned i = 0; i < config->partitions && status == 0; i++)
        if (make_part(journal, i, (uint32_t)units, key) != 0)
            status = journal_fail(error, EXIT_STATUS_UNAVAILABLE, "no memory for a record");
    if (status == 0 && rename(temporary, journal->path) != 0)
        status = journal_fail(error, EXIT_STATUS_UNAVAILABLE, "cannot make %s: %s", journal->path,
                              strerrordesc_np(errno));
    if (status != 0)
        (void)unlink(temporary);
    if (status == 0 && config->sync == JOURNAL_SYNC_MSYNC)
        status = have_on_disk(journal, error);
    free(temporary);
    return status;
}

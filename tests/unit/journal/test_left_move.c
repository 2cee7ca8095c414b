/* A move to the archive that takes longer than the drain may: nobody waits for it, and the journal
 * is destroyed meanwhile. This program replaces fdatasync(2), which then takes as long as a test
 * wants. */

#include <dirent.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "archive.h"
#include "archive_reader.h"
#include "clock.h"
#include "directory.h"
#include "journal.h"
#include "journal_format.h"

#define UNITS 64

static sem_t flushing, may_end;
static _Atomic bool is_slow;

/* Replaces libc's in the whole program. */
int fdatasync(int fd)
{
    if (atomic_load(&is_slow)) {
        (void)sem_post(&flushing);
        (void)sem_wait(&may_end);
    }
    return (int)syscall(SYS_fdatasync, fd);
}

static struct journal *open_journal(void)
{
    struct journal *journal = NULL;
    char error[JOURNAL_ERROR_SIZE] = "";
    const struct journal_config config = {.dir = directory,
                                          .methods = "POST",
                                          .redact = "",
                                          .max_inflight_bytes = UNITS * JOURNAL_UNIT_BYTES,
                                          .partitions = 1};

    if (journal_open(&config, &journal, error) != 0)
        fail_msg("%s", error);
    return journal;
}

static void record_one(struct journal *journal)
{
    static char post[] = "POST", authority[] = "a.example", path[] = "/a";
    const struct journal_request request = {.method = {post, 4},
                                            .authority = {authority, 9},
                                            .path = {path, 2},
                                            .began_ns = clock_now_ns()};

    assert_non_null(journal_begin(journal_part(journal, 0), &request));
    journal_commit(journal_part(journal, 0), "");
}

static void test_the_journal_outlives_its_owner_until_the_move_is_over(void **state)
{
    struct journal *journal = open_journal();
    struct journal_archived archived;
    struct journal_stats stats;
    struct archive_reader *reader;
    struct archive_item item;
    int lock_fd;

    (void)state;
    record_one(journal);
    atomic_store(&is_slow, true);
    journal_archive(journal, UNFINISHED_REASON_DEADLINE, true, clock_now_ns() + NS_PER_S,
                    &archived);
    assert_int_equal(archived.count, 0);
    assert_int_equal(archived.left, 1);
    journal_leave(journal);
    journal_destroy(journal);
    (void)sem_wait(&flushing);
    atomic_store(&is_slow, false);
    (void)sem_post(&may_end); /* the move goes on, in a journal that nobody else has */
    assert_int_equal(archive_lock(directory, clock_now_ns() + 60 * NS_PER_S, &lock_fd), 0);
    (void)close(lock_fd);

    /* The next owner in the same process finds that it is in the archive, once. */
    journal = open_journal();
    journal_get_stats(journal, &stats);
    assert_int_equal(stats.archived, 0);
    journal_leave(journal);
    journal_destroy(journal);
    assert_int_equal(archive_reader_open(directory, &reader), 0);
    assert_int_equal(archive_reader_next(reader, &item), 1);
    assert_int_equal(archive_reader_next(reader, &item), 0);
    archive_reader_close(reader);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_journal_outlives_its_owner_until_the_move_is_over),
    };

    (void)sem_init(&flushing, 0, 0);
    (void)sem_init(&may_end, 0, 0);
    (void)alarm(240); /* a hang is a failure */
    return cmocka_run_group_tests_name("left_move", tests, make_directory_in_memory,
                                       remove_directory);
}

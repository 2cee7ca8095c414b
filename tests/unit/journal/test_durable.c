/* Files that must survive a power loss: a name is on the disk only once the folder was synced after
 * the rename(2) or open(2) that made it. This program replaces fsync(2) and rename(2) to see them.
 */

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "coord.h"
#include "directory.h"
#include "journal.h"
#include "journal_format.h"
#include "dispositions.h"

#define UNITS 64

static unsigned renames;        /* of all */
static unsigned synced_renames; /* the number of renames before the last sync of a folder */
static unsigned folder_syncs;
static bool folders_fail;

/* Replaces libc's in the whole program. */
int rename(const char *from, const char *to)
{
    renames++;
    return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

int fsync(int fd)
{
    struct stat st = {0};

    (void)fstat(fd, &st);
    if (!S_ISDIR(st.st_mode))
        return (int)syscall(SYS_fsync, fd);
    folder_syncs++;
    synced_renames = renames;
    if (!folders_fail)
        return (int)syscall(SYS_fsync, fd);
    errno = EIO;
    return -1;
}

static char dir[64];

static int set_up(void **state)
{
    (void)state;
    (void)snprintf(dir, sizeof(dir), "%s/XXXXXX", directory);
    renames = synced_renames = folder_syncs = 0;
    folders_fail = false;
    return mkdtemp(dir) != NULL ? 0 : -1;
}

static int open_journal(enum journal_sync sync, const char *redact, char *error)
{
    struct journal *journal = NULL;
    const struct journal_config config = {.dir = dir,
                                          .methods = "POST",
                                          .redact = redact,
                                          .max_inflight_bytes = UNITS * JOURNAL_UNIT_BYTES,
                                          .partitions = 1,
                                          .sync = sync};
    int status = journal_open(&config, &journal, error);

    journal_leave(journal);
    journal_destroy(journal);
    return status;
}

static bool has(const char *name)
{
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    return access(path, F_OK) == 0;
}

static void test_the_name_of_a_record_is_synced_with_msync(void **state)
{
    char error[JOURNAL_ERROR_SIZE] = "";
    (void)state;
    assert_int_equal(open_journal(JOURNAL_SYNC_MSYNC, "", error), 0);
    assert_int_equal(renames, 1);
    assert_int_equal(synced_renames, 1);
    set_up(state);
    assert_int_equal(open_journal(JOURNAL_SYNC_NONE, "", error), 0);
    assert_int_equal(folder_syncs, 0); /* JOURNAL_SYNC_NONE: the page cache is enough */
}

static void test_a_record_whose_name_cannot_be_synced_is_refused(void **state)
{
    char error[JOURNAL_ERROR_SIZE] = "", name[64];
    (void)state;
    folders_fail = true;
    assert_int_equal(open_journal(JOURNAL_SYNC_MSYNC, "", error), EXIT_STATUS_UNAVAILABLE);
    assert_non_null(strstr(error, "to the disk, as journal.sync: msync requires: "));
    (void)snprintf(name, sizeof(name), "inflight.%ld", (long)getpid());
    assert_false(has(name));
}

static void test_the_name_of_a_key_is_synced(void **state)
{
    char error[JOURNAL_ERROR_SIZE] = "";
    (void)state;
    assert_int_equal(open_journal(JOURNAL_SYNC_NONE, "authorization", error), 0);
    assert_true(has("redact.key"));
    assert_int_equal(synced_renames, 1);
    assert_int_equal(renames, 2); /* the record comes after it */
}

static void test_a_key_that_is_no_file_is_refused_at_once(void **state)
{
    char error[JOURNAL_ERROR_SIZE] = "", path[128];
    (void)state;
    (void)snprintf(path, sizeof(path), "%s/redact.key", dir);
    assert_int_equal(mkfifo(path, 0600), 0);
    (void)alarm(20); /* what waits for its writer ends here */
    assert_int_equal(open_journal(JOURNAL_SYNC_NONE, "authorization", error), EXIT_STATUS_CONFIG);
    (void)alarm(0);
    assert_non_null(strstr(error, "is not a key of 32 bytes"));
}

static int open_marks(char *error)
{
    char path[128];
    struct dispositions *dispositions = NULL;

    (void)snprintf(path, sizeof(path), "%s/unfinished-20261125.ndjson", dir);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    (void)close(fd);
    int err = dispositions_open(path, true, &dispositions, error);
    dispositions_close(dispositions);
    return err;
}

static void test_the_name_of_new_marks_is_synced(void **state)
{
    char error[DISPOSITIONS_ERROR_SIZE] = "";
    (void)state;
    assert_int_equal(open_marks(error), 0);
    assert_int_equal(folder_syncs, 1);
    assert_int_equal(open_marks(error), 0);
    assert_int_equal(folder_syncs, 1); /* it was there */
}

static void test_marks_whose_name_cannot_be_synced_are_refused(void **state)
{
    char error[DISPOSITIONS_ERROR_SIZE] = "";
    (void)state;
    folders_fail = true;
    assert_int_equal(open_marks(error), -EIO);
    assert_non_null(strstr(error, ".done: Input/output error"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_the_name_of_a_record_is_synced_with_msync, set_up),
        cmocka_unit_test_setup(test_a_record_whose_name_cannot_be_synced_is_refused, set_up),
        cmocka_unit_test_setup(test_the_name_of_a_key_is_synced, set_up),
        cmocka_unit_test_setup(test_a_key_that_is_no_file_is_refused_at_once, set_up),
        cmocka_unit_test_setup(test_the_name_of_new_marks_is_synced, set_up),
        cmocka_unit_test_setup(test_marks_whose_name_cannot_be_synced_are_refused, set_up),
    };
    return cmocka_run_group_tests_name("durable", tests, make_directory, remove_directory);
}

#ifndef LASTCALL_TEST_WITH_JOURNAL_H
#define LASTCALL_TEST_WITH_JOURNAL_H

/* A folder for the record of one test, in the directory of directory.h, and an admin socket. */

extern char journal[128], admin_address[160];

/* Of each test. */
int with_journal_set_up(void **state);

/* The records of running servers, or of killed ones, in that folder. */
unsigned count_records(void);

#endif

#ifndef LASTCALL_TEST_DIRECTORY_H
#define LASTCALL_TEST_DIRECTORY_H

/* A directory that is the test program's own: in /tmp, or in memory. */

extern char directory[]; /* where it is, once it has been made */

/* Set-up and teardown of a whole program. It is removed with all that is in it. */
int make_directory(void **state);
int remove_directory(void **state);

/* The same in memory_folder(), for what must be on the disk in time. A script may not run there. */
int make_directory_in_memory(void **state);

/* A folder like /tmp that is in memory: a busy disk takes a second to flush a file. It is /tmp
 * where there is none with room. */
const char *memory_folder(void);

/* The path of a file there; valid until the sixteenth call after this one. */
const char *in_directory(const char *name);

#endif

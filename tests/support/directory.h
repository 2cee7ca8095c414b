#ifndef LASTCALL_TEST_DIRECTORY_H
#define LASTCALL_TEST_DIRECTORY_H

/* A directory in /tmp that is the test program's own. */

extern char directory[]; /* where it is, once it has been made */

/* Set-up and teardown of a whole program. It is removed with all that is in it. */
int make_directory(void **state);
int remove_directory(void **state);

/* The path of a file there; valid until the sixteenth call after this one. */
const char *in_directory(const char *name);

#endif

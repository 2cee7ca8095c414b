#ifndef LASTCALL_TEST_SKIP_H
#define LASTCALL_TEST_SKIP_H

/* Leave the running test, and say why: tests/check.py lists the reasons. They do not return. */
void skip_test(const char *reason);
void skip_unless_root(void);

#endif

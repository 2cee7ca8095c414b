#ifndef LASTCALL_TEST_EXPECT_H
#define LASTCALL_TEST_EXPECT_H

/* What a test expects of a text: a test that fails shows all of it. */

/* `text` NULL counts as one that has nothing in it. */
void assert_contains(const char *text, const char *want);
void assert_lacks(const char *text, const char *never);

/* How many times `what` is there. */
unsigned count_in(const char *text, const char *what);

#endif

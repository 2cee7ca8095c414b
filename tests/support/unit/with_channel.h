#ifndef LASTCALL_TEST_WITH_CHANNEL_H
#define LASTCALL_TEST_WITH_CHANNEL_H

/* For tests of messages: each has a channel, and leaves as many open descriptors as it found. */

struct channel {
    int fds[2]; /* both ends */
    unsigned files;
};

/* For cmocka_unit_test_setup_teardown(); *state is the struct channel. */
int channel_set_up(void **state);
int channel_tear_down(void **state);

#endif

#include "with_channel.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "message.h"

static unsigned open_files(void)
{
    unsigned n = 0;
    for (int fd = 0; fd < 256; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

int channel_set_up(void **state)
{
    static struct channel channel;
    channel.files = open_files();
    assert_int_equal(message_pair(channel.fds), 0);
    *state = &channel;
    return 0;
}

int channel_tear_down(void **state)
{
    const struct channel *channel = *state;
    (void)close(channel->fds[0]);
    (void)close(channel->fds[1]);
    return open_files() == channel->files ? 0 : -1;
}

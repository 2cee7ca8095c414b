#include "fake_exchange.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lc_p.h"
#include "user_route.h"

static void *op_alloc(struct exchange *exchange, size_t bytes)
{
    struct fake *fake = fake_of_exchange(exchange);
    size_t at = (fake->used + 15) & ~(size_t)15;

    if (bytes > sizeof(fake->memory) - at)
        return NULL;
    fake->used = at + bytes;
    return fake->memory + at;
}

static int op_write(struct exchange *exchange, const void *bytes, size_t count, int64_t wait_ms)
{
    struct fake *fake = fake_of_exchange(exchange);

    fake->writes++;
    fake->write_wait_ms = wait_ms;
    if (fake->write_result != 0)
        return fake->write_result;
    assert_true(count < sizeof(fake->written) - fake->written_bytes);
    memcpy(fake->written + fake->written_bytes, bytes, count);
    fake->written_bytes += count;
    fake->written[fake->written_bytes] = '\0';
    return 0;
}

static int op_flush(struct exchange *exchange, int64_t wait_ms)
{
    fake_of_exchange(exchange)->flushes++;
    fake_of_exchange(exchange)->write_wait_ms = wait_ms;
    return fake_of_exchange(exchange)->flush_result;
}

static int op_cancelled(struct exchange *exchange)
{
    return fake_of_exchange(exchange)->cancelled_result;
}

static int op_wait(struct exchange *exchange, int64_t ms, bool also_drain)
{
    fake_of_exchange(exchange)->wait_ms = ms;
    fake_of_exchange(exchange)->also_drain = also_drain;
    return fake_of_exchange(exchange)->wait_result;
}

static int64_t op_time_left(struct exchange *exchange)
{
    return fake_of_exchange(exchange)->left_ms;
}

static int op_cancel_fd(struct exchange *exchange)
{
    (void)exchange;
    return 77;
}

static int op_on_cancel(struct exchange *exchange, void (*cancel)(void *arg), void *arg)
{
    fake_of_exchange(exchange)->taken_back += cancel == NULL;
    fake_of_exchange(exchange)->cancel = cancel;
    fake_of_exchange(exchange)->cancel_arg = arg;
    return 0;
}

static uint64_t op_keep(struct exchange *exchange)
{
    fake_of_exchange(exchange)->was_kept = true;
    return FAKE_TOKEN;
}

static const struct exchange_ops ops = {.alloc = op_alloc,
                                        .write = op_write,
                                        .flush = op_flush,
                                        .cancelled = op_cancelled,
                                        .wait = op_wait,
                                        .time_left = op_time_left,
                                        .cancel_fd = op_cancel_fd,
                                        .on_cancel = op_on_cancel,
                                        .keep = op_keep};

void fake_init(struct fake *fake)
{
    memset(fake, 0, sizeof(*fake));
    fake->left_ms = -1;
    fake->exchange = (struct exchange){.ops = &ops,
                                       .method = "GET",
                                       .path = "/",
                                       .query = "",
                                       .authority = "localhost",
                                       .peer = "127.0.0.1",
                                       .version = 0x200,
                                       .body = "",
                                       .status = 200,
                                       .length = -1,
                                       .scratch = fake->scratch,
                                       .file_fd = -1};
}

void fake_release(struct fake *fake)
{
    if (fake->exchange.text != fake->scratch)
        free(fake->exchange.text);
}

void fake_run(struct fake *fake, lc_server *server, const char *name)
{
    const struct user_route *route = lc_routes_named(lc_routes_of(server), name);

    assert_non_null(route);
    route->handler(&fake->exchange, route->user);
}

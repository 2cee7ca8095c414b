#include "cgi_exchange.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include <cmocka.h>

static struct cgi_exchange *fake_of(struct exchange *exchange)
{
    return (struct cgi_exchange *)exchange;
}

static void *fake_alloc(struct exchange *exchange, size_t bytes)
{
    struct cgi_exchange *fake = fake_of(exchange);
    void **block = malloc(sizeof(void *) + bytes);

    assert_non_null(block);
    *block = fake->memory;
    fake->memory = block;
    return block + 1;
}

static int fake_write(struct exchange *exchange, const void *bytes, size_t count, int64_t wait_ms)
{
    struct cgi_exchange *fake = fake_of(exchange);

    (void)wait_ms;
    if (fake->write_limit > 0 && fake->written_bytes + count > fake->write_limit) {
        if (fake->write_cancels)
            cgi_exchange_cancel(fake, fake->write_error);
        return fake->write_error;
    }
    fake->written = realloc(fake->written, fake->written_bytes + count + 1);
    assert_non_null(fake->written);
    if (count > 0)
        memcpy(fake->written + fake->written_bytes, bytes, count);
    fake->written_bytes += count;
    fake->written[fake->written_bytes] = '\0';
    fake->writes++;
    if (fake->on_write != NULL)
        fake->on_write(fake);
    return 0;
}

static int fake_cancelled(struct exchange *exchange)
{
    return atomic_load(&fake_of(exchange)->cancelled);
}

static int fake_cancel_fd(struct exchange *exchange)
{
    const struct cgi_exchange *fake = fake_of(exchange);
    return fake->has_no_cancel_fd ? -1 : fake->cancel_pipe[0];
}

void cgi_exchange_init(struct cgi_exchange *fake, const char *method, const char *path)
{
    static const struct exchange_ops ops = {.alloc = fake_alloc,
                                            .write = fake_write,
                                            .cancelled = fake_cancelled,
                                            .cancel_fd = fake_cancel_fd};
    const char *query = strchr(path, '?');

    memset(fake, 0, sizeof(*fake));
    fake->exchange = (struct exchange){.ops = &ops,
                                       .method = method,
                                       .path = path,
                                       .query = query != NULL ? query + 1 : "",
                                       .authority = "test",
                                       .peer = "192.0.2.7",
                                       .peer_port = 4711,
                                       .version = 0x101,
                                       .body = "",
                                       .status = 200,
                                       .length = -1,
                                       .file_fd = -1,
                                       .scratch = fake->scratch};
    assert_int_equal(pipe2(fake->cancel_pipe, O_CLOEXEC), 0);
}

void cgi_exchange_release(struct cgi_exchange *fake)
{
    while (fake->memory != NULL) {
        void *next = *(void **)fake->memory;
        free(fake->memory);
        fake->memory = next;
    }
    if (fake->exchange.text != fake->scratch)
        free(fake->exchange.text);
    free(fake->written);
    (void)close(fake->cancel_pipe[0]);
    (void)close(fake->cancel_pipe[1]);
}

void cgi_exchange_cancel(struct cgi_exchange *fake, int why)
{
    atomic_store(&fake->cancelled, why);
    (void)!write(fake->cancel_pipe[1], "", 1);
}

const char *cgi_exchange_field(const struct cgi_exchange *fake, const char *name)
{
    const struct exchange_answer_field *field = fake->exchange.answer_fields;

    while (field != NULL && strcasecmp(field->name, name) != 0)
        field = field->next;
    return field != NULL ? field->value : NULL;
}

char *cgi_exchange_body(const struct cgi_exchange *fake)
{
    const char *bytes = fake->writes > 0 ? fake->written : fake->exchange.text;
    size_t count = fake->writes > 0 ? fake->written_bytes : fake->exchange.text_bytes;

    return bytes != NULL ? strndup(bytes, count) : strdup("");
}

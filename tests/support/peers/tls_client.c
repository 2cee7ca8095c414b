#include "tls_client.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static SSL *make(void)
{
    static SSL_CTX *client; /* for as long as the program lives */

    if (client == NULL)
        client = SSL_CTX_new(TLS_client_method());
    assert_non_null(client);
    SSL *ssl = SSL_new(client);
    assert_non_null(ssl);
    return ssl;
}

static bool is_interrupted(SSL *ssl, int r)
{
    int error = r <= 0 ? SSL_get_error(ssl, r) : SSL_ERROR_NONE;

    return (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) && errno == EINTR;
}

SSL *tls_connect(int fd, const struct tls_options *options)
{
    static const struct tls_options none;
    const struct tls_options *o = options != NULL ? options : &none;
    SSL *ssl = make();
    int r;

    if (o->name != NULL)
        assert_int_equal(SSL_set_tlsext_host_name(ssl, o->name), 1);
    if (o->alpn != NULL) /* unlike the others, this function returns 0 on success */
        assert_int_equal(
            SSL_set_alpn_protos(ssl, (const unsigned char *)o->alpn, (unsigned)strlen(o->alpn)), 0);
    if (o->version_max != 0)
        assert_int_equal(SSL_set_max_proto_version(ssl, o->version_max), 1);
    if (o->session != NULL)
        assert_int_equal(SSL_set_session(ssl, o->session), 1);
    assert_int_equal(SSL_set_fd(ssl, fd), 1);
    do
        r = SSL_connect(ssl);
    while (is_interrupted(ssl, r));
    if (r == 1)
        return ssl;
    tls_cut(ssl);
    return NULL;
}

int tls_read(SSL *ssl, char *bytes, size_t size)
{
    int n;

    do
        n = SSL_read(ssl, bytes, (int)size);
    while (is_interrupted(ssl, n));
    return n;
}

void tls_write(SSL *ssl, const char *text)
{
    int n;

    do
        n = SSL_write(ssl, text, (int)strlen(text));
    while (is_interrupted(ssl, n));
    assert_int_equal(n, (int)strlen(text));
}

void tls_read_until(SSL *ssl, char *text, size_t size, const char *end)
{
    size_t got = 0;

    for (text[0] = '\0'; strstr(text, end) == NULL; text[got] = '\0') {
        int n = tls_read(ssl, text + got, size - 1 - got);
        if (n <= 0)
            fail_msg("no `%s`, but: %s", end, text);
        got += (size_t)n;
    }
}

void tls_hang_up(SSL *ssl)
{
    (void)SSL_shutdown(ssl);
    tls_cut(ssl);
}

void tls_cut(SSL *ssl)
{
    int fd = SSL_get_fd(ssl);

    SSL_free(ssl);
    (void)close(fd);
}

#include "tls_server.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "certificate.h"
#include "tls_client.h"

static SSL_CTX *make_context(void)
{
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    EVP_PKEY *key;
    X509 *certificate;

    assert_non_null(context);
    certificate_make(&key, &certificate);
    assert_int_equal(SSL_CTX_use_certificate(context, certificate), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(context, key), 1);
    X509_free(certificate);
    EVP_PKEY_free(key);
    return context;
}

SSL *tls_serve(int fd)
{
    static SSL_CTX *context; /* for as long as the program lives */

    if (context == NULL)
        context = make_context();
    SSL *ssl = SSL_new(context);
    assert_non_null(ssl);
    assert_int_equal(SSL_set_fd(ssl, fd), 1);
    if (SSL_accept(ssl) == 1)
        return ssl;
    tls_cut(ssl);
    return NULL;
}

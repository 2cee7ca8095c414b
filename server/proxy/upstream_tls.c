#include "upstream_tls.h"

#include <openssl/x509v3.h>
#include <stdbool.h>

/* ---- the name in an upstream's certificate ---- */

/* libh2o 2.2.5 compares it when SSL_connect() returns, but only if there is nothing left to write.
 * In TLS 1.3 the last message of the handshake is the client's, so there is, and any certificate
 * that an accepted authority has signed is taken for any name. And it knows no addresses. So the
 * name is compared where the chain is verified. A resumed session was verified when it was made:
 * the library keeps sessions by name and port. */

static bool is_for(X509 *cert, const char *name)
{
    return X509_check_ip_asc(cert, name, 0) == 1 || X509_check_host(cert, name, 0, 0, NULL) == 1;
}

static int on_verify(int is_good, X509_STORE_CTX *store)
{
    SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);

    if (!is_good || X509_STORE_CTX_get_error_depth(store) != 0 || SSL_is_server(ssl))
        return is_good;
    if (name != NULL && is_for(X509_STORE_CTX_get_current_cert(store), name))
        return 1;
    X509_STORE_CTX_set_error(store, X509_V_ERR_HOSTNAME_MISMATCH);
    return 0;
}

/* ---- close_notify ---- */

/* The library keeps its socket in the BIO, but does not tell of close_notify. */
static void on_tls_info(const SSL *ssl, int where, int ret)
{
    const h2o_socket_t *sock = BIO_get_data(SSL_get_rbio(ssl));
    bool *was_closed = sock->on_close.data; /* NULL: it is shaking hands */

    if (was_closed != NULL && (where & SSL_CB_READ_ALERT) == SSL_CB_READ_ALERT &&
        (ret & 0xff) == SSL_AD_CLOSE_NOTIFY)
        *was_closed = true;
}

void upstream_tls_watch(h2o_socket_t *sock, bool *was_closed)
{
    sock->on_close.data = was_closed;
}

void upstream_tls_set_up(SSL_CTX *ssl_ctx)
{
    if (ssl_ctx == NULL)
        return;
    SSL_CTX_set_verify(ssl_ctx, SSL_CTX_get_verify_mode(ssl_ctx), on_verify);
    SSL_CTX_set_info_callback(ssl_ctx, on_tls_info);
}

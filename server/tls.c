#include "server_p.h"

#include <openssl/err.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "tls.h"

#define RECORD_HEAD 5
#define PEEKED 16384

enum { RECORD_ALERT = 21, RECORD_HANDSHAKE = 22, RECORD_DATA = 23 };

/* In TLS 1.3 an alert looks like data of this length: two bytes, their type, and the tag. */
#define RECORD_ALERT_BYTES 19

/* A handshake begins, with the first bytes, or is over, and its client may send a request. The
 * library keeps its socket in the BIO, and the socket leads to our connection. */
static void on_info(const SSL *ssl, int where, int ret)
{
    (void)ret;
    if ((where & (SSL_CB_HANDSHAKE_START | SSL_CB_HANDSHAKE_DONE)) == 0)
        return;
    h2o_socket_t *sock = BIO_get_data(SSL_get_rbio(ssl));
    bool done = (where & SSL_CB_HANDSHAKE_DONE) != 0;
    conn_shakes_hands(sock->on_close.data, done ? (SSL *)(uintptr_t)ssl : NULL);
}

/* No terminal to ask, and nobody there at three in the morning. */
static int no_passphrase(char *buf, int size, int rwflag, void *arg)
{
    (void)buf;
    (void)size;
    (void)rwflag;
    (void)arg;
    return 0;
}

/* OpenSSL's own reasons for what is not there or not PEM help nobody: "unsupported". */
static SSL_CTX *explain(SSL_CTX *ctx, const char *what, const char *path, char *error, size_t size)
{
    unsigned long code = ERR_peek_error();

    if (ERR_SYSTEM_ERROR(code))
        (void)snprintf(error, size, "cannot use %s in %s: %s", what, path,
                       strerrordesc_np(ERR_GET_REASON(code)));
    else
        (void)snprintf(error, size,
                       "cannot use %s in %s: there is none in PEM form, or it wants a "
                       "passphrase",
                       what, path);
    ERR_clear_error();
    SSL_CTX_free(ctx);
    return NULL;
}

SSL_CTX *tls_create(const char *cert, const char *key, char *error, size_t error_size)
{
    ERR_clear_error();
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    if (ctx == NULL) {
        (void)snprintf(error, error_size, "no memory for TLS");
        return NULL;
    }
    (void)SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
    (void)SSL_CTX_set_options(ctx, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION |
                                       SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_default_passwd_cb(ctx, no_passphrase);
    SSL_CTX_set_info_callback(ctx, on_info);
    h2o_ssl_register_alpn_protocols(ctx, h2o_alpn_protocols);
    if (SSL_CTX_use_certificate_chain_file(ctx, cert) != 1)
        return explain(ctx, "the certificate", cert, error, error_size);
    bool loaded = SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) == 1;
    if (!loaded && ERR_GET_LIB(ERR_peek_last_error()) != ERR_LIB_X509)
        return explain(ctx, "the key", key, error, error_size);
    if (loaded && SSL_CTX_check_private_key(ctx) == 1)
        return ctx;
    (void)snprintf(error, error_size, "the key in %s is not the one of the certificate in %s", key,
                   cert);
    ERR_clear_error();
    SSL_CTX_free(ctx);
    return NULL;
}

bool tls_has_unread_request(int fd, bool done)
{
    unsigned char bytes[PEEKED];
    ssize_t n = recv(fd, bytes, sizeof(bytes), MSG_PEEK | MSG_DONTWAIT);
    /* TLS 1.3: the first encrypted record of the client ends the handshake. In TLS 1.2 a record of
     * the handshake does, where tickets let the client be the last to speak. */
    unsigned wanted = done ? 1 : 2, seen = 0;

    for (ssize_t at = 0; n - at >= RECORD_HEAD;) {
        ssize_t length = bytes[at + 3] << 8 | bytes[at + 4];
        if (bytes[at] == RECORD_HANDSHAKE)
            wanted = 1;
        if (bytes[at] == RECORD_DATA && length != RECORD_ALERT_BYTES)
            seen++;
        at += RECORD_HEAD + length;
    }
    return seen >= wanted;
}

bool tls_is_mid_record(const SSL *ssl)
{
    /* Its head alone is not pending, but the state then is "read body". */
    return SSL_has_pending(ssl) || strcmp(SSL_rstate_string(ssl), "RB") == 0;
}

bool tls_peer_is_leaving(int fd)
{
    struct pollfd hung_up = {.fd = fd, .events = POLLRDHUP};
    unsigned char head[RECORD_HEAD];

    if (poll(&hung_up, 1, 0) == 1)
        return true;
    if (recv(fd, head, sizeof(head), MSG_PEEK | MSG_DONTWAIT) != sizeof(head))
        return false;
    return head[0] == RECORD_ALERT ||
           (head[0] == RECORD_DATA && (head[3] << 8 | head[4]) == RECORD_ALERT_BYTES);
}

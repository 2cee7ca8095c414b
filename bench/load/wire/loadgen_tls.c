#include "loadgen_tls.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <time.h>

/* Certificates are not verified: the load stays on loopback. ALPN offers the one protocol of the
 * run.
 *
 * SSL_write() may raise SIGPIPE and has no MSG_NOSIGNAL. So the run blocks the signal in its
 * thread, and consumes a pending one before it unblocks it. */

static void block_sigpipe(struct load *l)
{
    sigset_t set;
    sigset_t old;

    sigemptyset(&set);
    sigaddset(&set, SIGPIPE);
    l->blocked_sigpipe = pthread_sigmask(SIG_BLOCK, &set, &old) == 0 && !sigismember(&old, SIGPIPE);
}

static void unblock_sigpipe(struct load *l)
{
    struct timespec now = {0};
    sigset_t set;

    if (!l->blocked_sigpipe)
        return;
    sigemptyset(&set);
    sigaddset(&set, SIGPIPE);
    (void)sigtimedwait(&set, NULL, &now); /* usually none is pending */
    (void)pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

int load_tls_create(struct load *l)
{
    static const uint8_t h2[] = "\x02h2";
    static const uint8_t http1[] = "\x08http/1.1";
    bool is_h2 = l->options->protocol == LOAD_HTTP2;

    if (!l->options->tls)
        return 0;
    l->tls = SSL_CTX_new(TLS_client_method());
    if (l->tls == NULL)
        return -ENOMEM;
    SSL_CTX_set_verify(l->tls, SSL_VERIFY_NONE, NULL);
    (void)SSL_CTX_set_mode(l->tls, SSL_MODE_ENABLE_PARTIAL_WRITE |
                                       SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                       SSL_MODE_RELEASE_BUFFERS);
    (void)SSL_CTX_set_options(l->tls,
                              SSL_OP_IGNORE_UNEXPECTED_EOF); /* report it as an end of file */
    if (SSL_CTX_set_alpn_protos(l->tls, is_h2 ? h2 : http1,
                                is_h2 ? sizeof(h2) - 1 : sizeof(http1) - 1) != 0)
        return -ENOMEM;
    block_sigpipe(l);
    return 0;
}

void load_tls_destroy(struct load *l)
{
    for (size_t i = 0; i < l->conns_len && l->conns != NULL; i++)
        SSL_SESSION_free(l->conns[i].session);
    SSL_CTX_free(l->tls);
    unblock_sigpipe(l);
}

int load_tls_open(struct load_conn *c)
{
    c->ssl = SSL_new(c->load->tls);
    if (c->ssl == NULL || SSL_set_fd(c->ssl, c->fd) != 1)
        return -ENOMEM;
    (void)SSL_set_tlsext_host_name(c->ssl, "localhost"); /* some servers require SNI */
    if (c->session != NULL && SSL_set_session(c->ssl, c->session) != 1)
        return -ENOMEM;
    return 0;
}

static bool is_protocol_agreed(const struct load_conn *c)
{
    const uint8_t *name;
    unsigned len;

    SSL_get0_alpn_selected(c->ssl, &name, &len);
    return c->load->options->protocol != LOAD_HTTP2 || len == 2;
}

enum load_tls_step load_tls_shake(struct load_conn *c)
{
    ERR_clear_error();
    int r = SSL_connect(c->ssl);
    if (r == 1)
        return is_protocol_agreed(c) ? LOAD_TLS_DONE : LOAD_TLS_FAILED;
    int error = SSL_get_error(c->ssl, r);
    return error == SSL_ERROR_WANT_READ    ? LOAD_TLS_READS
           : error == SSL_ERROR_WANT_WRITE ? LOAD_TLS_WRITES
                                           : LOAD_TLS_FAILED;
}

/* Translate the result of SSL_read() or SSL_write() to that of recv() or send(). */
static ssize_t result_of(struct load_conn *c, int n)
{
    if (n > 0)
        return n;
    int error = SSL_get_error(c->ssl, n);
    if (error == SSL_ERROR_ZERO_RETURN)
        return 0;
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE)
        errno = EAGAIN;
    else if (error != SSL_ERROR_SYSCALL || errno == 0 || errno == EAGAIN)
        errno = EPROTO; /* an alert, or not TLS */
    return -1;
}

ssize_t load_tls_send(struct load_conn *c, const void *data, size_t len)
{
    ERR_clear_error();
    errno = 0;
    ssize_t n = result_of(c, SSL_write(c->ssl, data, len < 1U << 30 ? (int)len : 1 << 30));
    if (n == 0) { /* the server has sent close_notify */
        errno = EPIPE;
        return -1;
    }
    return n;
}

ssize_t load_tls_recv(struct load_conn *c, void *data, size_t len)
{
    ERR_clear_error();
    errno = 0;
    return result_of(c, SSL_read(c->ssl, data, len < 1U << 30 ? (int)len : 1 << 30));
}

bool load_tls_has_more(const struct load_conn *c)
{
    return c->ssl != NULL && SSL_pending(c->ssl) > 0;
}

/* At the close, because tickets arrive after the handshake. */
static void keep_session(struct load_conn *c)
{
    SSL_SESSION_free(c->session);
    c->session = SSL_get1_session(c->ssl);
}

void load_tls_close(struct load_conn *c)
{
    if (c->ssl == NULL)
        return;
    ERR_clear_error();
    if (SSL_is_init_finished(c->ssl)) {
        if (c->load->options->resume)
            keep_session(c);
        (void)SSL_shutdown(c->ssl); /* without it OpenSSL would discard the session */
    }
    SSL_free(c->ssl);
    c->ssl = NULL;
}

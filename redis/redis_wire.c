#include "redis_wire.h"

#include <errno.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "clock.h"

static int fail_with(struct redis_wire *wire, int err, const char *why)
{
    (void)snprintf(wire->error, sizeof(wire->error), "%s", why);
    return err;
}

static int fail(struct redis_wire *wire, int err)
{
    return fail_with(wire, err, err == -ETIMEDOUT ? "it does not answer" : strerrordesc_np(-err));
}

/* ---- waiting ---- */

/* 0: one of `events` has come, or the socket has failed; -ETIMEDOUT; -ECANCELED. */
static int wait_for(int fd, short events, int cancel_fd, uint64_t until_ns)
{
    for (;;) {
        struct pollfd fds[2] = {{.fd = fd, .events = events}, {.fd = cancel_fd, .events = POLLIN}};
        int left_ms = clock_poll_ms(clock_now_ns(), until_ns);
        int n = poll(fds, 2, left_ms);
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0 && fds[1].revents != 0)
            return -ECANCELED;
        if (n > 0)
            return 0;
        if (left_ms == 0)
            return -ETIMEDOUT;
    }
}

int redis_wire_wait(struct redis_wire *wire, uint64_t until_ns)
{
    int err = wait_for(wire->fd, wire->wants, wire->cancel_fd, until_ns);

    wire->wants = 0;
    return err == 0 ? 0 : fail(wire, err);
}

/* ---- connecting ---- */

static int connect_address(const struct redis_wire *wire, const struct sockaddr *address,
                           socklen_t length, uint64_t until_ns)
{
    int err = 0, one = 1;
    socklen_t size = sizeof(err);
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0)
        return -errno;
    if (address->sa_family != AF_UNIX)
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (connect(fd, address, length) != 0) {
        err = -errno;
        if (err == -EINPROGRESS) {
            err = wait_for(fd, POLLOUT, wire->cancel_fd, until_ns);
            if (err == 0 && getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &size) == 0)
                err = -err;
        }
    }
    if (err == 0)
        return fd;
    (void)close(fd);
    return err;
}

static int connect_unix(struct redis_wire *wire, const char *path, uint64_t until_ns)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    if (strlen(path) >= sizeof(address.sun_path))
        return fail(wire, -ENAMETOOLONG);
    memcpy(address.sun_path, path, strlen(path) + 1);
    int fd = connect_address(wire, (const struct sockaddr *)&address, sizeof(address), until_ns);
    return fd >= 0 ? fd : fail(wire, fd);
}

static int connect_tcp(struct redis_wire *wire, const struct redis_url *url, uint64_t until_ns)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *found;
    char port[8];
    int fd = -EHOSTUNREACH;

    (void)snprintf(port, sizeof(port), "%d", url->port);
    int err = getaddrinfo(url->host, port, &hints, &found);
    if (err != 0)
        return fail_with(wire, -EHOSTUNREACH, gai_strerror(err));
    for (const struct addrinfo *at = found; at != NULL; at = at->ai_next) {
        fd = connect_address(wire, at->ai_addr, at->ai_addrlen, until_ns);
        if (fd >= 0 || fd == -ETIMEDOUT || fd == -ECANCELED)
            break;
    }
    freeaddrinfo(found);
    return fd >= 0 ? fd : fail(wire, fd);
}

/* ---- TLS ---- */

/* The meaning of a call that returned `r` <= 0; errno is that call's. */
static int tls_failed(struct redis_wire *wire, int r)
{
    int os = errno;
    char why[96];

    switch (SSL_get_error(wire->ssl, r)) {
    case SSL_ERROR_WANT_READ:
        wire->wants |= POLLIN;
        return -EAGAIN;
    case SSL_ERROR_WANT_WRITE:
        wire->wants |= POLLOUT;
        return -EAGAIN;
    case SSL_ERROR_ZERO_RETURN:
        return fail(wire, -ECONNRESET);
    case SSL_ERROR_SYSCALL:
        return fail(wire, os != 0 ? -os : -ECONNRESET);
    default:
        break;
    }
    long verified = SSL_get_verify_result(wire->ssl);
    const char *reason = ERR_reason_error_string(ERR_peek_error());
    if (verified != X509_V_OK && !SSL_is_init_finished(wire->ssl))
        (void)snprintf(why, sizeof(why), "its certificate: %s",
                       X509_verify_cert_error_string(verified));
    else
        (void)snprintf(why, sizeof(why), "TLS: %s", reason != NULL ? reason : "unknown failure");
    ERR_clear_error();
    return fail_with(wire, -EPROTO, why);
}

/* A write to a socket that the peer has closed returns an error, without SIGPIPE. */
static int write_quietly(BIO *bio, const char *bytes, int size)
{
    int fd = -1;

    (void)BIO_get_fd(bio, &fd);
    BIO_clear_retry_flags(bio);
    errno = 0;
    int n = (int)send(fd, bytes, (size_t)size, MSG_NOSIGNAL);
    if (n <= 0 && BIO_sock_should_retry(n))
        BIO_set_retry_write(bio);
    return n;
}

static BIO_METHOD *quiet_method;

static void make_quiet_method(void)
{
    const BIO_METHOD *usual = BIO_s_socket();
    BIO_METHOD *method = BIO_meth_new(BIO_TYPE_SOCKET, "quiet socket");

    if (method == NULL)
        return;
    (void)BIO_meth_set_create(method, BIO_meth_get_create(usual));
    (void)BIO_meth_set_destroy(method, BIO_meth_get_destroy(usual));
    (void)BIO_meth_set_ctrl(method, BIO_meth_get_ctrl(usual));
    (void)BIO_meth_set_read(method, BIO_meth_get_read(usual));
    (void)BIO_meth_set_write(method, write_quietly);
    quiet_method = method; /* it lives as long as the process */
}

static bool set_socket(SSL *ssl, int fd)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    (void)pthread_once(&once, make_quiet_method);
    BIO *bio = quiet_method != NULL ? BIO_new(quiet_method) : NULL;
    if (bio == NULL)
        return false;
    (void)BIO_set_fd(bio, fd, BIO_NOCLOSE);
    SSL_set_bio(ssl, bio, bio); /* which owns it now */
    return true;
}

/* The certificate must be for the host of the URL (RFC 9110, section 4.3.4): for an address by an
 * iPAddress entry, for a name by a dNSName. SNI is for names only (RFC 6066, section 3). */
static bool expect_host(SSL *ssl, const char *host)
{
    if (X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host) == 1)
        return true;
    ERR_clear_error();
    return SSL_set1_host(ssl, host) == 1 && SSL_set_tlsext_host_name(ssl, host) == 1;
}

static int shake_hands(struct redis_wire *wire, const struct redis_url *url, uint64_t until_ns)
{
    wire->ssl = url->tls != NULL ? SSL_new(url->tls) : NULL;
    if (wire->ssl == NULL || !set_socket(wire->ssl, wire->fd) ||
        !expect_host(wire->ssl, url->host)) {
        ERR_clear_error();
        return fail_with(wire, -EINVAL, "TLS is not set up");
    }
    for (;;) {
        errno = 0;
        int r = SSL_connect(wire->ssl);
        int err = r == 1 ? 0 : tls_failed(wire, r);
        if (err == -EAGAIN)
            err = redis_wire_wait(wire, until_ns);
        if (err == -ETIMEDOUT) /* Redis closes the connection if the bytes are not a command */
            return fail_with(wire, err, "it does not answer in TLS");
        if (r == 1 || err != 0)
            return err;
    }
}

/* ---- bytes ---- */

static ssize_t plain_failed(struct redis_wire *wire, ssize_t n, short wants)
{
    int err = n == 0 ? -ECONNRESET : -errno;

    if (err != -EAGAIN && err != -EINTR)
        return fail(wire, err);
    wire->wants |= wants;
    return -EAGAIN;
}

ssize_t redis_wire_read(struct redis_wire *wire, char *bytes, size_t size)
{
    errno = 0;
    if (wire->ssl == NULL) {
        ssize_t n = recv(wire->fd, bytes, size, 0);
        return n > 0 ? n : plain_failed(wire, n, POLLIN);
    }
    int r = SSL_read(wire->ssl, bytes, size < INT_MAX ? (int)size : INT_MAX);
    return r > 0 ? r : tls_failed(wire, r);
}

ssize_t redis_wire_write(struct redis_wire *wire, const char *bytes, size_t size)
{
    errno = 0;
    if (wire->ssl == NULL) {
        ssize_t n = send(wire->fd, bytes, size, MSG_NOSIGNAL);
        return n > 0 ? n : plain_failed(wire, n, POLLOUT);
    }
    int r = SSL_write(wire->ssl, bytes, size < INT_MAX ? (int)size : INT_MAX);
    return r > 0 ? r : tls_failed(wire, r);
}

/* ---- all ---- */

int redis_wire_open(struct redis_wire *wire, const struct redis_url *url, int cancel_fd,
                    uint64_t until_ns)
{
    *wire = (struct redis_wire){.cancel_fd = cancel_fd};
    wire->fd = url->path != NULL ? connect_unix(wire, url->path, until_ns)
                                 : connect_tcp(wire, url, until_ns);
    if (wire->fd < 0)
        return wire->fd;
    int err = url->is_tls ? shake_hands(wire, url, until_ns) : 0;
    if (err != 0)
        redis_wire_close(wire);
    return err;
}

void redis_wire_close(struct redis_wire *wire)
{
    if (wire->ssl != NULL) {
        if (SSL_is_init_finished(wire->ssl))
            (void)SSL_shutdown(wire->ssl); /* best effort */
        ERR_clear_error();
        SSL_free(wire->ssl);
    }
    (void)close(wire->fd);
    wire->ssl = NULL;
    wire->fd = -1;
}

#include "bad_server.h"

#include "certificate.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <nghttp2/nghttp2.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* One poll loop. A connection that has become readable is served to the end of its request with
 * blocking reads: the load client writes from one thread without ever blocking, so this is safe. */

#define CONNS_MAX 64
#define HEAD_BYTES_MAX 4096

/* A test helper checks in release builds as well. */
#define must(condition) ((condition) ? (void)0 : abort())

struct bad_h2 {
    nghttp2_session *session;
    struct bad_server *server;
    unsigned requests;
    enum bad_next next;
};

struct bad_conn {
    int fd;
    unsigned requests;
    struct bad_h2 *h2;
    SSL *ssl; /* NULL: no TLS; also in ssl_of_fd */
};

struct bad_server {
    const struct bad_script *script;
    pthread_t thread;
    int stop_fd;
    int listen_fd;
    SSL_CTX *tls; /* NULL: none */
    char address[128];
    struct sockaddr_un unix_path; /* family 0: none */

    /* the server's thread; after the join, the starter's */
    struct bad_conn conns[CONNS_MAX];
    unsigned conns_len;
    struct bad_seen seen;
};

/* --- bytes, over TLS or not: scripts know only the fd --- */

#define FD_MAX 1024

static _Thread_local SSL *ssl_of_fd[FD_MAX];

static ssize_t receive(int fd, void *data, size_t len)
{
    SSL *ssl = ssl_of_fd[fd];

    return ssl != NULL ? SSL_read(ssl, data, (int)len) : recv(fd, data, len, 0);
}

static bool has_more(int fd)
{
    return ssl_of_fd[fd] != NULL && SSL_pending(ssl_of_fd[fd]) > 0;
}

/* --- for scripts --- */

static void send_all(int fd, const void *data, size_t len, int flags)
{
    for (size_t done = 0; done < len;) {
        const char *at = (const char *)data + done;
        ssize_t n = ssl_of_fd[fd] != NULL ? SSL_write(ssl_of_fd[fd], at, (int)(len - done))
                                          : send(fd, at, len - done, MSG_NOSIGNAL | flags);
        if (n <= 0)
            return; /* the client has left */
        done += (size_t)n;
    }
}

void bad_send(int fd, const char *text)
{
    send_all(fd, text, strlen(text), 0);
}

void bad_send_corked(int fd, const char *text)
{
    send_all(fd, text, strlen(text), MSG_MORE);
}

/* --- HTTP/1 --- */

/* Read up to the empty line and no further: the client may have pipelined another request. */
static bool read_head(int fd, char *head)
{
    for (size_t len = 0; len < HEAD_BYTES_MAX;) {
        if (receive(fd, head + len, 1) <= 0)
            return false;
        head[++len] = '\0';
        if (len >= 4 && memcmp(head + len - 4, "\r\n\r\n", 4) == 0)
            return true;
    }
    return false;
}

static bool read_request(struct bad_server *s, int fd)
{
    char head[HEAD_BYTES_MAX + 1];
    char body[65536];

    if (!read_head(fd, head))
        return false;
    const char *length = strcasestr(head, "\r\nContent-Length: ");
    size_t want = length != NULL ? strtoul(length + 18, NULL, 10) : 0;
    size_t have = 0;
    while (have < want) {
        size_t left = want - have;
        ssize_t n = receive(fd, body, left < sizeof(body) ? left : sizeof(body));
        if (n <= 0)
            return false;
        have += (size_t)n;
    }
    s->seen.requests++;
    s->seen.body_bytes += have;
    return true;
}

static enum bad_next serve_h1(struct bad_server *s, struct bad_conn *c)
{
    if (!read_request(s, c->fd))
        return BAD_CLOSE;
    return s->script->answer(c->fd, ++c->requests);
}

/* --- HTTP/2 --- */

static ssize_t read_answer(nghttp2_session *session, int32_t id, uint8_t *buf, size_t len,
                           uint32_t *flags, nghttp2_data_source *source, void *arg)
{
    const char *body = source->ptr;
    size_t n = strlen(body);

    (void)session; /* of the callback type */
    (void)id;
    (void)arg;
    must(n <= len);
    memcpy(buf, body, n);
    *flags |= NGHTTP2_DATA_FLAG_EOF;
    return (ssize_t)n;
}

static ssize_t read_half_answer(nghttp2_session *session, int32_t id, uint8_t *buf, size_t len,
                                uint32_t *flags, nghttp2_data_source *source, void *arg)
{
    if (source->ptr == NULL)
        return NGHTTP2_ERR_DEFERRED;
    ssize_t n = read_answer(session, id, buf, len, flags, source, arg);
    *flags = NGHTTP2_DATA_FLAG_NONE;
    source->ptr = NULL;
    return n;
}

static void submit_answer(struct bad_h2 *h, int32_t stream, const char *body,
                          nghttp2_data_source_read_callback read)
{
    uint8_t name[] = ":status";
    uint8_t value[] = "200";
    nghttp2_nv status = {.name = name, .value = value, .namelen = 7, .valuelen = 3};
    nghttp2_data_provider data = {.source.ptr = (void *)(uintptr_t)body, .read_callback = read};

    (void)nghttp2_submit_response(h->session, stream, &status, 1, &data);
}

void bad_h2_answer(struct bad_h2 *h, int32_t stream, const char *body)
{
    submit_answer(h, stream, body, read_answer);
}

void bad_h2_answer_half(struct bad_h2 *h, int32_t stream, const char *body)
{
    submit_answer(h, stream, body, read_half_answer);
}

void bad_h2_reset(struct bad_h2 *h, int32_t stream, uint32_t code)
{
    (void)nghttp2_submit_rst_stream(h->session, NGHTTP2_FLAG_NONE, stream, code);
}

void bad_h2_goaway(struct bad_h2 *h, int32_t last_stream)
{
    (void)nghttp2_submit_goaway(h->session, NGHTTP2_FLAG_NONE, last_stream, NGHTTP2_NO_ERROR, NULL,
                                0);
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct bad_h2 *h = arg;
    bool is_end = (frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA) &&
                  (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;

    (void)session; /* of the callback type */
    if (!is_end)
        return 0;
    h->server->seen.requests++;
    enum bad_next next = h->server->script->answer_h2(h, frame->hd.stream_id, ++h->requests);
    if (next != BAD_KEEP)
        h->next = next;
    return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data,
                   size_t len, void *arg)
{
    struct bad_h2 *h = arg;

    (void)session; /* of the callback type */
    (void)flags;
    (void)id;
    (void)data;
    h->server->seen.body_bytes += len;
    return 0;
}

static struct bad_h2 *create_h2(struct bad_server *s)
{
    struct bad_h2 *h = calloc(1, sizeof(*h));
    nghttp2_session_callbacks *callbacks;

    must(h != NULL);
    h->server = s;
    int r = nghttp2_session_callbacks_new(&callbacks);
    must(r == 0);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    r = nghttp2_session_server_new(&h->session, callbacks, h);
    must(r == 0);
    nghttp2_session_callbacks_del(callbacks);
    r = nghttp2_submit_settings(h->session, NGHTTP2_FLAG_NONE, NULL, 0);
    must(r == 0);
    return h;
}

/* Everything that is ready leaves in one write, so that the client sees it at once. */
static void flush_h2(struct bad_conn *c)
{
    static _Thread_local uint8_t out[65536];
    const uint8_t *data;
    size_t len = 0;
    ssize_t n;

    while ((n = nghttp2_session_mem_send(c->h2->session, &data)) > 0) {
        must(len + (size_t)n <= sizeof(out));
        memcpy(out + len, data, (size_t)n);
        len += (size_t)n;
    }
    send_all(c->fd, out, len, 0);
}

static enum bad_next serve_h2(struct bad_conn *c)
{
    uint8_t in[65536];
    ssize_t n = receive(c->fd, in, sizeof(in));

    if (n <= 0 || nghttp2_session_mem_recv(c->h2->session, in, (size_t)n) < 0)
        return BAD_CLOSE;
    flush_h2(c);
    return c->h2->next;
}

/* --- the loop --- */

static void close_fd(int fd, enum bad_next how)
{
    struct linger none = {.l_onoff = 1, .l_linger = 0};

    if (how ==
        BAD_CLOSE) { /* close() with something unread would reset: wait for the client's end */
        char rest[4096];
        (void)shutdown(fd, SHUT_WR); /* fails when the client has left, then recv() does too */
        while (recv(fd, rest, sizeof(rest), 0) > 0)
            ;
    }
    if (how == BAD_RESET)
        (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none)); /* close() sends RST */
    (void)close(fd);
}

static void drop_conn(struct bad_server *s, unsigned index, enum bad_next how)
{
    struct bad_conn *c = &s->conns[index];

    if (c->h2 != NULL) {
        nghttp2_session_del(c->h2->session);
        free(c->h2);
    }
    if (c->ssl != NULL) {
        ssl_of_fd[c->fd] = NULL;
        if (how == BAD_CLOSE)
            (void)SSL_shutdown(c->ssl);
        SSL_free(c->ssl);
    }
    close_fd(c->fd, how);
    *c = s->conns[--s->conns_len];
}

static SSL *accept_tls(struct bad_server *s, int fd)
{
    SSL *ssl = SSL_new(s->tls);

    must(ssl != NULL && fd < FD_MAX);
    if (SSL_set_fd(ssl, fd) != 1 || SSL_accept(ssl) != 1) {
        SSL_free(ssl);
        return NULL;
    }
    s->seen.resumed += SSL_session_reused(ssl) == 1;
    ssl_of_fd[fd] = ssl;
    return ssl;
}

static void accept_conn(struct bad_server *s)
{
    int fd = accept4(s->listen_fd, NULL, NULL, SOCK_CLOEXEC);

    if (fd < 0)
        return;
    s->seen.connections++;
    enum bad_next next = s->script->accepted != NULL ? s->script->accepted(fd) : BAD_KEEP;
    if (next != BAD_KEEP) {
        close_fd(fd, next);
        return;
    }
    SSL *ssl = NULL;
    if (s->tls != NULL && (ssl = accept_tls(s, fd)) == NULL) {
        close_fd(fd, BAD_KEEP);
        return;
    }
    must(s->conns_len < CONNS_MAX);
    struct bad_conn *c = &s->conns[s->conns_len++];
    *c = (struct bad_conn){.fd = fd, .ssl = ssl};
    c->h2 = s->script->answer_h2 != NULL ? create_h2(s) : NULL;
}

static void *serve(void *arg)
{
    struct bad_server *s = arg;
    struct pollfd fds[CONNS_MAX + 2];
    sigset_t pipe; /* SSL_write() has no MSG_NOSIGNAL */

    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    (void)pthread_sigmask(SIG_BLOCK, &pipe, NULL); /* cannot fail */
    for (;;) {
        fds[0] = (struct pollfd){.fd = s->stop_fd, .events = POLLIN};
        fds[1] = (struct pollfd){.fd = s->listen_fd, .events = POLLIN};
        for (unsigned i = 0; i < s->conns_len; i++)
            fds[i + 2] = (struct pollfd){.fd = s->conns[i].fd, .events = POLLIN};
        (void)poll(fds, s->conns_len + 2, -1); /* an interrupted one finds nothing ready */
        if (fds[0].revents != 0)
            return NULL;
        for (unsigned i = s->conns_len; i > 0; i--) { /* backward: drop_conn() moves the last */
            if (fds[i + 1].revents == 0)
                continue;
            struct bad_conn *c = &s->conns[i - 1];
            enum bad_next next;
            do
                next = c->h2 != NULL ? serve_h2(c) : serve_h1(s, c);
            while (next == BAD_KEEP && has_more(c->fd));
            if (next != BAD_KEEP)
                drop_conn(s, i - 1, next);
        }
        if (fds[1].revents != 0)
            accept_conn(s);
    }
}

/* --- TLS: a key and a certificate of its own, for each server --- */

static int choose_protocol(SSL *ssl, const unsigned char **ret_name, unsigned char *ret_len,
                           const unsigned char *offered, unsigned offered_len, void *arg)
{
    const struct bad_server *s = arg;
    const char *own = s->script->answer_h2 != NULL ? "\x02h2" : "\x08http/1.1";
    unsigned char *name;

    (void)ssl; /* of the callback type */
    if (SSL_select_next_proto(&name, ret_len, (const unsigned char *)own, (unsigned)strlen(own),
                              offered, offered_len) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_NOACK;
    *ret_name = name;
    return SSL_TLSEXT_ERR_OK;
}

static SSL_CTX *create_tls(struct bad_server *s)
{
    SSL_CTX *tls = SSL_CTX_new(TLS_server_method());
    EVP_PKEY *key;
    X509 *certificate;

    must(tls != NULL);
    certificate_make(&key, &certificate);
    must(SSL_CTX_use_certificate(tls, certificate) == 1);
    must(SSL_CTX_use_PrivateKey(tls, key) == 1);
    X509_free(certificate);
    EVP_PKEY_free(key);
    SSL_CTX_set_alpn_select_cb(tls, choose_protocol, s);
    return tls;
}

/* --- start and stop --- */

static socklen_t make_address(struct bad_server *s, int family, struct sockaddr_storage *ss)
{
    struct sockaddr_in *sin = (struct sockaddr_in *)ss;
    struct sockaddr_in6 *sin6 = (struct sockaddr_in6 *)ss;

    memset(ss, 0, sizeof(*ss));
    ss->ss_family = (sa_family_t)family;
    if (family == AF_INET) {
        sin->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        return sizeof(*sin);
    }
    if (family == AF_INET6) {
        sin6->sin6_addr = in6addr_loopback;
        return sizeof(*sin6);
    }
    s->unix_path.sun_family = AF_UNIX;
    (void)snprintf(s->unix_path.sun_path, sizeof(s->unix_path.sun_path), "/tmp/bad-%d.sock",
                   (int)getpid()); /* fits */
    (void)unlink(s->unix_path.sun_path);
    memcpy(ss, &s->unix_path, sizeof(s->unix_path));
    return sizeof(s->unix_path);
}

static void name_address(struct bad_server *s, int family)
{
    struct sockaddr_in6 own; /* the port is at the same place in both families */
    socklen_t len = sizeof(own);

    int r = getsockname(s->listen_fd, (struct sockaddr *)&own, &len);
    must(r == 0);
    if (family == AF_UNIX)
        (void)snprintf(s->address, sizeof(s->address), "unix:%s", s->unix_path.sun_path);
    else
        (void)snprintf(s->address, sizeof(s->address),
                       family == AF_INET ? "127.0.0.1:%u" : "[::1]:%u", ntohs(own.sin6_port));
}

struct bad_server *bad_server_start(int family, const struct bad_script *script)
{
    struct bad_server *s = calloc(1, sizeof(*s));
    struct sockaddr_storage ss;

    must(s != NULL);
    s->script = script;
    socklen_t len = make_address(s, family, &ss);
    s->listen_fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (s->listen_fd < 0 || bind(s->listen_fd, (struct sockaddr *)&ss, len) != 0) {
        if (s->listen_fd >= 0)
            (void)close(s->listen_fd);
        free(s);
        return NULL;
    }
    int r = listen(s->listen_fd, 128);
    must(r == 0);
    name_address(s, family);
    s->tls = script->tls ? create_tls(s) : NULL;
    s->stop_fd = eventfd(0, EFD_CLOEXEC);
    must(s->stop_fd >= 0);
    r = pthread_create(&s->thread, NULL, serve, s);
    must(r == 0);
    return s;
}

const char *bad_server_address(const struct bad_server *s)
{
    return s->address;
}

void bad_server_stop(struct bad_server *s, struct bad_seen *ret_seen)
{
    int r = eventfd_write(s->stop_fd, 1);
    must(r == 0);
    r = pthread_join(s->thread, NULL);
    must(r == 0);
    while (s->conns_len > 0)
        drop_conn(s, 0, BAD_KEEP);
    (void)close(s->listen_fd);
    (void)close(s->stop_fd);
    SSL_CTX_free(s->tls);
    if (s->unix_path.sun_family == AF_UNIX)
        (void)unlink(s->unix_path.sun_path);
    if (ret_seen != NULL)
        *ret_seen = s->seen;
    free(s);
}

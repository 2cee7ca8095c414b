#include "h2o_api.h"

#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "tls.h"

#define RECORD_HEAD 5
#define PEEKED 16384

enum { RECORD_ALERT = 21, RECORD_HANDSHAKE = 22, RECORD_DATA = 23 };

/* In TLS 1.3 an alert is a data record of this length: two bytes, the type, and the tag. */
#define RECORD_ALERT_BYTES 19

/* A server has no terminal to ask for a passphrase. */
static int no_passphrase(char *buf, int size, int rwflag, void *arg)
{
    (void)buf;
    (void)size;
    (void)rwflag;
    (void)arg;
    return 0;
}

/* OpenSSL's own reason for a file that is missing or not PEM is "unsupported". */
static void explain(const char *what, const char *path, char *error, size_t size)
{
    unsigned long code = ERR_peek_error();

    if (ERR_SYSTEM_ERROR(code))
        (void)snprintf(error, size, "cannot use %s in %s: %s", what, path,
                       strerrordesc_np(ERR_GET_REASON(code)));
    else
        (void)snprintf(error, size,
                       "cannot use %s in %s: there is none in PEM form, or it needs a "
                       "passphrase",
                       what, path);
}

static enum tls_fault use_pair(SSL_CTX *ctx, const struct tls_certificate *certificate, char *error,
                               size_t size)
{
    const char *file = certificate->certificate_file, *key = certificate->key_file;

    if (SSL_CTX_use_certificate_chain_file(ctx, file) != 1) {
        explain("the certificate", file, error, size);
        return TLS_FAULT_CERTIFICATE;
    }
    bool loaded = SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) == 1;
    if (!loaded && ERR_GET_LIB(ERR_peek_last_error()) != ERR_LIB_X509) {
        explain("the key", key, error, size);
        return TLS_FAULT_KEY;
    }
    if (loaded && SSL_CTX_check_private_key(ctx) == 1)
        return TLS_NO_FAULT;
    (void)snprintf(error, size, "the key in %s does not match the certificate in %s", key, file);
    return TLS_FAULT_KEY;
}

static enum tls_fault use_dh(SSL_CTX *ctx, const char *file, char *error, size_t size)
{
    if (file == NULL)
        return SSL_CTX_set_dh_auto(ctx, 1) == 1 ? TLS_NO_FAULT : TLS_FAULT_MEMORY;
    BIO *bio = BIO_new_file(file, "r");
    EVP_PKEY *parameters = bio != NULL ? PEM_read_bio_Parameters(bio, NULL) : NULL;
    BIO_free(bio);
    if (parameters == NULL) {
        explain("the DH parameters", file, error, size);
        return TLS_FAULT_DH;
    }
    if (SSL_CTX_set0_tmp_dh_pkey(ctx, parameters) == 1) /* it takes ownership */
        return TLS_NO_FAULT;
    EVP_PKEY_free(parameters);
    (void)snprintf(error, size, "the DH parameters in %s are too weak for OpenSSL", file);
    return TLS_FAULT_DH;
}

static enum tls_fault set_up(SSL_CTX *ctx, const struct tls_certificate *certificate, char *error,
                             size_t size)
{
    /* Without a setting, openssl.cnf(5) may demand more than TLS 1.2, but not allow less. */
    if (certificate->version_min != 0)
        (void)SSL_CTX_set_min_proto_version(ctx, certificate->version_min);
    else if (SSL_CTX_get_min_proto_version(ctx) < TLS1_2_VERSION)
        (void)SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
    if (certificate->version_max != 0)
        (void)SSL_CTX_set_max_proto_version(ctx, certificate->version_max);
    (void)SSL_CTX_set_options(
        ctx, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION |
                 (certificate->prefer_own_ciphers ? SSL_OP_CIPHER_SERVER_PREFERENCE : 0));
    SSL_CTX_set_default_passwd_cb(ctx, no_passphrase);
    h2o_ssl_register_alpn_protocols(ctx, h2o_alpn_protocols);
    enum tls_fault fault = use_pair(ctx, certificate, error, size);
    if (fault == TLS_NO_FAULT && certificate->ciphers != NULL &&
        SSL_CTX_set_cipher_list(ctx, certificate->ciphers) != 1) {
        (void)snprintf(error, size, "OpenSSL knows no cipher of %s", certificate->ciphers);
        fault = TLS_FAULT_CIPHERS;
    }
    return fault == TLS_NO_FAULT ? use_dh(ctx, certificate->dh_file, error, size) : fault;
}

/* ---- the certificates of a listener ---- */

struct entry {
    SSL_CTX *ctx;
    char *certificate_file;
    char **names;
    size_t name_count;
};

struct tls {
    struct entry *entries;
    size_t count;
};

struct tls *tls_new(void)
{
    return calloc(1, sizeof(struct tls));
}

static void entry_release(struct entry *entry)
{
    for (size_t i = 0; i < entry->name_count; i++)
        free(entry->names[i]);
    free(entry->names);
    free(entry->certificate_file);
    SSL_CTX_free(entry->ctx);
}

void tls_free(struct tls *tls)
{
    for (size_t i = 0; tls != NULL && i < tls->count; i++)
        entry_release(&tls->entries[i]);
    if (tls != NULL)
        free(tls->entries);
    free(tls);
}

/* `*.example.com` matches every name that ends with `.example.com`. */
static bool fits(const char *pattern, const char *host)
{
    size_t host_bytes = strlen(host), tail = strlen(pattern) - 1;

    if (pattern[0] != '*')
        return strcasecmp(pattern, host) == 0;
    return host_bytes > tail && strcasecmp(host + host_bytes - tail, pattern + 1) == 0;
}

static int on_server_name(SSL *ssl, int *alert, void *arg)
{
    const struct tls *tls = arg;
    const char *host = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);

    (void)alert;
    for (size_t i = 0; host != NULL && i < tls->count; i++)
        for (size_t j = 0; j < tls->entries[i].name_count; j++)
            if (fits(tls->entries[i].names[j], host)) {
                if (SSL_get_SSL_CTX(ssl) != tls->entries[i].ctx)
                    (void)SSL_set_SSL_CTX(ssl, tls->entries[i].ctx);
                return SSL_TLSEXT_ERR_OK;
            }
    return SSL_TLSEXT_ERR_OK;
}

enum tls_fault tls_add(struct tls *tls, const struct tls_certificate *certificate, char *error,
                       size_t error_size)
{
    struct entry *grown = realloc(tls->entries, (tls->count + 1) * sizeof(*grown));
    struct entry entry = {.ctx = NULL};
    enum tls_fault fault = TLS_FAULT_MEMORY;

    (void)snprintf(error, error_size, "no memory for TLS");
    if (grown == NULL)
        return fault;
    tls->entries = grown;
    ERR_clear_error();
    entry.ctx = SSL_CTX_new(TLS_server_method());
    entry.certificate_file = strdup(certificate->certificate_file);
    if (entry.ctx != NULL && entry.certificate_file != NULL)
        fault = set_up(entry.ctx, certificate, error, error_size);
    ERR_clear_error();
    if (fault != TLS_NO_FAULT) {
        entry_release(&entry);
        return fault;
    }
    tls->entries[tls->count++] = entry;
    if (tls->count > 1) { /* else there is no choice */
        (void)SSL_CTX_set_tlsext_servername_callback(tls->entries[0].ctx, on_server_name);
        (void)SSL_CTX_set_tlsext_servername_arg(tls->entries[0].ctx, tls);
    }
    return TLS_NO_FAULT;
}

bool tls_add_name(struct tls *tls, const char *certificate_file, const char *host, size_t bytes)
{
    for (size_t i = 0; i < tls->count; i++) {
        struct entry *entry = &tls->entries[i];
        if (strcmp(entry->certificate_file, certificate_file) != 0)
            continue;
        char **grown = realloc(entry->names, (entry->name_count + 1) * sizeof(*grown));
        char *name = strndup(host, bytes);
        if (grown != NULL)
            entry->names = grown;
        if (grown != NULL && name != NULL)
            entry->names[entry->name_count++] = name;
        else
            free(name);
        return true;
    }
    return false;
}

/* ---- which listener a session belongs to ---- */

/* The bytes that distinguish addresses, without the padding of sockaddr(3type). */
static bool digest_address(EVP_MD_CTX *digest, const struct sockaddr *address)
{
    const struct sockaddr_in *in = (const void *)address;
    const struct sockaddr_in6 *in6 = (const void *)address;
    const struct sockaddr_un *un = (const void *)address;
    bool good = EVP_DigestUpdate(digest, &address->sa_family, sizeof(address->sa_family)) == 1;

    if (address->sa_family == AF_INET)
        return good && EVP_DigestUpdate(digest, &in->sin_port, sizeof(in->sin_port)) == 1 &&
               EVP_DigestUpdate(digest, &in->sin_addr, sizeof(in->sin_addr)) == 1;
    if (address->sa_family == AF_INET6)
        return good && EVP_DigestUpdate(digest, &in6->sin6_port, sizeof(in6->sin6_port)) == 1 &&
               EVP_DigestUpdate(digest, &in6->sin6_addr, sizeof(in6->sin6_addr)) == 1;
    return good &&
           EVP_DigestUpdate(digest, un->sun_path, strnlen(un->sun_path, sizeof(un->sun_path))) == 1;
}

static bool digest_certificate(EVP_MD_CTX *digest, SSL_CTX *ctx)
{
    unsigned char fingerprint[EVP_MAX_MD_SIZE];
    unsigned bytes = 0;
    const X509 *certificate = SSL_CTX_get0_certificate(ctx);

    return certificate != NULL &&
           X509_digest(certificate, EVP_sha256(), fingerprint, &bytes) == 1 &&
           EVP_DigestUpdate(digest, fingerprint, bytes) == 1;
}

/* The same for all contexts: OpenSSL compares it with the first one, before a host is chosen. */
bool tls_identify(struct tls *tls, const struct sockaddr *address)
{
    unsigned char name[EVP_MAX_MD_SIZE];
    unsigned bytes = 0;
    EVP_MD_CTX *digest = EVP_MD_CTX_new();
    bool good = digest != NULL && EVP_DigestInit_ex(digest, EVP_sha256(), NULL) == 1 &&
                digest_address(digest, address);

    for (size_t i = 0; good && i < tls->count; i++)
        good = digest_certificate(digest, tls->entries[i].ctx);
    good = good && EVP_DigestFinal_ex(digest, name, &bytes) == 1;
    for (size_t i = 0; good && i < tls->count; i++)
        good = SSL_CTX_set_session_id_context(tls->entries[i].ctx, name, bytes) == 1;
    EVP_MD_CTX_free(digest);
    return good;
}

SSL_CTX *tls_context(const struct tls *tls)
{
    return tls->entries[0].ctx;
}

void tls_each(const struct tls *tls, void (*visit)(SSL_CTX *ctx, void *arg), void *arg)
{
    for (size_t i = 0; i < tls->count; i++)
        visit(tls->entries[i].ctx, arg);
}

/* ---- unread records ---- */

bool tls_has_unread_request(int fd, bool done)
{
    unsigned char bytes[PEEKED];
    ssize_t n = recv(fd, bytes, sizeof(bytes), MSG_PEEK | MSG_DONTWAIT);
    /* TLS 1.3: the client's first encrypted record ends the handshake. TLS 1.2: a handshake record
     * does, if the session is resumed by a ticket and the client sends last. */
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
    /* A record header alone is not pending, but then the state is "read body". */
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

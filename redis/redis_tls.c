#include "redis_url.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int fail(const char *name, const char *path, const char *why,
                char error[REDIS_TLS_ERROR_SIZE])
{
    (void)snprintf(error, REDIS_TLS_ERROR_SIZE, "%s=%.200s: %s", name, path, why);
    return -EINVAL;
}

/* OpenSSL's text for a missing file is "no such file or system lib"; use errno's. */
static int fail_to_use(const char *name, const char *path, const char *usual,
                       char error[REDIS_TLS_ERROR_SIZE])
{
    const char *reason = ERR_reason_error_string(ERR_peek_error());

    if (access(path, R_OK) != 0)
        return fail(name, path, strerrordesc_np(errno), error);
    return fail(name, path, reason != NULL ? reason : usual, error);
}

/* A server cannot ask for a passphrase. */
static int no_passphrase(char *buf, int size, int writes, void *arg)
{
    (void)buf;
    (void)size;
    (void)writes;
    (void)arg;
    return 0;
}

static int load_trust(SSL_CTX *ctx, const struct redis_url *url, char error[REDIS_TLS_ERROR_SIZE])
{
    if (url->trusts_all)
        return 0;
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    if (url->ca_file == NULL)
        return SSL_CTX_set_default_verify_paths(ctx) == 1 ? 0 : -ENOMEM;
    /* Trust the named certificate itself, even if it is not self-signed. */
    (void)X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(ctx), X509_V_FLAG_PARTIAL_CHAIN);
    if (SSL_CTX_load_verify_file(ctx, url->ca_file) != 1)
        return fail_to_use("ca-file", url->ca_file, "there is no certificate in it", error);
    return 0;
}

static int load_identity(SSL_CTX *ctx, const struct redis_url *url,
                         char error[REDIS_TLS_ERROR_SIZE])
{
    const char *key = url->key_file != NULL ? url->key_file : url->cert_file;

    if (url->cert_file == NULL)
        return 0;
    SSL_CTX_set_default_passwd_cb(ctx, no_passphrase);
    if (SSL_CTX_use_certificate_chain_file(ctx, url->cert_file) != 1)
        return fail_to_use("cert-file", url->cert_file, "there is no certificate in it", error);
    if (SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1)
        return fail_to_use("key-file", key, "there is no key in it", error);
    if (SSL_CTX_check_private_key(ctx) != 1)
        return fail("key-file", key, "it is not the key of cert-file", error);
    return 0;
}

int redis_tls_load(struct redis_url *url, char error[REDIS_TLS_ERROR_SIZE])
{
    if (!url->is_tls)
        return 0;
    (void)snprintf(error, REDIS_TLS_ERROR_SIZE, "no memory");
    ERR_clear_error();
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    if (ctx == NULL)
        return -ENOMEM;
    (void)SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
    /* A write may be partial, and be repeated from another buffer: see redis_send(). */
    (void)SSL_CTX_set_mode(ctx,
                           SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    int err = load_trust(ctx, url, error);
    if (err == 0)
        err = load_identity(ctx, url, error);
    ERR_clear_error();
    if (err != 0) {
        SSL_CTX_free(ctx);
        return err;
    }
    SSL_CTX_free(url->tls);
    url->tls = ctx;
    return 0;
}

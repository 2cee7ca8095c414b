#ifndef LASTCALL_REDIS_URL_H
#define LASTCALL_REDIS_URL_H

/* Where a Redis server is, and who we are there.
 *
 *     redis://[[USER]:PASSWORD@]HOST[:PORT][/DB][?db=N&stream=NAME]
 *     rediss://...[?ca-file=PATH&cert-file=PATH&key-file=PATH&verify=off], over TLS
 *     unix:/PATH[?db=N&user=USER&password=PASSWORD&stream=NAME]
 *
 * User, password, paths and stream may hold %XX; a host in brackets is an IPv6 address. */

#include <stdbool.h>
#include <stddef.h>

struct redis_url {
    char *host; /* NULL: a Unix socket */
    int port;
    char *path;     /* of the socket; NULL: TCP */
    char *user;     /* NULL: the default one */
    char *password; /* NULL: none. It appears in no message. */
    unsigned db;
    char *stream; /* NULL: the text named none */
    bool is_tls;
    bool trusts_all;            /* the server's certificate is not looked at */
    char *ca_file;              /* who signs it; NULL: whom this system trusts */
    char *cert_file, *key_file; /* who we are; NULL: nobody, and: the key is in cert_file */
    struct ssl_ctx_st *tls;     /* made of these by redis_tls_load() */
};

#define REDIS_URL_SIZE 160
#define REDIS_TLS_ERROR_SIZE 320

/* Owner:  the caller; ends with redis_url_release().     Thread: any.
 * Errors: NULL and *ret_url; what is wanted instead, a constant text without any part of `text`,
 * then *ret_url is untouched. */
const char *redis_url_parse(const char *text, struct redis_url *ret_url);

/* Take the password from the first line of a file.     Thread: any.     Blocks: on the disk.
 * Errors: 0; -EINVAL, there is none in it; another negative errno. */
int redis_url_read_password(struct redis_url *url, const char *path);

/* The place without user and password, for logs: `redis://host:6379/0`. Returns `buf`.
 * Thread: any. */
const char *redis_url_text(const struct redis_url *url, char buf[REDIS_URL_SIZE]);

/* Read the files that a rediss:// names, while they may be read: connections need it. Without TLS
 * it does nothing.     Thread: any, before the url is shared.     Blocks: on the disk.
 * Errors: 0; -ENOMEM; -EINVAL, one is missing or of no use: `error` names it, and the cause. */
int redis_tls_load(struct redis_url *url, char error[REDIS_TLS_ERROR_SIZE]);

/* All of these for a setting: parse `text`, read what it names, and the password from a file (NULL:
 * none). `setting` is what messages begin with, "journal.redis".
 * Owner:  *ret_url was zeroed, and is the caller's also behind an error.     Thread: any.
 * Blocks: on the disk.
 * Errors: 0; -EINVAL or -ENOMEM, and `error` is one clear line without a secret. */
int redis_url_read(struct redis_url *ret_url, const char *text, const char *password_file,
                   const char *setting, char *error, size_t error_size);

/* A zeroed url is allowed. The password is wiped.     Thread: any. */
void redis_url_release(struct redis_url *url);

#endif

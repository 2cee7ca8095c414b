#ifndef LASTCALL_REDIS_URL_H
#define LASTCALL_REDIS_URL_H

/* The URL of a Redis server, with the user that we log in as.
 *
 *     redis://[[USER]:PASSWORD@]HOST[:PORT][/DB][?db=N&stream=NAME]
 *     rediss://...[?ca-file=PATH&cert-file=PATH&key-file=PATH&verify=off], over TLS
 *     unix:/PATH[?db=N&user=USER&password=PASSWORD&stream=NAME]
 *
 * User, password, paths and stream may contain %XX; a host in brackets is an IPv6 address. */

#include <stdbool.h>
#include <stddef.h>

struct redis_url {
    char *host; /* NULL: a Unix socket */
    int port;
    char *path;     /* the socket's path; NULL: TCP */
    char *user;     /* NULL: the default one */
    char *password; /* NULL: none. It appears in no message. */
    unsigned db;
    char *stream; /* NULL: not given */
    bool is_tls;
    bool trusts_all;            /* do not verify the server's certificate */
    char *ca_file;              /* the trusted authority; NULL: those of this system */
    char *cert_file, *key_file; /* our certificate; NULL: none. The key; NULL: it is in cert_file */
    struct ssl_ctx_st *tls;     /* redis_tls_load() makes it from these */
};

#define REDIS_URL_SIZE 160
#define REDIS_TLS_ERROR_SIZE 320

/* Parse a URL.
 * Owner:  the caller; ends with redis_url_release().     Thread: any.
 * Errors: NULL and *ret_url; else a constant text that says what is wanted, without any part of
 *         `text`, and *ret_url is untouched. */
const char *redis_url_parse(const char *text, struct redis_url *ret_url);

/* Read the password from the first line of a file.     Thread: any.     Blocks: on the disk.
 * Errors: 0; -EINVAL, the line is empty; another negative errno. */
int redis_url_read_password(struct redis_url *url, const char *path);

/* The URL without user and password, for logs: `redis://host:6379/0`. Returns `buf`.
 * Thread: any. */
const char *redis_url_text(const struct redis_url *url, char buf[REDIS_URL_SIZE]);

/* Read the files that a rediss:// URL names, before privileges are dropped; connections need them.
 * Does nothing without TLS.     Thread: any, before the url is shared.     Blocks: on the disk.
 * Errors: 0; -ENOMEM; -EINVAL, a file is missing or invalid: `error` names it, and the cause. */
int redis_tls_load(struct redis_url *url, char error[REDIS_TLS_ERROR_SIZE]);

/* All of these for a setting: parse `text`, read the files that it names, and the password from a
 * file (NULL: none). Messages begin with `setting`, such as "journal.redis".
 * Owner:  *ret_url was zeroed, and is the caller's, also after an error.     Thread: any.
 * Blocks: on the disk.
 * Errors: 0; -EINVAL or -ENOMEM, and `error` is one line without a secret. */
int redis_url_read(struct redis_url *ret_url, const char *text, const char *password_file,
                   const char *setting, char *error, size_t error_size);

/* A zeroed url is allowed. The password is wiped.     Thread: any. */
void redis_url_release(struct redis_url *url);

#endif

/* The key of the digests that replace redacted headers: `DIR/redact.key`, created once. */

#include "journal_p.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/core_names.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "exit_status.h"
#include "file.h"

/* ---- the key ---- */

static int make_key(const char *dir, const char *path, uint8_t key[JOURNAL_KEY_BYTES])
{
    char *temporary;

    if (RAND_bytes(key, JOURNAL_KEY_BYTES) != 1)
        return -EIO;
    if (asprintf(&temporary, "%s.new", path) < 0)
        return -ENOMEM;
    int fd =
        open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
    int err = fd < 0 ? -errno : 0;
    if (err == 0 && write(fd, key, JOURNAL_KEY_BYTES) != JOURNAL_KEY_BYTES)
        err = errno != 0 ? -errno : -ENOSPC;
    if (err == 0 && fsync(fd) != 0)
        err = -errno;
    if (fd >= 0)
        (void)close(fd);
    if (err == 0 && rename(temporary, path) != 0)
        err = -errno;
    if (err == 0)
        err = file_sync_folder(dir);
    free(temporary);
    return err;
}

static int read_key(const char *path, uint8_t key[JOURNAL_KEY_BYTES])
{
    struct stat st;
    int fd = file_open_regular(path);

    if (fd < 0)
        return fd == -ENOTSUP ? -EBADMSG : fd;
    int err = fstat(fd, &st) != 0 || st.st_size != JOURNAL_KEY_BYTES ||
                      read(fd, key, JOURNAL_KEY_BYTES) != JOURNAL_KEY_BYTES
                  ? -EBADMSG
                  : 0;
    (void)close(fd);
    return err;
}

int journal_take_key(const char *dir, uint8_t key[JOURNAL_KEY_BYTES], char *error)
{
    char *path = journal_path_in(dir, "redact.key");
    int err = path == NULL ? -ENOMEM : read_key(path, key), status = 0;

    if (err == -ENOENT)
        err = make_key(dir, path, key);
    if (err == -EBADMSG)
        status =
            journal_fail(error, EXIT_STATUS_CONFIG,
                         "%s is not a key of %d bytes (remove it, and the next start creates one)",
                         path, JOURNAL_KEY_BYTES);
    else if (err != 0)
        status = journal_fail(error, err == -ENOSPC ? EXIT_STATUS_UNAVAILABLE : EXIT_STATUS_CONFIG,
                              "cannot read or create the key of the in-flight record in %s: %s",
                              dir, strerrordesc_np(-err));
    free(path);
    return status;
}

EVP_MAC_CTX *journal_keyed_mac(const uint8_t key[JOURNAL_KEY_BYTES])
{
    char digest[] = "SHA256";
    const OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
                                 OSSL_PARAM_construct_end()};
    EVP_MAC *mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    EVP_MAC_CTX *ctx = mac != NULL ? EVP_MAC_CTX_new(mac) : NULL;

    EVP_MAC_free(mac);
    if (ctx != NULL && EVP_MAC_init(ctx, key, JOURNAL_KEY_BYTES, params) == 1)
        return ctx;
    EVP_MAC_CTX_free(ctx);
    return NULL;
}

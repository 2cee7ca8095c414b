#ifndef LASTCALL_CERTIFICATE_H
#define LASTCALL_CERTIFICATE_H

/* A key and a self-signed certificate for it, of this hour, for tests. */

#include <openssl/x509.h>

/* Owner: the caller; end with EVP_PKEY_free() and X509_free().     Errors: aborts. */
void certificate_make(EVP_PKEY **ret_key, X509 **ret_certificate);

/* The same into two PEM files.     Errors: aborts. */
void certificate_write(const char *key_path, const char *certificate_path);

/* And the certificate is for `names`, as in "DNS:localhost,IP:127.0.0.1".     Errors: aborts. */
void certificate_write_for(const char *key_path, const char *certificate_path, const char *names);

#endif

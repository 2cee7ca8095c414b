#include "certificate.h"

#include <openssl/pem.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

static void must(bool ok)
{
    if (!ok)
        abort();
}

void certificate_make(EVP_PKEY **ret_key, X509 **ret_certificate)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = X509_new();

    must(key != NULL && certificate != NULL);
    must(ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1) == 1);
    must(X509_gmtime_adj(X509_getm_notBefore(certificate), 0) != NULL);
    must(X509_gmtime_adj(X509_getm_notAfter(certificate), 3600) != NULL);
    must(X509_set_pubkey(certificate, key) == 1);
    must(X509_sign(certificate, key, EVP_sha256()) > 0);
    *ret_key = key;
    *ret_certificate = certificate;
}

void certificate_write(const char *key_path, const char *certificate_path)
{
    EVP_PKEY *key;
    X509 *certificate;

    certificate_make(&key, &certificate);
    FILE *key_file = fopen(key_path, "w"), *certificate_file = fopen(certificate_path, "w");
    must(key_file != NULL && certificate_file != NULL);
    must(PEM_write_PrivateKey(key_file, key, NULL, NULL, 0, NULL, NULL) == 1);
    must(PEM_write_X509(certificate_file, certificate) == 1);
    must(fclose(key_file) == 0 && fclose(certificate_file) == 0);
    X509_free(certificate);
    EVP_PKEY_free(key);
}

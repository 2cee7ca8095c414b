#include "certificate.h"

#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static void must(bool ok)
{
    if (!ok)
        abort();
}

static void add_names(X509 *certificate, const char *names)
{
    X509_EXTENSION *extension =
        X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, (char *)(uintptr_t)names);

    must(extension != NULL && X509_set_version(certificate, X509_VERSION_3) == 1);
    must(X509_add_ext(certificate, extension, -1) == 1);
    X509_EXTENSION_free(extension);
}

static void make(const char *names, EVP_PKEY **ret_key, X509 **ret_certificate)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = X509_new();

    must(key != NULL && certificate != NULL);
    must(ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1) == 1);
    must(X509_gmtime_adj(X509_getm_notBefore(certificate), 0) != NULL);
    must(X509_gmtime_adj(X509_getm_notAfter(certificate), 3600) != NULL);
    must(X509_set_pubkey(certificate, key) == 1);
    if (names != NULL)
        add_names(certificate, names);
    must(X509_sign(certificate, key, EVP_sha256()) > 0);
    *ret_key = key;
    *ret_certificate = certificate;
}

void certificate_make(EVP_PKEY **ret_key, X509 **ret_certificate)
{
    make(NULL, ret_key, ret_certificate);
}

void certificate_write(const char *key_path, const char *certificate_path)
{
    certificate_write_for(key_path, certificate_path, NULL);
}

void certificate_write_for(const char *key_path, const char *certificate_path, const char *names)
{
    EVP_PKEY *key;
    X509 *certificate;

    make(names, &key, &certificate);
    FILE *key_file = fopen(key_path, "w"), *certificate_file = fopen(certificate_path, "w");
    must(key_file != NULL && certificate_file != NULL);
    must(PEM_write_PrivateKey(key_file, key, NULL, NULL, 0, NULL, NULL) == 1);
    must(PEM_write_X509(certificate_file, certificate) == 1);
    must(fclose(key_file) == 0 && fclose(certificate_file) == 0);
    X509_free(certificate);
    EVP_PKEY_free(key);
}

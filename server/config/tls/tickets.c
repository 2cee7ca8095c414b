#include "tickets.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "clock.h"
#include "config_tree.h"
#include "handover.h"
#include "log.h"

#define NAME_BYTES 16
#define KEYS_MAX 64
#define LOOK_EVERY_S 10 /* at the file */

struct key {
    unsigned char name[NAME_BYTES];
    const EVP_CIPHER *cipher;
    const EVP_MD *digest;
    unsigned char cipher_key[EVP_MAX_KEY_LENGTH];
    unsigned char mac_key[EVP_MAX_MD_SIZE * 4]; /* as long as the digest's block */
    uint64_t not_before, not_after;             /* seconds since the epoch */
};

struct tickets {
    /* immutable */
    struct tickets_config config;
    char *file;
    const EVP_CIPHER *cipher;
    const EVP_MD *digest;
    /* mu: taken in the handshakes of all loops, which are rare compared with requests, and briefly
     */
    pthread_mutex_t mu;
    struct key keys[KEYS_MAX]; /* newest first */
    size_t count;
    struct timespec modified; /* of the file that was read last */
    bool missing_said;
    uint64_t look_at_ns; /* the time of the next look, on a clock that nobody sets */
};

/* ---- keys ---- */

static size_t cipher_bytes(const struct key *key)
{
    return (size_t)EVP_CIPHER_get_key_length(key->cipher);
}

static size_t mac_bytes(const struct key *key)
{
    return (size_t)EVP_MD_get_block_size(key->digest);
}

static bool make_key(const struct tickets *tickets, uint64_t now, struct key *ret_key)
{
    *ret_key = (struct key){.cipher = tickets->cipher,
                            .digest = tickets->digest,
                            .not_before = now,
                            .not_after = now + tickets->config.lifetime};
    return RAND_bytes(ret_key->name, NAME_BYTES) == 1 &&
           RAND_bytes(ret_key->cipher_key, (int)cipher_bytes(ret_key)) == 1 &&
           RAND_bytes(ret_key->mac_key, (int)mac_bytes(ret_key)) == 1;
}

/* The youngest key in force; NULL if none is. */
static const struct key *sealing_key(const struct tickets *tickets, uint64_t now)
{
    for (size_t i = 0; i < tickets->count; i++)
        if (tickets->keys[i].not_before <= now)
            return now <= tickets->keys[i].not_after ? &tickets->keys[i] : NULL;
    return NULL;
}

static const struct key *find_key(const struct tickets *tickets, const unsigned char *name)
{
    for (size_t i = 0; i < tickets->count; i++)
        if (memcmp(tickets->keys[i].name, name, NAME_BYTES) == 0)
            return &tickets->keys[i];
    return NULL;
}

/* A new key each quarter of a lifetime: a ticket can be opened for at least three of them. */
static void renew_locked(struct tickets *tickets, uint64_t now)
{
    struct key fresh;
    const struct key *newest = sealing_key(tickets, now);

    while (tickets->count > 0 && now > tickets->keys[tickets->count - 1].not_after)
        OPENSSL_cleanse(&tickets->keys[--tickets->count], sizeof(struct key));
    if ((newest != NULL && now - newest->not_before < tickets->config.lifetime / 4 + 1) ||
        !make_key(tickets, now, &fresh))
        return;
    if (tickets->count == KEYS_MAX)
        tickets->count--;
    memmove(tickets->keys + 1, tickets->keys, tickets->count * sizeof(fresh));
    tickets->keys[0] = fresh;
    tickets->count++;
    OPENSSL_cleanse(&fresh, sizeof(fresh));
}

/* ---- the file ---- */

/* The hexadecimal text under `name`, of exactly `bytes` bytes. */
static bool get_hex(const yoml_t *entry, const char *name, unsigned char *ret, size_t bytes)
{
    const yoml_t *text = yoml_get(entry, name);
    size_t n = 0;

    return text != NULL && text->type == YOML_TYPE_SCALAR &&
           OPENSSL_hexstr2buf_ex(ret, bytes, &n, text->data.scalar, '\0') == 1 && n == bytes;
}

static bool get_time(const yoml_t *entry, const char *name, uint64_t *ret)
{
    const yoml_t *text = yoml_get(entry, name);
    char *end;

    if (text == NULL || text->type != YOML_TYPE_SCALAR || text->data.scalar[0] < '0' ||
        text->data.scalar[0] > '9')
        return false;
    *ret = strtoull(text->data.scalar, &end, 10);
    return *end == '\0';
}

/* Returns NULL, or the name of the attribute that is wrong. */
static const char *parse_key(const yoml_t *entry, struct key *ret_key)
{
    unsigned char both[sizeof(ret_key->cipher_key) + sizeof(ret_key->mac_key)];
    const yoml_t *cipher = yoml_get(entry, "cipher"), *digest = yoml_get(entry, "hash");

    memset(ret_key, 0, sizeof(*ret_key));
    if (!get_hex(entry, "name", ret_key->name, NAME_BYTES))
        return "name";
    if (cipher == NULL || cipher->type != YOML_TYPE_SCALAR ||
        (ret_key->cipher = EVP_get_cipherbyname(cipher->data.scalar)) == NULL)
        return "cipher";
    if (digest == NULL || digest->type != YOML_TYPE_SCALAR ||
        (ret_key->digest = EVP_get_digestbyname(digest->data.scalar)) == NULL)
        return "hash";
    bool is_whole = get_hex(entry, "key", both, cipher_bytes(ret_key) + mac_bytes(ret_key));
    if (is_whole) {
        memcpy(ret_key->cipher_key, both, cipher_bytes(ret_key));
        memcpy(ret_key->mac_key, both + cipher_bytes(ret_key), mac_bytes(ret_key));
    }
    OPENSSL_cleanse(both, sizeof(both)); /* also if the text was incomplete */
    if (!is_whole)
        return "key";
    if (!get_time(entry, "not_before", &ret_key->not_before))
        return "not_before";
    if (!get_time(entry, "not_after", &ret_key->not_after) ||
        ret_key->not_after < ret_key->not_before)
        return "not_after";
    return NULL;
}

static int by_age(const void *a, const void *b)
{
    const struct key *left = a, *right = b;
    if (left->not_before != right->not_before)
        return left->not_before > right->not_before ? -1 : 1;
    return memcmp(left->name, right->name, NAME_BYTES);
}

static bool parse_keys(const yoml_t *tree, struct key *ret_keys, size_t *ret_count, char *error,
                       size_t error_size)
{
    if (tree->type != YOML_TYPE_SEQUENCE || tree->data.sequence.size > KEYS_MAX) {
        (void)snprintf(error, error_size, "%s: want a sequence of up to %d keys", tree->filename,
                       KEYS_MAX);
        return false;
    }
    *ret_count = tree->data.sequence.size;
    for (size_t i = 0; i < *ret_count; i++) {
        const yoml_t *entry = tree->data.sequence.elements[i];
        const char *wrong = parse_key(entry, &ret_keys[i]);
        if (wrong != NULL) {
            (void)snprintf(error, error_size, "%s:%zu:%zu: the key has no usable %s",
                           entry->filename, entry->line + 1, entry->column + 1, wrong);
            return false;
        }
    }
    if (*ret_count > 1)
        qsort(ret_keys, *ret_count, sizeof(*ret_keys), by_age);
    return true;
}

/* The old keys stay in use until the file was read without an error. */
static void look_at_file_locked(struct tickets *tickets)
{
    uint64_t now_ns = clock_now_ns();
    struct key keys[KEYS_MAX];
    char error[512];
    size_t count;
    struct stat st;

    if (now_ns < tickets->look_at_ns)
        return;
    tickets->look_at_ns = now_ns + LOOK_EVERY_S * NS_PER_S;
    bool is_there = stat(tickets->file, &st) == 0;
    if (is_there && !S_ISREG(st.st_mode)) { /* a loop must not wait for the writer of a FIFO */
        if (!tickets->missing_said)
            log_line(LOG_LEVEL_WARN, "tickets-failed", NULL,
                     "no session ticket keys: %s is not a regular file", tickets->file);
        tickets->missing_said = true;
        return;
    }
    if (is_there && st.st_mtim.tv_sec == tickets->modified.tv_sec &&
        st.st_mtim.tv_nsec == tickets->modified.tv_nsec)
        return;
    yoml_t *tree = tree_load_file(tickets->file, error, sizeof(error));
    if (tree != NULL && parse_keys(tree, keys, &count, error, sizeof(error))) {
        memcpy(tickets->keys, keys, count * sizeof(*keys));
        tickets->count = count;
        tickets->modified = st.st_mtim;
        tickets->missing_said = false;
        log_line(LOG_LEVEL_INFO, "tickets-loaded", NULL, "read %zu session ticket keys from %s",
                 count, tickets->file);
    } else if (!tickets->missing_said) {
        tickets->missing_said = true;
        log_line(LOG_LEVEL_WARN, "tickets-failed", NULL,
                 "no session ticket keys: %s (the keys in use stay; trying again every %d s)",
                 error, LOOK_EVERY_S);
    }
    OPENSSL_cleanse(keys, sizeof(keys));
    tree_free(tree);
}

/* ---- over a restart ---- */

bool tickets_offer_key(struct tickets *tickets, size_t i, struct message *ret_message)
{
    unsigned char
        both[sizeof(((struct key *)NULL)->cipher_key) + sizeof(((struct key *)NULL)->mac_key)];

    if (!tickets->config.tickets || tickets->file != NULL)
        return false;
    (void)pthread_mutex_lock(&tickets->mu);
    bool is_there = i < tickets->count;
    if (is_there) {
        const struct key *key = &tickets->keys[i];
        memcpy(both, key->cipher_key, cipher_bytes(key));
        memcpy(both + cipher_bytes(key), key->mac_key, mac_bytes(key));
        handover_begin(ret_message, HANDOVER_TICKET_KEY);
        message_put(ret_message, HANDOVER_KEY_NAME, key->name, NAME_BYTES);
        message_put(ret_message, HANDOVER_KEY, both, cipher_bytes(key) + mac_bytes(key));
        message_put_text(ret_message, HANDOVER_CIPHER, EVP_CIPHER_get0_name(key->cipher));
        message_put_text(ret_message, HANDOVER_DIGEST, EVP_MD_get0_name(key->digest));
        message_put_number(ret_message, HANDOVER_NOT_BEFORE, key->not_before);
        message_put_number(ret_message, HANDOVER_NOT_AFTER, key->not_after);
    }
    (void)pthread_mutex_unlock(&tickets->mu);
    OPENSSL_cleanse(both, sizeof(both));
    return is_there;
}

/* Could this key have been made here? */
static bool read_key(const struct tickets *tickets, const struct message *message, uint64_t now,
                     struct key *ret_key)
{
    char cipher[64], digest[64];
    size_t name_n, key_n;
    const unsigned char *name = message_get(message, HANDOVER_KEY_NAME, &name_n);
    const unsigned char *both = message_get(message, HANDOVER_KEY, &key_n);

    (void)message_get_text(message, HANDOVER_CIPHER, cipher, sizeof(cipher));
    (void)message_get_text(message, HANDOVER_DIGEST, digest, sizeof(digest));
    *ret_key = (struct key){.cipher = tickets->cipher,
                            .digest = tickets->digest,
                            .not_before = message_get_number(message, HANDOVER_NOT_BEFORE, now),
                            .not_after = message_get_number(message, HANDOVER_NOT_AFTER, 0)};
    if (name == NULL || name_n != NAME_BYTES || both == NULL ||
        key_n != cipher_bytes(ret_key) + mac_bytes(ret_key) ||
        EVP_CIPHER_is_a(tickets->cipher, cipher) != 1 ||
        EVP_MD_is_a(tickets->digest, digest) != 1 || ret_key->not_before > now)
        return false;
    memcpy(ret_key->name, name, NAME_BYTES);
    memcpy(ret_key->cipher_key, both, cipher_bytes(ret_key));
    memcpy(ret_key->mac_key, both + cipher_bytes(ret_key), mac_bytes(ret_key));
    if (ret_key->not_after > ret_key->not_before + tickets->config.lifetime)
        ret_key->not_after = ret_key->not_before + tickets->config.lifetime;
    return now <= ret_key->not_after;
}

void tickets_take_key(struct tickets *tickets, const struct message *message)
{
    struct key key;

    if (!tickets->config.tickets || tickets->file != NULL)
        return;
    if (read_key(tickets, message, (uint64_t)time(NULL), &key)) {
        (void)pthread_mutex_lock(&tickets->mu);
        if (tickets->count < KEYS_MAX && find_key(tickets, key.name) == NULL) {
            tickets->keys[tickets->count++] = key;
            qsort(tickets->keys, tickets->count, sizeof(key), by_age);
        }
        (void)pthread_mutex_unlock(&tickets->mu);
    }
    OPENSSL_cleanse(&key, sizeof(key));
}

/* ---- OpenSSL's callbacks ---- */

static int index_of_tickets(void)
{
    static int index = -1;
    static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;

    (void)pthread_mutex_lock(&mu);
    if (index < 0)
        index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, NULL);
    (void)pthread_mutex_unlock(&mu);
    return index;
}

static bool set_mac(EVP_MAC_CTX *mac, const struct key *key)
{
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, (void *)(uintptr_t)key->mac_key,
                                          mac_bytes(key)),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST,
                                         (char *)(uintptr_t)EVP_MD_get0_name(key->digest), 0),
        OSSL_PARAM_construct_end(),
    };
    return EVP_MAC_CTX_set_params(mac, params) == 1;
}

static int seal(const struct key *key, unsigned char *name, unsigned char *iv,
                EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac)
{
    if (RAND_bytes(iv, EVP_CIPHER_get_iv_length(key->cipher)) != 1 ||
        EVP_EncryptInit_ex(cipher, key->cipher, NULL, key->cipher_key, iv) != 1 ||
        !set_mac(mac, key))
        return -1;
    memcpy(name, key->name, NAME_BYTES);
    return 1;
}

/* See SSL_CTX_set_tlsext_ticket_key_evp_cb(3). Returns 1: done; 2: done, and the client gets a
 * newer ticket; 0: the key is unknown; -1: an error. */
static int on_ticket(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
                     EVP_MAC_CTX *mac, int sealing)
{
    struct tickets *tickets = SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), index_of_tickets());
    time_t now = time(NULL);
    struct key made;
    int ret;

    (void)pthread_mutex_lock(&tickets->mu);
    if (tickets->file != NULL)
        look_at_file_locked(tickets);
    else
        renew_locked(tickets, (uint64_t)now);
    const struct key *newest = sealing_key(tickets, (uint64_t)now);
    if (sealing) {
        /* TLS 1.3 has no empty ticket: without a key the client gets one that cannot be opened. */
        if (newest == NULL && make_key(tickets, (uint64_t)now, &made))
            newest = &made;
        ret = newest != NULL ? seal(newest, name, iv, cipher, mac) : -1;
        if (newest == &made)
            OPENSSL_cleanse(&made, sizeof(made));
    } else {
        const struct key *key = find_key(tickets, name);
        if (key != NULL && (uint64_t)now > key->not_after)
            key = NULL;
        ret = 0;
        if (key != NULL)
            ret = EVP_DecryptInit_ex(cipher, key->cipher, NULL, key->cipher_key, iv) == 1 &&
                          set_mac(mac, key)
                      ? key == newest ? 1 : 2
                      : -1;
    }
    (void)pthread_mutex_unlock(&tickets->mu);
    return ret;
}

/* ---- life ---- */

struct tickets *tickets_new(const struct tickets_config *config, char *error, size_t error_size)
{
    struct tickets *tickets = calloc(1, sizeof(*tickets));

    if (tickets == NULL) {
        (void)snprintf(error, error_size, "no memory for TLS");
        return NULL;
    }
    (void)pthread_mutex_init(&tickets->mu, NULL);
    tickets->config = *config;
    tickets->cipher = EVP_get_cipherbyname(config->cipher != NULL ? config->cipher : "aes-256-cbc");
    tickets->digest = EVP_get_digestbyname(config->digest != NULL ? config->digest : "sha256");
    tickets->file = config->file != NULL ? strdup(config->file) : NULL;
    const char *unknown = tickets->cipher == NULL   ? config->cipher
                          : tickets->digest == NULL ? config->digest
                                                    : NULL;
    if (unknown == NULL &&
        (size_t)EVP_MD_get_block_size(tickets->digest) <= sizeof(((struct key *)NULL)->mac_key))
        return tickets;
    (void)snprintf(error, error_size, "OpenSSL has no %s for tickets",
                   unknown != NULL ? unknown : config->digest);
    tickets_free(tickets);
    return NULL;
}

void tickets_free(struct tickets *tickets)
{
    if (tickets == NULL)
        return;
    OPENSSL_cleanse(tickets->keys, sizeof(tickets->keys));
    (void)pthread_mutex_destroy(&tickets->mu);
    free(tickets->file);
    free(tickets);
}

static void apply(SSL_CTX *ctx, void *arg)
{
    struct tickets *tickets = arg;

    SSL_CTX_set_session_cache_mode(ctx, tickets->config.cache ? SSL_SESS_CACHE_SERVER
                                                              : SSL_SESS_CACHE_OFF);
    SSL_CTX_set_timeout(ctx, tickets->config.lifetime);
    (void)SSL_CTX_set_ex_data(ctx, index_of_tickets(), tickets);
    if (tickets->config.tickets) {
        SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, on_ticket);
        return;
    }
    (void)SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
    if (!tickets->config.cache)
        (void)SSL_CTX_set_num_tickets(ctx, 0);
}

void tickets_apply(struct tickets *tickets, const struct tls *tls)
{
    tls_each(tls, apply, tickets);
    if (tickets->file != NULL) { /* at the start, so that the log shows at once if it is missing */
        (void)pthread_mutex_lock(&tickets->mu);
        look_at_file_locked(tickets);
        (void)pthread_mutex_unlock(&tickets->mu);
    }
}

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "admin_p.h"
#include "admin_share.h"
#include "log.h"
#include "wakeup.h"

/* Opening the admin listener: its address, its sockets, its token. */

#define USUAL_FOLDER "lastcall"
#define TOKEN_LONGEST 4096

static int fail(int status, const char *error)
{
    log_line(LOG_LEVEL_ERROR, "start-failed", NULL, "%s", error);
    return status;
}

/* The folder `parent`/lastcall, made if it is missing. It must belong to us: another owner could
 * replace our socket. */
static bool usable_folder(const char *parent, mode_t mode, char *folder, size_t size)
{
    struct stat st;
    int n = snprintf(folder, size, "%s/" USUAL_FOLDER, parent);

    if (n < 0 || (size_t)n >= size)
        return false;
    (void)mkdir(folder, mode);
    return lstat(folder, &st) == 0 && S_ISDIR(st.st_mode) && st.st_uid == geteuid() &&
           (st.st_mode & (S_IWGRP | S_IWOTH)) == 0 && access(folder, W_OK | X_OK) == 0;
}

/* NAME: the port of the first TCP listener; else the file name of the first Unix socket. */
static void usual_name(const struct admin_config *config, const struct server *server, char *name,
                       size_t size)
{
    const struct listener_list *list = &server->listeners;

    (void)snprintf(name, size, "%s", config->name != NULL ? config->name : "lastcall");
    for (size_t i = 0; i < list->count && config->name == NULL; i++) {
        if (list->items[i].family == AF_UNIX)
            continue;
        (void)snprintf(name, size, "%s", strrchr(list->items[i].name, ':') + 1);
        return;
    }
    if (config->name != NULL || list->count == 0)
        return;
    const char *slash = strrchr(list->items[0].name, '/');
    const char *file = slash != NULL ? slash + 1 : list->items[0].name;
    size_t n = strlen(file);
    if (n > 5 && strcmp(file + n - 5, ".sock") == 0)
        n -= 5;
    (void)snprintf(name, size, "%.*s", (int)(n < ADMIN_NAME_MAX ? n : ADMIN_NAME_MAX), file);
}

/* Root hands the socket to the user that it becomes; other users cannot. */
static int open_unix(struct admin *admin, const char *text, char *error, size_t error_size)
{
    const struct listener_how how = {.mode = 0600,
                                     .owner = geteuid() == 0 ? admin->config.user : NULL};
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    if (strlen(text + 5) >= sizeof(address.sun_path)) {
        (void)snprintf(error, error_size, "cannot listen on %s: the path must have 1 to %zu bytes",
                       text, sizeof(address.sun_path) - 1);
        return -EINVAL;
    }
    (void)strcpy(address.sun_path, text + 5);
    return listener_open_address(&admin->listeners, text, (const struct sockaddr *)&address,
                                 sizeof(address), &how, error, error_size);
}

/* Did the predecessor pass this socket on? It may have had rights that we lack. */
static bool is_passed_on(const struct admin *admin, const char *folder, const char *name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int n = snprintf(address.sun_path, sizeof(address.sun_path), "%s/%s.sock", folder, name);

    return admin->listeners.inheritance != NULL && n > 0 && (size_t)n < sizeof(address.sun_path) &&
           inherit_find(admin->listeners.inheritance, (const struct sockaddr *)&address,
                        sizeof(address), false) != NULL;
}

static bool find_passed_on(const struct admin *admin, const char *runtime, const char *name,
                           char *folder, size_t size)
{
    (void)snprintf(folder, size, "/run/" USUAL_FOLDER);
    if (is_passed_on(admin, folder, name))
        return true;
    (void)snprintf(folder, size, "%s/" USUAL_FOLDER, runtime != NULL ? runtime : "");
    return is_passed_on(admin, folder, name);
}

/* False: there is no admin listener, and the log says why. */
static bool open_usual(struct admin *admin)
{
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    char folder[sizeof(((struct sockaddr_un *)NULL)->sun_path)], name[ADMIN_NAME_MAX + 1];
    char text[sizeof(folder) + sizeof(name) + 16], error[512];

    usual_name(&admin->config, admin->server, name, sizeof(name));
    if (!find_passed_on(admin, runtime, name, folder, sizeof(folder)) &&
        !usable_folder("/run", 0755, folder, sizeof(folder)) &&
        !(runtime != NULL && runtime[0] == '/' &&
          usable_folder(runtime, 0700, folder, sizeof(folder)))) {
        log_line(LOG_LEVEL_INFO, "no-admin", NULL,
                 "no admin listener: neither /run/" USUAL_FOLDER
                 " nor $XDG_RUNTIME_DIR/" USUAL_FOLDER
                 " can be used (--admin ADDR sets another address; --admin off is silent)");
        return false;
    }
    (void)snprintf(text, sizeof(text), "unix:%s/%s.sock", folder, name);
    (void)snprintf(admin->address, sizeof(admin->address), "%s", text);
    int err = open_unix(admin, text, error, sizeof(error));
    if (err == -EADDRINUSE && admin_share_borrow(admin))
        err = open_unix(admin, text, error, sizeof(error));
    if (err == 0)
        return true;
    log_line(LOG_LEVEL_INFO, "no-admin", NULL,
             "no admin listener: %s %s (--admin-name NAME sets another)", text,
             err == -EADDRINUSE ? "belongs to another process" : strerrordesc_np(-err));
    return false;
}

/* Only a digest of the secret is kept. */
static int read_token(struct admin *admin, const char *path)
{
    char line[TOKEN_LONGEST], error[TOKEN_LONGEST];
    FILE *file = fopen(path, "re");
    bool got = file != NULL && fgets(line, sizeof(line), file) != NULL;
    int err = errno;

    if (file != NULL)
        (void)fclose(file);
    size_t n = got ? strcspn(line, "\r\n") : 0;
    if (n == 0 || n == sizeof(line) - 1) {
        (void)snprintf(error, sizeof(error), "cannot use the admin token file %s: %s", path,
                       file == NULL ? strerrordesc_np(err)
                       : n == 0     ? "its first line is empty"
                                    : "its first line is too long");
        return fail(EXIT_STATUS_CONFIG, error);
    }
    admin->has_token = EVP_Digest(line, n, admin->token, NULL, EVP_sha256(), NULL) == 1;
    OPENSSL_cleanse(line, sizeof(line));
    return admin->has_token ? 0 : fail(EXIT_STATUS_UNAVAILABLE, "OpenSSL has no SHA-256");
}

static int open_given(struct admin *admin, char *error, size_t error_size)
{
    const char *text = admin->config.address;

    return strncmp(text, "unix:", 5) == 0
               ? open_unix(admin, text, error, error_size)
               : listener_open(&admin->listeners, text, error, error_size);
}

static int open_sockets(struct admin *admin, bool *ret_none)
{
    const char *text = admin->config.address;
    char error[512];

    *ret_none = false;
    if (text == NULL) {
        *ret_none = !open_usual(admin);
        return 0;
    }
    (void)snprintf(admin->address, sizeof(admin->address), "%s", text);
    int err = open_given(admin, error, sizeof(error));
    if (err == -EADDRINUSE && admin_share_borrow(admin))
        err = open_given(admin, error, sizeof(error));
    if (err == 0)
        return 0;
    char line[sizeof(error) + 32];
    (void)snprintf(line, sizeof(line), "the admin listener: %s", error);
    return fail(EXIT_STATUS_UNAVAILABLE, line);
}

int admin_open(const struct admin_config *config, struct server *server, struct admin **ret_admin)
{
    bool none;

    *ret_admin = NULL;
    if (config->address != NULL && strcmp(config->address, "off") == 0)
        return 0;
    struct admin *admin = calloc(1, sizeof(*admin));
    if (admin == NULL)
        return fail(EXIT_STATUS_UNAVAILABLE, "no memory to start");
    admin->config = *config;
    admin->lender_fd = -1;
    admin->server = server;
    admin->listeners.inheritance = config->inheritance;
    admin->listeners.flag = "--admin";
    admin->started_ns = clock_now_ns();
    (void)clock_format_wall(admin->started_wall);
    (void)pthread_mutex_init(&admin->mu, NULL);
    clock_cond_init(&admin->told);
    admin->wake_fd = wakeup_open();
    int status =
        admin->wake_fd < 0 ? fail(EXIT_STATUS_UNAVAILABLE, "cannot make an eventfd(2)") : 0;
    if (status == 0 && config->token_file != NULL)
        status = read_token(admin, config->token_file);
    if (status == 0)
        status = open_sockets(admin, &none);
    if (status != 0 || none) {
        admin_destroy(admin);
        return status;
    }
    for (size_t i = 0; i < admin->listeners.count; i++) {
        struct listener *listener = &admin->listeners.items[i];
        listener->id = handover_socket_id(listener->fd);
        listener->is_inherited &= admin->lender_fd < 0; /* a borrowed one is not the master's yet */
    }
    *ret_admin = admin;
    return 0;
}

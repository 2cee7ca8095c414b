#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "lc_server_p.h"

/* A server before it starts: making it, its settings and addresses. */

/* Why lc_new() failed, of this thread. */
static _Thread_local char new_error[LC_ERROR_SIZE];

static lc_server *refuse_new(const char *text)
{
    (void)snprintf(new_error, sizeof(new_error), "%s", text);
    errno = ENOTSUP;
    return NULL;
}

lc_server *lc_new_abi(unsigned abi)
{
    char error[LC_ERROR_SIZE];

    new_error[0] = '\0';
    if (abi == 0 || abi > LC_ABI) {
        (void)snprintf(
            error, sizeof(error),
            "the program was built for version %u of the interface, and liblastcall " LC_VERSION
            " has 1 to %u: install a newer liblastcall",
            abi, LC_ABI);
        return refuse_new(error);
    }
    return server_has_library(error, sizeof(error)) ? lc_make() : refuse_new(error);
}

lc_server *lc_make(void)
{
    lc_server *server = calloc(1, sizeof(*server));

    if (server == NULL)
        return NULL;
    server->routes = lc_routes_create(server);
    if (server->routes == NULL) {
        free(server);
        return NULL;
    }
    options_init(&server->options);
    server->options.is_embedded = true;
    server->options.admin = "off";
    server->status = -1;
    server->phase_fd = -1;
    server->last_step = -1;
    (void)pthread_mutex_init(&server->mu, NULL);
    clock_cond_init(&server->changed);
    lc_log_init(server);
    lc_tasks_init(server);
    return server;
}

const char *lc_errmsg(const lc_server *server)
{
    return server != NULL ? server->error : new_error;
}

/* ---- settings ---- */

static int no_memory(lc_server *server)
{
    return lc_setup_failed(server, -ENOMEM, "no memory for the settings");
}

/* A copy that lives as long as the server; NULL: no memory. */
static const char *keep(lc_server *server, const char *text)
{
    char **grown = realloc(server->texts, (server->text_count + 1) * sizeof(*grown));
    if (grown == NULL)
        return NULL;
    server->texts = grown;
    char *copy = strdup(text);
    if (copy != NULL)
        grown[server->text_count++] = copy;
    return copy;
}

static int add_extra(lc_server *server, const char *path, const char *name, const char *value)
{
    struct options_extra *grown =
        realloc(server->extra, (server->extra_count + 1) * sizeof(*grown));
    if (grown == NULL)
        return no_memory(server);
    server->extra = grown;
    struct options_extra extra = {.path = path != NULL ? keep(server, path) : NULL,
                                  .name = keep(server, name),
                                  .value = keep(server, value),
                                  .overrides = server->process.role != PROCESS_PROGRAM};
    if ((path != NULL && extra.path == NULL) || extra.name == NULL || extra.value == NULL)
        return no_memory(server);
    /* In a mapping a name stands once: the last call counts. */
    for (size_t i = 0; path == NULL && i < server->extra_count; i++)
        if (grown[i].path == NULL && strcmp(grown[i].name, name) == 0) {
            grown[i] = extra;
            return LC_OK;
        }
    grown[server->extra_count++] = extra;
    return LC_OK;
}

/* What only the program lastcall may do to its process. */
static const char *const of_programs[] = {"user", "error-log"};

static bool is_of_programs(const char *name)
{
    for (size_t i = 0; i < sizeof(of_programs) / sizeof(of_programs[0]); i++)
        if (strcmp(of_programs[i], name) == 0)
            return true;
    return false;
}

int lc_set(lc_server *server, const char *name, const char *value)
{
    char want[OPTIONS_WANT_SIZE];

    if (server == NULL)
        return LC_E_ARG;
    if (LC_IS_LATE(server))
        return LC_E_STATE;
    if (name == NULL || name[0] == '\0' || value == NULL)
        return lc_setup_failed(server, LC_E_ARG, "lc_set: a setting needs a name and a value");
    if (server->process.role != PROCESS_PROGRAM && is_of_programs(name))
        return lc_setup_failed(server, LC_E_CONFIG,
                               "lc_set %s: only the program lastcall changes its process so", name);
    if (!options_has_directive(name))
        return add_extra(server, NULL, name, value);
    const char *text = keep(server, value);
    if (text == NULL)
        return no_memory(server);
    /* In the program the command line has been read, and counts more. */
    const char *wanted = server->process.role == PROCESS_PROGRAM
                             ? options_set_directive(&server->options, name, text, want)
                             : options_override(&server->options, name, text, true, want);
    return wanted == NULL
               ? LC_OK
               : lc_setup_failed(server, LC_E_CONFIG, "lc_set %s %s: %s", name, value, wanted);
}

int lc_conf(lc_server *server, const char *file)
{
    if (server == NULL)
        return LC_E_ARG;
    if (LC_IS_LATE(server))
        return LC_E_STATE;
    if (file == NULL || file[0] == '\0')
        return lc_setup_failed(server, LC_E_ARG, "lc_conf: the name of the file is missing");
    if (server->process.role == PROCESS_PROGRAM && server->options.conf != NULL)
        return LC_OK; /* the command line names another */
    if (server->options.conf != NULL)
        return lc_setup_failed(server, LC_E_ARG,
                               "lc_conf %s: %s was read before it; one file "
                               "may include others (!file)",
                               file, server->options.conf);
    server->options.conf = keep(server, file);
    if (server->options.conf == NULL)
        return no_memory(server);
    /* Later calls win: the file may change what was set before it. */
    if (server->process.role != PROCESS_PROGRAM)
        memset(server->options.given, 0, sizeof(server->options.given));
    for (size_t i = 0; i < server->extra_count; i++)
        server->extra[i].overrides = false;
    return LC_OK;
}

/* ---- addresses ---- */

int lc_listen(lc_server *server, const char *address)
{
    if (server == NULL)
        return LC_E_ARG;
    if (LC_IS_LATE(server))
        return LC_E_STATE;
    if (address == NULL || address[0] == '\0')
        return lc_setup_failed(server, LC_E_ARG, "lc_listen: the address is missing");
    if (server->process.role == PROCESS_PROGRAM &&
        (server->program.has_listen || server->options.conf != NULL))
        return LC_OK; /* the command line or the file names others */
    if (server->options.listen_count == OPTIONS_LISTEN_MAX)
        return lc_setup_failed(server, LC_E_FULL, "lc_listen %s: a server has at most %d addresses",
                               address, OPTIONS_LISTEN_MAX);
    const char *copy = keep(server, address);
    if (copy == NULL)
        return no_memory(server);
    server->options.listen[server->options.listen_count++] = copy;
    return LC_OK;
}

int lc_listen_fd(lc_server *server, int fd)
{
    char error[256];
    int result = LC_E_ARG;

    if (server != NULL && LC_IS_LATE(server))
        result = LC_E_STATE;
    else if (server != NULL && inherit_add_descriptor(&server->given, fd, false, "lc_listen_fd",
                                                      error, sizeof(error)) == 0)
        return LC_OK;
    else if (server != NULL)
        (void)lc_setup_failed(server, LC_E_ARG, "%s", error);
    if (fd >= 0)
        (void)close(fd); /* it was taken over */
    return result;
}

int lc_tls(lc_server *server, const char *certificate_file, const char *key_file)
{
    if (server == NULL)
        return LC_E_ARG;
    if (LC_IS_LATE(server))
        return LC_E_STATE;
    if (certificate_file == NULL || key_file == NULL)
        return lc_setup_failed(server, LC_E_ARG, "lc_tls: it takes a certificate and its key");
    if (server->process.role == PROCESS_PROGRAM && server->options.cert != NULL)
        return LC_OK; /* the command line names others */
    server->options.cert = keep(server, certificate_file);
    server->options.key = keep(server, key_file);
    return server->options.cert != NULL && server->options.key != NULL ? LC_OK : no_memory(server);
}

int lc_port(const lc_server *server)
{
    lc_server *locked = (lc_server *)(uintptr_t)server;

    if (server == NULL)
        return LC_E_ARG;
    (void)pthread_mutex_lock(&locked->mu);
    int port = server->coord != NULL ? server->port : LC_E_STATE;
    (void)pthread_mutex_unlock(&locked->mu);
    return port;
}

int lc_add_to_path(lc_server *server, const char *path, const char *name, const char *value)
{
    return add_extra(server, path, name, value);
}

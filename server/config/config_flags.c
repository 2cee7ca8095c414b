#include "config_p.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config_tree.h"
#include "log.h"

/* What the command line says without a file: listeners, their certificate, and paths. */

/* ---- paths ---- */

/* What answers on `/`, and on the paths below it. False: nothing does. */
static bool put_routes(FILE *out, const struct options *options)
{
    if (options->proxy_count > 0) {
        (void)fputs("      /:\n        proxy.websocket: ON\n        proxy.reverse.url: [", out);
        for (size_t i = 0; i < options->proxy_count; i++) {
            (void)fputs(i > 0 ? ", " : "", out);
            config_put_quoted(out, options->proxy[i]);
        }
        (void)fputs("]\n", out);
        if (options->command != NULL) /* what an application expects of a server before it */
            (void)fputs("        proxy.preserve-host: ON\n        request-id: ON\n", out);
    } else if (!options->has_own_routes && !options->is_embedded) {
        (void)fputs("      /hello: {handler: hello}\n"
                    "      /sleep: {handler: sleep}\n"
                    "      /burn: {handler: burn}\n"
                    "      /stream: {handler: stream}\n"
                    "      /: {handler: hello-later}\n",
                    out);
    } else {
        return false;
    }
    return true;
}

yoml_t *config_flags_tree(const struct options *options, char *error, size_t error_size)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);

    if (out == NULL) {
        (void)snprintf(error, error_size, "no memory to start");
        return NULL;
    }
    (void)fputs("hosts:\n  default:\n    paths:\n", out);
    if (options->root != NULL) {
        (void)fputs("      /files:\n        file.dir: ", out);
        config_put_quoted(out, options->root);
        (void)fputc('\n', out);
    }
    bool any = put_routes(out, options) || options->root != NULL;
    if (!config_put_paths(out, options) && !any)
        (void)fputs("      {}\n", out);
    yoml_t *tree = NULL;
    if (fclose(out) == 0)
        tree = tree_load_bytes("(flags)", text, size, error, error_size);
    else
        (void)snprintf(error, error_size, "no memory to start");
    free(text);
    return tree;
}

/* ---- listeners ---- */

static int check_root(const char *root)
{
    char error[512];
    struct stat st;
    const char *cause = NULL;

    if (root == NULL)
        return 0;
    if (stat(root, &st) != 0)
        cause = strerrordesc_np(errno);
    else if (!S_ISDIR(st.st_mode))
        cause = "not a directory";
    else if (access(root, R_OK | X_OK) != 0)
        cause = strerrordesc_np(errno);
    if (cause == NULL)
        return 0;
    (void)snprintf(error, sizeof(error), "cannot serve files from %s: %s", root, cause);
    return config_refuse(EXIT_STATUS_CONFIG, error);
}

/* Read --cert and --key for each TLS listener of --listen. */
static int add_tls(const struct config_reader *reader, size_t from)
{
    const struct options *options = reader->options;
    struct server *server = reader->server;
    const struct tls_certificate certificate = {.certificate_file = options->cert,
                                                .key_file = options->key};
    char error[512];

    for (size_t i = from; i < server->listeners.count; i++) {
        struct listener *listener = &server->listeners.items[i];
        listener->tls = tls_new();
        if (listener->tls == NULL ||
            tls_add(listener->tls, &certificate, error, sizeof(error)) != TLS_NO_FAULT)
            return config_refuse(EXIT_STATUS_CONFIG,
                                 listener->tls != NULL ? error : "no memory for TLS");
    }
    return 0;
}

static int check_tls(const struct options *options)
{
    const char *tls = NULL;
    char error[512];

    for (size_t i = 0; i < options->listen_count && tls == NULL; i++)
        if (strncmp(options->listen[i], "tls:", 4) == 0)
            tls = options->listen[i];
    if ((options->cert == NULL) == (tls == NULL) && (options->key == NULL) == (tls == NULL))
        return 0;
    if (tls == NULL)
        return config_refuse(EXIT_STATUS_USAGE,
                             "--cert and --key need each other and a --listen tls:ADDR "
                             "that uses them");
    (void)snprintf(error, sizeof(error), "cannot listen on %s: TLS needs --cert and --key", tls);
    return config_refuse(EXIT_STATUS_USAGE, error);
}

/* No address is configured, and a service manager passed sockets: listen on those. */
static bool serves_what_it_was_given(const struct config_reader *reader)
{
    const struct server *server = reader->server;

    return server->listeners.inheritance != NULL &&
           inherit_left_over(server->listeners.inheritance, true) != NULL &&
           reader->options->listen_count == 0 && server->listeners.count == 0;
}

/* The sockets that a program has handed to its server. */
static int listen_on_given(struct server *server)
{
    return listener_open_inherited(&server->listeners, false) == 0
               ? 0
               : config_refuse(EXIT_STATUS_UNAVAILABLE,
                               "cannot listen on the socket that was given");
}

int config_flags_listen(struct config_reader *reader)
{
    struct options *options = reader->options;
    struct server *server = reader->server;
    char error[512];

    if (options->is_embedded)
        server->listeners.flag = "address"; /* for a message: choose another */
    if (serves_what_it_was_given(reader))
        return listener_open_inherited(&server->listeners, true) == 0
                   ? 0
                   : config_refuse(EXIT_STATUS_UNAVAILABLE, "no memory to start");
    if (options->listen_count == 0) {
        if (options->is_embedded)
            return listen_on_given(server);
        if (options->conf != NULL || server->listeners.count > 0)
            return 0;
        options->listen[options->listen_count++] = "127.0.0.1:8080";
    }
    listener_list_release(&server->listeners);
    for (size_t i = 0; i < options->listen_count; i++) {
        size_t before = server->listeners.count;
        int err = listener_open(&server->listeners, options->listen[i], error, sizeof(error));
        options->listen_error = err;
        if (err != 0)
            return config_refuse(err == -EINVAL ? EXIT_STATUS_USAGE : EXIT_STATUS_UNAVAILABLE,
                                 error);
        int status = strncmp(options->listen[i], "tls:", 4) == 0 ? add_tls(reader, before) : 0;
        if (status != 0)
            return status;
    }
    return options->is_embedded ? listen_on_given(server) : 0;
}

int config_flags_check(const struct options *options)
{
    int status = check_root(options->root);

    return status == 0 ? check_tls(options) : status;
}

/* A service manager passes its sockets only to the server, not to the check before it: so --test
 * can only warn. */
int config_flags_check_listens(const struct config_reader *reader)
{
    const struct options *options = reader->options;
    const struct server *server = reader->server;

    if (options->conf == NULL || server->listeners.count > 0 || options->listen_count > 0 ||
        (server->listeners.inheritance != NULL &&
         inherit_left_over(server->listeners.inheritance, true) != NULL))
        return 0;
    if (options->test) {
        log_line(
            LOG_LEVEL_WARN, "no-listen", NULL,
            "there is no listen in %s, and no --listen on the command line: it serves only the "
            "sockets that a service manager passes (socket activation)",
            options->conf);
        return 0;
    }
    (void)config_fail(NULL, server->tree,
                      "there is no listen in it, no --listen on the command line, and no socket "
                      "from a service manager");
    return EXIT_STATUS_CONFIG;
}

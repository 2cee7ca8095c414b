#ifndef LASTCALL_CLI_SERVER_H
#define LASTCALL_CLI_SERVER_H

/* The server that a command talks to: its admin listener, on a Unix socket or on TCP. */

#include <stddef.h>

#include "flags.h"

struct cli_server {
    /* the values of the options; NULL: not given */
    const char *socket;
    const char *admin;
    const char *token_file;
    const char *pid;
    /* set by cli_server_open() */
    char *socket_path; /* NULL: `url` is reached over TCP */
    char *url;         /* without a slash at its end */
    char *token;       /* NULL: none */
};

/* The rows of a command's table of flags (cli_options.h) for the struct cli_server at `at`, an
 * offset in the target of the table. */
#define CLI_SERVER_FLAGS(at)                                                                       \
    {.name = "socket",                                                                             \
     .kind = FLAG_TEXT,                                                                            \
     .argument = "PATH",                                                                           \
     .offset = (at) + offsetof(struct cli_server, socket),                                         \
     .fallback = "the only one",                                                                   \
     .help = "the server's admin socket"},                                                         \
        {.name = "admin",                                                                          \
         .kind = FLAG_TEXT,                                                                        \
         .argument = "URL",                                                                        \
         .offset = (at) + offsetof(struct cli_server, admin),                                      \
         .help = "its admin listener on TCP, such as http://127.0.0.1:9090"},                      \
        {.name = "pid",                                                                            \
         .kind = FLAG_TEXT,                                                                        \
         .argument = "PID",                                                                        \
         .offset = (at) + offsetof(struct cli_server, pid),                                        \
         .help = "the server with this process id, if its socket is in a default folder"},         \
    {                                                                                              \
        .name = "token-file", .kind = FLAG_TEXT, .argument = "FILE",                               \
        .offset = (at) + offsetof(struct cli_server, token_file),                                  \
        .help = "its first line is the secret for POST over TCP"                                   \
    }

/* Check the options, read the token, find the default socket.
 * Owner:  the caller; ends with cli_server_close(), after a failure too.
 * Thread: main only.     Blocks: up to two seconds for each server that must identify itself.
 * Errors: 0; the exit status, after the message has been printed. */
int cli_server_open(struct cli_server *server);

/* Thread: main only. */
void cli_server_close(struct cli_server *server);

/* Its name for messages. Returns `buf`.     Thread: main only. */
#define CLI_SERVER_NAME_SIZE 192
const char *cli_server_name(const struct cli_server *server, char buf[CLI_SERVER_NAME_SIZE]);

#endif

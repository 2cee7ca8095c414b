#ifndef LASTCALL_CLI_ADMIN_H
#define LASTCALL_CLI_ADMIN_H

/* A client of the admin listener (docs/admin-api.md): which server is meant, one request to it, and
 * its stream of events. HTTP is libcurl's, JSON jansson's. Whatever fails is said once, here, on
 * standard error; callers get the status to leave with. */

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/* ---- which server ---- */

struct cli_server {
    /* as the options gave them; NULL: not given */
    const char *socket;
    const char *admin;
    const char *token_file;
    /* since cli_server_open() */
    char *socket_path; /* NULL: `url` is reached over TCP */
    char *url;         /* without a slash at its end */
    char *token;       /* NULL: none */
};

/* The rows of a command's table of options that fill it in. */
#define CLI_SERVER_OPTIONS(server)                                                                 \
    {"socket", "PATH", "the server's admin socket; by default, the only one there is",             \
     &(server).socket, NULL},                                                                      \
        {"admin", "URL", "its admin listener on TCP, such as http://127.0.0.1:9090",               \
         &(server).admin, NULL},                                                                   \
    {                                                                                              \
        "token-file", "FILE", "whose first line is the secret for orders over TCP",                \
            &(server).token_file, NULL                                                             \
    }

/* Make sense of the options, or find the default socket.
 * Owner:  the caller; ends with cli_server_close(), also after a failure.
 * Thread: main only.     Blocks: seconds, where it must ask several servers who they are.
 * Errors: 0; the status to leave with. */
int cli_server_open(struct cli_server *server);

/* Thread: main only. */
void cli_server_close(struct cli_server *server);

/* Its name in messages. `buf` has room for it.     Thread: main only. */
#define CLI_SERVER_NAME_SIZE 192
const char *cli_server_name(const struct cli_server *server, char buf[CLI_SERVER_NAME_SIZE]);

/* Search `folders` (ended by a NULL; one that is not there is an empty one) for sockets that
 * somebody listens on: exactly one is returned, malloc(3)ed. Otherwise one line says what there is.
 * Thread: main only.     Blocks: seconds.     Errors: 0 and *ret_path; the status to leave with. */
int cli_find_socket(const char *const *folders, char **ret_path);

/* ---- one request ---- */

/* `method` `path` with `body` (borrowed, NULL: none). The answer is a JSON object.
 * Thread: main only.     Blocks: ten seconds at most.
 * Errors: 0 and *ret_answer (the caller's); the status to leave with:
 *     EX_UNAVAILABLE nobody there, no answer; EX_NOPERM the socket or the token refuses;
 *     EX_USAGE it cannot make sense of the order; EX_PROTOCOL not an admin listener;
 *     CLI_REFUSED it will not, as things stand. */
#define CLI_REFUSED 1
int cli_request(const struct cli_server *server, const char *method, const char *path,
                const json_t *body, json_t **ret_answer);

/* GET /status, of a schema that is known here. As cli_request(). */
int cli_get_status(const struct cli_server *server, json_t **ret_status);

/* ---- its events ---- */

struct cli_stream;

enum cli_next {
    CLI_NEXT_STATUS, /* a new status is there */
    CLI_NEXT_FD,     /* one of the descriptors is readable */
    CLI_NEXT_TIME,   /* nothing, for so long */
    CLI_NEXT_END,    /* the server has ended the stream, or is gone; a last status may be there */
};

/* Begin to follow /events.     Owner: the caller; ends with cli_stream_close().
 * Thread: main only.     Errors: 0 and *ret_stream; the status to leave with. */
int cli_stream_open(const struct cli_server *server, struct cli_stream **ret_stream);

/* Wait for what comes first. `fds` are watched for input.
 * Thread: main only.     Blocks: up to `wait_ms`. */
enum cli_next cli_stream_next(struct cli_stream *stream, const int *fds, unsigned fd_count,
                              int wait_ms);

/* The newest status, borrowed until the next call; NULL: none came.     Thread: main only. */
const json_t *cli_stream_status(const struct cli_stream *stream);

/* After CLI_NEXT_END: say why, if it is a failure. Returns 0: it was following, and the server
 * ended the stream; or the status to leave with.     Thread: main only. */
int cli_stream_explain(const struct cli_stream *stream);

/* A NULL stream is allowed.     Thread: main only. */
void cli_stream_close(struct cli_stream *stream);

/* ---- server-sent events, as bytes ---- */

/* Cuts a stream of bytes into events, whatever pieces it comes in. An event larger than
 * CLI_SSE_MAX is dropped whole. */
#define CLI_SSE_MAX ((size_t)4 * 1024 * 1024)
struct cli_sse {
    char *line, *data; /* being gathered */
    size_t line_bytes, line_room, data_bytes, data_room;
    char name[32]; /* of the event; "" is "message" */
    bool after_cr, too_large;
};

/* Feed bytes; `on_event` is called for each event that is whole with them, with its name and data,
 * both borrowed.     Thread: any. */
void cli_sse_feed(struct cli_sse *sse, const char *bytes, size_t size,
                  void (*on_event)(void *arg, const char *name, const char *data), void *arg);

/* Thread: any. */
void cli_sse_release(struct cli_sse *sse);

#endif

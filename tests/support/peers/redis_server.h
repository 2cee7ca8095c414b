#ifndef LASTCALL_TEST_REDIS_SERVER_H
#define LASTCALL_TEST_REDIS_SERVER_H

/* A real redis-server for a test: on a free port of 127.0.0.1 and on a Unix socket, keeping nothing
 * on disk, ended by its process id. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct redis_server {
    pid_t pid;       /* 0: it does not run */
    int port;        /* kept over redis_server_stop(), so that it comes back at the same place */
    char url[512];   /* redis://127.0.0.1:PORT/0, with the password if there is one */
    char socket[48]; /* path of the Unix socket */
    char log[64];    /* what it writes */
    const char *key, *certificate; /* redis_server_use_tls(); NULL: none */
    bool asks_who;
};

/* Skip the test that calls it, by name, where redis-server is not installed. */
void redis_server_need(void);

/* Choose the place, so that a test can name it before the server is there. */
void redis_server_init(struct redis_server *server);

/* Before the start: the server speaks TLS with that key and certificate, and `asks` clients for a
 * certificate. The caller owns the PEM files and keeps them. The url is rediss:// then; it trusts
 * that certificate and also presents it as the client's. The files may be replaced while the server
 * is not running. */
void redis_server_use_tls(struct redis_server *server, const char *key, const char *certificate,
                          bool asks);

/* Start it, with more arguments for its command line (NULL-terminated), and wait until it answers.
 * `password` NULL: none. */
void redis_server_start(struct redis_server *server, const char *password,
                        const char *const *arguments);

/* SIGKILL, and wait for its end. A server that does not run is fine. */
void redis_server_stop(struct redis_server *server);

/* One command, its words apart by a space; the answer as text: "(nil)", a number, or for a list its
 * members with a line feed after each. malloc(3)ed; fails the test when it is refused. */
char *redis_server_ask(const struct redis_server *server, const char *command);

/* The same; fails the test if the answer is not `want`. */
void redis_server_expect(const struct redis_server *server, const char *command, const char *want);

/* Ask until the answer is, or with `!` before it is not, `want`; fails the test after 20 s. */
void redis_server_wait(const struct redis_server *server, const char *command, const char *want);

/* Teardown of every test: end what a failed test left running. */
int redis_server_kill_left(void **state);

#endif

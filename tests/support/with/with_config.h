#ifndef LASTCALL_TEST_WITH_CONFIG_H
#define LASTCALL_TEST_WITH_CONFIG_H

/* A process with a configuration file. The file is in a directory that each program makes, with
 * keys and certificates a, b and c (a.key, a.crt ...); an `@` in a text stands for that directory.
 */

#include <stdbool.h>

#include "directory.h"
#include "process.h"

#define LIMIT_MS 20000
#define ARGS(...) ((const char *const[]){__VA_ARGS__, NULL})

#define HELLO "hosts: {default: {paths: {/: {handler: hello}}}}\n"
#define LISTEN "listen: {host: 127.0.0.1, port: 0}\n"
#define PATH(directive) LISTEN "hosts:\n  default:\n    paths:\n      /:\n        " directive "\n"
#define SSL(name) "ssl: {certificate-file: @/" name ".crt, key-file: @/" name ".key}"
#define HOST(name, listen)                                                                         \
    "  " name ":\n" listen "    header.set: \"x-host: " name "\"\n"                                \
    "    paths: {/: {handler: hello}}\n"

/* Of each program; its end is remove_directory(). */
int with_config_set_up(void **state);

/* `text` with its @; good for some more calls. */
const char *expanded(const char *text);

/* Write a file there; returns its path. */
const char *write_file(const char *name, const char *text);
bool is_there(const char *name);

/* Owner: the caller. */
char *read_file(const char *path);

/* Start with `text` as the configuration, and `more` on the command line (NULL: nothing), and wait
 * until it listens. */
void start_with(struct process *p, const char *text, const char *const *more);
void start(struct process *p, const char *text);

/* SIGTERM, and a clean end. */
void stop(struct process *p);
/* The same, and release it. */
void finish(struct process *p);

/* The n-th line of `listening on`, from 0, as a process to connect to. Borrowed from `p`. */
struct process listener(struct process *p, unsigned n);

/* `-t` has no complaint about `text`. */
void assert_accepted(const char *text);

/* A command line that ends by itself, with that many log lines, among them `line`. */
void assert_ends(const char *const *argv, int status, unsigned lines, const char *line);

unsigned lines_of(const char *text);

#endif

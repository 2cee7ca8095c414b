#ifndef LASTCALL_TEST_WITH_LOADGEN_H
#define LASTCALL_TEST_WITH_LOADGEN_H

/* Runs of the load client against a server that fails on purpose, and answers of that server. */

#include "bad_server.h"
#include "loadgen.h"

#define OK_HELLO "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"

/* To connect and to send, on a machine that may stall meanwhile. */
#define LONG_ENOUGH_MS 700

/* Twenty requests over two connections that are kept. */
extern const struct load_options base;

/* The same with so many requests; and over one HTTP/2 connection with so many streams. */
struct load_options with_requests(uint64_t max_requests);
struct load_options with_streams(unsigned streams, uint64_t max_requests);

/* Run `options` against a server with `script`. What must hold after any run is checked here. */
struct load_result run_at(int family, const struct bad_script *script, struct load_options options,
                          struct bad_seen *ret_seen);

/* The same against a server that has just these answers. */
struct load_result run(enum bad_next (*answer)(int, unsigned), struct load_options options);
struct load_result run_h2(enum bad_next (*answer)(struct bad_h2 *, int32_t, unsigned),
                          struct load_options options);

/* Against a port without a listener. */
struct load_result run_at_closed_port(struct load_options options);

void assert_all_answered(const struct load_result *r, uint64_t count);

/* For scripts; what each does is its name. */
enum bad_next say_hello(int fd, unsigned ordinal);
enum bad_next never_answer(int fd, unsigned ordinal);
enum bad_next answer_then_idle_close(int fd, unsigned ordinal);
enum bad_next close_unanswered(int fd, unsigned ordinal);
enum bad_next reset_unanswered(int fd, unsigned ordinal);
enum bad_next close_on_the_third(int fd, unsigned ordinal);
enum bad_next answer_half(int fd, unsigned ordinal);
enum bad_next answer_half_and_reset(int fd, unsigned ordinal);
enum bad_next reset_at_once(int fd);
enum bad_next h2_say_hello(struct bad_h2 *h, int32_t stream, unsigned ordinal);

/* Eight streams are open; GOAWAY says that the first three were processed. */
enum bad_next h2_goaway_behind_the_third(struct bad_h2 *h, int32_t stream, unsigned ordinal);

/* For load_options.on_signal: counts in an unsigned. */
void count_call(void *arg);

/* For load_options.timeline. */
extern struct load_timeline timeline;
uint64_t timeline_sum(enum load_kind kind);

/* That it holds what the result counts. */
void assert_timeline_is(const struct load_result *r);

#endif

#ifndef LASTCALL_TEST_WITH_QUEUE_H
#define LASTCALL_TEST_WITH_QUEUE_H

/* The retry queue in a real Redis: an archive, the stream "q", a target for replays, and a relay
 * that may stand between a replay and Redis. */

#include "queue.h"

#include "archive_made.h"
#include "directory.h"
#include "redis_relay.h"
#include "redis_server.h"
#include "target.h"
#include "tool.h"

#define ARGS(...) ((const char *const[]){__VA_ARGS__, NULL})
#define LIMIT_NS (20 * NS_PER_S)
#define TEST(name) cmocka_unit_test_setup_teardown(name, with_queue_begin, with_queue_end)

extern char archive[64];
extern struct target target;
extern struct redis_server redis;
extern struct redis_relay relay;
extern char from[640]; /* the stream, for --from */

/* Setup of each program; its teardown is remove_directory(). */
int with_queue_set_up(void **state);

/* Setup and teardown of each test; see TEST(). */
int with_queue_begin(void **state);
int with_queue_end(void **state);

/* Start Redis; as redis_server_start(). Skips the test where redis-server is not installed. */
void begin(const char *password, const char *const *arguments);

/* A queue that is started.     Owner: the caller, until close_queue(). */
struct queue *open_queue(uint64_t maxlen);
void close_queue(struct queue *queue);

/* Append a request to the archive. */
void add(unsigned n, const char *method, const char *where, enum unfinished_class class);

/* Put `count` more requests into the archive, and let the queue add all of it to the stream. */
void fill_stream(unsigned count);

/* The stream has no entry, none is pending, and no attempts are left over. */
void expect_empty(void);

/* The target has got the first `count` requests whole; with `once` each of them once. */
void expect_each_arrived(unsigned count, bool once);

#endif

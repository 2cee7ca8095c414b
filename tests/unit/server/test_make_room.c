/* Room for new connections: a loop counts those that wait while another loop closes the listeners.
 * The closes themselves are tested with whole processes, see test_limit.c. */

#include "make_room.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "loop.h"
#include "server_state.h"

#define ROUNDS 20 /* the sanitizer does not see it in each one */

static struct server server;
static struct loop *the_loop;
static pthread_barrier_t both;

static void open_listener(void)
{
    char error[512];

    listener_list_release(&server.listeners);
    assert_int_equal(listener_open(&server.listeners, "127.0.0.1:0", error, sizeof(error)), 0);
}

static int setup(void **state)
{
    (void)state;
    memset(&server, 0, sizeof(server));
    (void)pthread_mutex_init(&server.mu, NULL);
    open_listener();
    the_loop = aligned_alloc(_Alignof(struct loop), sizeof(*the_loop));
    assert_non_null(the_loop);
    memset(the_loop, 0, sizeof(*the_loop));
    the_loop->server = &server;
    the_loop->owner = pthread_self();
    the_loop->evloop = h2o_evloop_create();
    assert_int_equal(doors_init(&the_loop->doors), 0);
    server.loops = the_loop;
    server.started = 1;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    make_room_stop(the_loop);
    loop_ticks_release(the_loop);
    h2o_evloop_destroy(the_loop->evloop);
    (void)close(the_loop->doors.fd);
    free(the_loop);
    listener_list_release(&server.listeners);
    (void)pthread_mutex_destroy(&server.mu);
    return 0;
}

/* As close_listeners_now() does it on the closing loop. */
static void *close_them(void *arg)
{
    (void)pthread_barrier_wait(&both);
    (void)pthread_mutex_lock(&server.mu);
    listener_close(&server.listeners.items[0]);
    (void)pthread_mutex_unlock(&server.mu);
    return arg;
}

/* The order to close may reach this loop later than the close. The thread sanitizer compares the
 * two accesses, whichever comes first. */
static void test_newcomers_are_counted_while_the_listeners_close(void **state)
{
    pthread_t closing;

    (void)state;
    make_room_ask(the_loop);
    assert_true(h2o_timeout_is_linked(&the_loop->make_room.timer));
    the_loop->accepting.paused = true;
    assert_int_equal(pthread_barrier_init(&both, NULL, 2), 0);
    for (unsigned i = 0; i < ROUNDS; i++) {
        open_listener();
        assert_int_equal(pthread_create(&closing, NULL, close_them, NULL), 0);
        (void)pthread_barrier_wait(&both);
        the_loop->make_room.timer.cb(&the_loop->make_room.timer);
        assert_int_equal(pthread_join(closing, NULL), 0);
    }
    (void)pthread_barrier_destroy(&both);
    /* No client waits, before the close or after it. */
    assert_true((atomic_load(&the_loop->doors.orders) & ORDER_RESUME_ACCEPT) != 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_newcomers_are_counted_while_the_listeners_close, setup,
                                        teardown),
    };
    return cmocka_run_group_tests_name("make_room", tests, NULL, NULL);
}

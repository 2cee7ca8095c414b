/* What a worker tells its master of the application: what is put is got, and what is not whole is
 * not believed. */

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "app_message.h"

static struct app_settings made(void)
{
    struct app_settings made = {
        .port = 3000,
        .rules = {.start_timeout_ns = 30 * NS_PER_S, .grace_ns = 5 * NS_PER_S, .restart = true},
        .has_user = true,
        .user = {.uid = 65534, .gid = 65533, .groups = {7, 8, 9}, .group_count = 3}};

    assert_int_equal(probe_target_init(&made.target, NULL, "127.0.0.1", 3000, "/health"), 0);
    return made;
}

static void test_what_is_put_is_got(void **state)
{
    struct app_settings out = made(), in;
    struct message message;
    (void)state;
    handover_begin(&message, HANDOVER_APP);
    app_message_put(&out, &message);
    assert_false(message.overflowed);
    assert_int_equal(app_message_get(&message, &in), 0);
    assert_int_equal(in.target.count, 1);
    assert_int_equal(in.target.at[0].length, sizeof(struct sockaddr_in));
    assert_memory_equal(&in.target.at[0].address, &out.target.at[0].address,
                        in.target.at[0].length);
    assert_string_equal(in.target.name, "127.0.0.1:3000");
    assert_string_equal(in.target.request, out.target.request);
    assert_int_equal(in.port, 3000);
    assert_memory_equal(&in.rules, &out.rules, sizeof(in.rules));
    assert_true(in.has_user);
    assert_int_equal(in.user.uid, 65534);
    assert_int_equal(in.user.gid, 65533);
    assert_int_equal(in.user.group_count, 3);
    assert_int_equal(in.user.groups[2], 9);
}

static void test_a_socket_file_and_no_groups_are_fine(void **state)
{
    struct app_settings out = made(), in;
    struct message message;
    (void)state;
    out.user.group_count = 0;
    out.port = 0;
    assert_int_equal(probe_target_init(&out.target, "/run/app.sock", NULL, 0, NULL), 0);
    handover_begin(&message, HANDOVER_APP);
    app_message_put(&out, &message);
    assert_int_equal(app_message_get(&message, &in), 0);
    assert_string_equal(((struct sockaddr_un *)&in.target.at[0].address)->sun_path,
                        "/run/app.sock");
    assert_int_equal(in.target.at[0].length, sizeof(struct sockaddr_un));
    assert_string_equal(in.target.request, "");
    assert_int_equal(in.user.group_count, 0);
}

static void test_the_most_of_everything_fits(void **state)
{
    struct app_settings out = made(), in;
    struct message message;
    (void)state;
    for (size_t i = 1; i < PROBE_ADDRESSES; i++)
        out.target.at[i] = out.target.at[0];
    out.target.count = PROBE_ADDRESSES;
    memset(out.target.request, 'x', sizeof(out.target.request) - 1);
    out.user.group_count = APP_GROUPS_MAX;
    handover_begin(&message, HANDOVER_APP);
    app_message_put(&out, &message);
    assert_false(message.overflowed);
    assert_int_equal(app_message_get(&message, &in), 0);
    assert_int_equal(in.target.count, PROBE_ADDRESSES);
    assert_int_equal(in.user.group_count, APP_GROUPS_MAX);
}

/* `in` stays as it was. */
static void assert_refused(const struct message *message)
{
    struct app_settings in = {.port = 99};
    assert_int_equal(app_message_get(message, &in), -EPROTO);
    assert_int_equal(in.port, 99);
}

static void test_what_is_not_whole_is_refused(void **state)
{
    struct app_settings out = made();
    struct message message;
    (void)state;
    handover_begin(&message, HANDOVER_APP);
    assert_refused(&message);

    out.target.count = 0; /* nowhere to ask */
    app_message_put(&out, &message);
    assert_refused(&message);

    out = made();
    out.target.at[0].address.ss_family = AF_PACKET;
    handover_begin(&message, HANDOVER_APP);
    app_message_put(&out, &message);
    assert_refused(&message);

    out = made();
    out.user.uid = (uid_t)-1; /* "nobody in particular" to the system calls: it would stay root */
    handover_begin(&message, HANDOVER_APP);
    app_message_put(&out, &message);
    assert_refused(&message);
}

static void test_being_somebody_already_is_enough(void **state)
{
    struct app_user self;
    (void)state;
    assert_int_equal(app_user_get(&self), 0);
    assert_int_equal(self.uid, geteuid());
    assert_int_equal(app_user_become(&self), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_put_is_got),
        cmocka_unit_test(test_a_socket_file_and_no_groups_are_fine),
        cmocka_unit_test(test_the_most_of_everything_fits),
        cmocka_unit_test(test_what_is_not_whole_is_refused),
        cmocka_unit_test(test_being_somebody_already_is_enough),
    };
    return cmocka_run_group_tests_name("app_message", tests, NULL, NULL);
}

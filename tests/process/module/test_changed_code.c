/* A drain unmaps code, and the kernel reads it from its file again (lastcall/code_pages.h): but not
 * code that somebody has changed. A module changes its own when it starts; a request that the drain
 * waits for finds what was changed. */

#include "with_config.h"

#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "expect.h"
#include "skip.h"

#define MODULE MODULE_FOLDER "/module_changed.so"
#define CHANGED "in_code: changed; unchanged: 0x"

/* How much of the area that the address is in is mapped; see proc(5), smaps. */
static long mapped_kb(const struct process *p, unsigned long long address)
{
    unsigned long long from, to;
    char path[64], line[512];
    bool is_in = false;
    long kb = -1;

    (void)snprintf(path, sizeof(path), "/proc/%ld/smaps", (long)p->pid);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    while (kb < 0 && fgets(line, sizeof(line), file) != NULL) {
        if (sscanf(line, "%llx-%llx ", &from, &to) == 2)
            is_in = from <= address && address < to;
        else if (is_in && sscanf(line, "Rss: %ld kB", &kb) != 1)
            kb = -1;
    }
    (void)fclose(file);
    assert_true(kb >= 0);
    return kb;
}

/* The constant stands behind the code of the same file, and objects are unmapped from their
 * beginning: once it has gone, all of the code has that was to go. Nothing uses it meanwhile. */
static void wait_until_unmapped(const struct process *p, unsigned long long address)
{
    for (uint64_t until_ns = now_ns() + LIMIT_MS * NS_PER_MS;
         mapped_kb(p, address) > 0 && now_ns() < until_ns;)
        (void)poll(NULL, 0, 5);
    assert_int_equal(mapped_kb(p, address), 0);
}

static void test_code_that_was_changed_stays_as_it_is_in_a_drain(void **state)
{
    struct process p;
    unsigned long long unchanged;

    (void)state;
#ifndef NDEBUG
    skip_test("needs a release build: others unmap no code");
#endif
    start(&p, LISTEN "hosts: {default: {paths: {/m: {handler.module: {path: " MODULE
                     ", name: m}}}}}\n");
    int fd = client_connect(&p);
    client_send(fd, "POST /m HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\r\na");
    client_wait_taken(fd);
    char *all = client_ask(&p, GET("/m"));
    assert_contains(all, CHANGED);
    unchanged = strtoull(strstr(all, CHANGED) + strlen(CHANGED), NULL, 16);
    free(all);
    assert_true(mapped_kb(&p, unchanged) > 0);
    process_signal(&p, SIGTERM);
    wait_until_unmapped(&p, unchanged);
    client_send(fd, "b");
    client_expect(fd, CHANGED);
    (void)close(fd);
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_code_that_was_changed_stays_as_it_is_in_a_drain,
                                  process_kill_left),
    };
    (void)alarm(600);
    return cmocka_run_group_tests(tests, with_config_set_up, remove_directory);
}

#include "with_app_master.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "expect.h"

char admin_address[64];

int with_app_master_begin(void **state)
{
    (void)state;
    return prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
}

int with_app_master_set_up(void **state)
{
    (void)snprintf(admin_address, sizeof(admin_address), "unix:/tmp/lastcall-app-%ld.admin",
                   (long)getpid());
    return with_app_set_up(state);
}

int with_app_master_clean_up(void **state)
{
    int err = with_app_clean_up(state);
    while (waitpid(-1, NULL, WNOHANG) > 0)
        ;
    return err;
}

pid_t wait_generation(struct process *p, unsigned n)
{
    char text[64];
    (void)snprintf(text, sizeof(text), "generation %u serves: process ", n);
    process_wait_log(p, text);
    process_wait_log(p, "\n");
    return last_pid(p, text);
}

void wait_count(struct process *p, const char *what, unsigned n)
{
    uint64_t until_ns = now_ns() + LIMIT_MS * NS_PER_MS;
    while (count_in(p->log, what) < n) {
        if (now_ns() > until_ns)
            fail_msg("not %u times `%s` in:\n%s", n, what, p->log);
        (void)process_says(p, "there is no such line", 5);
    }
}

pid_t app_pid(const struct process *p)
{
    char *answer = client_ask(p, GET("/pid"));
    assert_contains(answer, "HTTP/1.1 200 ");
    pid_t pid = (pid_t)strtol(strstr(answer, "\r\n\r\n") + 4, NULL, 10);
    free(answer);
    assert_true(pid > 1);
    return pid;
}

void expect_200(int fd)
{
    client_expect(fd, "HTTP/1.1 200 ");
    (void)close(fd);
}

void stop(struct process *p)
{
    process_signal(p, SIGTERM);
    process_expect(p, LIMIT_MS, 0);
    process_release(p);
}

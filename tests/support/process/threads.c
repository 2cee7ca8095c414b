#include "threads.h"

#include <dirent.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "process.h"

#define PATIENCE_MS 60000

static DIR *open_threads(pid_t pid)
{
    char path[64];

    (void)snprintf(path, sizeof(path), "/proc/%d/task", pid);
    return opendir(path);
}

static bool is_named(pid_t pid, const char *tid, const char *name)
{
    char path[96], comm[32] = "";

    (void)snprintf(path, sizeof(path), "/proc/%d/task/%.16s/comm", pid, tid);
    FILE *file = fopen(path, "r");
    if (file == NULL) /* it has ended */
        return false;
    bool is = fgets(comm, sizeof(comm), file) != NULL && strncmp(comm, name, strlen(name)) == 0;
    (void)fclose(file);
    return is;
}

/* 0: there are no more. */
static pid_t next_named(DIR *threads, pid_t pid, const char *name)
{
    struct dirent *entry;

    while (threads != NULL && (entry = readdir(threads)) != NULL)
        if (entry->d_name[0] != '.' && is_named(pid, entry->d_name, name))
            return (pid_t)strtol(entry->d_name, NULL, 10);
    return 0;
}

static void close_threads(DIR *threads)
{
    if (threads != NULL)
        (void)closedir(threads);
}

pid_t thread_named(pid_t pid, const char *name)
{
    DIR *threads = open_threads(pid);
    pid_t tid = next_named(threads, pid, name);

    close_threads(threads);
    return tid;
}

uint64_t used_ns_of_thread(pid_t pid, pid_t tid)
{
    unsigned long long used_ns = 0;
    char path[96];

    (void)snprintf(path, sizeof(path), "/proc/%d/task/%d/schedstat", pid, tid);
    FILE *file = fopen(path, "r");
    if (file != NULL) {
        if (fscanf(file, "%llu", &used_ns) != 1)
            used_ns = 0;
        (void)fclose(file);
    }
    return used_ns;
}

int policy_of_threads(pid_t pid, const char *name)
{
    DIR *threads = open_threads(pid);
    pid_t tid = next_named(threads, pid, name);
    int policy = tid != 0 ? sched_getscheduler(tid) : -1;

    while (policy >= 0 && (tid = next_named(threads, pid, name)) != 0)
        if (sched_getscheduler(tid) != policy)
            policy = -1;
    close_threads(threads);
    return policy;
}

void wait_policy_of_threads(pid_t pid, const char *name, int want)
{
    const uint64_t until_ns = now_ns() + PATIENCE_MS * NS_PER_MS;

    while (policy_of_threads(pid, name) != want) {
        if (now_ns() > until_ns)
            fail_msg("the threads %s have the policy %d, not %d", name,
                     policy_of_threads(pid, name), want);
        (void)poll(NULL, 0, 5); /* a change of policy raises no event */
    }
}

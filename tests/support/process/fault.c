#include "fault.h"

#include <dlfcn.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "threads.h"

#ifdef __x86_64__

/* Where libc begins in a process; both have the same. */
static uint64_t libc_at(pid_t pid)
{
    char path[64], line[512];
    uint64_t at = 0;

    (void)snprintf(path, sizeof(path), "/proc/%d/maps", pid);
    FILE *file = fopen(path, "r");
    while (file != NULL && at == 0 && fgets(line, sizeof(line), file) != NULL)
        if (strstr(line, "/libc.so") != NULL)
            (void)sscanf(line, "%" SCNx64, &at);
    if (file != NULL)
        (void)fclose(file);
    return at;
}

bool fault_in_thread(pid_t pid, const char *thread, bool by_abort)
{
    struct user_regs_struct regs;
    pid_t tid = thread_named(pid, thread);
    uint64_t to = 0;
    int status;

    if (by_abort) {
        uint64_t own = libc_at(getpid()), theirs = libc_at(pid);
        if (own == 0 || theirs == 0)
            return false;
        to = (uint64_t)(uintptr_t)dlsym(RTLD_NEXT, "abort") - own + theirs;
    }
    if (tid == 0 || ptrace(PTRACE_SEIZE, tid, NULL, NULL) != 0)
        return false;
    if (ptrace(PTRACE_INTERRUPT, tid, NULL, NULL) != 0 || waitpid(tid, &status, __WALL) != tid ||
        ptrace(PTRACE_GETREGS, tid, NULL, &regs) != 0)
        return false;
    regs.rip = to;
    regs.rsp = (regs.rsp - 512) / 16 * 16 - 8; /* as after a call */
    regs.orig_rax = UINT64_MAX;                /* no system call to be taken up again */
    return ptrace(PTRACE_SETREGS, tid, NULL, &regs) == 0 &&
           ptrace(PTRACE_DETACH, tid, NULL, NULL) == 0;
}

#else

bool fault_in_thread(pid_t pid, const char *thread, bool by_abort)
{
    (void)pid;
    (void)thread;
    (void)by_abort;
    return false;
}

#endif

/* ---- a thread that stands still ---- */

/* The kernel reports the child's exit only after the tracer has reaped the traced thread. The
 * tracer polls: nothing wakes a waitpid(2) whose thread is no longer traced. */
static void *reap(void *arg)
{
    struct fault_hold *hold = arg;
    int status;

    /* relaxed: a millisecond later will do */
    while (!atomic_load_explicit(&hold->let_go, memory_order_relaxed) &&
           (waitpid(hold->tid, &status, __WALL | WNOHANG) != hold->tid ||
            (!WIFEXITED(status) && !WIFSIGNALED(status))))
        (void)usleep(1000);
    return NULL;
}

static bool stop_thread(struct fault_hold *hold, pid_t pid, const char *thread)
{
    const uintptr_t options = PTRACE_O_TRACESYSGOOD;
    int status;

    hold->tid = thread_named(pid, thread);
    atomic_init(&hold->let_go, false);
    return hold->tid != 0 && ptrace(PTRACE_SEIZE, hold->tid, NULL, options) == 0 &&
           ptrace(PTRACE_INTERRUPT, hold->tid, NULL, NULL) == 0 &&
           waitpid(hold->tid, &status, __WALL) == hold->tid;
}

bool fault_hold_thread(struct fault_hold *hold, pid_t pid, const char *thread)
{
    return stop_thread(hold, pid, thread) && pthread_create(&hold->reaper, NULL, reap, hold) == 0;
}

/* Go on to the next beginning or end of a system call. */
static bool step(const struct fault_hold *hold, struct __ptrace_syscall_info *ret_info)
{
    int status, deliver = 0;

    for (;;) {
        if (ptrace(PTRACE_SYSCALL, hold->tid, NULL, (uintptr_t)deliver) != 0 ||
            waitpid(hold->tid, &status, __WALL) != hold->tid || !WIFSTOPPED(status))
            return false;
        if (WSTOPSIG(status) == (SIGTRAP | 0x80))
            return ptrace(PTRACE_GET_SYSCALL_INFO, hold->tid, sizeof(*ret_info), ret_info) > 0;
        deliver = status >> 16 == 0 ? WSTOPSIG(status) : 0; /* 0: a stop of ptrace(2) itself */
    }
}

static bool is_epoll_wait(uint64_t number)
{
#ifdef SYS_epoll_wait
    if (number == SYS_epoll_wait)
        return true;
#endif
    return number == SYS_epoll_pwait;
}

bool fault_hold_turn(struct fault_hold *hold, pid_t pid, const char *thread, uint64_t from_ns)
{
    struct __ptrace_syscall_info info;
    struct timespec now;
    bool waits = false;
    unsigned turns = 0;

    if (!stop_thread(hold, pid, thread))
        return false;
    while (turns < 2) {
        if (!step(hold, &info))
            return false;
        (void)clock_gettime(CLOCK_MONOTONIC, &now);
        if (info.op == PTRACE_SYSCALL_INFO_ENTRY)
            waits = is_epoll_wait(info.entry.nr);
        else if (waits && info.exit.rval == 0 &&
                 (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec >= from_ns)
            turns++;
    }
    return pthread_create(&hold->reaper, NULL, reap, hold) == 0;
}

void fault_let_go(struct fault_hold *hold)
{
    (void)ptrace(PTRACE_DETACH, hold->tid, NULL, NULL); /* it may have died since */
    atomic_store(&hold->let_go, true);
    (void)pthread_join(hold->reaper, NULL);
}

/* ---- memory ---- */

static char cgroup[512];

static bool write_number(const char *name, uint64_t number)
{
    char path[600];

    (void)snprintf(path, sizeof(path), "%s/%s", cgroup, name);
    FILE *file = fopen(path, "w");
    if (file == NULL)
        return false;
    bool written = fprintf(file, "%" PRIu64 "\n", number) > 0;
    return fclose(file) == 0 && written;
}

static uint64_t resident_bytes(pid_t pid, bool all_addresses)
{
    char path[64];
    uint64_t size = 0, resident = 0;

    (void)snprintf(path, sizeof(path), "/proc/%d/statm", pid);
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return 0;
    if (fscanf(file, "%" SCNu64 " %" SCNu64, &size, &resident) != 2)
        size = resident = 0;
    (void)fclose(file);
    return (all_addresses ? size : resident) * (uint64_t)sysconf(_SC_PAGESIZE);
}

bool fault_limit_memory(pid_t pid, uint64_t more_bytes)
{
    static const char *const roots[] = {"/sys/fs/cgroup/memory", "/sys/fs/cgroup"};
    uint64_t limit = resident_bytes(pid, false) + more_bytes;

    for (size_t i = 0; i < sizeof(roots) / sizeof(roots[0]); i++) {
        (void)snprintf(cgroup, sizeof(cgroup), "%s/lastcall-test-%ld", roots[i], (long)getpid());
        if (mkdir(cgroup, 0755) != 0)
            continue;
        if ((write_number("memory.limit_in_bytes", limit) || write_number("memory.max", limit)) &&
            write_number("cgroup.procs", (uint64_t)pid)) {
            (void)write_number("memory.memsw.limit_in_bytes", limit); /* where swap is counted */
            (void)write_number("memory.swap.max", 0);
            return true;
        }
        (void)rmdir(cgroup);
    }
    cgroup[0] = '\0';
    return false;
}

bool fault_limit_addresses(pid_t pid, uint64_t more_bytes)
{
    uint64_t limit = resident_bytes(pid, true) + more_bytes;
    const struct rlimit addresses = {limit, limit};
    return prlimit(pid, RLIMIT_AS, &addresses, NULL) == 0;
}

void fault_clean(void)
{
    if (cgroup[0] != '\0')
        (void)rmdir(cgroup);
    cgroup[0] = '\0';
}

#include "process.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/sockios.h>
#include <poll.h>
#include <pwd.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "expect.h"

#define ARGS_MAX 64
#define LOG_WAIT_MS 60000

uint64_t now_ns(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
}

#define ATTEMPTS_MAX 20

bool is_in_time(uint64_t since_ns, uint32_t limit_ms)
{
    return now_ns() - since_ns < limit_ms * NS_PER_MS;
}

void repeat_until_in_time(bool (*once)(void *arg), void *arg)
{
    for (unsigned i = 0; !once(arg); i++)
        if (i == ATTEMPTS_MAX)
            fail_msg("no attempt was in time: this machine stands still too often");
}

uint64_t client_wait_readable(int fd, uint64_t since_ns)
{
    struct pollfd readable = {.fd = fd, .events = POLLIN};
    uint64_t begun_ns = now_ns();

    for (;;) {
        uint64_t look_ns = now_ns();
        if (poll(&readable, 1, 5) > 0)
            return since_ns;
        since_ns = look_ns;
        if (now_ns() - begun_ns > LOG_WAIT_MS * NS_PER_MS)
            fail_msg("nothing to read");
    }
}

#define PROCESSES_MAX 8

bool process_drop_bind_capability;
unsigned process_open_files;
void (*process_in_child)(void);

/* Those that a failed test could not release: cmocka leaves it by longjmp(3). */
static pid_t running[PROCESSES_MAX];

static void note_running(pid_t from, pid_t to)
{
    for (size_t i = 0; i < PROCESSES_MAX; i++) {
        if (running[i] == from) {
            running[i] = to;
            return;
        }
    }
}

int process_kill_left(void **state)
{
    (void)state;
    for (size_t i = 0; i < PROCESSES_MAX; i++) {
        if (running[i] != 0) {
            (void)kill(running[i], SIGKILL);
            (void)waitpid(running[i], NULL, 0);
            running[i] = 0;
        }
    }
    return 0;
}

static const char *binary(void)
{
    const char *path = getenv("LASTCALL_BINARY");
    return path != NULL ? path : "build/release/lastcall";
}

bool process_is_wrapped;

const char *own_user_name(void)
{
    const struct passwd *user = getpwuid(geteuid());

    assert_non_null(user);
    return user->pw_name;
}

/* ---- $XDG_RUNTIME_DIR ---- */

static char runtime_folder[] = "/tmp/lastcall-run-XXXXXX";
static pid_t runtime_owner;

static void remove_runtime_folder(void)
{
    char command[64];

    if (getpid() != runtime_owner) /* a child that ends by exit(3) */
        return;
    (void)snprintf(command, sizeof(command), "rm -rf %s", runtime_folder);
    if (system(command) != 0)
        (void)fprintf(stderr, "cannot remove %s\n", runtime_folder);
}

/* Without root, servers put their admin socket there: apart from those of servers outside tests. */
__attribute__((constructor)) static void make_runtime_folder(void)
{
    if (geteuid() == 0 || mkdtemp(runtime_folder) == NULL)
        return;
    runtime_owner = getpid();
    (void)setenv("XDG_RUNTIME_DIR", runtime_folder, 1);
    (void)atexit(remove_runtime_folder);
}

bool process_runs_under_valgrind(void)
{
    return getenv("LASTCALL_VALGRIND") != NULL;
}

/* What valgrind says goes where the tests' own words go: in the server's log it would wait for a
 * reader, and hold the process, where a test leaves that log unread. */
#define VALGRIND_FD 199 /* far from those that the test has */

/* The command that comes before the arguments of a test. */
static size_t begin_command(const char **args)
{
    static char suppressions[512], log[32];
    size_t n = 0;

    if (process_runs_under_valgrind()) {
        (void)snprintf(suppressions, sizeof(suppressions), "--suppressions=%s/valgrind.supp",
                       LASTCALL_SUPPORT_FOLDER);
        args[n++] = "/usr/bin/valgrind";
        args[n++] = "-q";
        args[n++] = "--leak-check=full";
        args[n++] = "--errors-for-leak-kinds=definite";
        args[n++] = "--show-leak-kinds=definite";
        args[n++] = "--error-exitcode=99";
        (void)snprintf(log, sizeof(log), "--log-fd=%d", VALGRIND_FD);
        args[n++] = log;
        args[n++] = suppressions;
    }
    args[n++] = binary();
    return n;
}

void process_spawn(struct process *process, const char *const *argv)
{
    const char *args[ARGS_MAX];
    int out[2];
    size_t n = begin_command(args);

    for (; *argv != NULL; argv++) {
        assert_true(n < ARGS_MAX - 1);
        args[n++] = *argv;
    }
    args[n] = NULL;
    memset(process, 0, sizeof(*process));
    process->status = -1;
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    process->pid = fork();
    assert_true(process->pid >= 0);
    if (process->pid == 0) {
        if (process_runs_under_valgrind())
            (void)dup2(STDERR_FILENO, VALGRIND_FD);
        (void)dup2(out[1], STDERR_FILENO);
        /* The server dies with the test, however early that ends. */
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)dup2(open("/dev/null", O_RDWR), STDOUT_FILENO);
        if (process_open_files != 0) {
            const struct rlimit files = {process_open_files, process_open_files};
            (void)setrlimit(RLIMIT_NOFILE, &files);
        }
        if (process_drop_bind_capability)
            (void)prctl(PR_CAPBSET_DROP, CAP_NET_BIND_SERVICE, 0, 0, 0);
        if (process_in_child != NULL)
            process_in_child();
        execv(args[0], (char *const *)args);
        _exit(127);
    }
    note_running(0, process->pid);
    (void)close(out[1]);
    process->log_fd = out[0];
    (void)fcntl(out[0], F_SETFL, O_NONBLOCK);
    process->log = calloc(1, 1);
}

/* Take what has been logged; returns false at the end of file. */
static bool drain_log(struct process *process)
{
    char bytes[4096];
    for (;;) {
        ssize_t n = read(process->log_fd, bytes, sizeof(bytes));
        if (n < 0)
            return true;
        if (n == 0)
            return false;
        process->log = realloc(process->log, process->log_bytes + (size_t)n + 1);
        memcpy(process->log + process->log_bytes, bytes, (size_t)n);
        process->log_bytes += (size_t)n;
        process->log[process->log_bytes] = '\0';
    }
}

/* cmocka cuts a message after about a thousand bytes. */
static void show_log(const struct process *process)
{
    (void)fprintf(stderr, "---- the log ----\n%s---- its end ----\n", process->log);
}

bool process_says(struct process *process, const char *text, uint32_t limit_ms)
{
    uint64_t until_ns = now_ns() + limit_ms * NS_PER_MS;
    while (strstr(process->log, text) == NULL) {
        struct pollfd log = {.fd = process->log_fd, .events = POLLIN};
        (void)poll(&log, 1, 50);
        bool open = drain_log(process);
        if (strstr(process->log, text) == NULL && (!open || now_ns() > until_ns))
            return false;
    }
    return true;
}

void process_wait_log(struct process *process, const char *text)
{
    uint64_t until_ns = now_ns() + LOG_WAIT_MS * NS_PER_MS;
    while (strstr(process->log, text) == NULL) {
        struct pollfd log = {.fd = process->log_fd, .events = POLLIN};
        if (now_ns() > until_ns) {
            show_log(process);
            fail_msg("no `%s` in the log", text);
        }
        (void)poll(&log, 1, 50);
        if (!drain_log(process) && strstr(process->log, text) == NULL) {
            show_log(process);
            fail_msg("ended without `%s` in the log", text);
        }
    }
}

void process_wait_log_times(struct process *process, const char *text, unsigned n)
{
    uint64_t until_ns = now_ns() + LOG_WAIT_MS * NS_PER_MS;

    while (count_in(process->log, text) < n) {
        if (now_ns() > until_ns)
            fail_msg("not %u times `%s` in:\n%s", n, text, process->log);
        (void)process_says(process, "there is no such line", 5);
    }
}

void process_start_configured(struct process *process, const char *const *argv)
{
    const char *args[ARGS_MAX] = {"--force-after", "0"};
    size_t n = process_is_wrapped ? 0 : 2;

    /* So that a test may send the second signal at once; a flag of its own comes later, and
     * counts. */
    for (; *argv != NULL; argv++) {
        assert_true(n < ARGS_MAX - 1);
        args[n++] = *argv;
    }
    process_spawn(process, args);
    process_wait_log(process, "listening on ");
    const char *at = strstr(process->log, "listening on ") + strlen("listening on ");
    size_t length = strcspn(at, "\n");
    assert_true(length < sizeof(process->address));
    memcpy(process->address, at, length);
    process->address[length] = '\0';
    const char *colon = strrchr(process->address, ':');
    if (strncmp(process->address, "unix:", 5) != 0 && colon != NULL)
        process->port = (uint16_t)strtoul(colon + 1, NULL, 10);
}

void process_start(struct process *process, const char *listen, const char *const *argv)
{
    const char *args[ARGS_MAX] = {"--listen", listen != NULL ? listen : "127.0.0.1:0"};
    size_t n = 2;

    for (; argv != NULL && *argv != NULL; argv++) {
        assert_true(n < ARGS_MAX - 1);
        args[n++] = *argv;
    }
    process_start_configured(process, args);
}

/* Threads take SIGSTOP a moment later: the process may still run when kill(2) returns. */
static void wait_until_stopped(pid_t pid)
{
    siginfo_t info;

    while (waitid(P_PID, (id_t)pid, &info, WSTOPPED | WEXITED | WNOWAIT) != 0)
        if (errno != EINTR)
            return; /* it is no child of ours */
}

void process_signal(struct process *process, int signo)
{
    assert_int_equal(kill(process->pid, signo), 0);
    if (signo == SIGSTOP)
        wait_until_stopped(process->pid);
}

bool process_is_gone(struct process *process)
{
    int status;
    if (process->status >= 0)
        return true;
    if (waitpid(process->pid, &status, WNOHANG) != process->pid)
        return false;
    process->exited_ns = now_ns();
    note_running(process->pid, 0);
    process->status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    (void)drain_log(process);
    return true;
}

bool is_gone(void *process)
{
    return process_is_gone(process);
}

void send_term(void *process)
{
    process_signal(process, SIGTERM);
}

int process_wait(struct process *process, uint32_t limit_ms)
{
    /* A pid descriptor becomes readable at the end of the process: no polling of waitpid(2). */
    int pidfd = (int)syscall(SYS_pidfd_open, process->pid, 0);
    uint64_t until_ns = now_ns() + limit_ms * NS_PER_MS;

    while (!process_is_gone(process)) {
        struct pollfd fds[2] = {{.fd = pidfd, .events = POLLIN},
                                {.fd = process->log_fd, .events = POLLIN}};
        uint64_t now = now_ns();
        if (now >= until_ns) {
            (void)kill(process->pid, SIGKILL);
            show_log(process);
            fail_msg("still running after %u ms", limit_ms);
        }
        (void)poll(fds, 2, (int)((until_ns - now) / NS_PER_MS) + 1);
        (void)drain_log(process); /* it must not block on a full pipe */
        if (fds[1].revents & POLLHUP)
            (void)poll(fds, 1, (int)((until_ns - now) / NS_PER_MS) + 1);
    }
    (void)close(pidfd);
    return process->status;
}

void process_fill_log(struct process *process)
{
    char path[64];
    (void)drain_log(process);
    /* The other end of the pipe, opened through our own descriptor. */
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", process->log_fd);
    int fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    assert_true(fd >= 0);
    while (write(fd, "x", 1) == 1)
        ;
    (void)close(fd);
}

int process_wait_unread(struct process *process, uint32_t limit_ms)
{
    struct pollfd end = {.fd = (int)syscall(SYS_pidfd_open, process->pid, 0), .events = POLLIN};
    int ready = poll(&end, 1, (int)limit_ms);
    (void)close(end.fd);
    if (ready != 1)
        fail_msg("still running after %u ms, with an unread log", limit_ms);
    assert_true(process_is_gone(process));
    return process->status;
}

void process_expect(struct process *process, uint32_t limit_ms, int want)
{
    int status = process_wait(process, limit_ms);
    if (status != want) {
        show_log(process);
        fail_msg("exit status %d instead of %d", status, want);
    }
}

/* The usual one, which a process that was killed leaves behind. */
static void remove_admin_socket(struct process *process)
{
    static const char line[] = "admin on unix:";
    char path[ADDRESS_SIZE];

    (void)drain_log(process);
    const char *at = strstr(process->log, line);
    if (at == NULL || sscanf(at + sizeof(line) - 1, "%127[^\n]", path) != 1)
        return;
    (void)unlink(path);
}

void process_release(struct process *process)
{
    if (process->status < 0 && process->pid > 0) {
        (void)kill(process->pid, SIGKILL);
        (void)waitpid(process->pid, NULL, 0);
        note_running(process->pid, 0);
        remove_admin_socket(process);
    }
    (void)close(process->log_fd);
    free(process->log);
    memset(process, 0, sizeof(*process));
}

/* ---- clients ---- */

/* A socket with a time limit fails with EINTR after a stop of this process (signal(7)), with no
 * handler at all: each call goes on. A connect(2) that does so waits for the one under way. */

int client_connect(const struct process *process)
{
    struct timeval patience = {.tv_sec = 30};
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(process->port)};
    struct sockaddr_in6 in6 = {
        .sin6_family = AF_INET6, .sin6_port = htons(process->port), .sin6_addr = in6addr_loopback};
    struct sockaddr *to = (struct sockaddr *)&in;
    socklen_t length = sizeof(in);
    int err;

    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (strncmp(process->address, "unix:", 5) == 0) {
        (void)snprintf(un.sun_path, sizeof(un.sun_path), "%s", process->address + 5);
        to = (struct sockaddr *)&un;
        length = sizeof(un);
    } else if (process->address[0] == '[') {
        to = (struct sockaddr *)&in6;
        length = sizeof(in6);
    }
    int fd = socket(to->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    /* socket(7): it bounds connect(2), too. */
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    do
        err = connect(fd, to, length) == 0 ? 0 : errno;
    while (err == EINTR);
    assert_int_equal(err, 0);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    return fd;
}

ssize_t client_recv(int fd, void *bytes, size_t size, int flags)
{
    size_t got = 0;

    for (;;) {
        ssize_t n = recv(fd, (char *)bytes + got, size - got, flags);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return got > 0 ? (ssize_t)got : n;
        got += (size_t)n;
        if (got == size || (flags & MSG_WAITALL) == 0)
            return (ssize_t)got;
    }
}

void client_send(int fd, const char *text)
{
    size_t left = strlen(text);

    while (left > 0) {
        ssize_t n = send(fd, text, left, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        assert_true(n > 0);
        text += n;
        left -= (size_t)n;
    }
}

/* The bytes that the socket at `port` whose peer is `peer` has and nobody has read; -1: it is not
 * there. */
static long unread_at(unsigned port, unsigned peer)
{
    unsigned at_port, at_peer, to_read;
    char line[512];
    long unread = -1;
    FILE *sockets = fopen("/proc/net/tcp", "re");

    assert_non_null(sockets);
    while (unread < 0 && fgets(line, sizeof(line), sockets) != NULL)
        if (sscanf(line, " %*u: %*x:%x %*x:%x %*x %*x:%x", &at_port, &at_peer, &to_read) == 3 &&
            at_port == port && at_peer == peer)
            unread = (long)to_read;
    (void)fclose(sockets);
    return unread;
}

/* Has the kernel of the other side got all, and the process there read it? A socket that is gone
 * was read, if the answer or the end is here; without, the list lacked it for a moment. */
static bool is_taken(int fd, unsigned here, unsigned there)
{
    struct pollfd answered = {.fd = fd, .events = POLLIN};
    int to_send = 0;

    assert_int_equal(ioctl(fd, SIOCOUTQ, &to_send), 0);
    if (to_send > 0)
        return false;
    long unread = unread_at(there, here);
    return unread == 0 || (unread < 0 && poll(&answered, 1, 0) > 0);
}

void client_wait_taken(int fd)
{
    struct sockaddr_in here, there;
    socklen_t length = sizeof(here);
    uint64_t until_ns = now_ns() + LOG_WAIT_MS * NS_PER_MS;

    assert_int_equal(getsockname(fd, (struct sockaddr *)&here, &length), 0);
    assert_int_equal(getpeername(fd, (struct sockaddr *)&there, &length), 0);
    while (!is_taken(fd, ntohs(here.sin_port), ntohs(there.sin_port))) {
        if (now_ns() > until_ns)
            fail_msg("the process does not read what it was sent");
        (void)poll(NULL, 0, 2); /* no event tells that the other side has read */
    }
}

char *client_read_until(int fd, const char *text)
{
    size_t room = 65536, n = 0;
    char *got = malloc(room);

    for (;;) {
        got[n] = '\0';
        if (text != NULL && strstr(got, text) != NULL)
            return got;
        if (n + 4096 > room)
            got = realloc(got, room *= 2);
        ssize_t more = client_recv(fd, got + n, 4095, 0);
        if (more <= 0)
            return got;
        n += (size_t)more;
    }
}

char *client_read_answer(int fd)
{
    size_t room = 65536, n = 0, whole = SIZE_MAX;
    char *got = malloc(room);

    while (n < whole) {
        if (n + 4096 > room)
            got = realloc(got, room *= 2);
        size_t want = whole == SIZE_MAX ? 1 : whole - n; /* not a byte of the next answer */
        ssize_t more = client_recv(fd, got + n, want < 4095 ? want : 4095, 0);
        if (more <= 0) {
            free(got);
            return NULL;
        }
        n += (size_t)more;
        got[n] = '\0';
        char *end = strstr(got, "\r\n\r\n");
        if (whole == SIZE_MAX && end != NULL) {
            const char *length = strcasestr(got, "\r\ncontent-length:");
            assert_non_null(length);
            whole = (size_t)(end + 4 - got) + strtoul(length + 17, NULL, 10);
        }
    }
    return got;
}

void client_expect(int fd, const char *want)
{
    char *answer = client_read_answer(fd);

    assert_contains(answer, want);
    free(answer);
}

int client_begin(const struct process *process)
{
    int fd = client_connect(process);

    client_send(fd, "POST /sleep?ms=0 HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\r\na");
    client_wait_taken(fd);
    return fd;
}

void client_end(int fd)
{
    client_send(fd, "b");
    client_expect(fd, " 200 OK");
    (void)close(fd);
}

char *client_ask(const struct process *process, const char *request)
{
    int fd = client_connect(process);

    client_send(fd, request);
    char *answer = client_read_answer(fd);
    (void)close(fd);
    return answer;
}

void assert_answer(const struct process *process, const char *request, const char *want)
{
    char *answer = client_ask(process, request);

    assert_contains(answer, want);
    free(answer);
}

void assert_serves(const struct process *process)
{
    assert_answer(process, GET("/hello"), " 200 OK");
}

#include "with_restart.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "expect.h"

static char folder[] = "/tmp/lastcall-restart-XXXXXX";
char program[PATH_MAX];

const char *in_folder(const char *name)
{
    static char paths[16][128];
    static unsigned next;
    char *path = paths[next++ % 16];
    (void)snprintf(path, sizeof(paths[0]), "%s/%s", folder, name);
    return path;
}

void write_file(const char *path, const char *text)
{
    char temporary[160];
    (void)snprintf(temporary, sizeof(temporary), "%s.new", path);
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    (void)close(fd);
    assert_int_equal(rename(temporary, path), 0);
}

char *read_file(const char *path)
{
    static char text[65536];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : 0;
    if (fd >= 0)
        (void)close(fd);
    text[n > 0 ? n : 0] = '\0';
    return text;
}

const char *write_conf(const char *text)
{
    char *whole;
    const char *path = in_folder("conf");
    assert_true(asprintf(&whole,
                         "user: %s\nnum-threads: 2\nrestart: {probation: 50ms}\n%s"
                         "hosts:\n  default:\n    paths:\n      /hello: {handler: hello}\n"
                         "      /ready: {handler: ready}\n      /sleep: {handler: sleep}\n"
                         "      /stream: {handler: stream}\n",
                         own_user_name(), text) > 0);
    write_file(path, whole);
    free(whole);
    return path;
}

unsigned how_often(const char *setting, unsigned usual)
{
    const char *text = getenv(setting);
    long n = text != NULL ? strtol(text, NULL, 10) : 0;
    return n >= 1 && n <= 10000 ? (unsigned)n : usual;
}

/* ---- generations ---- */

pid_t wait_generation(struct process *p, unsigned n)
{
    char text[64];
    (void)snprintf(text, sizeof(text), "generation %u serves: process ", n);
    if (!process_says(p, text, LIMIT_MS))
        return 0;
    const char *at = strstr(p->log, text) + strlen(text);
    return process_says(p, "\n", 0) ? (pid_t)strtol(at, NULL, 10) : 0;
}

void assert_generation(struct process *p, unsigned n, pid_t *ret_pid)
{
    *ret_pid = wait_generation(p, n);
    if (*ret_pid == 0)
        fail_msg("there is no generation %u; log:\n%s", n, p->log);
}

int wait_status(pid_t pid)
{
    int status = 0;
    uint64_t until_ns = now_ns() + LIMIT_MS * NS_PER_MS;

    while (waitpid(pid, &status, WNOHANG) != pid) {
        if (errno == ECHILD && kill(pid, 0) != 0)
            return -1;
        if (now_ns() > until_ns)
            fail_msg("process %ld does not end", (long)pid);
        (void)poll(NULL, 0, 2); /* it may not be our child yet: nothing else tells */
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

void assert_drained(pid_t pid)
{
    int status = wait_status(pid);
    assert_true(status == 0 || status == -1);
}

void stop(struct process *p, pid_t pid)
{
    int status;
    assert_int_equal(kill(pid, SIGTERM), 0);
    if (pid == p->pid)
        process_expect(p, LIMIT_MS, 0);
    else if ((status = wait_status(pid)) > 0) {
        (void)process_says(p, "there is no such line", 0);
        fail_msg("exit status %d; log:\n%s", status, p->log);
    }
}

void hup(void *arg)
{
    process_signal(arg, SIGHUP);
}

size_t list_children(pid_t of, pid_t *ret_pids, size_t max)
{
    char path[320];
    size_t n = 0;

    (void)snprintf(path, sizeof(path), "/proc/%ld/task", (long)of);
    DIR *tasks = opendir(path);
    for (struct dirent *task; tasks != NULL && (task = readdir(tasks)) != NULL;) {
        (void)snprintf(path, sizeof(path), "/proc/%ld/task/%s/children", (long)of, task->d_name);
        if (task->d_name[0] == '.')
            continue;
        for (char *at = read_file(path), *end; n < max; at = end) {
            pid_t pid = (pid_t)strtol(at, &end, 10);
            if (end == at)
                break;
            ret_pids[n++] = pid;
        }
    }
    if (tasks != NULL)
        (void)closedir(tasks);
    return n;
}

pid_t only_child(pid_t of)
{
    pid_t pids[8] = {0};
    uint64_t until_ns = now_ns() + LIMIT_MS * NS_PER_MS;
    while (list_children(of, pids, 8) != 1) {
        if (now_ns() > until_ns)
            fail_msg("process %ld has not one child", (long)of);
        (void)poll(NULL, 0, 1);
    }
    return pids[0];
}

const char *use_own_binary(void)
{
    const char *path = in_folder("lastcall");
    (void)unlink(path);
    assert_int_equal(symlink(program, path), 0);
    (void)setenv("LASTCALL_BINARY", path, 1);
    return path;
}

int end_all(void **state)
{
    pid_t pids[64];
    size_t n;

    (void)process_kill_left(state);
    while ((n = list_children(getpid(), pids, 64)) > 0)
        for (size_t i = 0; i < n; i++) {
            (void)kill(pids[i], SIGKILL);
            (void)waitpid(pids[i], NULL, 0);
        }
    (void)setenv("LASTCALL_BINARY", program, 1);
    return 0;
}

/* ---- what is served, what is open ---- */

int begin_long_request(const struct process *p)
{
    int fd = client_connect(p);

    client_send(fd, GET("/stream?kb=64&ms=60000"));
    char *head = client_read_until(fd, "\r\n\r\n");
    assert_contains(head, " 200 OK");
    free(head);
    return fd;
}

void assert_serves_on(int fd, const char *connection)
{
    client_send(fd, GET("/hello"));
    char *answer = client_read_answer(fd);
    assert_contains(answer, " 200 OK");
    assert_contains(answer, connection);
    free(answer);
}

int connect_port(uint32_t address, uint16_t port)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    in.sin_addr.s_addr = htonl(address);
    if (connect(fd, (struct sockaddr *)&in, sizeof(in)) == 0)
        return fd;
    int err = errno;
    (void)close(fd);
    return -err;
}

void assert_serves_at(uint32_t address, uint16_t port)
{
    int fd = connect_port(address, port);
    if (fd < 0)
        fail_msg("port %u: %s", port, strerror(-fd));
    assert_serves_on(fd, "");
    (void)close(fd);
}

size_t open_files_of(pid_t pid)
{
    char path[64];
    size_t n = 0;
    (void)snprintf(path, sizeof(path), "/proc/%ld/fd", (long)pid);
    DIR *directory = opendir(path);
    assert_non_null(directory);
    while (readdir(directory) != NULL)
        n++;
    (void)closedir(directory);
    return n;
}

void assert_open_files(pid_t pid, size_t want)
{
    uint64_t until_ns = now_ns() + LIMIT_MS * NS_PER_MS;
    while (open_files_of(pid) > want && now_ns() < until_ns)
        (void)poll(NULL, 0, 2);
    assert_true(open_files_of(pid) <= want);
}

/* ---- each program ---- */

int with_restart_set_up(void **state)
{
    const char *binary = getenv("LASTCALL_BINARY");
    char *path;
    (void)state;
    if (mkdtemp(folder) == NULL || chmod(folder, 0755) != 0)
        return -1;
    path = realpath(binary != NULL ? binary : "build/release/lastcall", program);
    if (path == NULL || setenv("LASTCALL_BINARY", program, 1) != 0)
        return -1;
    return prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
}

int with_restart_clean_up(void **state)
{
    char command[128];
    (void)state;
    (void)snprintf(command, sizeof(command), "rm -rf %s", folder);
    return system(command);
}

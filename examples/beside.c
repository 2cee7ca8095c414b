/* Beside a main loop that was there first: the program counts the lines of its standard input,
 * handles its own signals with signalfd(2), and answers HTTP about what it does.
 *
 *     cc beside.c $(pkg-config --cflags --libs lastcall) -o beside
 *     yes | head -n 1000 | ./beside 127.0.0.1:8080 & curl 127.0.0.1:8080/metrics */
#include <errno.h>
#include <lastcall/lastcall.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/signalfd.h>
#include <unistd.h>

static atomic_ulong lines;

static void metrics(lc_req *request, void *user)
{
    (void)user;
    lc_sendf(request, 200, "text/plain", "lines_total %lu\n", atomic_load(&lines));
}

static void log_line(int level, const char *event, const char *text, const char *json, void *user)
{
    (void)level, (void)event, (void)json, (void)user;
    fprintf(stderr, "[http] %s\n", text);
}

/* Returns false at the end of the input. */
static int read_lines(void)
{
    char bytes[4096];
    ssize_t n = read(STDIN_FILENO, bytes, sizeof(bytes));

    for (ssize_t i = 0; i < n; i++)
        if (bytes[i] == '\n')
            atomic_fetch_add(&lines, 1);
    return n > 0 || (n < 0 && errno == EINTR);
}

int main(int argc, char **argv)
{
    struct lc_result result = LC_RESULT_INIT;
    struct lc_cut cut = LC_CUT_INIT;
    sigset_t stop;
    int draining = 0;

    sigemptyset(&stop);
    sigaddset(&stop, SIGTERM);
    sigaddset(&stop, SIGINT);
    sigprocmask(SIG_BLOCK, &stop, NULL);

    lc_server *server = lc_new();
    lc_on_log(server, log_line, NULL);
    lc_listen(server, argc > 1 ? argv[1] : "127.0.0.1:0");
    lc_handle(server, "GET /metrics", metrics, NULL);
    if (lc_start(server) != LC_OK) {
        fprintf(stderr, "%s\n", lc_errmsg(server));
        return 1;
    }
    printf("http on port %d\n", lc_port(server));
    fflush(stdout);

    struct pollfd fds[] = {{.fd = STDIN_FILENO, .events = POLLIN},
                           {.fd = signalfd(-1, &stop, SFD_CLOEXEC), .events = POLLIN},
                           {.fd = lc_phase_fd(server), .events = POLLIN}};
    while (lc_phase(server) != LC_DONE && (poll(fds, 3, -1) > 0 || errno == EINTR)) {
        if (fds[0].revents != 0 && !read_lines())
            fds[0].fd = -1;
        if (fds[1].revents != 0 && !draining++)
            lc_drain(server, 5000, "asked to stop"); /* returns at once: this loop goes on */
    }
    lc_wait(server, -1, &result);
    for (size_t i = 0; lc_unfinished(server, i, &cut) == LC_OK; i++)
        fprintf(stderr, "not answered: %s %s (%s)\n", cut.method, cut.path, cut.state);
    lc_free(server);
    return result.status;
}

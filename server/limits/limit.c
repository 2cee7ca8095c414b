#include "limit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "log.h"
#include "exit_status.h"
#include "server_state.h"

/* Descriptors are what runs out first. A request that is handed on, or that a file answers, takes a
 * second one for as long as it lasts; so where there are such routes, only half of the descriptors
 * are promised to connections. One that lingers has two as well, for a moment: what cannot get it
 * closes without lingering. */

#define FILES_RESERVED 32 /* for what is neither a connection nor a loop's */
#define FILES_A_LOOP 8    /* epoll, eventfd, timer, queue, and its listeners beside them */
#define FILES_TO_START 12 /* of the admin listener, and what is opened in passing */
#define FILES_A_LOOP_TO_START 6

static uint64_t open_files_limit(bool may_raise)
{
    struct rlimit files = {.rlim_cur = 1024, .rlim_max = 1024};

    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && may_raise && files.rlim_cur < files.rlim_max) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files); /* else it stays as it was: the next line says */
        (void)getrlimit(RLIMIT_NOFILE, &files);
    }
    return files.rlim_cur;
}

uint64_t limit_connections(const struct server *server)
{
    typedef unsigned long long ull;
    const struct server_config *config = &server->config;
    uint64_t files = open_files_limit(!config->is_embedded), wanted = config->max_connections;
    uint64_t reserved = FILES_RESERVED + config->threads * (FILES_A_LOOP + server->listeners.count);
    uint64_t fit = files > 2 * reserved ? files - reserved : files / 2;
    uint64_t usual = server->takes_second_files ? fit / 2 : fit;

    if (usual == 0)
        usual = 1;
    if (wanted == 0)
        return usual;
    if (wanted > fit)
        log_line(LOG_LEVEL_WARN, "limit-files", NULL,
                 "max-connections %llu is more than the limit on open files allows; using %llu "
                 "(raise it with ulimit -n)",
                 (ull)wanted, (ull)fit);
    else if (wanted > usual)
        log_line(LOG_LEVEL_WARN, "limit-files", NULL,
                 "max-connections %llu: a request for a proxy, FastCGI or a file takes a second "
                 "descriptor, and the limit on open files is enough for %llu of them (raise it "
                 "with ulimit -n)",
                 (ull)wanted, (ull)usual);
    return wanted < fit ? wanted : fit;
}

int limit_check_files(const struct server *server)
{
    size_t want =
        FILES_TO_START + server->config.threads * (FILES_A_LOOP_TO_START + server->listeners.count);
    int *fds = malloc(want * sizeof(*fds)), err = fds == NULL ? ENOMEM : 0;
    size_t got = 0;

    /* To count what is open would not tell what a parent has left open above the limit. */
    while (err == 0 && got < want) {
        fds[got] = fcntl(server->listeners.count > 0 ? server->listeners.items[0].fd : 0,
                         F_DUPFD_CLOEXEC, 0);
        if (fds[got] < 0)
            err = errno;
        else
            got++;
    }
    for (size_t i = 0; i < got; i++)
        (void)close(fds[i]);
    free(fds);
    if (err == 0)
        return 0;
    if (err == EMFILE)
        log_line(LOG_LEVEL_ERROR, "start-failed", NULL,
                 "cannot start: the limit on open files is %llu, which leaves %zu, and the start "
                 "takes %zu (raise it with ulimit -n)",
                 (unsigned long long)open_files_limit(false), got, want);
    else
        log_line(LOG_LEVEL_ERROR, "start-failed", NULL, "cannot start: %s", strerrordesc_np(err));
    return EXIT_STATUS_UNAVAILABLE;
}

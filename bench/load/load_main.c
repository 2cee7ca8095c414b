#include "loadgen_command.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#include "clock.h"

/* lastcall-load: one load on a server on this machine, and the outcome of each request.
 *
 * Exit status: 0 every request was answered or refused; 1 at least one was lost or has no answer;
 * 64 wrong usage; 69 no connect succeeded; 71 this machine cannot run the load. */

/* --- the server under test --- */

static void send_signal(void *arg)
{
    const struct load_command *cmd = arg;

    if (kill(cmd->load.server_pid, cmd->signal) != 0)
        fprintf(stderr, "lastcall-load: cannot signal process %d: %s\n", (int)cmd->load.server_pid,
                strerror(errno));
}

/* SIGTERM is blocked, and waits until it is asked for. */
static bool has_term(void *arg)
{
    static const struct timespec now;
    sigset_t term;

    (void)arg;
    (void)sigemptyset(&term);
    (void)sigaddset(&term, SIGTERM);
    return sigtimedwait(&term, NULL, &now) == SIGTERM;
}

static void end_with_signal(struct load_options *load)
{
    sigset_t term;

    (void)sigemptyset(&term);
    (void)sigaddset(&term, SIGTERM);
    (void)sigprocmask(SIG_BLOCK, &term, NULL);
    load->is_enough = has_term;
}

static int usage_or_system(const struct load_command *cmd, int error)
{
    if (error == -EINVAL) {
        fprintf(stderr,
                "lastcall-load: bad ADDRESS `%s`: want 127.0.0.1:PORT, [::1]:PORT or unix:/PATH\n",
                cmd->load.address);
        return EXIT_USAGE;
    }
    fprintf(stderr, "lastcall-load: %u connections: %s\n", cmd->load.connections,
            error == -EMFILE ? "the limit on open files is too low (ulimit -n)" : strerror(-error));
    return EXIT_OSERR;
}

/* Write the timeline or the latencies. */
static bool write_file(const struct load_command *cmd, const struct load_result *result,
                       const char *option, const char *path)
{
    FILE *file = fopen(path, "we");
    int r = file == NULL                 ? -errno
            : path == cmd->timeline_path ? load_timeline_write(cmd->load.timeline, result, file)
                                         : load_latencies_write(cmd->load.latencies, result, file);

    if (file != NULL && fclose(file) != 0 && r == 0)
        r = -errno;
    if (r != 0)
        fprintf(stderr, "lastcall-load: %s %s: %s\n", option, path, strerror(-r));
    return r == 0;
}

static int run(struct load_command *cmd)
{
    struct load_result result;
    uint64_t start_ns = clock_now_ns();

    int r = load_run(&cmd->load, &result);
    if (r != 0)
        return usage_or_system(cmd, r);
    load_report_print(&result, clock_now_ns() - start_ns, cmd->json, stdout);
    if (cmd->timeline_path != NULL && !write_file(cmd, &result, "--timeline", cmd->timeline_path))
        return EXIT_OSERR;
    if (cmd->latencies_path != NULL &&
        !write_file(cmd, &result, "--latencies", cmd->latencies_path))
        return EXIT_OSERR;
    if (result.connects == 0)
        return EXIT_UNAVAILABLE;
    return result.lost > 0 || result.waiting > 0 ? EXIT_LOST : 0;
}

int main(int argc, char **argv)
{
    static struct load_timeline timeline;
    static struct load_latencies latencies;
    struct load_command cmd;

    int status = load_command_parse(argc, argv, &cmd);
    if (status >= 0)
        return status;
    if (cmd.load.server_pid != 0) {
        cmd.load.on_signal = send_signal;
        cmd.load.on_signal_arg = &cmd;
    }
    if (cmd.until_signal)
        end_with_signal(&cmd.load);
    if (cmd.timeline_path != NULL)
        cmd.load.timeline = &timeline;
    if (cmd.latencies_path != NULL)
        cmd.load.latencies = &latencies;
    return run(&cmd);
}

/* A script from its start to its end: one poll(2) for its input, output, standard error and exit,
 * and for the end of the request. None of the four pipes' sides ever waits for another: the script
 * may print before it has read its input, or never read it.
 *
 *     runs --stop()--> is_stopping (SIGTERM sent) --grace is over--> is_killed (SIGKILL sent)
 *
 * A script is over when it has ended and nobody holds its standard output: a child that it leaves
 * behind with other output may go on. One that was stopped is over when its standard error is
 * closed as well, or with SIGKILL. Until then it is not reaped, so the number of its group stays
 * its own (claim.h, group note), and what is left of the group gets SIGKILL. */

#include "cgi_p.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "child.h"
#include "clock.h"
#include "file.h"

/* How often to ask whether the request is cancelled, where no descriptor says it. */
#define CANCEL_TICK_NS (100 * NS_PER_MS)
/* A process that stood still has to see it, see clock_stood_ns(). */
#define LOOK_MOST_NS NS_PER_S
/* A process that SIGKILL does not end in that time waits for a device, and is left to the kernel.
 */
#define DEATH_PATIENCE_NS (5 * NS_PER_S)

/* ---- stopping ---- */

static void stop(struct cgi_run *run, enum cgi_why why)
{
    if (run->why == CGI_FINE)
        run->why = why;
    if (run->is_stopping)
        return;
    run->is_stopping = true;
    run->kill_at_ns = clock_now_ns() + run->cgi->settings.grace_ns;
    file_close(&run->in_fd);
    (void)claim_signal(&run->claim, SIGTERM, "a script");
}

static void kill_group(struct cgi_run *run)
{
    char grace[CLOCK_TEXT_SIZE];

    run->is_killed = true;
    run->kill_at_ns = clock_now_ns() + DEATH_PATIENCE_NS;
    log_limited(&run->cgi->failures, LOG_LEVEL_WARN, "cgi-killed",
                "%.300s (process %ld) still runs %s after SIGTERM: SIGKILL to its process group",
                run->script->name, (long)run->pid,
                clock_format_duration(run->cgi->settings.grace_ns, grace));
    (void)claim_signal(&run->claim, SIGKILL, "a script");
}

static void look_at_request(struct cgi_run *run, bool is_told)
{
    if ((is_told || run->cancel_fd < 0) && run->exchange->ops->cancelled(run->exchange) != 0)
        stop(run, CGI_CANCELLED);
}

/* ---- input and output ---- */

/* EPIPE: it does not want the rest, which is its right (RFC 3875, section 4.2). */
static void feed(struct cgi_run *run)
{
    const struct exchange *exchange = run->exchange;
    ssize_t n =
        write(run->in_fd, exchange->body + run->body_at, exchange->body_bytes - run->body_at);

    if (n > 0)
        run->body_at += (size_t)n;
    bool failed = n < 0 && errno != EAGAIN && errno != EINTR;
    if (failed || run->body_at == exchange->body_bytes)
        file_close(&run->in_fd);
}

/* What it prints after its answer has failed is not wanted, but must not block it. */
static bool drop_output(const struct cgi_run *run)
{
    char waste[4096];
    ssize_t n = read(run->out_fd, waste, sizeof(waste));

    return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

static void take_output(struct cgi_run *run)
{
    bool more = run->is_stopping ? drop_output(run) : cgi_output_read(run);

    if (!more)
        file_close(&run->out_fd);
    if (run->why != CGI_FINE)
        stop(run, run->why);
}

/* ---- time ---- */

static bool is_held(const struct cgi_run *run)
{
    return run->head.bytes > 0 && !run->is_streamed && !run->has_no_body && !run->is_stopping;
}

static uint64_t next_look_ns(const struct cgi_run *run, uint64_t now_ns)
{
    if (run->is_stopping)
        return run->kill_at_ns;
    uint64_t next_ns = run->late_at_ns;
    if (is_held(run) && run->held_until_ns < next_ns)
        next_ns = run->held_until_ns;
    if (run->cancel_fd < 0 && now_ns + CANCEL_TICK_NS < next_ns)
        next_ns = now_ns + CANCEL_TICK_NS;
    if (now_ns + LOOK_MOST_NS < next_ns)
        next_ns = now_ns + LOOK_MOST_NS;
    return next_ns;
}

/* False: it is given up. */
static bool look_at_clock(struct cgi_run *run)
{
    uint64_t now_ns = clock_now_ns();

    if (run->is_stopping) {
        if (now_ns < run->kill_at_ns)
            return true;
        if (run->is_killed)
            return false;
        kill_group(run);
    } else if (now_ns >= run->late_at_ns) {
        stop(run, CGI_LATE);
    } else if (is_held(run) && now_ns >= run->held_until_ns) {
        cgi_output_stream(run);
        if (run->why != CGI_FINE)
            stop(run, run->why);
    }
    return true;
}

/* ---- the loop ---- */

static bool is_over(const struct cgi_run *run)
{
    if (!run->has_ended)
        return false;
    return run->is_killed || (run->out_fd < 0 && (!run->is_stopping || run->error_fd < 0));
}

/* poll(2) skips a negative descriptor. What has ended, or is known, is not looked at again. */
static void look(struct cgi_run *run)
{
    struct pollfd fds[] = {
        {.fd = run->is_stopping ? -1 : run->cancel_fd, .events = POLLIN},
        {.fd = run->in_fd, .events = POLLOUT},
        {.fd = run->out_fd, .events = POLLIN},
        {.fd = run->error_fd, .events = POLLIN},
        {.fd = run->has_ended ? -1 : run->pid_fd, .events = POLLIN},
    };
    uint64_t now_ns = clock_now_ns(), until_ns = next_look_ns(run, now_ns);

    int n = poll(fds, sizeof(fds) / sizeof(fds[0]), clock_poll_ms(now_ns, until_ns));
    if (run->late_at_ns != CLOCK_NEVER) /* the script could reach nobody meanwhile */
        run->late_at_ns += clock_stood_ns(until_ns, clock_now_ns());
    if (n < 0)
        return; /* EINTR */
    if (!run->is_stopping)
        look_at_request(run, fds[0].revents != 0);
    if (run->in_fd >= 0 && fds[1].revents != 0)
        feed(run);
    if (fds[3].revents != 0 && !cgi_words_read(run))
        file_close(&run->error_fd);
    if (fds[2].revents != 0)
        take_output(run);
    run->has_ended |= fds[4].revents != 0;
}

/* Reaped last: until then its group is its own. */
static void end(struct cgi_run *run)
{
    if (run->is_stopping && !run->is_killed)
        (void)claim_signal(&run->claim, SIGKILL, "a script");
    if (run->error_fd >= 0)
        cgi_words_read_rest(run); /* a child that goes on may hold it: no wait for its end */
    cgi_words_end(run);
    if (run->has_ended) {
        claim_reap(&run->claim, &run->status);
    } else {
        log_line(LOG_LEVEL_ERROR, "cgi-immortal", NULL,
                 "%.300s (process %ld) does not end, even after SIGKILL: it is left to the kernel",
                 run->script->name, (long)run->pid);
        claim_give_up(&run->claim);
    }
    file_close(&run->in_fd);
    file_close(&run->out_fd);
    file_close(&run->error_fd);
    file_close(&run->pid_fd);
}

void cgi_run(struct cgi_run *run)
{
    uint64_t timeout_ns = run->cgi->settings.timeout_ns;

    run->status = CHILD_LOST;
    run->cancel_fd = run->exchange->ops->cancel_fd(run->exchange);
    run->late_at_ns = timeout_ns > 0 ? clock_now_ns() + timeout_ns : CLOCK_NEVER;
    while (!is_over(run) && look_at_clock(run))
        look(run);
    end(run);
}

/* ---- the log ---- */

void cgi_say_failure(const struct cgi_run *run)
{
    static const char *const texts[] = {
        [CGI_LATE] = "ran longer than its timeout",
        [CGI_SLOW] = "was stopped: the client took nothing for longer than write-timeout",
        [CGI_LONG] = "printed more than max-output",
        [CGI_BAD] = "printed no valid answer",
        [CGI_DIED] = "failed",
        [CGI_BUSY] = "could not be started",
    };

    log_limited(&run->cgi->failures, LOG_LEVEL_WARN, "cgi-failed", "%.300s (process %ld) %s%s%s%s",
                run->script->name, (long)run->pid, texts[run->why],
                run->reason[0] != '\0' ? ": " : "", run->reason,
                run->is_streamed ? "; the answer had begun, and is cut off visibly" : "");
}

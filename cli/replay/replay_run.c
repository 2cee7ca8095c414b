#include "replay_run.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "clock.h"
#include "replay_exit.h"
#include "replay_show.h"

/* A request comes from the source, or from the list of those that wait for another try. libcurl
 * sends it, its answer decides its outcome, and the outcome counts once it is on the disk or in
 * Redis.
 *
 * A failed connect to the target is not an attempt: sending pauses, longer each time, and after
 * --max-attempts pauses in a row the run ends. */

#define CATCH_UP_NS (100 * NS_PER_MS)   /* with --max-rate: how much delay the run makes up for */
#define LONGEST_WAIT_NS (10 * NS_PER_S) /* one poll */
#define WAITING_MOST 256                /* requests in memory that wait for another try */

struct run {
    const struct replay_plan *plan;
    struct replay_source *source;
    struct replay_show show;
    struct replay_counts counts;
    CURLM *multi;
    int signal_fd;
    struct replay_item *waiting; /* list, sorted by due_ns */
    bool source_ended;
    bool stopping; /* finish what is under way, begin nothing */
    bool interrupted;
    int failed_status;     /* not 0: the exit status, and the reason to stop */
    uint64_t next_send_ns; /* --max-rate */
    uint64_t paused_until_ns;
    unsigned pauses; /* in a row, after failed connects */
    char away[256];  /* the last connect's error */
    size_t sent;
};

/* ---- waiting for another try ---- */

static void wait_for_another_try(struct run *run, struct replay_item *item)
{
    struct replay_item **at = &run->waiting;

    while (*at != NULL && (*at)->due_ns <= item->due_ns)
        at = &(*at)->next;
    item->next = *at;
    *at = item;
    run->counts.waiting++;
}

static struct replay_item *take_waiting(struct run *run, uint64_t now_ns)
{
    struct replay_item *item = run->waiting;

    if (item == NULL || item->due_ns > now_ns)
        return NULL;
    run->waiting = item->next;
    item->next = NULL;
    run->counts.waiting--;
    return item;
}

static double chance(void)
{
    return (double)(random() & 0xffff) / 65536.0;
}

static void stop(struct run *run, int status)
{
    if (run->failed_status == 0)
        run->failed_status = status;
    run->stopping = true;
}

static void stop_for_source(struct run *run, int status)
{
    if (run->failed_status == 0)
        replay_show_line(&run->show, "lastcall replay: %s", run->source->error);
    stop(run, status);
}

static void give_back(struct run *run, struct replay_item *item)
{
    run->counts.given_up++;
    run->source->ops->give_back(run->source, item);
    replay_item_free(item);
}

/* ---- outcomes ---- */

static void decide(struct run *run, struct replay_item *item, enum disposition_outcome outcome,
                   int status, uint64_t wait_ns)
{
    struct disposition disposition = {
        .outcome = outcome,
        .status = status,
        .attempt = item->attempt,
        .at_ms = clock_wall_ms(),
        .answer = item->answer[0] != '\0' && outcome != DISPOSITION_SETTLED ? item->answer : NULL};

    memcpy(disposition.id, item->request.id, sizeof(disposition.id));
    if (outcome == DISPOSITION_FAILED)
        disposition.not_before_ms = disposition.at_ms + wait_ns / NS_PER_MS;
    int done = run->source->ops->decide(run->source, item, &disposition);
    if (done < 0) {
        stop_for_source(run, REPLAY_EXIT_CANTNOTE);
        give_back(run, item);
        return;
    }
    if (outcome == DISPOSITION_FAILED) {
        run->counts.failed++;
        if (item->tries >= run->plan->max_attempts || run->stopping) {
            give_back(run, item);
            return;
        }
        item->due_ns = clock_now_ns() + wait_ns;
        wait_for_another_try(run, item);
        return;
    }
    run->counts.taken_over += done == 0;
    run->counts.settled += done != 0 && outcome == DISPOSITION_SETTLED;
    run->counts.parked += done != 0 && outcome == DISPOSITION_PARKED;
    replay_item_free(item);
}

/* Did the connection fail, so that the target cannot have received the request? */
static bool was_never_sent(CURL *easy, CURLcode code)
{
    curl_off_t connected = 0;

    switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
        return true;
    case CURLE_OPERATION_TIMEDOUT:
        (void)curl_easy_getinfo(easy, CURLINFO_PRETRANSFER_TIME_T, &connected);
        return connected == 0;
    default:
        return false;
    }
}

static void pause_sending(struct run *run, struct replay_item *item, CURLcode code)
{
    uint64_t now_ns = clock_now_ns();

    if (now_ns >= run->paused_until_ns) { /* connects that fail together make one pause */
        run->pauses++;
        (void)snprintf(run->away, sizeof(run->away), "%s", curl_easy_strerror(code));
        if (run->pauses >= run->plan->max_attempts) {
            stop(run, REPLAY_EXIT_AWAY);
        } else {
            uint64_t wait_ns = replay_backoff_ns(run->pauses, chance());
            char text[CLOCK_TEXT_SIZE];
            run->paused_until_ns = now_ns + wait_ns;
            replay_show_line(&run->show, "%s: %s; next try in %s", run->plan->to, run->away,
                             clock_format_duration(wait_ns, text));
        }
    }
    if (run->stopping) {
        give_back(run, item);
        return;
    }
    item->due_ns = run->paused_until_ns;
    wait_for_another_try(run, item);
}

static void finish(struct run *run, struct replay_item *item, CURLcode code)
{
    long status = 0;
    curl_off_t retry_after_s = 0;

    if (was_never_sent(item->easy, code)) {
        replay_item_end_attempt(item);
        pause_sending(run, item, code);
        return;
    }
    run->pauses = 0;
    item->tries++;
    if (code == CURLE_OK) {
        (void)curl_easy_getinfo(item->easy, CURLINFO_RESPONSE_CODE, &status);
        (void)curl_easy_getinfo(item->easy, CURLINFO_RETRY_AFTER, &retry_after_s);
    } else {
        (void)snprintf(item->answer, sizeof(item->answer), "%s", curl_easy_strerror(code));
    }
    replay_item_end_attempt(item);
    uint64_t wait_ns = replay_backoff_ns(item->tries, chance());
    if (retry_after_s > 0) {
        uint64_t asked_ns = (uint64_t)(retry_after_s < 60 ? retry_after_s : 60) * NS_PER_S;
        wait_ns = asked_ns > wait_ns ? asked_ns : wait_ns;
    }
    decide(run, item, replay_judge_answer((int)status), (int)status, wait_ns);
}

static void take_finished(struct run *run)
{
    CURLMsg *message;
    int left;

    while ((message = curl_multi_info_read(run->multi, &left)) != NULL) {
        void *item = NULL;
        CURLcode code = message->data.result;
        if (message->msg != CURLMSG_DONE)
            continue;
        (void)curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &item);
        (void)curl_multi_remove_handle(run->multi, message->easy_handle);
        run->counts.in_flight--;
        finish(run, item, code);
    }
    if (run->source->ops->flush(run->source) != 0)
        stop_for_source(run, REPLAY_EXIT_CANTNOTE);
}

/* ---- sending ---- */

static struct replay_item *next_item(struct run *run, uint64_t now_ns)
{
    struct replay_item *item = take_waiting(run, now_ns);

    while (item == NULL && !run->source_ended && run->counts.waiting < WAITING_MOST) {
        int found = run->source->ops->next(run->source, &item);
        if (found < 0)
            stop_for_source(run, REPLAY_EXIT_NOINPUT);
        run->source_ended = found <= 0;
        if (found > 0 &&
            item->due_ns > now_ns) { /* it failed in an earlier run; its wait is not over */
            wait_for_another_try(run, item);
            item = NULL;
        }
    }
    return item;
}

static void send_item(struct run *run, struct replay_item *item)
{
    int mine = run->source->ops->begin(run->source, item);

    if (mine == 0) { /* another replayer has taken it */
        run->counts.taken_over++;
        replay_item_free(item);
        return;
    }
    if (mine < 0)
        stop_for_source(run, REPLAY_EXIT_AWAY);
    if (mine < 0 || replay_send_prepare(&run->plan->target, item) != 0 ||
        curl_multi_add_handle(run->multi, item->easy) != CURLM_OK) {
        stop(run, REPLAY_EXIT_AWAY);
        give_back(run, item);
        return;
    }
    run->counts.in_flight++;
    run->sent++;
}

static bool may_send(const struct run *run, uint64_t now_ns)
{
    return !run->stopping && run->counts.in_flight < run->plan->concurrency &&
           now_ns >= run->paused_until_ns && now_ns >= run->next_send_ns;
}

static void send_more(struct run *run)
{
    for (uint64_t now_ns = clock_now_ns(); may_send(run, now_ns); now_ns = clock_now_ns()) {
        struct replay_item *item = next_item(run, now_ns);
        if (item == NULL)
            return;
        send_item(run, item);
        if (run->plan->max_rate > 0) {
            uint64_t from_ns = now_ns - CATCH_UP_NS;
            if (run->next_send_ns > from_ns)
                from_ns = run->next_send_ns;
            run->next_send_ns = from_ns + NS_PER_S / run->plan->max_rate;
        }
    }
}

/* ---- waiting ---- */

static int patience_ms(const struct run *run)
{
    uint64_t now_ns = clock_now_ns(), until_ns = replay_show_next_ns(&run->show);
    uint64_t due_ns = run->waiting != NULL ? run->waiting->due_ns : CLOCK_NEVER;

    if (!run->source_ended && run->counts.waiting < WAITING_MOST)
        due_ns = now_ns;
    if (due_ns < run->paused_until_ns)
        due_ns = run->paused_until_ns;
    if (due_ns < run->next_send_ns)
        due_ns = run->next_send_ns;
    if (!run->stopping && run->counts.in_flight < run->plan->concurrency && due_ns < until_ns)
        until_ns = due_ns;
    if (until_ns <= now_ns)
        return 1;
    if (until_ns > now_ns + LONGEST_WAIT_NS)
        until_ns = now_ns + LONGEST_WAIT_NS;
    return clock_poll_ms(now_ns, until_ns);
}

static void take_signals(struct run *run)
{
    struct signalfd_siginfo info;

    while (read(run->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        if (run->interrupted) { /* the second signal: requests under way may or may not have arrived
                                 */
            replay_show_end(&run->show);
            _exit(REPLAY_EXIT_INTERRUPTED);
        }
        run->interrupted = run->stopping = true;
        replay_show_line(&run->show,
                         "stopping: finishing %zu under way (a second signal exits at once)",
                         run->counts.in_flight);
    }
}

static bool is_over(const struct run *run)
{
    if (run->counts.in_flight > 0)
        return false;
    return run->stopping || (run->source_ended && run->waiting == NULL);
}

static void go(struct run *run)
{
    int running;

    for (;;) {
        struct curl_waitfd signals = {.fd = run->signal_fd, .events = CURL_WAIT_POLLIN};
        take_signals(run);
        send_more(run);
        (void)curl_multi_perform(run->multi, &running);
        take_finished(run);
        if (is_over(run))
            return;
        replay_show_progress(&run->show, &run->counts, clock_now_ns());
        (void)curl_multi_poll(run->multi, &signals, 1, patience_ms(run), NULL);
    }
}

/* ---- the end ---- */

static void print_skipped(const struct replay_source *source)
{
    for (int i = REPLAY_SEND + 1; i < REPLAY_VERDICT_COUNT; i++)
        if (source->skipped[i] > 0)
            (void)printf("skipped: %zu %s\n", source->skipped[i],
                         replay_verdict_text((enum replay_verdict)i));
    if (source->garbage > 0)
        (void)printf("skipped: %zu not requests, listed above\n", source->garbage);
}

static int summarize(struct run *run, size_t total)
{
    struct replay_counts *counts = &run->counts;
    size_t parked = counts->parked + run->source->parked;
    size_t decided = counts->settled + parked + counts->taken_over;
    size_t left = total > decided ? total - decided : counts->given_up;
    size_t elsewhere = run->source->ops->elsewhere(run->source);

    (void)printf("%zu of %zu settled, %zu parked, %zu left; %zu attempt%s, %zu failed\n",
                 counts->settled, total, parked, left, run->sent, run->sent == 1 ? "" : "s",
                 counts->failed);
    if (counts->taken_over > 0)
        (void)printf("%zu finished by another replayer\n", counts->taken_over);
    if (elsewhere > 0)
        (void)printf("%zu %s%s held by another replayer, or by one that died recently; run this "
                     "command again later\n",
                     elsewhere, run->source->unit, elsewhere == 1 ? "" : "s");
    print_skipped(run->source);
    if (run->failed_status == REPLAY_EXIT_AWAY && run->away[0] != '\0')
        (void)printf("%s: %s\n", run->plan->to, run->away);
    if (left > 0)
        (void)printf("to continue, run the same command again\n");
    if (run->interrupted && left > 0)
        return REPLAY_EXIT_INTERRUPTED;
    if (run->failed_status != 0)
        return run->failed_status;
    if (left > 0 || parked > 0)
        return REPLAY_EXIT_LEFT;
    return elsewhere > 0 ? REPLAY_EXIT_BUSY : REPLAY_EXIT_DONE;
}

static int show_plan(struct run *run)
{
    struct replay_item *item;
    size_t count = 0;
    int found;

    while ((found = run->source->ops->next(run->source, &item)) > 0) {
        const struct unfinished *r = &item->request;
        const char *why = replay_cannot_send(r);
        (void)printf("%s %s ", why == NULL ? "send" : "park", r->id);
        replay_show_request(r);
        (void)printf("%s%s\n", why != NULL ? ": " : "", why != NULL ? why : "");
        count += why == NULL;
        replay_item_free(item);
    }
    if (found < 0) {
        (void)fprintf(stderr, "lastcall replay: %s\n", run->source->error);
        return REPLAY_EXIT_NOINPUT;
    }
    (void)printf("%zu would be sent to %s\n", count, run->plan->to);
    print_skipped(run->source);
    return REPLAY_EXIT_DONE;
}

/* SIGINT and SIGTERM arrive on a signalfd. SIGPIPE is ignored: a target may close at any time. */
static int open_signals(void)
{
    sigset_t set;

    (void)signal(SIGPIPE, SIG_IGN);
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGTERM);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    return signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
}

static void send_all(struct run *run, size_t total)
{
    struct replay_item *item;

    (void)curl_global_init(CURL_GLOBAL_DEFAULT);
    srandom((unsigned)clock_now_ns());
    run->multi = curl_multi_init();
    (void)curl_multi_setopt(run->multi, CURLMOPT_MAX_HOST_CONNECTIONS,
                            (long)run->plan->concurrency);
    (void)curl_multi_setopt(run->multi, CURLMOPT_MAXCONNECTS, (long)run->plan->concurrency);
    replay_show_begin(&run->show, total, run->plan->quiet);
    run->next_send_ns = run->show.began_ns;
    go(run);
    while ((item = take_waiting(run, CLOCK_NEVER)) != NULL)
        give_back(run, item);
    replay_show_end(&run->show);
    (void)curl_multi_cleanup(run->multi);
    curl_global_cleanup();
}

int replay_run(const struct replay_plan *plan, struct replay_source *source)
{
    struct run run = {.plan = plan, .source = source, .signal_fd = -1};
    size_t total = 0;

    if (source->ops->survey(source, &total) < 0) {
        (void)fprintf(stderr, "lastcall replay: %s\n", source->error);
        return REPLAY_EXIT_NOINPUT;
    }
    if (plan->dry_run)
        return show_plan(&run);
    run.signal_fd = open_signals();
    if (run.signal_fd < 0) {
        (void)fprintf(stderr, "lastcall replay: signals: %s\n", strerrordesc_np(errno));
        return REPLAY_EXIT_AWAY;
    }
    send_all(&run, total);
    (void)close(run.signal_fd);
    return summarize(&run, total);
}

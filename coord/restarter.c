#include "restarter.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "log.h"
#include "notify.h"

struct restarter {
    /* immutable after restarter_start */
    struct restarter_config config;
    pthread_t thread;
    int wake_fd; /* eventfd */
    uint64_t generation;
    bool is_successor;
    /* the thread's own */
    struct succession succession;
    int upstream_fd; /* -1: nobody, or not any more */
    bool is_followed;
    bool is_committed;
    bool is_free;     /* nobody but us closes our listeners, so they may be handed on */
    bool told_drains; /* the master, last */
    /* mu */
    pthread_mutex_t mu;
    bool asked;
    char trigger[24];
    char detail[96];
    bool must_stop;
    enum coord_phase phase; /* the coordinator's last step */
    bool stepped;
    bool is_needed; /* see restarter_leave() */
    bool leaves;
    bool hurries;     /* a signal has come behind the drain */
    bool gives_up;    /* no longer waits for what the successor says */
    pid_t heir;       /* the successor, stopping with us; 0: none */
    bool heir_serves; /* that was called off */
    bool passed_on;   /* the second signal, to the heir */
    int left_status;  /* of one that has ended */
    pthread_cond_t told;
};

static void wake(struct restarter *restarter)
{
    uint64_t one = 1;
    (void)!write(restarter->wake_fd, &one, sizeof(one));
}

void restarter_request(struct restarter *restarter, const char *trigger, const char *detail)
{
    (void)pthread_mutex_lock(&restarter->mu);
    restarter->asked = true; /* two at once are one */
    (void)snprintf(restarter->trigger, sizeof(restarter->trigger), "%s", trigger);
    (void)snprintf(restarter->detail, sizeof(restarter->detail), "%s", detail);
    (void)pthread_mutex_unlock(&restarter->mu);
    wake(restarter);
}

uint64_t restarter_generation(const struct restarter *restarter)
{
    return restarter->generation;
}

static void on_step(void *arg, enum coord_phase phase)
{
    struct restarter *restarter = arg;

    (void)pthread_mutex_lock(&restarter->mu);
    bool news = restarter->phase < PHASE_CLOSING;
    restarter->phase = phase;
    restarter->stepped |= news;
    (void)pthread_mutex_unlock(&restarter->mu);
    if (news) /* not at the very end, when nobody should be in the way */
        wake(restarter);
}

/* ---- as the one who is followed ---- */

static bool offer(void *arg, size_t i, struct handover_message *ret_message)
{
    struct restarter *restarter = arg;
    return restarter->config.ops->offer(restarter->config.arg, i, ret_message);
}

/* A stop that no signal has asked for counts as one. */
static unsigned count_signals(void *arg)
{
    const struct restarter *restarter = arg;
    struct coord_status status;

    coord_get_status(restarter->config.coord, &status);
    return status.forced ? 2 : 1;
}

/* The successor stops with us: its end is waited for. */
static void set_heir(struct restarter *restarter, pid_t heir)
{
    (void)pthread_mutex_lock(&restarter->mu);
    restarter->heir = heir;
    restarter->is_needed |= heir > 0; /* until look_whether_needed() says no */
    (void)pthread_mutex_unlock(&restarter->mu);
}

static void bequeath(void *arg, struct succession *succession)
{
    struct restarter *restarter = arg;
    uint64_t taken[HANDOVER_IDS_MAX];
    size_t count = handover_get_ids(&succession->ready, HANDOVER_TAKEN, taken, HANDOVER_IDS_MAX);

    restarter->config.ops->bequeath(restarter->config.arg, taken, count);
    set_heir(restarter, succession->pid);
}

static void left(void *arg)
{
    struct restarter *restarter = arg;

    (void)pthread_mutex_lock(&restarter->mu);
    restarter->heir = 0;
    restarter->left_status = succession_left_status(&restarter->succession);
    (void)pthread_mutex_unlock(&restarter->mu);
}

/* Its drain was called off: it is the service, and we are not needed. */
static void on_message(void *arg, struct handover_message *message)
{
    struct restarter *restarter = arg;

    if (message->type != HANDOVER_DRAINS || handover_get_number(message, HANDOVER_IS_ON, 1) != 0)
        return;
    (void)pthread_mutex_lock(&restarter->mu);
    restarter->heir_serves = restarter->heir > 0;
    (void)pthread_mutex_unlock(&restarter->mu);
}

static void add_pid_file(void *arg, struct handover_message *message)
{
    const struct restarter *restarter = arg;

    if (restarter->config.pid_file == NULL || restarter->config.pid_file_fd < 0)
        return;
    handover_put_text(message, HANDOVER_PID_FILE, restarter->config.pid_file);
    handover_put_fd(message, restarter->config.pid_file_fd);
}

/* What a worker is told of itself is meant for the service; and a predecessor that stops with us
 * hears so that we do not. */
static void tell_upstream(struct restarter *restarter, bool drains)
{
    struct handover_message message;

    if (restarter->upstream_fd < 0)
        return;
    handover_begin(&message, HANDOVER_DRAINS);
    handover_put_number(&message, HANDOVER_IS_ON, drains);
    (void)handover_send(restarter->upstream_fd, &message);
}

/* A stop has come first, by a hair: it was meant for the service, and that is the successor now. */
static void pass_stop_on(struct restarter *restarter, pid_t successor, bool is_final)
{
    log_line(LOG_LEVEL_WARN, "restart-stopped", NULL,
             "told to stop in the instant of the hand-over: process %ld is told, too",
             (long)successor);
    succession_send_stop(restarter->succession.channel, successor, count_signals(restarter),
                         is_final); /* the sockets that it accepts on are being closed */
}

static void tell_left(const struct restarter *restarter)
{
    struct handover_message message;

    handover_begin(&message, HANDOVER_LEFT);
    (void)handover_send(restarter->succession.channel, &message);
}

static void follow(struct restarter *restarter, const struct handover_message *message,
                   int conns_fd, pid_t successor)
{
    uint64_t taken[HANDOVER_IDS_MAX], welcome[HANDOVER_IDS_MAX];
    size_t taken_count = handover_get_ids(message, HANDOVER_TAKEN, taken, HANDOVER_IDS_MAX);
    size_t welcome_count = handover_get_ids(message, HANDOVER_WELCOME, welcome, HANDOVER_IDS_MAX);
    char detail[64];

    restarter->config.ops->followed(restarter->config.arg, taken, taken_count, welcome,
                                    welcome_count, conns_fd);
    restarter->is_followed = true;
    if (successor > 0)
        (void)snprintf(detail, sizeof(detail), "process %ld has taken over", (long)successor);
    else
        (void)snprintf(detail, sizeof(detail), "another worker has taken over");
    enum coord_handover how = coord_request_handover(restarter->config.coord, detail, successor);
    if (successor == 0) {
        if (how != COORD_HANDOVER_BEGUN) /* of its listeners, if they close, it has heard */
            tell_upstream(restarter, true);
        return;
    }
    if (how != COORD_HANDOVER_BEGUN)
        pass_stop_on(restarter, successor, how == COORD_HANDOVER_TOO_LATE);
    if (how == COORD_HANDOVER_JOINED)
        set_heir(restarter, successor);
    if (how != COORD_HANDOVER_TOO_LATE) /* behind that: it may hand on what it has from here on */
        tell_left(restarter);
    else
        bequeath(restarter, &restarter->succession);
}

static void retire(void *arg, struct succession *succession)
{
    follow(arg, &succession->ready, succession_take_conns(succession), succession->pid);
}

/* What does not go costs its clients a handshake, no more. */
static void send_keys(const struct restarter *restarter, int fd)
{
    const struct restarter_ops *ops = restarter->config.ops;
    struct handover_message message;

    if (ops->offer_key == NULL)
        return;
    for (size_t i = 0; ops->offer_key(restarter->config.arg, i, &message); i++)
        if (handover_send(fd, &message) != 0)
            break;
    explicit_bzero(&message, sizeof(message));
}

/* Before it is told: then it has them when the first client comes. */
static void on_committing(void *arg, struct handover_message *message)
{
    const struct restarter *restarter = arg;

    (void)message;
    send_keys(restarter, restarter->succession.channel);
}

static void began(void *arg)
{
    (void)arg;
    notify_send("RELOADING=1\nMONOTONIC_USEC=%llu\nSTATUS=restarting",
                (unsigned long long)(clock_now_ns() / NS_PER_US));
}

static void failed(void *arg)
{
    (void)arg;
    notify_send("READY=1\nSTATUS=serving; the last restart failed, see the log");
}

static void reclaim(void *arg)
{
    struct restarter *restarter = arg;
    if (restarter->config.ops->reclaim != NULL)
        restarter->config.ops->reclaim(restarter->config.arg);
}

/* The coordinator's step comes before the end of this process, and this before the successor is
 * told to accept: either a stop is seen here, or restarter_leave() sees that this thread is needed.
 */
static bool may_commit(void *arg)
{
    struct restarter *restarter = arg;

    (void)pthread_mutex_lock(&restarter->mu);
    bool may = restarter->phase == PHASE_RUNNING && !restarter->leaves;
    restarter->is_needed |= may;
    (void)pthread_mutex_unlock(&restarter->mu);
    return may;
}

static const struct succession_hooks hooks = {
    .offer = offer,
    .begin = add_pid_file,
    .may_commit = may_commit,
    .commit = on_committing,
    .count_signals = count_signals,
    .bequeath = bequeath,
    .left = left,
    .message = on_message,
    .retire = retire,
    .began = began,
    .failed = failed,
    .reclaim = reclaim,
};

static void ask(struct restarter *restarter, const char *trigger, const char *detail)
{
    struct handover_message message;
    struct coord_status status;

    if (restarter->upstream_fd >= 0 && restarter->config.upstream->is_master) {
        handover_begin(&message, HANDOVER_AGAIN);
        handover_put_text(&message, HANDOVER_TEXT, trigger);
        handover_put_text(&message, HANDOVER_DETAIL, detail);
        if (handover_send(restarter->upstream_fd, &message) == 0)
            return;
        log_line(LOG_LEVEL_WARN, "restart-refused", NULL,
                 "%s: no restart: the master does not listen", trigger);
        return;
    }
    if (restarter->is_successor && !restarter->is_committed) {
        log_line(LOG_LEVEL_WARN, "restart-refused", NULL,
                 "%s: no restart: this process has not taken over itself yet", trigger);
        return;
    }
    coord_get_status(restarter->config.coord, &status);
    if (status.phase != PHASE_RUNNING || status.trigger_count > 0)
        succession_tell(&restarter->succession, RESTART_ON_STOP); /* on_step() is on its way */
    if (getpid() == 1) {
        log_line(LOG_LEVEL_ERROR, "restart-refused", NULL,
                 "%s: no restart: this is process 1, with whose end the container ends; start it "
                 "with -m master",
                 trigger);
        return;
    }
    if (restarter->config.ops->offer(restarter->config.arg, HANDOVER_IDS_MAX, &message)) {
        log_line(LOG_LEVEL_ERROR, "restart-refused", NULL,
                 "%s: no restart: there are more than %d listeners", trigger, HANDOVER_IDS_MAX);
        return;
    }
    succession_request(&restarter->succession, trigger, detail);
}

/* ---- as the one who follows ---- */

/* Words for a manager go through a master's channel, from any thread: its number must not become
 * that of a client's connection, so it stays taken for as long as this process lives. */
static void leave_upstream(struct restarter *restarter)
{
    if (restarter->upstream_fd >= 0 && restarter->config.upstream->is_master)
        (void)shutdown(restarter->upstream_fd, SHUT_RDWR);
    else if (restarter->upstream_fd >= 0)
        (void)close(restarter->upstream_fd);
    restarter->upstream_fd = -1;
}

static int say_ready(struct restarter *restarter)
{
    struct restarter_config *config = &restarter->config;
    struct handover_message message;
    int err = 0;

    if (config->ops->offer(config->arg, HANDOVER_IDS_MAX, &message))
        return -E2BIG;               /* listeners, for one message */
    if (config->upstream->is_master) /* it holds all of them */
        for (size_t i = 0; err == 0 && config->ops->offer(config->arg, i, &message); i++)
            if (!config->ops->is_inherited(config->arg, i))
                err = handover_send(restarter->upstream_fd, &message);
    if (err == 0 && config->ops->describe_app(config->arg, &message))
        err = handover_send(restarter->upstream_fd, &message);
    if (err == 0) {
        handover_begin(&message, HANDOVER_READY);
        config->ops->describe(config->arg, &message);
        err = handover_send(restarter->upstream_fd, &message);
    }
    return err;
}

/* A master has said whether requests for its application are to wait. */
static void hold(struct restarter *restarter, const struct handover_message *message)
{
    uint64_t wait = handover_get_number(message, HANDOVER_WAIT, UINT64_MAX);

    if (wait != UINT64_MAX)
        restarter->config.ops->hold(restarter->config.arg, wait != 0);
}

static void take_key(const struct restarter *restarter, struct handover_message *message)
{
    if (restarter->config.ops->take_key != NULL)
        restarter->config.ops->take_key(restarter->config.arg, message);
    explicit_bzero(message->bytes, message->size);
}

/* A master's application has ended by itself. */
static void drain_with_app(struct restarter *restarter, const struct handover_message *message)
{
    char detail[96];

    (void)coord_request_drain_ending(
        restarter->config.coord, "application",
        handover_get_text(message, HANDOVER_DETAIL, detail, sizeof(detail)),
        (int)handover_get_number(message, HANDOVER_STATUS, COORD_EXIT_UNAVAILABLE));
}

static void stop_with(struct restarter *restarter, const struct handover_message *message)
{
    char detail[48];

    (void)snprintf(detail, sizeof(detail), "process %ld stops",
                   (long)restarter->config.upstream->pid);
    coord_request_stop(restarter->config.coord,
                       restarter->config.upstream->is_master ? "master" : "restart", detail,
                       (unsigned)handover_get_number(message, HANDOVER_SIGNALS, 1),
                       handover_get_number(message, HANDOVER_IS_FINAL, 1) != 0);
}

static void set_needed(struct restarter *restarter, bool is_needed)
{
    (void)pthread_mutex_lock(&restarter->mu);
    restarter->is_needed = is_needed;
    (void)pthread_cond_broadcast(&restarter->told);
    (void)pthread_mutex_unlock(&restarter->mu);
}

static void on_commit(struct restarter *restarter, const struct handover_message *commit)
{
    struct handover_message message;

    if (restarter->is_committed)
        return;
    set_needed(restarter, true); /* what is written below must come before its removal */
    if (!coord_take_charge(restarter->config.coord)) {
        set_needed(restarter, false);
        log_line(LOG_LEVEL_WARN, "restart-stopped", NULL,
                 "told to stop before it was told to accept: accepts nothing, and ends");
        return; /* our end says it to the other side */
    }
    restarter->is_committed = true;
    hold(restarter, commit); /* before anything is accepted */
    restarter->config.ops->commit(restarter->config.arg);
    upstream_take_stderr(restarter->config.upstream);
    handover_begin(&message, HANDOVER_SETTLED);
    (void)handover_send(restarter->upstream_fd, &message);
    set_needed(restarter, false);
}

/* A restart that was asked for meanwhile can begin. */
static void be_free(struct restarter *restarter)
{
    restarter->is_free = true;
    wake(restarter);
}

static void on_upstream(struct restarter *restarter)
{
    struct handover_message message;
    int err;

    while (restarter->upstream_fd >= 0 &&
           (err = handover_receive(restarter->upstream_fd, &message)) != -EAGAIN) {
        if (err != 0) {
            char why[HANDOVER_WHY_SIZE];
            bool is_master = restarter->config.upstream->is_master;
            leave_upstream(restarter);
            /* Two workers may have the same listeners by now: of drains that are called off one by
             * one, one would close what the other goes on with. */
            if (is_master)
                (void)coord_request_drain_ending(restarter->config.coord, "master",
                                                 handover_why(err, &message, why),
                                                 COORD_EXIT_CLEAN);
            else if (!restarter->is_committed) /* else it is a predecessor that has ended */
                coord_request_drain(restarter->config.coord, "restart",
                                    handover_why(err, &message, why));
            be_free(restarter);
            return;
        }
        if (message.type == HANDOVER_COMMIT)
            on_commit(restarter, &message);
        else if (message.type == HANDOVER_HOLD)
            hold(restarter, &message);
        else if (message.type == HANDOVER_WANT_TICKET_KEYS)
            send_keys(restarter, restarter->upstream_fd);
        else if (message.type == HANDOVER_TICKET_KEY)
            take_key(restarter, &message);
        else if (message.type == HANDOVER_DRAIN)
            drain_with_app(restarter, &message);
        else if (message.type == HANDOVER_STOP)
            stop_with(restarter, &message);
        else if (message.type == HANDOVER_LEFT)
            be_free(restarter);
        else if (message.type == HANDOVER_RETIRE && !restarter->is_followed)
            follow(restarter, &message, handover_take_fd(&message, 0), 0);
        handover_release(&message);
    }
}

/* ---- the thread ---- */

static void take_step(struct restarter *restarter, enum coord_phase phase)
{
    bool drains = phase != PHASE_RUNNING;

    succession_tell(&restarter->succession, drains ? RESTART_ON_STOP : RESTART_ON_RESUME);
    if (phase >= PHASE_CLOSING)
        succession_tell(&restarter->succession, RESTART_ON_CLOSE);
    /* Else it is the end that follows a restart. That a drain was called off is told in any case:
     * it may have come and gone before this thread looked, and the master may be who had asked. */
    if (!restarter->is_followed && (!drains || !restarter->told_drains))
        tell_upstream(restarter, drains);
    restarter->told_drains = drains;
}

/* Returns false when it is to end. */
static bool take_wishes(struct restarter *restarter)
{
    char trigger[sizeof(restarter->trigger)], detail[sizeof(restarter->detail)];
    uint64_t count;

    (void)!read(restarter->wake_fd, &count, sizeof(count));
    (void)pthread_mutex_lock(&restarter->mu);
    bool asked = restarter->asked && (restarter->is_free || !restarter->is_committed);
    bool stepped = restarter->stepped, must_stop = restarter->must_stop;
    enum coord_phase phase = restarter->phase;
    restarter->asked &= !asked;
    restarter->stepped = false;
    memcpy(trigger, restarter->trigger, sizeof(trigger));
    memcpy(detail, restarter->detail, sizeof(detail));
    (void)pthread_mutex_unlock(&restarter->mu);
    if (stepped) /* also at the end: a successor that is to accept is told in any case */
        take_step(restarter, phase);
    if (must_stop)
        return false;
    if (asked)
        ask(restarter, trigger, detail);
    return true;
}

/* Behind everything that this turn was told: what is not known by now comes in another one. */
static void look_whether_needed(struct restarter *restarter)
{
    enum restart_state state = restarter->succession.restart.state;
    bool is_pending = state == RESTART_COMMITTING || state == RESTART_LEAVING;

    (void)pthread_mutex_lock(&restarter->mu);
    bool gives_up = restarter->gives_up;
    pid_t heir = restarter->hurries && !restarter->passed_on ? restarter->heir : 0;
    restarter->passed_on |= heir > 0;
    restarter->is_needed = is_pending || (restarter->heir > 0 && !restarter->heir_serves);
    if (!restarter->is_needed)
        (void)pthread_cond_broadcast(&restarter->told);
    (void)pthread_mutex_unlock(&restarter->mu);
    if (heir > 0)
        succession_send_stop(restarter->succession.channel, heir, 2, false);
    if (gives_up && is_pending)
        succession_tell(&restarter->succession, RESTART_ON_TIME);
}

static void *restart_thread(void *arg)
{
    struct restarter *restarter = arg;

    (void)pthread_setname_np(pthread_self(), "restart");
    for (;;) {
        struct pollfd fds[2 + SUCCESSION_FDS] = {
            {.fd = restarter->wake_fd, .events = POLLIN},
            {.fd = restarter->upstream_fd, .events = POLLIN},
        };
        uint64_t due_ns = succession_due_ns(&restarter->succession), now_ns = clock_now_ns();

        succession_poll(&restarter->succession, &fds[2]);
        int wait_ms = due_ns == CLOCK_NEVER ? -1
                      : due_ns <= now_ns    ? 0
                                            : (int)((due_ns - now_ns) / NS_PER_MS) + 1;
        (void)poll(fds, sizeof(fds) / sizeof(fds[0]), wait_ms);
        if (fds[0].revents != 0 && !take_wishes(restarter))
            return NULL;
        if (fds[1].revents != 0)
            on_upstream(restarter);
        succession_handle(&restarter->succession, &fds[2]);
        look_whether_needed(restarter);
    }
}

static void release(struct restarter *restarter)
{
    succession_release(&restarter->succession);
    leave_upstream(restarter);
    (void)close(restarter->wake_fd);
    (void)pthread_cond_destroy(&restarter->told);
    (void)pthread_mutex_destroy(&restarter->mu);
    free(restarter);
}

static int run(struct restarter *restarter)
{
    sigset_t all, before;

    int err = restarter->upstream_fd >= 0 ? say_ready(restarter) : 0;
    if (err != 0)
        return err;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_BLOCK, &all, &before);
    err = pthread_create(&restarter->thread, NULL, restart_thread, restarter);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return -err;
}

int restarter_start(const struct restarter_config *config, struct restarter **ret_restarter)
{
    struct restarter *restarter = calloc(1, sizeof(*restarter));

    if (restarter == NULL)
        return -ENOMEM;
    restarter->config = *config;
    restarter->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (restarter->wake_fd < 0) {
        free(restarter);
        return -errno;
    }
    (void)pthread_mutex_init(&restarter->mu, NULL);
    clock_cond_init(&restarter->told);
    restarter->generation = config->upstream->generation;
    restarter->upstream_fd = config->upstream->fd;
    restarter->is_successor = restarter->upstream_fd >= 0;
    restarter->is_free = !restarter->is_successor || config->upstream->is_master;
    config->upstream->fd = -1;
    succession_init(&restarter->succession,
                    &(struct succession_config){.timing = config->timing,
                                                .binary = config->binary,
                                                .argv = config->argv,
                                                .keep_fds = &restarter->config.keep_fd,
                                                .keep_count = config->keep_fd >= 0,
                                                .hooks = &hooks,
                                                .arg = restarter},
                    restarter->generation);
    if (restarter->is_successor) {
        coord_set_upstream(config->coord, config->upstream->pid);
        coord_stand_by(config->coord); /* until COMMIT */
    }
    coord_on_step(config->coord, on_step, restarter);
    int err = run(restarter);
    if (err != 0) {
        release(restarter);
        return err;
    }
    *ret_restarter = restarter;
    return 0;
}

/* Until it is not needed any more, or until then, or (if `hurriedly`) until a signal comes. */
static void wait_until_spare_locked(struct restarter *restarter, uint64_t wait_ns, bool hurriedly)
{
    const struct timespec until = clock_timespec(clock_now_ns() + wait_ns);
    int err = 0;

    while (restarter->is_needed && err == 0 && !(hurriedly && restarter->hurries))
        err = pthread_cond_timedwait(&restarter->told, &restarter->mu, &until);
}

static void wait_for_answer_locked(struct restarter *restarter, uint64_t deadline_at_ns)
{
    uint64_t now_ns = clock_now_ns(), wait_ns = SUCCESSION_HURRY_NS;

    if (deadline_at_ns != CLOCK_NEVER && deadline_at_ns > now_ns + wait_ns)
        wait_ns = deadline_at_ns - now_ns;
    wait_until_spare_locked(restarter, wait_ns, true);
    if (restarter->is_needed && restarter->hurries)
        wait_until_spare_locked(restarter, SUCCESSION_HURRY_NS, false);
    if (!restarter->is_needed || restarter->heir > 0)
        return;
    restarter->gives_up = true;
    wake(restarter);
    wait_until_spare_locked(restarter, SUCCESSION_HURRY_NS, false);
}

/* It has its own limits, and there is one here for the case that it does not keep them. */
static void wait_for_heir_locked(struct restarter *restarter)
{
    wait_until_spare_locked(restarter, restarter->config.stop_longest_ns, true);
    if (restarter->is_needed)
        wait_until_spare_locked(restarter, 2 * SUCCESSION_HURRY_NS, false);
}

int restarter_leave(struct restarter *restarter, int status)
{
    struct coord_status drain;

    if (restarter == NULL)
        return status;
    coord_get_status(restarter->config.coord, &drain);
    (void)pthread_mutex_lock(&restarter->mu);
    restarter->leaves = true;
    restarter->hurries |= drain.forced;
    if (restarter->is_needed && restarter->hurries)
        wake(restarter); /* for it to be passed on */
    wait_for_answer_locked(restarter, drain.deadline_at_ns);
    if (restarter->is_needed)
        wait_for_heir_locked(restarter);
    pid_t heir = restarter->heir;
    bool serves = restarter->heir_serves;
    if (restarter->left_status > status && status <= COORD_EXIT_FORCED)
        status = restarter->left_status;
    (void)pthread_mutex_unlock(&restarter->mu);
    if (heir > 0) /* not before: with the end of who it says, what is left of us would be ended */
        notify_send("MAINPID=%ld%s", (long)heir, serves ? "\nREADY=1\nSTATUS=serving" : "");
    return status;
}

void restarter_hurry(struct restarter *restarter)
{
    if (restarter == NULL)
        return;
    (void)pthread_mutex_lock(&restarter->mu);
    restarter->hurries = true;
    (void)pthread_cond_broadcast(&restarter->told);
    (void)pthread_mutex_unlock(&restarter->mu);
    wake(restarter);
}

void restarter_stop(struct restarter *restarter)
{
    if (restarter == NULL)
        return;
    (void)pthread_mutex_lock(&restarter->mu);
    restarter->must_stop = true;
    (void)pthread_mutex_unlock(&restarter->mu);
    wake(restarter);
    (void)pthread_join(restarter->thread, NULL);
    release(restarter);
}

/* The specification of coord.h and report.h, one claim a test, against a fake server.
 *
 * The coordinator runs on the test's own thread, and the fake server's callbacks are the stage: a
 * test hangs its play on them and so acts at an exact point of the coordinator's loop. No sleeps:
 * what is timed has a real deadline of some milliseconds, of which only the lower bound is claimed.
 * A lost wake-up shows as a hang, which alarm(2) ends.
 *
 *     census    the look. Its counts are taken before the play acts: what the play changes there
 *               comes after the look and before the sleep
 *     list      without `freeze`: the progress line, between decision and sleep
 *     others    inside a step: before the next look
 *
 * The log is JSON in a memory file; teardown insists that each line of it parses. */

#include "coord.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "log.h"
#include "report.h"

#define HANG_S 60
#define FAR (3600 * NS_PER_S)
#define CALLS_MAX 64
#define LOOKS_MAX 64

/* ---- the wall clock, in the test's hand ---- */

static atomic_llong wall_shift_s; /* set by a test, read by whoever asks for the time */

/* In place of libc's, for the whole program: wall time can step, monotonic time can not. */
int clock_gettime(clockid_t id, struct timespec *ts)
{
    int ret = (int)syscall(SYS_clock_gettime, id, ts);
    if (id == CLOCK_REALTIME)
        ts->tv_sec += (time_t)atomic_load(&wall_shift_s);
    return ret;
}

/* Until the clock reads `until_ns`: the claim is about time that has passed. */
static void let_time_pass_until(uint64_t until_ns)
{
    struct timespec until = clock_timespec(until_ns);
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
        ;
}

/* ---- the fake server ---- */

enum call {
    CENSUS,
    LAME_DUCK_ON,
    LAME_DUCK_OFF,
    CLOSE,
    FINISH,
    RELEASE,
    LIST,
    FREEZE,
    GIVE_UP,
    CUT
};
static const char *const call_names[] = {"census",  "lame-duck", "ready",  "close",   "finish",
                                         "release", "list",      "freeze", "give-up", "cut"};

struct fake {
    struct coord *coord;
    /* coordinator's thread, which is the test's, and the test before and after coord_run() */
    void (*play)(struct fake *fake, enum call call, enum coord_phase phase);
    enum call calls[CALLS_MAX]; /* without the looks */
    uint64_t called_ns[CALLS_MAX];
    size_t call_count;
    uint64_t spread_ns[2];        /* of finish, of release */
    unsigned given_up[CALLS_MAX]; /* of each give-up */
    size_t give_up_count;
    unsigned looks[PHASE_COUNT];
    pthread_t thread;                 /* of the calls */
    bool strangers;                   /* a call came on another thread */
    struct coord_requests unfinished; /* what `freeze` hands out */
    int acts;                         /* for the play */
    /* mu */
    pthread_mutex_t mu;
    struct coord_census now;
};

static void act(struct fake *fake, enum call call)
{
    if (!pthread_equal(fake->thread, pthread_self()))
        fake->strangers = true;
    if (call != CENSUS && fake->call_count < CALLS_MAX) {
        fake->called_ns[fake->call_count] = clock_now_ns();
        fake->calls[fake->call_count++] = call;
    }
    enum coord_phase phase = coord_get_phase(fake->coord);
    if (call == CENSUS)
        fake->looks[phase]++;
    if (fake->play != NULL)
        fake->play(fake, call, phase);
}

static void fake_lame_duck(void *server, bool on)
{
    act(server, on ? LAME_DUCK_ON : LAME_DUCK_OFF);
}

static void fake_close(void *server)
{
    act(server, CLOSE);
}

static void fake_finish(void *server, uint64_t spread_ns)
{
    ((struct fake *)server)->spread_ns[0] = spread_ns;
    act(server, FINISH);
}

static void fake_release(void *server, uint64_t spread_ns)
{
    ((struct fake *)server)->spread_ns[1] = spread_ns;
    act(server, RELEASE);
}

static void fake_give_up(void *server, unsigned classes)
{
    struct fake *fake = server;
    if (fake->give_up_count < CALLS_MAX)
        fake->given_up[fake->give_up_count++] = classes;
    act(server, GIVE_UP);
}

static void fake_list(void *server, bool freeze, struct coord_requests *ret_list)
{
    struct fake *fake = server;
    act(fake, freeze ? FREEZE : LIST);
    if (freeze) {
        *ret_list = fake->unfinished;
        memset(&fake->unfinished, 0, sizeof(fake->unfinished));
    }
}

static void fake_cut(void *server)
{
    act(server, CUT);
}

static void fake_census(void *server, struct coord_census *ret_census)
{
    struct fake *fake = server;
    pthread_mutex_lock(&fake->mu);
    *ret_census = fake->now;
    pthread_mutex_unlock(&fake->mu);
    act(fake, CENSUS); /* after the counts were taken */
}

static const struct coord_server_ops fake_ops = {
    .lame_duck = fake_lame_duck,
    .close_listeners = fake_close,
    .finish = fake_finish,
    .release_idle = fake_release,
    .give_up = fake_give_up,
    .list_requests = fake_list,
    .cut = fake_cut,
    .census = fake_census,
};

static void set_counts(struct fake *fake, unsigned listeners, uint64_t active, uint64_t connections)
{
    pthread_mutex_lock(&fake->mu);
    fake->now.listeners = listeners;
    fake->now.active = active;
    fake->now.connections = connections;
    pthread_mutex_unlock(&fake->mu);
}

static void add_unfinished(struct fake *fake, const char *method, const char *path)
{
    struct coord_requests *list = &fake->unfinished;
    list->items = realloc(list->items, (list->count + 1) * sizeof(list->items[0]));
    assert_non_null(list->items);
    list->items[list->count++] = (struct coord_request){.method = strdup(method),
                                                        .path = strdup(path),
                                                        .authority = strdup("example.com"),
                                                        .peer = strdup("192.0.2.1:4711"),
                                                        .state = "running",
                                                        .age_ns = 1500 * NS_PER_MS,
                                                        .body_bytes = 11,
                                                        .sent_bytes = 22};
}

/* ---- plays that several tests use ---- */

/* A server that does as it is asked: the listener closes at once, and the request with it. */
static void play_obedient(struct fake *fake, enum call call, enum coord_phase phase)
{
    (void)phase;
    if (call == CLOSE)
        set_counts(fake, 0, 0, 0);
}

/* The listener closes, but the request goes on for ever. */
static void play_busy(struct fake *fake, enum call call, enum coord_phase phase)
{
    (void)phase;
    if (call == CLOSE)
        set_counts(fake, 0, 1, 1);
}

/* ---- fixture ---- */

static int real_stderr = -1, memory = -1;
static char said[1 << 16];
static char directory[] = "/tmp/test_coord.XXXXXX", report_path[64];
static struct fake fake;
static struct coord *coord; /* of the running test; teardown destroys it */

static void restore_stderr(void)
{
    (void)dup2(real_stderr, STDERR_FILENO);
}

static void read_what_was_said(void)
{
    ssize_t n = pread(memory, said, sizeof(said) - 1, 0);
    said[n > 0 ? n : 0] = '\0';
}

/* The test hangs, or an assertion of the coordinator failed: show its log and leave. */
static void on_fatal(int signo)
{
    static const char hung[] = "HUNG: a wake-up was lost\n", failed[] = "ABORTED\n";
    ssize_t n = pread(memory, said, sizeof(said), 0);
    ssize_t done = write(real_stderr, said, n > 0 ? (size_t)n : 0);
    done = signo == SIGALRM ? write(real_stderr, hung, sizeof(hung) - 1)
                            : write(real_stderr, failed, sizeof(failed) - 1);
    (void)done; /* on the way out */
    _exit(1);
}

static int setup(void **state)
{
    (void)state;
    signal(SIGALRM, on_fatal);
    signal(SIGABRT, on_fatal);
    alarm(HANG_S);
    atomic_store(&wall_shift_s, 0);
    coord = NULL;
    memset(&fake, 0, sizeof(fake));
    pthread_mutex_init(&fake.mu, NULL);
    fake.thread = pthread_self();
    fake.play = play_obedient;
    fake.now = (struct coord_census){.listeners = 1, .active = 1, .connections = 1};
    real_stderr = dup(STDERR_FILENO);
    memory = memfd_create("stderr", MFD_CLOEXEC);
    if (real_stderr < 0 || memory < 0 || dup2(memory, STDERR_FILENO) < 0)
        return -1;
    log_init(LOG_FORMAT_JSON, false);
    return 0;
}

static bool every_line_is_json(void)
{
    char *rest = said;
    for (char *line; (line = strsep(&rest, "\n")) != NULL && rest != NULL;) {
        json_t *parsed = json_loads(line, 0, NULL);
        if (parsed == NULL)
            return false;
        json_decref(parsed);
    }
    return true;
}

static int teardown(void **state)
{
    (void)state;
    coord_destroy(coord);
    coord_requests_release(&fake.unfinished);
    pthread_mutex_destroy(&fake.mu);
    restore_stderr();
    alarm(0);
    signal(SIGABRT, SIG_DFL);
    read_what_was_said();
    bool good = every_line_is_json() && !fake.strangers;
    if (!good) {
        read_what_was_said(); /* again: it was cut into lines */
        print_error("a call on another thread, or more than a log was written:\n%s\n", said);
    }
    close(memory);
    close(real_stderr);
    (void)unlink(report_path);
    return good ? 0 : -1;
}

/* Where a sanitizer is linked in: its last words must not end in the memory file. */
void __sanitizer_set_report_fd(void *fd) __attribute__((weak));

static int group_setup(void **state)
{
    (void)state;
    if (__sanitizer_set_report_fd != NULL)
        __sanitizer_set_report_fd((void *)(intptr_t)fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 100));
    if (mkdtemp(directory) == NULL)
        return -1;
    (void)snprintf(report_path, sizeof(report_path), "%s/report.json", directory);
    return 0;
}

static int group_teardown(void **state)
{
    (void)state;
    return rmdir(directory); /* and it is empty: no test left a file there */
}

static const struct coord_config ordinary = {
    .ops = &fake_ops, .server = &fake, .drain = {.deadline_ns = FAR, .idle_grace_ns = FAR}};

static void make(struct coord_config config)
{
    assert_int_equal(coord_create(&config, &coord), 0);
    fake.coord = coord;
}

/* The calls without the looks, as words. */
static void assert_calls(const char *want)
{
    char got[512] = "";
    for (size_t i = 0; i < fake.call_count; i++) {
        strcat(got, i > 0 ? " " : "");
        strcat(got, call_names[fake.calls[i]]);
    }
    assert_string_equal(got, want);
}

static unsigned count_calls(enum call call)
{
    unsigned n = 0;
    for (size_t i = 0; i < fake.call_count; i++)
        n += fake.calls[i] == call;
    return n;
}

static uint64_t time_of(enum call call)
{
    for (size_t i = 0; i < fake.call_count; i++)
        if (fake.calls[i] == call)
            return fake.called_ns[i];
    fail_msg("%s was not called", call_names[call]);
    return 0;
}

/* The n-th line of the log with this event, or NULL.     Owner: the caller. */
static json_t *logged(const char *event, unsigned nth)
{
    read_what_was_said();
    char *rest = said;
    for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
        json_t *parsed = json_loads(line, 0, NULL);
        const char *name = json_string_value(json_object_get(parsed, "event"));
        if (name != NULL && strcmp(name, event) == 0 && nth-- == 0)
            return parsed;
        json_decref(parsed);
    }
    return NULL;
}

static void assert_logged(const char *event, unsigned times)
{
    unsigned n = 0;
    for (json_t *line; (line = logged(event, n)) != NULL; n++)
        json_decref(line);
    if (n != times)
        fail_msg("\"%s\" is in the log %u times", event, n);
}

static void assert_message_has(const char *event, const char *part)
{
    json_t *line = logged(event, 0);
    assert_non_null(line);
    const char *message = json_string_value(json_object_get(line, "message"));
    if (strstr(message, part) == NULL)
        fail_msg("\"%s\" is not in \"%s\"", part, message);
    json_decref(line);
}

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    assert_non_null(text);
    return text;
}

static json_int_t number_of(const json_t *object, const char *key)
{
    const json_t *number = json_object_get(object, key);
    assert_true(json_is_integer(number));
    return json_integer_value(number);
}

static double real_of(const json_t *object, const char *key)
{
    const json_t *number = json_object_get(object, key);
    assert_true(json_is_number(number));
    return json_number_value(number);
}

/* Owner: the caller. */
static json_t *read_report(void)
{
    json_error_t error;
    json_t *report = json_load_file(report_path, JSON_REJECT_DUPLICATES, &error);
    if (report == NULL)
        fail_msg("%s: %s", report_path, error.text);
    return report;
}

static void assert_directory_holds(unsigned files)
{
    unsigned n = 0;
    DIR *dir = opendir(directory);
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir)) != NULL;)
        n += e->d_name[0] != '.';
    closedir(dir);
    assert_int_equal(n, files);
}

/* ---- create, destroy ---- */

static void test_a_new_coordinator_is_running(void **state)
{
    (void)state;
    make(ordinary);
    assert_int_equal(coord_get_phase(coord), PHASE_RUNNING);
    assert_int_equal(fake.call_count, 0);
}

static void test_destroy_of_no_coordinator_is_allowed(void **state)
{
    (void)state;
    coord_destroy(NULL);
}

static void test_destroy_before_run_is_allowed(void **state)
{
    (void)state;
    make(ordinary);
    coord_request_drain(coord, "api", "nobody runs it");
}

static void test_release_of_an_empty_list_is_allowed(void **state)
{
    (void)state;
    struct coord_requests list = {0};
    coord_requests_release(&list);
    coord_requests_release(&list);
    assert_null(list.items);
}

/* ---- the order of calls ---- */

static void play_full_order(struct fake *f, enum call call, enum coord_phase phase)
{
    (void)phase;
    if (call == CLOSE) {
        set_counts(f, 0, 0, 2);
    } else if (call == RELEASE) {
        set_counts(f, 0, 0, 0);
        coord_poke(f->coord);
    }
}

static void test_call_order_is_lame_duck_close_finish_release(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.idle_grace_ns = NS_PER_MS;
    fake.play = play_full_order;
    make(config);
    coord_request_drain(coord, "test", "");
    assert_int_equal(coord_run(coord), COORD_EXIT_CLEAN);
    assert_calls("lame-duck close finish release");
}

static void test_spread_is_handed_to_what_lets_go(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.idle_grace_ns = NS_PER_MS;
    config.drain.spread_ns = 7 * NS_PER_S;
    fake.play = play_full_order;
    make(config);
    coord_request_drain(coord, "test", "");
    assert_int_equal(coord_run(coord), COORD_EXIT_CLEAN);
    assert_int_equal(fake.spread_ns[0], 7 * NS_PER_S);
    assert_int_equal(fake.spread_ns[1], 7 * NS_PER_S);
}

/* A request stays, and a tunnel; the tunnel is given up, and then the request is answered. */
static void play_tunnel(struct fake *f, enum call call, enum coord_phase phase)
{
    (void)phase;
    if (call == CLOSE) {
        set_counts(f, 0, 1, 2);
    } else if (call == GIVE_UP) {
        pthread_mutex_lock(&f->mu);
        f->now.given_up++;
        pthread_mutex_unlock(&f->mu);
        set_counts(f, 0, 0, 0);
        coord_poke(f->coord);
    }
}

static void test_class_is_given_up_while_others_are_waited_for(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.class_ns[DRAIN_TUNNEL] = NS_PER_MS;
    fake.play = play_tunnel;
    make(config);
    coord_request_drain(coord, "test", "");
    assert_int_equal(coord_run(coord), COORD_EXIT_DEADLINE); /* it was cut, and named */
    assert_calls("lame-duck close finish give-up");
    assert_int_equal(fake.give_up_count, 1);
    assert_int_equal(fake.given_up[0], 1U << DRAIN_TUNNEL);
}

static void test_order_with_a_deadline_is_one_for_every_class(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.class_ns[DRAIN_UPLOAD] = FAR;
    fake.play = play_busy;
    make(config);
    assert_true(coord_request_drain_within(coord, "test", "", NS_PER_MS));
    (void)coord_run(coord);
    assert_int_equal(count_calls(CUT), 1);
    assert_int_equal(fake.give_up_count, 0);
}

static void test_a_drain_with_lame_duck_says_so_twice_and_closes_once(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.lame_duck_ns = NS_PER_MS;
    make(config);
    coord_request_drain(coord, "test", "");
    assert_int_equal(coord_run(coord), COORD_EXIT_CLEAN);
    assert_calls("lame-duck lame-duck close finish");
}

static enum coord_phase phase_of[CUT + 1];

static void play_note_phases(struct fake *f, enum call call, enum coord_phase phase)
{
    phase_of[call] = phase;
    if (call == CLOSE)
        set_counts(f, 0, 1, 1);
    if (call == RELEASE) { /* no clock: a test that is late must see the same calls */
        coord_signal(f->coord, SIGTERM, 0);
        coord_signal(f->coord, SIGTERM, 0);
    }
}

static void test_lame_duck_calls_come_before_close_listeners(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.lame_duck_ns = NS_PER_MS;
    config.drain.idle_grace_ns = 0;
    fake.play = play_note_phases;
    make(config);
    coord_request_drain(coord, "test", "");
    (void)coord_run(coord);
    assert_calls("lame-duck lame-duck close finish release freeze cut");
    assert_true(time_of(LAME_DUCK_ON) <= time_of(CLOSE));
}

static void test_each_call_comes_in_its_phase(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.idle_grace_ns = 0;
    fake.play = play_note_phases;
    make(config);
    coord_request_drain(coord, "test", "");
    (void)coord_run(coord);
    assert_calls("lame-duck close finish release freeze cut");
    assert_int_equal(phase_of[LAME_DUCK_ON], PHASE_CLOSING);
    assert_int_equal(phase_of[CLOSE], PHASE_CLOSING);
    assert_int_equal(phase_of[FINISH], PHASE_DRAINING);
    assert_int_equal(phase_of[RELEASE], PHASE_DRAINING);
    assert_int_equal(phase_of[FREEZE], PHASE_ABORTING);
    assert_int_equal(phase_of[CUT], PHASE_ABORTING);
    assert_int_equal(coord_get_phase(coord), PHASE_DONE);
}

static void play_freeze_after_cut(struct fake *f, enum call call, enum coord_phase phase)
{
    play_busy(f, call, phase);
    if (call == CUT)
        assert_int_equal(f->calls[f->call_count - 2], FREEZE);
}

static void test_the_unfinished_are_listed_before_they_are_cut(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.deadline_ns = NS_PER_MS;
    fake.play = play_freeze_after_cut;
    make(config);
    coord_request_drain(coord, "test", "");
    (void)coord_run(coord);
    assert_int_equal(count_calls(FREEZE), 1);
    assert_int_equal(count_calls(CUT), 1);
}

static void play_pokes_after_release(struct fake *f, enum call call, enum coord_phase phase)
{
    play_busy(f, call, phase);
    if (call != CENSUS || phase != PHASE_DRAINING)
        return;
    if (++f->acts == 20)
        set_counts(f, 0, 0, 0);
    coord_poke(f->coord);
}

static void test_release_idle_is_called_once(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.idle_grace_ns = 0;
    fake.play = play_pokes_after_release;
    make(config);
    coord_request_drain(coord, "test", "");
    assert_int_equal(coord_run(coord), COORD_EXIT_CLEAN);
    assert_true(fake.looks[PHASE_DRAINING] >= 20);
    assert_int_equal(count_calls(RELEASE), 1);
}

static void test_nothing_is_asked_of_the_server_before_a_request(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    fake.play = play_pokes_after_release; /* acts in DRAINING only */
    make(config);
    for (int i = 0; i < 10; i++)
        coord_poke(coord);
    assert_int_equal(fake.call_count, 0);
    coord_request_drain(coord, "test", "");
    assert_int_equal(coord_run(coord), COORD_EXIT_CLEAN);
    assert_int_equal(fake.looks[PHASE_RUNNING], 1); /* ten pokes and a request are one look */
}

/* ---- times ---- */

static void test_lame_duck_lasts_its_time(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.lame_duck_ns = 10 * NS_PER_MS;
    make(config);
    uint64_t began_ns = clock_now_ns();
    coord_request_drain(coord, "test", "");
    assert_int_equal(coord_run(coord), COORD_EXIT_CLEAN);
    assert_true(time_of(CLOSE) >= began_ns + 10 * NS_PER_MS);
}

static void test_idle_grace_lasts_its_time(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.idle_grace_ns = 10 * NS_PER_MS;
    fake.play = play_full_order;
    make(config);
    uint64_t began_ns = clock_now_ns();
    coord_request_drain(coord, "test", "");
    assert_int_equal(coord_run(coord), COORD_EXIT_CLEAN);
    assert_true(time_of(RELEASE) >= began_ns + 10 * NS_PER_MS);
}

static void test_the_deadline_is_not_early(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.deadline_ns = 15 * NS_PER_MS;
    fake.play = play_busy;
    make(config);
    uint64_t began_ns = clock_now_ns();
    coord_request_drain(coord, "test", "");
    (void)coord_run(coord);
    assert_true(time_of(FREEZE) >= began_ns + 15 * NS_PER_MS);
}

static void play_slow_close(struct fake *f, enum call call, enum coord_phase phase)
{
    (void)phase;
    if (call == LAME_DUCK_ON) {
        let_time_pass_until(clock_now_ns() + 5 * NS_PER_MS);
    } else if (call == CLOSE) {
        set_counts(f, 0, 1, 1);
    }
}

static void test_deadline_is_set_before_anything_closes(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.deadline_ns = 5 * NS_PER_MS;
    fake.play = play_slow_close;
    make(config);
    coord_request_drain(coord, "test", "");
    (void)coord_run(coord);
    /* The deadline was over when the listener had closed: no time was lost on draining. */
    assert_calls("lame-duck close freeze cut");
}

static void test_the_deadline_ends_a_close_that_never_ends(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.deadline_ns = 2 * NS_PER_MS;
    config.drain.idle_grace_ns = 0; /* over at the first look, however late that comes */
    fake.play = NULL;
    add_unfinished(&fake, "GET", "/");
    make(config);
    coord_request_drain(coord, "test", "");
    assert_int_equal(coord_run(coord), COORD_EXIT_DEADLINE);
    assert_calls("lame-duck close release freeze cut");
}

static void test_a_sleeping_coordinator_does_not_look(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain = (struct drain_config){.lame_duck_ns = 20 * NS_PER_MS,
                                         .deadline_ns = 20 * NS_PER_MS,
                                         .idle_grace_ns = 10 * NS_PER_MS};
    fake.play = play_busy;
    make(config);
    coord_request_drain(coord, "test", "");
    (void)coord_run(coord);
    /* One look on entry and one at the end of each timed wait; POSIX allows a few for nothing. */
    for (enum coord_phase p = PHASE_RUNNING; p < PHASE_COUNT; p++)
        assert_in_range(fake.looks[p], 0, 10);
}

static void play_wall_clock_steps(struct fake *f, enum call call, enum coord_phase phase)
{
    play_busy(f, call, phase);
    if (call == CENSUS) /* ten years ahead, ten years back, and so on */
        atomic_store(&wall_shift_s, ++f->acts % 2 != 0 ? 315000000 : -315000000);
}

static void test_wall_clock_is_not_used(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.deadline_ns = 10 * NS_PER_MS;
    config.report_path = report_path;
    fake.play = play_wall_clock_steps;
    make(config);
    uint64_t began_ns = clock_now_ns();
    coord_request_drain(coord, "test", "");
    (void)coord_run(coord);
    assert_true(time_of(FREEZE) >= began_ns + 10 * NS_PER_MS);
    json_t *report = read_report();
    assert_true(real_of(report, "took_ms") >= 10.0);
    assert_true(real_of(report, "took_ms") < HANG_S * 1000.0); /* ten years are more */
    json_decref(report);
}

/* ---- who asks ---- */

static void test_drain_requested_twice_is_one_drain(void **state)
{
    (void)state;
    make(ordinary);
    coord_request_drain(coord, "file", "first");
    coord_request_drain(coord, "api", "second");
    assert_int_equal(coord_run(coord), COORD_EXIT_CLEAN);
    assert_calls("lame-duck close finish");
    assert_logged("drain-begun", 1);
    assert_message_has("drain-begun", "file: first: draining, 1 request in flight");
}

static void play_requests_in_every_call(struct fake *f, enum call call, enum coord_phase phase)
{
    play_obedient(f, call, phase);
    coord_request_drain(f->coord, "again", "");
}

static void test_a_request_in_any_phase_changes_nothing(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.lame_duck_ns = NS_PER_MS;
    config.report_path = report_path;
    fake.play = play_requests_in_every_call;
    make(config);
    assert_int_equal(coord_run(coord), COORD_EXIT_CLEAN);
    assert_calls("lame-duck lame-duck close finish");
    assert_logged("drain-begun", 1);
}

static void test_a_signal_begins_the_drain_and_is_named_with_its_sender(void **state)
{
    (void)state;
    make(ordinary);
    coord_signal(coord, SIGTERM, 4711);
    assert_int_equal(coord_run(coord), COORD_EXIT_CLEAN);
    assert_message_has("drain-begun", "SIGTERM received from process 4711: draining");
}

static void test_a_signal_without_sender_is_named_alone(void **state)
{
    (void)state;
    make(ordinary);
    coord_signal(coord, SIGINT, 0);
    assert_int_equal(coord_run(coord), COORD_EXIT_CLEAN);
    assert_message_has("drain-begun", "SIGINT received: draining");
}

static enum coord_phase force_phase;

/* One more signal in the first look of `force_phase`, then no time passes by itself. */
static void play_force(struct fake *f, enum call call, enum coord_phase phase)
{
    if (call == CLOSE && force_phase != PHASE_CLOSING)
        set_counts(f, 0, 1, 1);
    if (call == CENSUS && phase == force_phase && f->acts++ == 0)
        coord_signal(f->coord, SIGTERM, 0);
}

static int run_forced_in(enum coord_phase phase)
{
    struct coord_config config = ordinary;
    if (phase == PHASE_LAME_DUCK)
        config.drain.lame_duck_ns = FAR;
    force_phase = phase;
    fake.play = play_force;
    make(config);
    coord_signal(coord, SIGTERM, 0);
    return coord_run(coord);
}

static void test_second_signal_while_running_still_closes_the_listeners(void **state)
{
    (void)state;
    assert_int_equal(run_forced_in(PHASE_RUNNING), COORD_EXIT_FORCED);
    assert_calls("lame-duck close freeze cut");
}

static void test_second_signal_in_lame_duck_skips_the_wait(void **state)
{
    (void)state;
    assert_int_equal(run_forced_in(PHASE_LAME_DUCK), COORD_EXIT_FORCED);
    assert_int_equal(count_calls(FREEZE), 1);
    assert_int_equal(count_calls(CUT), 1);
    assert_int_equal(count_calls(FINISH), 0);
}

static void test_second_signal_while_closing_skips_the_wait(void **state)
{
    (void)state;
    assert_int_equal(run_forced_in(PHASE_CLOSING), COORD_EXIT_FORCED);
    assert_calls("lame-duck close freeze cut");
}

static void test_second_signal_skips_the_wait(void **state)
{
    (void)state;
    assert_int_equal(run_forced_in(PHASE_DRAINING), COORD_EXIT_FORCED);
    assert_calls("lame-duck close finish freeze cut");
    assert_logged("drain-forced", 1);
    assert_message_has("drain-forced", "forced by SIGTERM");
}

static void play_force_while_aborting(struct fake *f, enum call call, enum coord_phase phase)
{
    play_busy(f, call, phase);
    if (call == CUT) {
        coord_signal(f->coord, SIGTERM, 0);
        coord_signal(f->coord, SIGTERM, 0);
    }
}

static void test_a_signal_while_aborting_comes_too_late(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.deadline_ns = NS_PER_MS;
    fake.play = play_force_while_aborting;
    add_unfinished(&fake, "GET", "/");
    make(config);
    coord_signal(coord, SIGTERM, 0);
    assert_int_equal(coord_run(coord), COORD_EXIT_DEADLINE);
    assert_logged("drain-deadline", 1);
    assert_logged("drain-forced", 0);
}

/* ---- calling it off ---- */

static bool undone[3];

static void play_undrain_then_again(struct fake *f, enum call call, enum coord_phase phase)
{
    play_obedient(f, call, phase);
    if (call != CENSUS)
        return;
    if (phase == PHASE_LAME_DUCK && f->acts == 0) {
        undone[0] = coord_undrain(f->coord);
        f->acts = 1;
    } else if (phase == PHASE_RUNNING && f->acts == 1) {
        coord_request_drain(f->coord, "api", "again");
        f->acts = 2;
    } else if (phase == PHASE_LAME_DUCK && f->acts == 2) {
        coord_signal(f->coord, SIGTERM, 0); /* the lame duck is long: cut it short */
        coord_signal(f->coord, SIGTERM, 0);
        f->acts = 3;
    }
}

static void test_undrain_in_lame_duck_is_ready_again(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.lame_duck_ns = FAR;
    fake.play = play_undrain_then_again;
    make(config);
    coord_request_drain(coord, "file", "first");
    assert_int_equal(coord_run(coord), COORD_EXIT_FORCED);
    assert_true(undone[0]);
    assert_int_equal(fake.calls[0], LAME_DUCK_ON);
    assert_int_equal(fake.calls[1], LAME_DUCK_OFF);
    assert_int_equal(fake.calls[2], LAME_DUCK_ON);
    assert_logged("undrained", 1);
    assert_logged("drain-begun", 2);
}

static void test_the_drain_after_an_undrain_names_its_own_trigger(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.lame_duck_ns = FAR;
    config.report_path = report_path;
    fake.play = play_undrain_then_again;
    make(config);
    coord_request_drain(coord, "file", "first");
    (void)coord_run(coord);
    json_t *line = logged("drain-begun", 1);
    assert_string_equal(text_of(line, "trigger"), "api");
    json_decref(line);
    json_t *report = read_report();
    const json_t *triggers = json_object_get(report, "triggers");
    assert_int_equal(json_array_size(triggers), 3);
    assert_string_equal(text_of(json_array_get(triggers, 0), "name"), "api");
    json_decref(report);
}

static void play_undrain_late(struct fake *f, enum call call, enum coord_phase phase)
{
    (void)phase;
    if (call == CLOSE) {
        undone[0] = coord_undrain(f->coord);
        set_counts(f, 0, 1, 1);
    } else if (call == FINISH) {
        undone[1] = coord_undrain(f->coord);
    } else if (call == CUT) {
        undone[2] = coord_undrain(f->coord);
    }
}

static void test_undrain_is_refused_past_the_point_of_no_return(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.deadline_ns = 2 * NS_PER_MS;
    fake.play = play_undrain_late;
    undone[0] = undone[1] = undone[2] = true;
    make(config);
    coord_request_drain(coord, "test", "");
    (void)coord_run(coord);
    assert_false(undone[0] || undone[1] || undone[2]);
    assert_false(coord_undrain(coord)); /* and when it is over */
    assert_int_equal(count_calls(LAME_DUCK_OFF), 0);
}

/* ---- the status ---- */

static void test_an_empty_server_drains_at_once(void **state)
{
    (void)state;
    set_counts(&fake, 0, 0, 0);
    make(ordinary);
    coord_request_drain(coord, "test", "");
    assert_int_equal(coord_run(coord), COORD_EXIT_CLEAN);
    assert_calls("lame-duck close finish");
    assert_logged("drained", 1);
}

static void test_deadline_with_unfinished_is_3(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.deadline_ns = NS_PER_MS;
    fake.play = play_busy;
    add_unfinished(&fake, "GET", "/slow");
    make(config);
    coord_request_drain(coord, "test", "");
    assert_int_equal(coord_run(coord), 3);
    assert_message_has("drain-deadline", "1 request unfinished");
    assert_message_has("unfinished", "GET /slow from 192.0.2.1:4711, running, age 1.5s");
}

static void test_deadline_with_nothing_unfinished_is_0(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.deadline_ns = NS_PER_MS;
    fake.play = play_busy; /* a connection is open, but the list is empty */
    make(config);
    coord_request_drain(coord, "test", "");
    assert_int_equal(coord_run(coord), 0);
    assert_int_equal(count_calls(FREEZE), 1);
    assert_int_equal(count_calls(CUT), 1);
    assert_logged("drain-deadline", 0);
}

static void test_unfinished_that_the_list_left_out_count_as_well(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.deadline_ns = NS_PER_MS;
    fake.play = play_busy;
    fake.unfinished.left_out = 2;
    make(config);
    coord_request_drain(coord, "test", "");
    assert_int_equal(coord_run(coord), COORD_EXIT_DEADLINE);
    assert_message_has("drain-deadline", "2 requests unfinished");
}

static void test_what_ended_has_its_status_where_the_drain_is_clean(void **state)
{
    (void)state;
    set_counts(&fake, 0, 0, 0);
    make(ordinary);
    assert_true(coord_request_drain_ending(coord, "application", "ended", 7));
    assert_int_equal(coord_run(coord), 7);
    assert_logged("drained", 1);
}

static void test_what_ended_in_a_drain_does_not_set_its_status(void **state)
{
    (void)state;
    set_counts(&fake, 0, 0, 0);
    make(ordinary);
    coord_request_drain(coord, "test", "");
    assert_false(coord_request_drain_ending(coord, "application", "ended", 7));
    assert_int_equal(coord_run(coord), 0);
}

static void test_the_unfinished_win_over_the_status_of_what_ended(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.deadline_ns = NS_PER_MS;
    fake.play = play_busy;
    add_unfinished(&fake, "GET", "/slow");
    make(config);
    assert_true(coord_request_drain_ending(coord, "application", "ended", 7));
    assert_int_equal(coord_run(coord), 3);
}

static void test_forced_status_is_4(void **state)
{
    (void)state;
    fake.play = play_busy;
    add_unfinished(&fake, "GET", "/slow");
    make(ordinary);
    coord_signal(coord, SIGTERM, 0);
    coord_signal(coord, SIGTERM, 0);
    assert_int_equal(coord_run(coord), 4);
}

static void test_forced_with_nothing_unfinished_is_4_too(void **state)
{
    (void)state;
    fake.play = play_busy;
    make(ordinary);
    coord_signal(coord, SIGTERM, 0);
    coord_signal(coord, SIGINT, 0);
    assert_int_equal(coord_run(coord), 4);
    assert_message_has("drain-forced", "forced by SIGINT");
}

static void test_a_hundred_unfinished_are_not_a_hundred_lines(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.deadline_ns = NS_PER_MS;
    config.report_path = report_path;
    fake.play = play_busy;
    for (int i = 0; i < 100; i++)
        add_unfinished(&fake, "GET", "/slow");
    make(config);
    coord_request_drain(coord, "test", "");
    assert_int_equal(coord_run(coord), COORD_EXIT_DEADLINE);
    assert_logged("unfinished", 20);
    assert_message_has("unfinished-more", "and 80 more");
    json_t *report = read_report();
    assert_int_equal(json_array_size(json_object_get(report, "unfinished")), 100);
    json_decref(report);
}

/* ---- wake-ups: see the poke note in coord.c ---- */

static void play_quiet_before_the_look(struct fake *f, enum call call, enum coord_phase phase)
{
    (void)phase;
    if (call == CLOSE) {
        set_counts(f, 0, 1, 1);
    } else if (call == FINISH) { /* the look that follows takes the poke away, and must see it */
        set_counts(f, 0, 0, 0);
        coord_poke(f->coord);
    }
}

static void test_poke_before_the_look_is_seen(void **state)
{
    (void)state;
    fake.play = play_quiet_before_the_look;
    make(ordinary);
    coord_request_drain(coord, "test", "");
    assert_int_equal(coord_run(coord), COORD_EXIT_CLEAN);
    assert_int_equal(fake.looks[PHASE_DRAINING], 1);
}

static void play_quiet_after_the_look(struct fake *f, enum call call, enum coord_phase phase)
{
    if (call == CLOSE)
        set_counts(f, 0, 1, 1);
    if (call == CENSUS && phase == PHASE_DRAINING && f->acts++ == 0) {
        set_counts(f, 0, 0, 0);
        coord_poke(f->coord);
    }
}

static void test_poke_between_look_and_sleep_is_not_lost(void **state)
{
    (void)state;
    fake.play = play_quiet_after_the_look;
    make(ordinary);
    coord_request_drain(coord, "test", "");
    assert_int_equal(coord_run(coord), COORD_EXIT_CLEAN);
    assert_int_equal(fake.looks[PHASE_DRAINING], 2);
}

static void play_quiet_after_the_decision(struct fake *f, enum call call, enum coord_phase phase)
{
    (void)phase;
    if (call == CLOSE) {
        set_counts(f, 0, 1, 1);
    } else if (call == LIST) {
        set_counts(f, 0, 0, 0);
        coord_poke(f->coord);
    }
}

static void test_poke_between_decision_and_sleep_is_not_lost(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.progress_ns = 1;
    fake.play = play_quiet_after_the_decision;
    make(config);
    coord_request_drain(coord, "test", "");
    assert_int_equal(coord_run(coord), COORD_EXIT_CLEAN);
    assert_int_equal(count_calls(LIST), 1);
}

static void play_listener_closes_after_the_look(struct fake *f, enum call call,
                                                enum coord_phase phase)
{
    if (call == CENSUS && phase == PHASE_CLOSING && f->acts++ == 0) {
        set_counts(f, 0, 0, 0);
        coord_poke(f->coord);
    }
}

static void test_poke_for_the_last_listener_is_not_lost(void **state)
{
    (void)state;
    fake.play = play_listener_closes_after_the_look;
    make(ordinary);
    coord_request_drain(coord, "test", "");
    assert_int_equal(coord_run(coord), COORD_EXIT_CLEAN);
    assert_int_equal(fake.looks[PHASE_CLOSING], 2);
}

static void play_request_after_the_look(struct fake *f, enum call call, enum coord_phase phase)
{
    play_obedient(f, call, phase);
    if (call == CENSUS && phase == PHASE_RUNNING && f->acts++ == 0)
        coord_poke(f->coord); /* for nothing: a second look */
    else if (call == CENSUS && phase == PHASE_RUNNING && f->acts == 2)
        coord_request_drain(f->coord, "test", "");
}

static void test_request_between_look_and_sleep_is_not_lost(void **state)
{
    (void)state;
    fake.play = play_request_after_the_look;
    make(ordinary);
    assert_int_equal(coord_run(coord), COORD_EXIT_CLEAN);
}

static void play_pokes_for_nothing(struct fake *f, enum call call, enum coord_phase phase)
{
    play_busy(f, call, phase);
    if (call == CENSUS && phase == PHASE_DRAINING) {
        coord_poke(f->coord);
        if (++f->acts == 1000)
            set_counts(f, 0, 0, 0);
    }
}

static void test_pokes_for_nothing_end_nothing(void **state)
{
    (void)state;
    fake.play = play_pokes_for_nothing;
    make(ordinary);
    coord_request_drain(coord, "test", "");
    assert_int_equal(coord_run(coord), COORD_EXIT_CLEAN);
    assert_int_equal(fake.looks[PHASE_DRAINING], 1001);
    assert_calls("lame-duck close finish");
}

/* Lets the other side of a race get a little further: some nanoseconds a turn. */
static void dawdle(unsigned turns)
{
    for (volatile unsigned i = 0; i < turns; i++)
        ;
}

static struct {
    sem_t go;
    unsigned turns;
} poker;

static void *poke_later(void *arg)
{
    struct fake *f = arg;
    while (sem_wait(&poker.go) != 0)
        ;
    dawdle(poker.turns);
    set_counts(f, 0, 0, 0);
    coord_poke(f->coord);
    return NULL;
}

static void play_starts_the_poker(struct fake *f, enum call call, enum coord_phase phase)
{
    play_busy(f, call, phase);
    if (call == CENSUS && phase == PHASE_DRAINING && f->acts++ == 0)
        sem_post(&poker.go);
}

/* The poke falls anywhere between the look and the depth of the sleep. */
static void test_poke_that_races_the_sleep_is_never_lost(void **state)
{
    (void)state;
    sem_init(&poker.go, 0, 0);
    fake.play = play_starts_the_poker;
    for (unsigned round = 0; round < 400; round++) {
        pthread_t thread;
        coord_destroy(coord);
        make(ordinary);
        set_counts(&fake, 1, 1, 1);
        fake.acts = 0;
        fake.call_count = 0;
        poker.turns = round * 20;
        assert_int_equal(pthread_create(&thread, NULL, poke_later, &fake), 0);
        coord_request_drain(coord, "test", "");
        int status = coord_run(coord);
        pthread_join(thread, NULL);
        assert_int_equal(status, COORD_EXIT_CLEAN);
    }
    sem_destroy(&poker.go);
}

#define CLIENTS 4
#define REQUESTS 2000

static void *end_requests(void *arg)
{
    struct fake *f = arg;
    for (int i = 0; i < REQUESTS; i++) {
        pthread_mutex_lock(&f->mu);
        f->now.active--;
        f->now.answered++;
        f->now.connections--;
        pthread_mutex_unlock(&f->mu);
        coord_poke(f->coord);
    }
    return NULL;
}

static void play_many_requests(struct fake *f, enum call call, enum coord_phase phase)
{
    (void)phase;
    if (call != CLOSE)
        return;
    pthread_mutex_lock(&f->mu);
    f->now.listeners = 0;
    pthread_mutex_unlock(&f->mu);
}

static void test_the_last_of_many_requests_ends_the_drain(void **state)
{
    (void)state;
    pthread_t threads[CLIENTS];
    fake.play = play_many_requests;
    set_counts(&fake, 1, CLIENTS * REQUESTS, CLIENTS * REQUESTS);
    make(ordinary);
    coord_request_drain(coord, "test", "");
    for (int i = 0; i < CLIENTS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, end_requests, &fake), 0);
    int status = coord_run(coord);
    for (int i = 0; i < CLIENTS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(status, COORD_EXIT_CLEAN);
    assert_int_equal(fake.now.answered, CLIENTS * REQUESTS);
}

static void *signal_once(void *arg)
{
    coord_signal(arg, SIGTERM, 1);
    return NULL;
}

static void test_two_signals_at_once_are_the_first_and_the_second(void **state)
{
    (void)state;
    fake.play = play_busy;
    for (int round = 0; round < 50; round++) {
        pthread_t one, other;
        coord_destroy(coord);
        make(ordinary);
        set_counts(&fake, 1, 1, 1);
        fake.call_count = 0;
        assert_int_equal(pthread_create(&one, NULL, signal_once, coord), 0);
        assert_int_equal(pthread_create(&other, NULL, signal_once, coord), 0);
        int status = coord_run(coord);
        pthread_join(one, NULL);
        pthread_join(other, NULL);
        assert_int_equal(status, COORD_EXIT_FORCED);
    }
}

/* ---- waiting for a phase ---- */

static void test_waiting_for_the_present_phase_returns_past_any_deadline(void **state)
{
    (void)state;
    make(ordinary);
    assert_int_equal(coord_wait_phase(coord, PHASE_RUNNING, 0), 0);
}

static void test_waiting_for_a_phase_that_does_not_come_times_out(void **state)
{
    (void)state;
    make(ordinary);
    uint64_t until_ns = clock_now_ns() + 2 * NS_PER_MS;
    assert_int_equal(coord_wait_phase(coord, PHASE_CLOSING, until_ns), -ETIMEDOUT);
    assert_true(clock_now_ns() >= until_ns);
    assert_int_equal(coord_wait_phase(coord, PHASE_CLOSING, 0), -ETIMEDOUT);
}

static int waited[2];

static void *wait_for_done(void *arg)
{
    waited[0] = coord_wait_phase(arg, PHASE_DONE, CLOCK_NEVER);
    return NULL;
}

static void *wait_for_lame_duck(void *arg)
{
    waited[1] = coord_wait_phase(arg, PHASE_LAME_DUCK, CLOCK_NEVER);
    return NULL;
}

static void test_whoever_waits_for_a_phase_is_woken_by_it_or_a_later_one(void **state)
{
    (void)state;
    for (int round = 0; round < 50; round++) {
        pthread_t one, other;
        coord_destroy(coord);
        make(ordinary); /* without a lame duck: that phase is passed over */
        set_counts(&fake, 1, 1, 1);
        fake.call_count = 0;
        waited[0] = waited[1] = -1;
        assert_int_equal(pthread_create(&one, NULL, wait_for_done, coord), 0);
        assert_int_equal(pthread_create(&other, NULL, wait_for_lame_duck, coord), 0);
        coord_request_drain(coord, "test", "");
        int status = coord_run(coord);
        pthread_join(one, NULL);
        pthread_join(other, NULL);
        assert_int_equal(status, COORD_EXIT_CLEAN);
        assert_int_equal(waited[0], 0);
        assert_int_equal(waited[1], 0);
    }
}

/* ---- with a pool ---- */

static struct {
    struct pool *pool;
    sem_t gate;     /* the job's run() waits for it */
    sem_t idle;     /* on_idle() posts it, after its poke */
    atomic_int ran; /* jobs, written by the workers, read by the coordinator's thread */
} works;

static void job_run(struct pool_job *job)
{
    (void)job;
    while (sem_wait(&works.gate) != 0)
        ;
}

static void job_done(struct pool_job *job)
{
    (void)job;
    atomic_fetch_add(&works.ran, 1);
}

static void on_idle(void *arg)
{
    coord_poke(arg);
    sem_post(&works.idle);
}

static void open_works(void)
{
    const struct pool_config config = {
        .workers = 2, .queue = 8, .on_idle = on_idle, .on_idle_arg = coord};
    sem_init(&works.gate, 0, 0);
    sem_init(&works.idle, 0, 0);
    atomic_store(&works.ran, 0);
    assert_int_equal(pool_create(&config, &works.pool), 0);
    coord_attach_pool(coord, works.pool);
}

static void close_works(void)
{
    assert_int_equal(pool_destroy(works.pool, UINT64_MAX), 0);
    sem_destroy(&works.gate);
    sem_destroy(&works.idle);
}

/* The server is quiet from the first; the job ends between decision and sleep, or later. */
static void play_pool(struct fake *f, enum call call, enum coord_phase phase)
{
    play_obedient(f, call, phase);
    if (call == LIST && phase == PHASE_DRAINING && f->acts++ == 0) {
        sem_post(&works.gate);
        while (sem_wait(&works.idle) != 0) /* the poke has come before the sleep */
            ;
    }
}

static void test_pool_that_falls_idle_wakes_the_coordinator(void **state)
{
    (void)state;
    struct pool_job job = {.run = job_run, .done = job_done};
    struct coord_config config = ordinary;
    config.progress_ns = 1;
    fake.play = play_pool;
    make(config);
    open_works();
    assert_int_equal(pool_submit(works.pool, &job), 0);
    coord_request_drain(coord, "test", "");
    int status = coord_run(coord);
    close_works();
    assert_int_equal(status, COORD_EXIT_CLEAN);
    assert_int_equal(fake.acts, 1);
    assert_int_equal(works.ran, 1);
    assert_calls("lame-duck close finish list");
}

static void play_pool_race(struct fake *f, enum call call, enum coord_phase phase)
{
    play_obedient(f, call, phase);
    if (call == CENSUS && phase == PHASE_DRAINING && f->acts++ == 0)
        sem_post(&works.gate);
}

/* The worker runs against the coordinator's way into its sleep. */
static void test_pool_that_falls_idle_at_any_moment_wakes_the_coordinator(void **state)
{
    (void)state;
    fake.play = play_pool_race;
    for (unsigned round = 0; round < 200; round++) {
        struct pool_job job = {.run = job_run, .done = job_done};
        coord_destroy(coord);
        make(ordinary);
        set_counts(&fake, 1, 1, 1);
        fake.acts = 0;
        fake.call_count = 0;
        open_works();
        assert_int_equal(pool_submit(works.pool, &job), 0);
        coord_request_drain(coord, "test", "");
        int status = coord_run(coord);
        int ran = atomic_load(&works.ran);
        close_works();
        assert_int_equal(status, COORD_EXIT_CLEAN);
        assert_int_equal(ran, 1); /* it was waited for */
    }
}

static void test_a_job_that_never_ends_is_at_most_the_deadline(void **state)
{
    (void)state;
    struct pool_job job = {.run = job_run, .done = job_done};
    struct coord_config config = ordinary;
    config.drain.deadline_ns = 2 * NS_PER_MS;
    config.report_path = report_path;
    make(config);
    open_works();
    assert_int_equal(pool_submit(works.pool, &job), 0);
    coord_request_drain(coord, "test", "");
    (void)coord_run(coord);
    int ran = atomic_load(&works.ran);
    sem_post(&works.gate);
    close_works();
    assert_int_equal(ran, 0);
    assert_int_equal(count_calls(FREEZE), 1);
    assert_int_equal(count_calls(CUT), 1);
    json_t *report = read_report();
    assert_int_equal(number_of(json_object_get(report, "counts"), "jobs_at_end"), 1);
    json_decref(report);
}

static void test_an_idle_pool_holds_nothing_up(void **state)
{
    (void)state;
    make(ordinary);
    open_works();
    coord_request_drain(coord, "test", "");
    int status = coord_run(coord);
    close_works();
    assert_int_equal(status, COORD_EXIT_CLEAN);
}

/* ---- what is said ---- */

static void play_progress(struct fake *f, enum call call, enum coord_phase phase)
{
    play_busy(f, call, phase);
    if (call == LIST && ++f->acts == 3)
        set_counts(f, 0, 0, 0);
}

static void test_progress_is_said_again_and_again(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.progress_ns = NS_PER_MS;
    fake.play = play_progress;
    make(config);
    coord_request_drain(coord, "test", "");
    assert_int_equal(coord_run(coord), COORD_EXIT_CLEAN);
    assert_logged("drain-progress", 3);
    assert_message_has("drain-progress", "draining: waiting for 1 request on 1 connection");
    assert_true(fake.called_ns[4] >= fake.called_ns[3] + NS_PER_MS); /* list to list */
}

static void test_without_progress_nobody_is_listed(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.deadline_ns = 2 * NS_PER_MS;
    fake.play = play_busy;
    make(config);
    coord_request_drain(coord, "test", "");
    (void)coord_run(coord);
    assert_int_equal(count_calls(LIST), 0);
    assert_logged("drain-progress", 0);
}

static void test_progress_names_the_oldest_and_survives_long_names(void **state)
{
    (void)state;
    char *path = calloc(1, 3000);
    struct drain drain;
    const struct drain_config config = {
        .lame_duck_ns = 0, .deadline_ns = 10 * NS_PER_S, .idle_grace_ns = NS_PER_S};
    const struct coord_census census = {.active = 4, .connections = 4};
    assert_non_null(path);
    path[0] = '/';
    memset(path + 1, 0xff, 2998);
    drain_init(&drain, &config, 1);
    drain_enter(&drain, PHASE_CLOSING, 1);
    add_unfinished(&fake, "GET", "/oldest");
    add_unfinished(&fake, path + 1, path);
    add_unfinished(&fake, "GET", path);
    add_unfinished(&fake, "GET", "/fourth");
    report_log_progress(&drain, &census, &fake.unfinished, NS_PER_S);
    assert_message_has("drain-progress", "closing: waiting for 4 requests on 4 connections, 9s "
                                         "left; oldest: GET /oldest (running, 1.5s), ");
    free(path);
}

static void test_the_end_is_counted(void **state)
{
    (void)state;
    fake.play = play_many_requests;
    fake.now = (struct coord_census){.listeners = 1, .answered = 30, .idle_released = 28};
    make(ordinary);
    coord_request_drain(coord, "test", "");
    assert_int_equal(coord_run(coord), COORD_EXIT_CLEAN);
    assert_message_has("drained", "0 answered, 28 idle connections released");
    json_t *line = logged("drained", 0);
    assert_int_equal(number_of(line, "answered"), 0); /* the thirty came before the drain */
    json_decref(line);
}

/* ---- the report ---- */

#define ODD_PATH "/odd\xff\n\x01\"\\\xc3\xbc"

static void play_report(struct fake *f, enum call call, enum coord_phase phase)
{
    (void)phase;
    if (call != CLOSE)
        return;
    pthread_mutex_lock(&f->mu);
    f->now = (struct coord_census){
        .active = 2, .connections = 3, .answered = 15, .accepted = 27, .idle_released = 4};
    pthread_mutex_unlock(&f->mu);
}

/* A drain of 5 ms with a lame duck before it, two triggers, and five requests left over. */
static json_t *run_for_report(void)
{
    struct coord_config config = ordinary;
    config.drain = (struct drain_config){
        .lame_duck_ns = 2 * NS_PER_MS, .deadline_ns = 5 * NS_PER_MS, .idle_grace_ns = NS_PER_MS};
    config.report_path = report_path;
    fake.play = play_report;
    fake.now = (struct coord_census){
        .listeners = 1, .active = 7, .connections = 9, .answered = 10, .accepted = 20};
    add_unfinished(&fake, "P\xfeST", ODD_PATH);
    add_unfinished(&fake, "GET", "/second");
    fake.unfinished.left_out = 3;
    make(config);
    coord_request_drain(coord, "file", "/run/drain");
    coord_request_drain(coord, "api", "");
    assert_int_equal(coord_run(coord), COORD_EXIT_DEADLINE);
    return read_report();
}

static void test_report_names_server_outcome_and_status(void **state)
{
    (void)state;
    json_t *report = run_for_report();
    assert_int_equal(number_of(report, "schema"), 1);
    assert_string_equal(text_of(report, "server"), "lastcall/" LASTCALL_VERSION);
    assert_string_equal(text_of(report, "outcome"), "deadline");
    assert_int_equal(number_of(report, "exit_status"), 3);
    assert_int_equal(strlen(text_of(report, "began")), strlen("2024-01-01T00:00:00.000Z"));
    assert_true(real_of(report, "deadline_ms") == 5.0);
    assert_true(real_of(report, "took_ms") >= 7.0);
    json_decref(report);
}

static void test_report_holds_every_trigger_in_order(void **state)
{
    (void)state;
    json_t *report = run_for_report();
    const json_t *triggers = json_object_get(report, "triggers");
    assert_int_equal(json_array_size(triggers), 2);
    const json_t *first = json_array_get(triggers, 0), *second = json_array_get(triggers, 1);
    assert_string_equal(text_of(first, "name"), "file");
    assert_string_equal(text_of(first, "detail"), "/run/drain");
    assert_true(real_of(first, "at_ms") == 0.0);
    assert_string_equal(text_of(second, "name"), "api");
    assert_true(real_of(second, "at_ms") >= 0.0);
    json_decref(report);
}

static void test_report_holds_every_phase_in_order(void **state)
{
    (void)state;
    static const char *const want[] = {"lame-duck", "closing", "draining", "aborting", "done"};
    struct coord_config config = ordinary;
    config.drain.lame_duck_ns = NS_PER_MS;
    config.drain.idle_grace_ns = 0;
    config.report_path = report_path;
    fake.play = play_note_phases;
    make(config);
    coord_request_drain(coord, "test", "");
    (void)coord_run(coord);
    json_t *report = read_report();
    const json_t *phases = json_object_get(report, "phases");
    assert_int_equal(json_array_size(phases), 5);
    double last_ms = 0;
    for (size_t i = 0; i < 5; i++) {
        const json_t *phase = json_array_get(phases, i);
        assert_string_equal(text_of(phase, "phase"), want[i]);
        assert_true(real_of(phase, "at_ms") >= last_ms);
        last_ms = real_of(phase, "at_ms");
    }
    assert_true(last_ms >= 1.0); /* the lame duck */
    json_decref(report);
}

static void test_report_counts_from_begin_to_end(void **state)
{
    (void)state;
    json_t *report = run_for_report();
    const json_t *counts = json_object_get(report, "counts");
    assert_int_equal(number_of(counts, "in_flight_at_begin"), 7);
    assert_int_equal(number_of(counts, "connections_at_begin"), 9);
    assert_int_equal(number_of(counts, "accepted_during"), 7);
    assert_int_equal(number_of(counts, "answered_during"), 5);
    assert_int_equal(number_of(counts, "idle_released"), 4);
    assert_int_equal(number_of(counts, "unfinished"), 5);
    assert_int_equal(number_of(counts, "jobs_at_end"), 0);
    json_decref(report);
}

static void test_report_holds_the_unfinished_with_odd_bytes(void **state)
{
    (void)state;
    json_t *report = run_for_report();
    const json_t *unfinished = json_object_get(report, "unfinished");
    assert_int_equal(json_array_size(unfinished), 2);
    const json_t *odd = json_array_get(unfinished, 0);
    assert_string_equal(text_of(odd, "method"), "P\xef\xbf\xbdST");
    /* once one byte is not UTF-8, no byte beyond ASCII is trusted */
    assert_string_equal(text_of(odd, "path"), "/odd\xef\xbf\xbd\n\x01\"\\\xef\xbf\xbd\xef\xbf\xbd");
    assert_string_equal(text_of(odd, "authority"), "example.com");
    assert_string_equal(text_of(odd, "peer"), "192.0.2.1:4711");
    assert_string_equal(text_of(odd, "state"), "running");
    assert_true(real_of(odd, "age_ms") == 1500.0);
    assert_int_equal(number_of(odd, "body_bytes"), 11);
    assert_int_equal(number_of(odd, "sent_bytes"), 22);
    assert_string_equal(text_of(json_array_get(unfinished, 1), "path"), "/second");
    json_decref(report);
    assert_message_has("unfinished", "/odd"); /* and teardown parses every line of the log */
}

static void test_report_of_a_clean_drain_says_quiet(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.report_path = report_path;
    make(config);
    coord_signal(coord, SIGTERM, 7);
    assert_int_equal(coord_run(coord), COORD_EXIT_CLEAN);
    json_t *report = read_report();
    assert_string_equal(text_of(report, "outcome"), "quiet");
    assert_int_equal(number_of(report, "exit_status"), 0);
    assert_int_equal(json_array_size(json_object_get(report, "unfinished")), 0);
    assert_int_equal(json_array_size(json_object_get(report, "phases")), 3);
    const json_t *trigger = json_array_get(json_object_get(report, "triggers"), 0);
    assert_string_equal(text_of(trigger, "name"), "SIGTERM");
    assert_string_equal(text_of(trigger, "detail"), "from process 7");
    json_decref(report);
}

static void test_report_of_a_forced_drain_says_forced(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.report_path = report_path;
    fake.play = play_busy;
    make(config);
    coord_signal(coord, SIGTERM, 0);
    coord_signal(coord, SIGINT, 0);
    assert_int_equal(coord_run(coord), COORD_EXIT_FORCED);
    json_t *report = read_report();
    assert_string_equal(text_of(report, "outcome"), "forced");
    assert_int_equal(number_of(report, "exit_status"), 4);
    json_decref(report);
}

static void test_report_notes_no_more_triggers_than_it_has_room_for(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.report_path = report_path;
    make(config);
    for (int i = 0; i < 3 * COORD_TRIGGERS_MAX; i++)
        coord_request_drain(coord, "a-name-that-is-much-too-long-for-it",
                            "and a detail that is much too long for its place: it is cut, as it "
                            "may be anything that anybody wrote anywhere");
    assert_int_equal(coord_run(coord), COORD_EXIT_CLEAN);
    json_t *report = read_report();
    assert_int_equal(json_array_size(json_object_get(report, "triggers")), COORD_TRIGGERS_MAX);
    json_decref(report);
}

static void test_report_is_for_everyone_to_read(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    struct stat st;
    config.report_path = report_path;
    make(config);
    coord_request_drain(coord, "test", "");
    (void)coord_run(coord);
    assert_int_equal(stat(report_path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0644);
}

static void write_old_report(void)
{
    FILE *file = fopen(report_path, "w");
    assert_non_null(file);
    fputs("\"old\"", file);
    fclose(file);
}

static void test_report_replaces_the_old_one_whole(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    write_old_report();
    config.report_path = report_path;
    make(config);
    coord_request_drain(coord, "test", "");
    (void)coord_run(coord);
    json_t *report = read_report();
    assert_string_equal(text_of(report, "outcome"), "quiet");
    json_decref(report);
    assert_directory_holds(1); /* no temporary file beside it */
}

/* Runs a drain whose report can not be written. */
static void assert_report_fails_to(const char *path)
{
    struct coord_config config = ordinary;
    config.report_path = path;
    make(config);
    coord_request_drain(coord, "test", "");
    assert_int_equal(coord_run(coord), COORD_EXIT_CLEAN); /* the drain was clean all the same */
    assert_logged("report-failed", 1);
    json_t *line = logged("report-failed", 0);
    assert_string_equal(text_of(line, "level"), "error");
    json_decref(line);
}

static void test_report_into_no_directory_is_an_error_in_the_log(void **state)
{
    (void)state;
    assert_report_fails_to("/nowhere/at/all/report.json");
    assert_message_has("report-failed", "/nowhere/at/all/report.json: No such file or directory");
}

static void test_report_into_a_directory_that_refuses_is_an_error_in_the_log(void **state)
{
    (void)state;
    assert_report_fails_to("/proc/report.json"); /* root may not write there either */
}

static void test_report_that_can_not_take_its_name_leaves_nothing_behind(void **state)
{
    (void)state;
    assert_int_equal(mkdir(report_path, 0700), 0); /* rename(2) over it fails */
    assert_report_fails_to(report_path);
    assert_directory_holds(1);
    assert_int_equal(rmdir(report_path), 0);
}

static void test_report_file_is_written_whole_or_not_at_all(void **state)
{
    (void)state;
    struct rlimit before, small;
    write_old_report();
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    small.rlim_cur = 100; /* a full disk: the report is longer. The log would be, too */
    struct report report = {.status = 0};
    struct drain drain;
    drain_init(&drain, &ordinary.drain, 1);
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    int err = report_write(&report, &drain, report_path);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, handler);
    assert_true(err < 0);
    assert_directory_holds(1);
    json_t *old = json_load_file(report_path, JSON_DECODE_ANY, NULL);
    assert_string_equal(json_string_value(old), "old");
    json_decref(old);
}

/* ---- claims that coord/ does not keep yet ---- */

static void test_a_request_taken_back_before_the_look_is_forgotten(void **state)
{
    (void)state;
    make(ordinary);
    coord_request_drain(coord, "file", "taken back");
    assert_true(coord_undrain(coord));
    coord_request_drain(coord, "api", "meant");
    assert_int_equal(coord_run(coord), COORD_EXIT_CLEAN);
    assert_message_has("drain-begun", "api: meant");
}

static void play_request_while_undraining(struct fake *f, enum call call, enum coord_phase phase)
{
    if (call == CLOSE)
        set_counts(f, 0, 1, 1);
    if (call == CENSUS && phase == PHASE_LAME_DUCK && f->acts++ == 0)
        (void)coord_undrain(f->coord);
    if (call == LAME_DUCK_OFF) /* the coordinator is inside its step to RUNNING */
        coord_request_drain(f->coord, "api", "while undraining");
}

static void test_a_request_while_the_undrain_is_carried_out_keeps_its_trigger(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.lame_duck_ns = NS_PER_MS;
    config.drain.deadline_ns = NS_PER_MS;
    config.report_path = report_path;
    fake.play = play_request_while_undraining;
    add_unfinished(&fake, "GET", "/");
    make(config);
    coord_request_drain(coord, "file", "first");
    assert_int_equal(coord_run(coord), COORD_EXIT_DEADLINE); /* UBSan: triggers[-1] */
    json_t *report = read_report();
    const json_t *triggers = json_object_get(report, "triggers");
    assert_int_equal(json_array_size(triggers), 1);
    assert_string_equal(text_of(json_array_get(triggers, 0), "name"), "api");
    json_decref(report);
}

static void test_unfinished_that_no_line_names_are_counted_in_one(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.deadline_ns = NS_PER_MS;
    fake.play = play_busy;
    add_unfinished(&fake, "GET", "/");
    fake.unfinished.left_out = 2;
    make(config);
    coord_request_drain(coord, "test", "");
    assert_int_equal(coord_run(coord), COORD_EXIT_DEADLINE);
    assert_message_has("unfinished-more", "and 2 more");
}

static void play_force_after_undrain(struct fake *f, enum call call, enum coord_phase phase)
{
    if (call == CENSUS && phase == PHASE_LAME_DUCK && f->acts == 0) {
        (void)coord_undrain(f->coord);
        f->acts = 1;
    } else if (call == CENSUS && phase == PHASE_RUNNING && f->acts == 1) {
        coord_signal(f->coord, SIGTERM, 0);
        coord_signal(f->coord, SIGTERM, 0);
        f->acts = 2;
    }
}

static void test_phases_of_a_drain_called_off_are_not_in_the_report(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.lame_duck_ns = FAR;
    config.report_path = report_path;
    fake.play = play_force_after_undrain;
    make(config);
    coord_request_drain(coord, "file", "");
    assert_int_equal(coord_run(coord), COORD_EXIT_FORCED);
    json_t *report = read_report();
    const json_t *first = json_array_get(json_object_get(report, "phases"), 0);
    assert_string_equal(text_of(first, "phase"), "closing");
    assert_true(real_of(first, "at_ms") < HANG_S * 1000.0);
    json_decref(report);
}

static atomic_bool looking; /* in place of a semaphore: the window is shorter than a wake-up */

static void *undrain_later(void *arg)
{
    while (!atomic_load(&looking))
        ;
    dawdle(poker.turns);
    undone[0] = coord_undrain(arg);
    undone[1] = false;
    if (undone[0]) { /* nobody asks any more, so it stays running: as long as anyone looks */
        undone[1] = coord_wait_phase(arg, PHASE_CLOSING, clock_now_ns() + NS_PER_MS) == 0;
        coord_request_drain(arg, "test", "so that it ends");
    }
    return NULL;
}

static void play_starts_the_undrain(struct fake *f, enum call call, enum coord_phase phase)
{
    play_obedient(f, call, phase);
    if (call == CENSUS && phase == PHASE_RUNNING && f->acts++ == 0)
        atomic_store(&looking, true);
}

static void test_an_undrain_that_returned_true_has_undone_the_drain(void **state)
{
    (void)state;
    fake.play = play_starts_the_undrain;
    for (unsigned round = 0; round < 500; round++) {
        pthread_t thread;
        coord_destroy(coord);
        make(ordinary);
        set_counts(&fake, 1, 1, 1);
        fake.acts = 0;
        atomic_store(&looking, false);
        fake.call_count = 0;
        poker.turns = round % 100;
        assert_int_equal(pthread_create(&thread, NULL, undrain_later, coord), 0);
        coord_request_drain(coord, "undone", "");
        (void)coord_run(coord);
        pthread_join(thread, NULL);
        if (undone[0] && undone[1])
            fail_msg("undone, and closed all the same, in round %u", round);
    }
}

static void test_a_trigger_that_is_not_utf_8_is_in_the_report(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.report_path = report_path;
    make(config);
    coord_request_drain(coord, "file", "/run/\xff");
    assert_int_equal(coord_run(coord), COORD_EXIT_CLEAN);
    json_t *report = read_report();
    assert_int_equal(json_array_size(json_object_get(report, "triggers")), 1);
    json_decref(report);
    json_t *line = logged("drain-begun", 0);
    assert_string_equal(text_of(line, "trigger"), "file");
    json_decref(line);
}

static void test_forced_names_the_signal_that_forced(void **state)
{
    (void)state;
    fake.play = play_busy;
    make(ordinary);
    coord_signal(coord, SIGTERM, 0);
    for (int i = 0; i < COORD_TRIGGERS_MAX; i++)
        coord_request_drain(coord, "api", "");
    coord_signal(coord, SIGINT, 0);
    assert_int_equal(coord_run(coord), COORD_EXIT_FORCED);
    assert_message_has("drain-forced", "forced by SIGINT");
}

static void play_one_signal_while_draining(struct fake *f, enum call call, enum coord_phase phase)
{
    if (call == CLOSE)
        set_counts(f, 0, 1, 1);
    if (call != CENSUS || phase != PHASE_DRAINING)
        return;
    if (f->acts++ == 0) {
        coord_signal(f->coord, SIGTERM, 1);
    } else {
        set_counts(f, 0, 0, 0);
        coord_poke(f->coord);
    }
}

/* Kubernetes: the preStop hook asks for the drain, and then SIGTERM comes. */
static void test_the_first_signal_after_another_trigger_does_not_force(void **state)
{
    (void)state;
    fake.play = play_one_signal_while_draining;
    make(ordinary);
    coord_request_drain(coord, "api", "preStop");
    assert_int_equal(coord_run(coord), COORD_EXIT_CLEAN);
}

static void test_force_in_lame_duck_closes_the_listeners(void **state)
{
    (void)state;
    assert_int_equal(run_forced_in(PHASE_LAME_DUCK), COORD_EXIT_FORCED);
    assert_int_equal(count_calls(CLOSE), 1);
    assert_true(time_of(CLOSE) <= time_of(FREEZE));
}

static void *ask_at_the_end(void *arg)
{
    int *ends = arg;
    char byte[4096];
    if (coord_wait_phase(coord, PHASE_DONE, CLOCK_NEVER) != 0)
        abort();
    coord_request_drain(coord, "late", "the coordinator is writing its last lines");
    while (read(ends[0], byte, sizeof(byte)) > 0) /* and now they fit */
        ;
    return NULL;
}

/* For TSan: the last line of the log blocks on a full pipe until the late request is noted. */
static void test_a_request_while_the_report_is_written_is_no_race(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    char junk[4096];
    int ends[2];
    pthread_t thread;
    config.report_path = report_path;
    config.drain.deadline_ns = NS_PER_MS;
    fake.play = play_busy;
    add_unfinished(&fake, "GET", "/");
    make(config);
    log_init(LOG_FORMAT_JSON, true);
    memset(junk, '.', sizeof(junk));
    assert_int_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
    while (write(ends[1], junk, sizeof(junk)) > 0)
        ;
    fcntl(ends[0], F_SETFL, 0);
    fcntl(ends[1], F_SETFL, 0);
    coord_request_drain(coord, "test", "");
    assert_int_equal(pthread_create(&thread, NULL, ask_at_the_end, ends), 0);
    dup2(ends[1], STDERR_FILENO);
    close(ends[1]);
    int status = coord_run(coord);
    dup2(memory, STDERR_FILENO);
    pthread_join(thread, NULL);
    close(ends[0]);
    assert_int_equal(status, COORD_EXIT_DEADLINE);
}

static void test_a_text_that_memory_failed_for_does_not_crash_the_report(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.deadline_ns = NS_PER_MS;
    config.report_path = report_path;
    fake.play = play_busy;
    add_unfinished(&fake, "GET", "/");
    free(fake.unfinished.items[0].peer);
    fake.unfinished.items[0].peer = NULL; /* strdup(3) in the server returned NULL */
    make(config);
    coord_request_drain(coord, "test", "");
    assert_int_equal(coord_run(coord), COORD_EXIT_DEADLINE);
    json_decref(read_report());
}

#define claim(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

/* ---- for onlookers ---- */

/* What they saw, step by step; on the coordinator's thread, which is the test's. */
static struct {
    enum coord_phase phases[CALLS_MAX];
    struct coord_status status[CALLS_MAX];
    size_t calls_before[CALLS_MAX]; /* of the server's callbacks */
    size_t count;
} onlooker;

static void look_on(void *arg, enum coord_phase phase)
{
    /* A lock that is held here would be asked for twice. */
    coord_get_status(arg, &onlooker.status[onlooker.count]);
    onlooker.calls_before[onlooker.count] = fake.call_count;
    onlooker.phases[onlooker.count++] = phase;
}

static void make_watched(struct coord_config config)
{
    memset(&onlooker, 0, sizeof(onlooker));
    make(config);
    coord_on_step(coord, look_on, coord);
}

static void test_onlookers_are_told_each_step_behind_it(void **state)
{
    (void)state;
    make_watched(ordinary);
    coord_request_drain(coord, "test", "");
    assert_int_equal(coord_run(coord), COORD_EXIT_CLEAN);
    static const enum coord_phase want[] = {PHASE_CLOSING, PHASE_DRAINING, PHASE_DONE};
    assert_int_equal(onlooker.count, 3);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(onlooker.phases[i], want[i]);
        assert_int_equal(onlooker.status[i].phase, want[i]);
    }
    assert_calls("lame-duck close finish");
    assert_int_equal(onlooker.calls_before[0], 2); /* the listeners were told before they were */
    assert_int_equal(onlooker.calls_before[1], 3);
}

static void look_on_too(void *arg, enum coord_phase phase)
{
    (void)phase;
    ++*(unsigned *)arg;
}

static void test_as_many_onlookers_as_there_is_room_for(void **state)
{
    (void)state;
    unsigned seen[COORD_STEPS_MAX] = {0};
    make(ordinary);
    for (size_t i = 0; i < COORD_STEPS_MAX; i++)
        coord_on_step(coord, look_on_too, &seen[i]);
    coord_request_drain(coord, "test", "");
    assert_int_equal(coord_run(coord), COORD_EXIT_CLEAN);
    for (size_t i = 0; i < COORD_STEPS_MAX; i++)
        assert_int_equal(seen[i], 3);
}

static void look_on_and_undrain(void *arg, enum coord_phase phase)
{
    look_on(arg, phase);
    if (onlooker.count == 2)
        undone[0] = coord_undrain(arg);
}

static void play_second_trigger_then_force(struct fake *f, enum call call, enum coord_phase phase)
{
    play_obedient(f, call, phase);
    if (call != CENSUS)
        return;
    if (phase == PHASE_LAME_DUCK && f->acts == 0) {
        coord_request_drain(f->coord, "api", "second");
        f->acts = 1;
    } else if (phase == PHASE_RUNNING && f->acts == 1) {
        coord_signal(f->coord, SIGTERM, 0);
        coord_signal(f->coord, SIGTERM, 0);
        f->acts = 2;
    }
}

static void test_onlookers_are_told_of_a_later_trigger_and_of_an_undrain(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.lame_duck_ns = FAR;
    fake.play = play_second_trigger_then_force;
    memset(&onlooker, 0, sizeof(onlooker));
    make(config);
    coord_on_step(coord, look_on_and_undrain, coord);
    coord_request_drain(coord, "file", "first");
    assert_int_equal(coord_run(coord), COORD_EXIT_FORCED);
    assert_true(undone[0]);
    static const enum coord_phase want[] = {PHASE_LAME_DUCK, PHASE_LAME_DUCK, PHASE_RUNNING};
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(onlooker.phases[i], want[i]);
    assert_int_equal(onlooker.status[0].trigger_count, 1);
    assert_int_equal(onlooker.status[1].trigger_count, 2);
    assert_string_equal(onlooker.status[1].triggers[0].name, "file");
    assert_string_equal(onlooker.status[1].triggers[1].detail, "second");
    assert_int_equal(onlooker.status[2].trigger_count, 0);
    assert_int_equal(onlooker.status[2].entered_ns[PHASE_LAME_DUCK], 0);
}

static void test_status_before_a_drain_has_nothing_of_one(void **state)
{
    (void)state;
    struct coord_status status;
    make(ordinary);
    coord_get_status(coord, &status);
    assert_int_equal(status.phase, PHASE_RUNNING);
    assert_int_equal(status.trigger_count, 0);
    assert_false(status.forced);
    assert_true(status.lame_duck_until_ns == CLOCK_NEVER);
    assert_true(status.deadline_at_ns == CLOCK_NEVER);
    assert_int_equal(status.begin.connections, 0);
    assert_int_equal(status.exit_status, -1);
    assert_int_equal(status.unfinished, 0);
    for (int phase = PHASE_LAME_DUCK; phase < PHASE_COUNT; phase++)
        assert_int_equal(status.entered_ns[phase], 0);
}

static void test_status_tells_when_lame_duck_and_deadline_are_over(void **state)
{
    (void)state;
    struct coord_config config = ordinary;
    config.drain.lame_duck_ns = 2 * NS_PER_MS;
    config.drain.deadline_ns = 3 * NS_PER_MS;
    fake.play = play_busy;
    add_unfinished(&fake, "GET", "/");
    fake.unfinished.left_out = 2;
    make_watched(config);
    coord_request_drain(coord, "file", "why");
    assert_int_equal(coord_run(coord), COORD_EXIT_DEADLINE);
    const struct coord_status *duck = &onlooker.status[0], *closing = &onlooker.status[1];
    assert_int_equal(duck->phase, PHASE_LAME_DUCK);
    assert_true(duck->lame_duck_until_ns == duck->entered_ns[PHASE_LAME_DUCK] + 2 * NS_PER_MS);
    assert_true(duck->deadline_at_ns == CLOCK_NEVER);
    assert_int_equal(duck->begin.active, 1);
    assert_string_equal(duck->triggers[0].detail, "why");
    assert_int_equal(closing->phase, PHASE_CLOSING);
    assert_true(closing->lame_duck_until_ns == CLOCK_NEVER);
    assert_true(closing->deadline_at_ns == closing->entered_ns[PHASE_CLOSING] + 3 * NS_PER_MS);
    assert_int_equal(closing->exit_status, -1);
    const struct coord_status *end = &onlooker.status[onlooker.count - 1];
    assert_int_equal(end->phase, PHASE_DONE);
    assert_int_equal(end->exit_status, COORD_EXIT_DEADLINE);
    assert_int_equal(end->unfinished, 3);
}

static void test_a_drain_within_has_its_own_deadline(void **state)
{
    (void)state;
    fake.play = play_busy;
    make_watched(ordinary); /* whose deadline is far */
    assert_true(coord_request_drain_within(coord, "api", "", 2 * NS_PER_MS));
    assert_int_equal(coord_run(coord), COORD_EXIT_CLEAN); /* nothing was on the list */
    const struct coord_status *closing = &onlooker.status[0];
    assert_true(closing->deadline_at_ns == closing->entered_ns[PHASE_CLOSING] + 2 * NS_PER_MS);
    assert_true(closing->drain.deadline_ns == 2 * NS_PER_MS);
    assert_int_equal(count_calls(FREEZE), 1);
}

static void test_a_drain_within_that_comes_later_changes_no_deadline(void **state)
{
    (void)state;
    make_watched(ordinary);
    coord_request_drain(coord, "file", "");
    assert_false(coord_request_drain_within(coord, "api", "", 0));
    assert_int_equal(coord_run(coord), COORD_EXIT_CLEAN);
    assert_int_equal(count_calls(FREEZE), 0);
    assert_true(onlooker.status[0].drain.deadline_ns == FAR);
    assert_int_equal(onlooker.status[0].trigger_count, 2);
}

static void test_an_undrain_takes_the_deadline_with_it(void **state)
{
    (void)state;
    make_watched(ordinary);
    assert_true(coord_request_drain_within(coord, "api", "", 0));
    assert_true(coord_undrain(coord));
    coord_request_drain(coord, "file", "");
    assert_int_equal(coord_run(coord), COORD_EXIT_CLEAN);
    assert_true(onlooker.status[0].drain.deadline_ns == FAR);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        claim(test_a_new_coordinator_is_running),
        claim(test_destroy_of_no_coordinator_is_allowed),
        claim(test_destroy_before_run_is_allowed),
        claim(test_release_of_an_empty_list_is_allowed),
        claim(test_lame_duck_calls_come_before_close_listeners),
        claim(test_spread_is_handed_to_what_lets_go),
        claim(test_class_is_given_up_while_others_are_waited_for),
        claim(test_order_with_a_deadline_is_one_for_every_class),
        claim(test_each_call_comes_in_its_phase),
        claim(test_call_order_is_lame_duck_close_finish_release),
        claim(test_a_drain_with_lame_duck_says_so_twice_and_closes_once),
        claim(test_the_unfinished_are_listed_before_they_are_cut),
        claim(test_release_idle_is_called_once),
        claim(test_nothing_is_asked_of_the_server_before_a_request),
        claim(test_lame_duck_lasts_its_time),
        claim(test_idle_grace_lasts_its_time),
        claim(test_the_deadline_is_not_early),
        claim(test_deadline_is_set_before_anything_closes),
        claim(test_the_deadline_ends_a_close_that_never_ends),
        claim(test_a_sleeping_coordinator_does_not_look),
        claim(test_wall_clock_is_not_used),
        claim(test_drain_requested_twice_is_one_drain),
        claim(test_a_request_in_any_phase_changes_nothing),
        claim(test_a_signal_begins_the_drain_and_is_named_with_its_sender),
        claim(test_a_signal_without_sender_is_named_alone),
        claim(test_second_signal_while_running_still_closes_the_listeners),
        claim(test_second_signal_in_lame_duck_skips_the_wait),
        claim(test_second_signal_while_closing_skips_the_wait),
        claim(test_second_signal_skips_the_wait),
        claim(test_a_signal_while_aborting_comes_too_late),
        claim(test_undrain_in_lame_duck_is_ready_again),
        claim(test_the_drain_after_an_undrain_names_its_own_trigger),
        claim(test_undrain_is_refused_past_the_point_of_no_return),
        claim(test_an_empty_server_drains_at_once),
        claim(test_deadline_with_unfinished_is_3),
        claim(test_deadline_with_nothing_unfinished_is_0),
        claim(test_unfinished_that_the_list_left_out_count_as_well),
        claim(test_what_ended_has_its_status_where_the_drain_is_clean),
        claim(test_what_ended_in_a_drain_does_not_set_its_status),
        claim(test_the_unfinished_win_over_the_status_of_what_ended),
        claim(test_forced_status_is_4),
        claim(test_forced_with_nothing_unfinished_is_4_too),
        claim(test_a_hundred_unfinished_are_not_a_hundred_lines),
        claim(test_poke_before_the_look_is_seen),
        claim(test_poke_between_look_and_sleep_is_not_lost),
        claim(test_poke_between_decision_and_sleep_is_not_lost),
        claim(test_poke_for_the_last_listener_is_not_lost),
        claim(test_request_between_look_and_sleep_is_not_lost),
        claim(test_pokes_for_nothing_end_nothing),
        claim(test_poke_that_races_the_sleep_is_never_lost),
        claim(test_the_last_of_many_requests_ends_the_drain),
        claim(test_two_signals_at_once_are_the_first_and_the_second),
        claim(test_waiting_for_the_present_phase_returns_past_any_deadline),
        claim(test_waiting_for_a_phase_that_does_not_come_times_out),
        claim(test_whoever_waits_for_a_phase_is_woken_by_it_or_a_later_one),
        claim(test_pool_that_falls_idle_wakes_the_coordinator),
        claim(test_pool_that_falls_idle_at_any_moment_wakes_the_coordinator),
        claim(test_a_job_that_never_ends_is_at_most_the_deadline),
        claim(test_an_idle_pool_holds_nothing_up),
        claim(test_progress_is_said_again_and_again),
        claim(test_without_progress_nobody_is_listed),
        claim(test_progress_names_the_oldest_and_survives_long_names),
        claim(test_the_end_is_counted),
        claim(test_report_names_server_outcome_and_status),
        claim(test_report_holds_every_trigger_in_order),
        claim(test_report_holds_every_phase_in_order),
        claim(test_report_counts_from_begin_to_end),
        claim(test_report_holds_the_unfinished_with_odd_bytes),
        claim(test_report_of_a_clean_drain_says_quiet),
        claim(test_report_of_a_forced_drain_says_forced),
        claim(test_report_notes_no_more_triggers_than_it_has_room_for),
        claim(test_report_is_for_everyone_to_read),
        claim(test_report_replaces_the_old_one_whole),
        claim(test_report_into_no_directory_is_an_error_in_the_log),
        claim(test_report_into_a_directory_that_refuses_is_an_error_in_the_log),
        claim(test_report_that_can_not_take_its_name_leaves_nothing_behind),
        claim(test_report_file_is_written_whole_or_not_at_all),
        claim(test_a_request_taken_back_before_the_look_is_forgotten),
        claim(test_a_request_while_the_undrain_is_carried_out_keeps_its_trigger),
        claim(test_unfinished_that_no_line_names_are_counted_in_one),
        claim(test_phases_of_a_drain_called_off_are_not_in_the_report),
        claim(test_an_undrain_that_returned_true_has_undone_the_drain),
        claim(test_a_trigger_that_is_not_utf_8_is_in_the_report),
        claim(test_forced_names_the_signal_that_forced),
        claim(test_the_first_signal_after_another_trigger_does_not_force),
        claim(test_force_in_lame_duck_closes_the_listeners),
        claim(test_a_request_while_the_report_is_written_is_no_race),
        claim(test_a_text_that_memory_failed_for_does_not_crash_the_report),
        claim(test_onlookers_are_told_each_step_behind_it),
        claim(test_as_many_onlookers_as_there_is_room_for),
        claim(test_onlookers_are_told_of_a_later_trigger_and_of_an_undrain),
        claim(test_status_before_a_drain_has_nothing_of_one),
        claim(test_status_tells_when_lame_duck_and_deadline_are_over),
        claim(test_a_drain_within_has_its_own_deadline),
        claim(test_a_drain_within_that_comes_later_changes_no_deadline),
        claim(test_an_undrain_takes_the_deadline_with_it),
    };
    return cmocka_run_group_tests_name("coord", tests, group_setup, group_teardown);
}

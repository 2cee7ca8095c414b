#include "with_coord.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "log.h"

/* ---- the wall clock, in the test's hand ---- */

atomic_llong wall_shift_s;

/* Replaces libc's in the whole program: wall time can step, monotonic time cannot. */
int clock_gettime(clockid_t id, struct timespec *ts)
{
    int ret = (int)syscall(SYS_clock_gettime, id, ts);
    if (id == CLOCK_REALTIME)
        ts->tv_sec += (time_t)atomic_load(&wall_shift_s);
    return ret;
}

/* ---- the fake server ---- */

static const char *const call_names[] = {"census",    "lame-duck", "ready",   "close",
                                         "hand-over", "finish",    "release", "list",
                                         "freeze",    "give-up",   "cut"};

static void act(struct fake *f, enum call call)
{
    if (!pthread_equal(f->thread, pthread_self()))
        f->strangers = true;
    if (call != CENSUS && f->call_count < CALLS_MAX) {
        f->called_ns[f->call_count] = clock_now_ns();
        f->calls[f->call_count++] = call;
    }
    enum coord_phase phase = coord_get_phase(f->coord);
    if (call == CENSUS)
        f->looks[phase]++;
    if (f->play != NULL)
        f->play(f, call, phase);
}

static void fake_lame_duck(void *server, bool on)
{
    act(server, on ? LAME_DUCK_ON : LAME_DUCK_OFF);
}

static void fake_close(void *server)
{
    act(server, CLOSE);
}

static void fake_hand_over(void *server)
{
    act(server, HAND_OVER);
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
    struct fake *f = server;
    if (f->give_up_count < CALLS_MAX)
        f->given_up[f->give_up_count++] = classes;
    act(server, GIVE_UP);
}

static void fake_list(void *server, bool freeze, struct coord_requests *ret_list)
{
    struct fake *f = server;
    act(f, freeze ? FREEZE : LIST);
    if (freeze) {
        *ret_list = f->unfinished;
        memset(&f->unfinished, 0, sizeof(f->unfinished));
    }
}

static void fake_cut(void *server)
{
    act(server, CUT);
}

static void fake_census(void *server, struct coord_census *ret_census)
{
    struct fake *f = server;
    pthread_mutex_lock(&f->mu);
    *ret_census = f->now;
    pthread_mutex_unlock(&f->mu);
    act(f, CENSUS); /* after the counts were taken */
}

static const struct coord_server_ops fake_ops = {
    .lame_duck = fake_lame_duck,
    .close_listeners = fake_close,
    .hand_over = fake_hand_over,
    .finish = fake_finish,
    .release_idle = fake_release,
    .give_up = fake_give_up,
    .list_requests = fake_list,
    .cut = fake_cut,
    .census = fake_census,
};

void set_counts(struct fake *f, unsigned listeners, uint64_t active, uint64_t connections)
{
    pthread_mutex_lock(&f->mu);
    f->now.listeners = listeners;
    f->now.active = active;
    f->now.connections = connections;
    pthread_mutex_unlock(&f->mu);
}

void add_unfinished(struct fake *f, const char *method, const char *path)
{
    struct coord_requests *list = &f->unfinished;
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

void play_obedient(struct fake *f, enum call call, enum coord_phase phase)
{
    (void)phase;
    if (call == CLOSE || call == HAND_OVER)
        set_counts(f, 0, 0, 0);
}

void play_busy(struct fake *f, enum call call, enum coord_phase phase)
{
    (void)phase;
    if (call == CLOSE)
        set_counts(f, 0, 1, 1);
}

enum coord_phase phase_of[CUT + 1];

void play_note_phases(struct fake *f, enum call call, enum coord_phase phase)
{
    phase_of[call] = phase;
    if (call == CLOSE)
        set_counts(f, 0, 1, 1);
    if (call == RELEASE) { /* no clock: a test that is late must see the same calls */
        coord_signal(f->coord, SIGTERM, 0);
        coord_signal(f->coord, SIGTERM, 0);
    }
}

void play_many_requests(struct fake *f, enum call call, enum coord_phase phase)
{
    (void)phase;
    if (call != CLOSE)
        return;
    pthread_mutex_lock(&f->mu);
    f->now.listeners = 0;
    pthread_mutex_unlock(&f->mu);
}

/* ---- fixture ---- */

static int real_stderr = -1;
static char said[1 << 16];
static char directory[] = "/tmp/test_coord.XXXXXX";
int memory = -1;
char report_path[64];
struct fake fake;
struct coord *coord;
bool undone[3];

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
    done += signo == SIGALRM ? write(real_stderr, hung, sizeof(hung) - 1)
                             : write(real_stderr, failed, sizeof(failed) - 1);
    (void)done; /* on the way out */
    _exit(1);
}

int with_coord_set_up(void **state)
{
    (void)state;
    (void)signal(SIGALRM, on_fatal);
    (void)signal(SIGABRT, on_fatal);
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

int with_coord_clean_up(void **state)
{
    (void)state;
    coord_destroy(coord);
    coord_requests_release(&fake.unfinished);
    pthread_mutex_destroy(&fake.mu);
    restore_stderr();
    alarm(0);
    (void)signal(SIGABRT, SIG_DFL);
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

int with_coord_make_directory(void **state)
{
    (void)state;
    if (__sanitizer_set_report_fd != NULL)
        __sanitizer_set_report_fd((void *)(intptr_t)fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 100));
    if (mkdtemp(directory) == NULL)
        return -1;
    (void)snprintf(report_path, sizeof(report_path), "%s/report.json", directory);
    return 0;
}

int with_coord_remove_directory(void **state)
{
    (void)state;
    return rmdir(directory); /* and it is empty: no test left a file there */
}

const struct coord_config ordinary = {
    .ops = &fake_ops, .server = &fake, .drain = {.deadline_ns = FAR, .idle_grace_ns = FAR}};

void make(struct coord_config config)
{
    assert_int_equal(coord_create(&config, &coord), 0);
    fake.coord = coord;
}

void assert_calls(const char *want)
{
    char got[512] = "";
    for (size_t i = 0; i < fake.call_count; i++) {
        strcat(got, i > 0 ? " " : "");
        strcat(got, call_names[fake.calls[i]]);
    }
    assert_string_equal(got, want);
}

unsigned count_calls(enum call call)
{
    unsigned n = 0;
    for (size_t i = 0; i < fake.call_count; i++)
        n += fake.calls[i] == call;
    return n;
}

uint64_t time_of(enum call call)
{
    for (size_t i = 0; i < fake.call_count; i++)
        if (fake.calls[i] == call)
            return fake.called_ns[i];
    fail_msg("%s was not called", call_names[call]);
    return 0;
}

json_t *logged(const char *event, unsigned nth)
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

void assert_logged(const char *event, unsigned times)
{
    unsigned n = 0;
    for (json_t *line; (line = logged(event, n)) != NULL; n++)
        json_decref(line);
    if (n != times)
        fail_msg("\"%s\" is in the log %u times", event, n);
}

void assert_message_has(const char *event, const char *part)
{
    json_t *line = logged(event, 0);
    assert_non_null(line);
    const char *message = json_string_value(json_object_get(line, "message"));
    if (strstr(message, part) == NULL)
        fail_msg("\"%s\" is not in \"%s\"", part, message);
    json_decref(line);
}

const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    assert_non_null(text);
    return text;
}

json_int_t number_of(const json_t *object, const char *key)
{
    const json_t *number = json_object_get(object, key);
    assert_true(json_is_integer(number));
    return json_integer_value(number);
}

double real_of(const json_t *object, const char *key)
{
    const json_t *number = json_object_get(object, key);
    assert_true(json_is_number(number));
    return json_number_value(number);
}

json_t *read_report(void)
{
    json_error_t error;
    json_t *report = json_load_file(report_path, JSON_REJECT_DUPLICATES, &error);
    if (report == NULL)
        fail_msg("%s: %s", report_path, error.text);
    return report;
}

void assert_directory_holds(unsigned files)
{
    unsigned n = 0;
    DIR *dir = opendir(directory);
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir)) != NULL;)
        n += e->d_name[0] != '.';
    closedir(dir);
    assert_int_equal(n, files);
}

/* The real process and sessions of HTTP/2 that a number makes (h2_sessions.h). It must live, and
 * answer everyone else meanwhile.
 *
 *     LASTCALL_FUZZ_SECONDS   how long; 10 by default
 *     LASTCALL_FUZZ_SEED      the first session's number; by default a new one each time
 *     LASTCALL_FUZZ_PLAYERS   sessions at a time; 8 by default
 *
 * A failure prints the numbers of the sessions that were under way. With one of them as the seed,
 * that session is the first.
 * LASTCALL_UNMENDED=1 lets libh2o's own faults be found. */

#include "h2_sessions.h"

#include <inttypes.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "directory.h"
#include "process.h"

#define LIMIT_MS 30000
#define NS_PER_S (1000 * NS_PER_MS)
#define ATTEMPTS 2 /* of 30 s, for a request that is answered in a millisecond */

static uint64_t number_from(const char *name, uint64_t fallback)
{
    const char *text = getenv(name);
    return text != NULL ? strtoull(text, NULL, 10) : fallback;
}

static void make_file(const char *name, size_t size)
{
    char *bytes = calloc(1, size);
    FILE *file = fopen(in_directory(name), "w");
    assert_non_null(bytes);
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
    free(bytes);
}

/* Does the server answer /hello on a new connection? */
static bool answers(struct process *p)
{
    if (process_is_gone(p))
        return false;
    int fd = client_connect(p);
    client_send(fd, "GET /hello HTTP/1.1\r\nHost: t\r\n\r\n");
    char *answer = client_read_answer(fd);
    bool good = answer != NULL && strstr(answer, " 200 ") != NULL;
    free(answer);
    (void)close(fd);
    return good;
}

/* The same on a machine that may have other things to do: a loop that is held stays held. */
static bool serves(struct process *p)
{
    for (unsigned i = 0; i < ATTEMPTS; i++)
        if (answers(p))
            return true;
    return false;
}

/* ---- the players ---- */

/* Each is a process of its own, since a session mostly waits. Player k of n plays the sessions
 * seed + k, seed + k + n ... */
struct player {
    pid_t pid;
    /* atomic: relaxed, by the player; read by the test */
    _Atomic uint64_t seed;
    _Atomic uint64_t sessions, frames;
};

#define PLAYERS_MOST 64

static struct player *players; /* shared */
static unsigned player_count;

static void play(struct player *player, uint16_t port, uint64_t seed)
{
    for (;; seed += player_count) {
        atomic_store_explicit(&player->seed, seed, memory_order_relaxed);
        unsigned frames = h2_session_play(port, seed);
        if (frames == 0)
            _exit(0);
        atomic_fetch_add_explicit(&player->sessions, 1, memory_order_relaxed);
        atomic_fetch_add_explicit(&player->frames, frames, memory_order_relaxed);
    }
}

static void start_players(uint16_t port, uint64_t seed)
{
    pid_t parent = getpid();

    players = mmap(NULL, PLAYERS_MOST * sizeof(*players), PROT_READ | PROT_WRITE,
                   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(players, MAP_FAILED);
    for (unsigned i = 0; i < player_count; i++) {
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid != 0) {
            players[i].pid = pid; /* the memory is shared: never by the player itself */
        } else {
            if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent)
                _exit(1);
            play(&players[i], port, seed + i);
        }
    }
}

static int stop_players(void **state)
{
    for (unsigned i = 0; players != NULL && i < player_count && players[i].pid > 0; i++) {
        (void)kill(players[i].pid, SIGKILL);
        (void)waitpid(players[i].pid, NULL, 0);
    }
    players = NULL;
    return process_kill_left(state);
}

static void test_nearly_valid_sessions_do_no_harm(void **state)
{
    struct process p;
    uint64_t seconds = number_from("LASTCALL_FUZZ_SECONDS", 10);
    uint64_t seed = number_from("LASTCALL_FUZZ_SEED", (uint64_t)time(NULL) * 1000000);
    uint64_t began_ns = now_ns(), sessions = 0, frames = 0;
    const char *const args[] = {"--threads", "1", "--root", directory, NULL};
    (void)state;

    player_count = (unsigned)number_from("LASTCALL_FUZZ_PLAYERS", 8);
    assert_in_range(player_count, 1, PLAYERS_MOST);
    make_file("40k", 40000);
    make_file("1000", 1000);
    process_start(&p, NULL, args);
    print_message("LASTCALL_FUZZ_SEED=%" PRIu64 ", %u players, %" PRIu64 " s\n", seed, player_count,
                  seconds);
    start_players(p.port, seed);
    while (now_ns() - began_ns < seconds * NS_PER_S) {
        if (!serves(&p)) {
            for (unsigned i = 0; i < player_count; i++)
                print_message("session under way: LASTCALL_FUZZ_SEED=%" PRIu64 "\n",
                              atomic_load_explicit(&players[i].seed, memory_order_relaxed));
            fail_msg("after %.1f s: %s", (double)(now_ns() - began_ns) / 1e9,
                     process_is_gone(&p) ? "the process has ended" : "no answer");
        }
        (void)poll(NULL, 0, 50);
    }
    for (unsigned i = 0; i < player_count; i++) {
        sessions += atomic_load_explicit(&players[i].sessions, memory_order_relaxed);
        frames += atomic_load_explicit(&players[i].frames, memory_order_relaxed);
    }
    print_message("%" PRIu64 " sessions, %" PRIu64 " frames\n", sessions, frames);
    process_signal(&p, SIGTERM); /* in the middle of it */
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_nearly_valid_sessions_do_no_harm, stop_players),
    };
    return cmocka_run_group_tests_name("h2_fuzz", tests, make_directory, remove_directory);
}

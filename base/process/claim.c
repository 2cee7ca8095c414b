#include "claim.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

#include "child.h"
#include "clock.h"
#include "kill.h"
#include "require.h"
#include "wakeup.h"

static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
/* mu */
static struct claim *claims;
static unsigned births;         /* between claim_begin() and claim_made() */
static int skipped_for_fd = -1; /* the reaper left a child: ring here when something changes */
static pthread_cond_t fewer;    /* claims or births */
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void init_once(void)
{
    clock_cond_init(&fewer);
}

static void changed_locked(void)
{
    if (skipped_for_fd >= 0)
        wakeup_ring(skipped_for_fd);
    skipped_for_fd = -1;
    (void)pthread_cond_broadcast(&fewer);
}

static void add_locked(struct claim *claim)
{
    claim->next = claims;
    claims = claim;
}

static void remove_locked(struct claim *claim)
{
    struct claim **at = &claims;

    while (*at != claim) {
        REQUIRE(*at != NULL);
        at = &(*at)->next;
    }
    *at = claim->next;
    claim->pid = 0;
    changed_locked();
}

void claim_begin(struct claim *claim, const void *owner)
{
    *claim = (struct claim){.owner = owner};
    (void)pthread_once(&once, init_once);
    (void)pthread_mutex_lock(&mu);
    births++;
    (void)pthread_mutex_unlock(&mu);
}

void claim_made(struct claim *claim, pid_t pid)
{
    (void)pthread_mutex_lock(&mu);
    births--;
    if (pid > 0) {
        claim->pid = pid;
        add_locked(claim);
    }
    changed_locked();
    (void)pthread_mutex_unlock(&mu);
}

bool claim_signal(const struct claim *claim, int signo, const char *what)
{
    REQUIRE(claim->pid > 0); /* only this thread reaps it, so the lock is not needed */
    return kill_process(-claim->pid, signo, what);
}

static pid_t wait_for(pid_t pid, int *ret_status, int flags)
{
    pid_t got;

    do
        got = waitpid(pid, ret_status, flags);
    while (got < 0 && errno == EINTR);
    return got;
}

/* The lock is not held while this waits: the child is left as a zombie first. */
void claim_reap(struct claim *claim, int *ret_status)
{
    siginfo_t info;
    int status = CHILD_LOST;

    while (waitid(P_PID, (id_t)claim->pid, &info, WEXITED | WNOWAIT) < 0 && errno == EINTR)
        ;
    (void)pthread_mutex_lock(&mu);
    if (wait_for(claim->pid, &status, WNOHANG) != claim->pid)
        status = CHILD_LOST;
    remove_locked(claim);
    (void)pthread_mutex_unlock(&mu);
    *ret_status = status;
}

void claim_give_up(struct claim *claim)
{
    (void)pthread_mutex_lock(&mu);
    remove_locked(claim);
    (void)pthread_mutex_unlock(&mu);
}

static bool has_any_locked(const void *owner)
{
    const struct claim *claim = claims;

    while (claim != NULL && claim->owner != owner)
        claim = claim->next;
    return claim != NULL || births > 0;
}

unsigned claims_kill(const void *owner, uint64_t until_ns)
{
    struct timespec until = clock_timespec(until_ns);
    unsigned killed = 0;
    int err = 0;

    (void)pthread_once(&once, init_once);
    (void)pthread_mutex_lock(&mu);
    while (has_any_locked(owner) && err == 0)
        err = pthread_cond_timedwait(&fewer, &mu, &until);
    for (const struct claim *claim = claims; claim != NULL; claim = claim->next)
        if (claim->owner == owner) {
            (void)kill_process(-claim->pid, SIGKILL, "a script that is left");
            killed++;
        }
    (void)pthread_mutex_unlock(&mu);
    return killed;
}

bool claims_reap_orphan(pid_t pid, int wakeup_fd)
{
    int status;

    (void)pthread_mutex_lock(&mu);
    const struct claim *claim = claims;
    while (claim != NULL && claim->pid != pid)
        claim = claim->next;
    bool leave = claim != NULL || births > 0;
    if (leave)
        skipped_for_fd = wakeup_fd;
    else
        (void)wait_for(pid, &status, WNOHANG);
    (void)pthread_mutex_unlock(&mu);
    return !leave;
}

void claims_reaper_ends(void)
{
    (void)pthread_mutex_lock(&mu);
    skipped_for_fd = -1;
    (void)pthread_mutex_unlock(&mu);
}

/* Answers that take long, and end whole in a drain.
 *
 *     GET /primes?from=N   lines, as fast as the client takes them, until it leaves
 *     GET /clock           Server-Sent Events: many readers, and none of them has a worker
 *
 *     cc primes.c $(pkg-config --cflags --libs lastcall) -o primes && ./primes 127.0.0.1:8080
 *     curl -N 127.0.0.1:8080/clock */
#include <lastcall/lastcall.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

static int is_prime(unsigned long n)
{
    for (unsigned long d = 2; d * d <= n; d++)
        if (n % d == 0)
            return 0;
    return n > 1;
}

static void primes(lc_req *request, void *user)
{
    const char *from = lc_query(request, "from");

    (void)user;
    lc_set_header(request, "content-type", "text/plain");
    for (unsigned long n = from != NULL ? strtoul(from, NULL, 10) : 2;; n++) {
        if (n % 1024 == 0 && lc_wait_for(request, 0, LC_ON_DRAIN) == LC_E_DRAINING) {
            lc_writef(request, "# go on with ?from=%lu\n",
                      n); /* a whole answer; the client comes back */
            return;
        }
        if (is_prime(n) && lc_writef(request, "%lu\n", n) != LC_OK)
            return; /* the client has left, or is too slow, or the deadline has come */
    }
}

/* ---- readers without a worker ---- */

#define READERS 10000

static struct {
    pthread_mutex_t mutex;
    lc_token token[READERS];
    size_t count;
    int over; /* tick() has ended: a new reader would get no event */
} readers = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static void subscribe(lc_req *request, void *user)
{
    (void)user;
    pthread_mutex_lock(&readers.mutex);
    if (readers.count == READERS)
        lc_fail(request, 503, "too many readers");
    else if (lc_event(request, "hello", "") == LC_OK && !readers.over)
        readers.token[readers.count++] = lc_keep(request);
    pthread_mutex_unlock(&readers.mutex);
}

/* Send one event to one reader. Returns whether it remains. */
static int tell(lc_server *server, lc_token token, const char *name, const char *data, int last)
{
    lc_req *request;
    int result = lc_hold(server, token, &request);

    if (result == LC_E_BUSY) /* its handler has not returned yet */
        return 1;
    if (result != LC_OK)
        return 0;
    if (lc_event(request, name, data) == LC_OK && !last) {
        lc_let_go(request);
        return 1;
    }
    lc_finish(request); /* the end; or this reader is too far behind, or has left */
    return 0;
}

static void tick(lc_task *task, void *server)
{
    int over;

    do {
        char now[32];
        struct tm local;
        over = lc_task_wait(task, 1000) != LC_OK; /* a drain has begun: tell each reader */
        time_t seconds = time(NULL);
        strftime(now, sizeof(now), "%T", localtime_r(&seconds, &local));
        pthread_mutex_lock(&readers.mutex);
        for (size_t i = 0; i < readers.count;)
            if (tell(server, readers.token[i], over ? "bye" : "time", now, over))
                i++;
            else
                readers.token[i] = readers.token[--readers.count];
        readers.over = over && readers.count == 0;
        over = readers.over;
        pthread_mutex_unlock(&readers.mutex);
    } while (!over && lc_task_cancelled(task) == LC_OK);
}

int main(int argc, char **argv)
{
    struct lc_route_options stream = LC_ROUTE_OPTIONS_INIT;
    lc_server *server = lc_new();

    stream.max_running = 4; /* of the workers: the others stay free */
    stream.write_timeout_ms = 10000;
    lc_listen(server, argc > 1 ? argv[1] : "127.0.0.1:8080");
    lc_handle_with(server, "GET /primes", primes, NULL, &stream);
    lc_handle(server, "GET /clock", subscribe, NULL);
    lc_go(server, "clock", tick, server);
    return lc_run(server);
}

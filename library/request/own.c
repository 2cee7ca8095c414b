#include "request_p.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "thread.h"

/* Something of the program's own for each thread that runs handlers: see lc_each_worker().
 *
 * It is made when the thread's first request comes, before its handler is called, and ended when
 * the thread ends: threads of a pool come and go, and most never run a handler that needs it. A
 * thread finds its own by a key of pthread_key_create(3), whose destructor ends it.
 *
 * A thread that is none of the server's may have one, too: lc_call() runs handlers where it is
 * called. What such threads have when the server is freed, is ended there.
 *
 * End note. Such a thread may end while another frees the server. pthread_key_delete(3) does not
 * wait for a destructor that has begun, so that one may hold an item that is gone: it uses it only
 * if it finds it in a list, by its address and its thread. (The address alone may have become
 * another thread's item.) Whoever takes an item out of the list ends it, and a server is not freed
 * while an item of its own is being ended. One lock guards the lists of all servers, because a
 * destructor does not know whose item it has; a thread takes it twice in its life. */

struct item {
    struct item *next;
    struct lc_own *of;
    void *own;
    pthread_t thread;
};

struct lc_own {
    lc_server *server;
    void *(*begin)(unsigned worker, void *user);
    void (*end)(void *own, void *user);
    void *user;
    pthread_key_t key;
    struct lc_own *next; /* mu: of all */
    struct item *items;  /* mu */
    unsigned count;      /* mu: made so far */
    unsigned ending;     /* mu: items that destructors are ending */
};

static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t ended = PTHREAD_COND_INITIALIZER; /* mu: `ending` of one has become less */
static struct lc_own *all;                              /* mu */

/* ---- functions of the program ---- */

static NOT_LOOKED_INTO void *call_begin(struct lc_own *own, unsigned worker)
{
    struct lc_called called;

    lc_called_begin(&called, own->server, "begin() of", "lc_each_worker()");
    LC_NOTHING_PASSES();
    void *made = own->begin(worker, own->user);
    lc_called_end(&called);
    return made;
}

static NOT_LOOKED_INTO void call_end(struct lc_own *own, void *made)
{
    struct lc_called called;

    if (own->end == NULL)
        return;
    lc_called_begin(&called, own->server, "end() of", "lc_each_worker()");
    LC_NOTHING_PASSES();
    own->end(made, own->user);
    lc_called_end(&called);
}

/* ---- the end of a thread ---- */

/* See end note. NULL: lc_own_destroy() has it. */
static struct item *take_own_locked(const void *item)
{
    for (struct lc_own *own = all; own != NULL; own = own->next)
        for (struct item **at = &own->items; *at != NULL; at = &(*at)->next)
            if (*at == item && pthread_equal((*at)->thread, pthread_self())) {
                struct item *taken = *at;
                *at = taken->next;
                own->ending++;
                return taken;
            }
    return NULL;
}

static void on_thread_end(void *arg)
{
    (void)pthread_mutex_lock(&mu);
    struct item *item = take_own_locked(arg);
    (void)pthread_mutex_unlock(&mu);
    if (item == NULL)
        return;
    struct lc_own *own = item->of;
    call_end(own, item->own);
    free(item);
    (void)pthread_mutex_lock(&mu);
    own->ending--;
    (void)pthread_cond_broadcast(&ended);
    (void)pthread_mutex_unlock(&mu);
}

/* ---- for a server ---- */

int lc_own_create(struct lc_routes *routes, void *(*begin)(unsigned worker, void *user),
                  void (*end)(void *own, void *user), void *user)
{
    struct lc_own *own = calloc(1, sizeof(*own));

    if (own == NULL)
        return -ENOMEM;
    own->server = routes->server;
    own->begin = begin;
    own->end = end;
    own->user = user;
    int err = pthread_key_create(&own->key, on_thread_end);
    if (err != 0) {
        free(own);
        return -err;
    }
    (void)pthread_mutex_lock(&mu);
    own->next = all;
    all = own;
    (void)pthread_mutex_unlock(&mu);
    routes->own = own;
    return 0;
}

static unsigned new_worker(struct lc_own *own)
{
    (void)pthread_mutex_lock(&mu);
    unsigned worker = own->count++;
    (void)pthread_mutex_unlock(&mu);
    return worker;
}

static void keep(struct item *item)
{
    (void)pthread_mutex_lock(&mu);
    item->next = item->of->items;
    item->of->items = item;
    (void)pthread_mutex_unlock(&mu);
}

void *lc_own_of_thread(struct lc_own *own, bool make)
{
    struct item *item = pthread_getspecific(own->key);

    if (item != NULL || !make)
        return item != NULL ? item->own : NULL;
    item = malloc(sizeof(*item));
    if (item == NULL)
        return NULL;
    *item = (struct item){.of = own, .thread = pthread_self()};
    item->own = call_begin(own, new_worker(own)); /* may take long: without the lock */
    if (item->own == NULL) {                      /* the next request tries again */
        free(item);
        return NULL;
    }
    keep(item); /* before the thread has it: its end looks there */
    if (pthread_setspecific(own->key, item) == 0)
        return item->own;
    on_thread_end(item);
    return NULL;
}

int lc_own_try(struct lc_own *own)
{
    void *made = call_begin(own, new_worker(own));

    if (made == NULL)
        return -EIO;
    call_end(own, made);
    return 0;
}

void lc_own_destroy(struct lc_own *own)
{
    if (own == NULL)
        return;
    (void)pthread_key_delete(own->key); /* no destructor begins after this */
    (void)pthread_mutex_lock(&mu);
    struct lc_own **at = &all;
    while (*at != own)
        at = &(*at)->next;
    *at = own->next;
    while (own->ending > 0)
        (void)pthread_cond_wait(&ended, &mu);
    (void)pthread_mutex_unlock(&mu);
    for (struct item *item = own->items, *next; item != NULL; item = next) {
        next = item->next;
        call_end(own, item->own);
        free(item);
    }
    free(own);
}

#include "request_p.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

/* Something of the program's own for each thread that runs handlers: see lc_each_worker().
 *
 * It is made when the thread's first request comes, before its handler is called, and ended when
 * the thread ends: threads of a pool come and go, and most never run a handler that needs it. A
 * thread finds its own by a key of pthread_key_create(3), whose destructor ends it.
 *
 * A thread that is none of the server's may have one, too: lc_call() runs handlers where it is
 * called. What such threads have when the server is freed, is ended there. */

struct item {
    struct item *next, **from;
    struct lc_own *of;
    void *own;
};

struct lc_own {
    void *(*begin)(unsigned worker, void *user);
    void (*end)(void *own, void *user);
    void *user;
    pthread_key_t key;
    pthread_mutex_t mu;
    struct item *items; /* mu */
    unsigned count;     /* mu: made so far */
};

static void end_item(struct item *item)
{
    if (item->of->end != NULL)
        item->of->end(item->own, item->of->user);
    free(item);
}

/* The thread ends. Its pool joins it before the server is freed, so `of` is there. */
static void on_thread_end(void *arg)
{
    struct item *item = arg;

    (void)pthread_mutex_lock(&item->of->mu);
    *item->from = item->next;
    if (item->next != NULL)
        item->next->from = item->from;
    (void)pthread_mutex_unlock(&item->of->mu);
    end_item(item);
}

int lc_own_create(struct lc_routes *routes, void *(*begin)(unsigned worker, void *user),
                  void (*end)(void *own, void *user), void *user)
{
    struct lc_own *own = calloc(1, sizeof(*own));

    if (own == NULL)
        return -ENOMEM;
    own->begin = begin;
    own->end = end;
    own->user = user;
    int err = pthread_key_create(&own->key, on_thread_end);
    if (err != 0) {
        free(own);
        return -err;
    }
    (void)pthread_mutex_init(&own->mu, NULL);
    routes->own = own;
    return 0;
}

void *lc_own_of_thread(struct lc_own *own, bool make)
{
    struct item *item = pthread_getspecific(own->key);

    if (item != NULL || !make)
        return item != NULL ? item->own : NULL;
    item = calloc(1, sizeof(*item));
    if (item == NULL || pthread_setspecific(own->key, item) != 0) {
        free(item);
        return NULL;
    }
    (void)pthread_mutex_lock(&own->mu);
    unsigned worker = own->count++;
    (void)pthread_mutex_unlock(&own->mu);
    item->of = own;
    item->own = own->begin(worker, own->user); /* may take long: without the lock */
    if (item->own == NULL) {                   /* the next request tries again */
        (void)pthread_setspecific(own->key, NULL);
        free(item);
        return NULL;
    }
    (void)pthread_mutex_lock(&own->mu);
    item->next = own->items;
    item->from = &own->items;
    if (item->next != NULL)
        item->next->from = &item->next;
    own->items = item;
    (void)pthread_mutex_unlock(&own->mu);
    return item->own;
}

int lc_own_try(struct lc_own *own)
{
    (void)pthread_mutex_lock(&own->mu);
    unsigned worker = own->count++;
    (void)pthread_mutex_unlock(&own->mu);
    void *made = own->begin(worker, own->user);
    if (made == NULL)
        return -EIO;
    if (own->end != NULL)
        own->end(made, own->user);
    return 0;
}

void lc_own_destroy(struct lc_own *own)
{
    if (own == NULL)
        return;
    (void)pthread_key_delete(own->key); /* after this no destructor runs */
    for (struct item *item = own->items, *next; item != NULL; item = next) {
        next = item->next;
        end_item(item);
    }
    (void)pthread_mutex_destroy(&own->mu);
    free(own);
}

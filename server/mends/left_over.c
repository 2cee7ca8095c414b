#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "container_of.h"
#include "library.h"
#include "mends.h"

/* What libh2o leaves behind when a server, a loop or a thread ends, because its own program ends
 * with the process. A process that starts and ends many servers would run out of descriptors and
 * memory.
 *
 *     of a loop           the descriptor of epoll(7), and the queue of its context
 *     of a thread         freed chunks that it keeps for reuse, in lists of its own
 *     of a configuration  the default SSL_CTX for upstreams with its cache, the table of status
 *                         handlers, and the names of the directives for headers
 *
 * All of it stays where the mends are off: this code knows the structures of one version. */

/* ---- a loop ---- */

/* libh2o's loop is this; its header shows the first part alone
 * (lib/common/socket/evloop/epoll.c.h). */
struct epoll_loop {
    h2o_evloop_t super;
    int ep;
};

void left_over_evloop(h2o_evloop_t *evloop)
{
    int ep = ((const struct epoll_loop *)(const void *)evloop)->ep;
    struct epoll_event event;

    h2o_evloop_destroy(evloop);
    if (mends_are_on() && epoll_wait(ep, &event, 1, 0) >= 0) /* else it is another descriptor */
        (void)close(ep);
}

void left_over_context(h2o_context_t *ctx)
{
    h2o_multithread_queue_t *queue = ctx->queue;

    h2o_context_dispose(ctx);
    if (mends_are_on())
        free(queue);
}

/* ---- a thread ---- */

#define CHUNKS_KEPT 16 /* of a request's memory: mempool_allocator, lib/common/memory.c */

/* libh2o's list of HTTP/2's buffers has no name for us. It is as far from the list of the sockets'
 * buffers in each thread. 0: no connection has spoken HTTP/2. relaxed: every writer writes the same
 * number, and a thread that has such buffers has written it before. */
static _Atomic ptrdiff_t to_h2_buffers;
#define FARTHEST 4096 /* both are in the few thread-locals of one library */

void left_over_note_h2(const h2o_http2_settings_t *settings)
{
    const h2o_http2_conn_t *h2 = container_of(settings, h2o_http2_conn_t, peer_settings);
    h2o_buffer_t *buffer = h2->_write.buf;

    if (to_h2_buffers != 0)
        return;
    h2o_buffer_prototype_t *prototype =
        buffer->_prototype != NULL ? buffer->_prototype
                                   : container_of(buffer, h2o_buffer_prototype_t, _initial_buf);
    ptrdiff_t distance = (char *)prototype - (char *)&h2o_socket_buffer_prototype;
    if (distance > -FARTHEST && distance < FARTHEST) /* else another thread has made the buffer */
        to_h2_buffers = distance;
}

static void empty(h2o_mem_recycle_t *list)
{
    while (list->cnt > 0)
        free(h2o_mem_alloc_recycle(list, 1)); /* the size is for a new chunk */
}

/* The list of chunks has no name for us, either. So take more chunks than it can hold. */
static void empty_pool(void)
{
    h2o_mem_pool_t pool;
    size_t taken = 0;

    h2o_mem_init_pool(&pool);
    for (const void *last = NULL; taken <= CHUNKS_KEPT; taken += pool.chunks != last) {
        last = pool.chunks;
        (void)h2o_mem_alloc_pool(&pool, 512);
    }
    for (void *chunk = pool.chunks, *next; chunk != NULL; chunk = next) {
        memcpy(&next, chunk, sizeof(next)); /* its first member */
        free(chunk);
    }
}

void left_over_thread(void)
{
    if (!mends_are_on())
        return;
    empty(&h2o_socket_buffer_prototype.allocator);
    if (to_h2_buffers != 0)
        empty(&((h2o_buffer_prototype_t *)(void *)((char *)&h2o_socket_buffer_prototype +
                                                   to_h2_buffers))
                   ->allocator);
    empty_pool();
}

/* ---- a configuration ---- */

/* Those of h2o_configurator_define_headers_commands(), which makes them of two parts. */
static bool is_made(const char *name)
{
    return strncmp(name, "header.", 7) == 0 || strncmp(name, "proxy.header.", 13) == 0;
}

static void take_names(h2o_globalconf_t *conf, char **names, size_t room, size_t *ret_count)
{
    for (h2o_linklist_t *node = conf->configurators.next; node != &conf->configurators;
         node = node->next) {
        const h2o_configurator_t *configurator = container_of(node, h2o_configurator_t, _link);
        for (size_t i = 0; i < configurator->commands.size && *ret_count < room; i++)
            if (is_made(configurator->commands.entries[i].name))
                names[(*ret_count)++] = (char *)(uintptr_t)configurator->commands.entries[i].name;
    }
}

void left_over_config(h2o_globalconf_t *conf, const char *own_status)
{
    char *names[64];
    size_t count = 0;

    if (mends_are_on())
        take_names(conf, names, sizeof(names) / sizeof(names[0]), &count);
    h2o_config_dispose(conf);
    if (!mends_are_on())
        return;
    while (count > 0)
        free(names[--count]);
    for (size_t i = 0; i < conf->statuses.size; i++)
        if (own_status != NULL &&
            h2o_memis(conf->statuses.entries[i].name.base, conf->statuses.entries[i].name.len,
                      own_status, strlen(own_status)))
            free(conf->statuses.entries[i].name.base);
    free(conf->statuses.entries);
    SSL_CTX_free(conf->proxy.ssl_ctx); /* and its cache; NULL is allowed */
}

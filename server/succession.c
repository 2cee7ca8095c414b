#include <string.h>

#include "exit_status.h"
#include "handover.h"
#include "inherit.h"
#include "listener.h"
#include "log.h"
#include "server_state.h"

/* What a server gives to its successor, and takes from its predecessor. */

/* Close the predecessor's sockets that we do not use: it closes its own descriptors itself. */
int server_settle_inheritance(struct server *server)
{
    struct inheritance *inheritance = server->listeners.inheritance;
    char error[512];

    for (size_t i = 0; i < server->listeners.count; i++)
        server->listeners.items[i].id = handover_socket_id(server->listeners.items[i].fd);
    if (inheritance == NULL)
        return 0;
    const struct inherited *left = inherit_left_over(inheritance, true);
    if (left != NULL) {
        (void)snprintf(
            error, sizeof(error),
            "a listening socket for %s was passed to this process, and the configuration "
            "does not listen there: add it, or take it out of the socket unit",
            left->name);
        log_line(LOG_LEVEL_ERROR, "start-failed", NULL, "%s", error);
        return EXIT_STATUS_CONFIG;
    }
    inherit_release(inheritance);
    return 0;
}

size_t server_listener_count(const struct server *server)
{
    return server->listeners.count;
}

bool server_offer_ticket_key(struct server *server, size_t i, struct message *ret_message)
{
    return server->tickets != NULL && tickets_offer_key(server->tickets, i, ret_message);
}

void server_take_ticket_key(struct server *server, const struct message *message)
{
    if (server->tickets != NULL)
        tickets_take_key(server->tickets, message);
}

bool server_offer(struct server *server, size_t i, struct message *ret_message)
{
    struct inherited item;

    if (i >= server->listeners.count)
        return false;
    (void)pthread_mutex_lock(&server->mu); /* a stop may be closing it; hence the duplicate, too */
    listener_describe(&server->listeners.items[i], &item);
    (void)pthread_mutex_unlock(&server->mu);
    inherit_put(&item, ret_message);
    return true;
}

bool server_is_inherited(const struct server *server, size_t i)
{
    return server->listeners.items[i].is_inherited;
}

void server_describe(const struct server *server, const uint64_t *more, size_t more_count,
                     struct message *message)
{
    uint64_t taken[HANDOVER_IDS_MAX], welcome[HANDOVER_IDS_MAX];
    size_t taken_count = 0, welcome_count = 0;

    for (size_t i = 0; i < server->listeners.count && i < HANDOVER_IDS_MAX; i++) {
        const struct listener *listener = &server->listeners.items[i];
        taken[taken_count++] = listener->id;
        if (listener->tls == NULL && !listener->expects_proxy_line)
            welcome[welcome_count++] = listener->id;
    }
    for (size_t i = 0; i < more_count && taken_count < HANDOVER_IDS_MAX; i++)
        taken[taken_count++] = more[i];
    message_put(message, HANDOVER_TAKEN, taken, taken_count * sizeof(taken[0]));
    message_put(message, HANDOVER_WELCOME, welcome, welcome_count * sizeof(welcome[0]));
}

void server_followed(struct server *server, const uint64_t *taken, size_t taken_count,
                     const uint64_t *welcome, size_t welcome_count, int conns_fd)
{
    memcpy(server->successor.taken, taken, taken_count * sizeof(*taken));
    memcpy(server->successor.welcome, welcome, welcome_count * sizeof(*welcome));
    server->successor.taken_count = taken_count;
    server->successor.welcome_count = welcome_count;
    server->successor.conns_fd = conns_fd;
}

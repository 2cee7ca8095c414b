#include "listener_p.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tls.h"

/* The list of listeners, and those that were open before this process. */

int listener_explain(const struct listener_list *list, char *error, size_t size, const char *text,
                     int err)
{
    const char *hint = "";
    char in_use[96];

    if (err == -EADDRINUSE) {
        (void)snprintf(in_use, sizeof(in_use),
                       " (another process listens there; stop it or choose another %s)",
                       list->flag != NULL ? list->flag : "--listen");
        hint = in_use;
    }
    if (err == -EACCES)
        hint = " (ports below 1024 need root or CAP_NET_BIND_SERVICE; choose a higher one)";
    else if (err == -EADDRNOTAVAIL)
        hint = " (this machine does not have that address)";
    (void)snprintf(error, size, "cannot listen on %s: %s%s", text, strerrordesc_np(-err), hint);
    return err;
}

struct listener *listener_append(struct listener_list *list)
{
    struct listener *grown = realloc(list->items, (list->count + 1) * sizeof(*list->items));
    if (grown == NULL)
        return NULL;
    list->items = grown;
    struct listener *last = &grown[list->count++];
    memset(last, 0, sizeof(*last));
    last->fd = -1;
    return last;
}

void listener_drop_last(struct listener_list *list)
{
    struct listener *last = &list->items[--list->count];
    listener_close(last);
    free(last->path);
    tls_free(last->tls);
    free(last->hosts);
}

void listener_note_address(struct listener *listener, const struct sockaddr *address,
                           socklen_t length)
{
    memcpy(&listener->address, address, length);
    listener->address_length = length;
}

/* Take over a socket that listens on this address already. */
bool listener_adopt(const struct listener_list *list, struct listener *listener,
                    const struct sockaddr *address, socklen_t length, bool is_dual)
{
    struct inherited *item = list->inheritance != NULL
                                 ? inherit_find(list->inheritance, address, length, is_dual)
                                 : NULL;

    if (item == NULL)
        return false;
    listener->fd = item->fd;
    listener->is_held = item->is_held;
    listener->is_inherited = !list->inheritance->is_activation;
    listener->stays = listener->is_inherited; /* lent, until we are in charge */
    item->fd = -1;
    listener->path_dev = item->device;
    listener->path_ino = item->inode;
    return true;
}

struct listener *listener_find(struct listener_list *list, const struct sockaddr *address,
                               socklen_t length)
{
    for (size_t i = 0; i < list->count; i++)
        if (list->items[i].address_length == length &&
            memcmp(&list->items[i].address, address, length) == 0)
            return &list->items[i];
    return NULL;
}

void listener_list_release(struct listener_list *list)
{
    while (list->count > 0)
        listener_drop_last(list);
    free(list->items);
    list->items = NULL;
}

#ifndef LASTCALL_LISTENER_P_H
#define LASTCALL_LISTENER_P_H

/* What the files of this folder share. Thread: before start. */

#include <netdb.h>

#include "listener.h"

/* The kernel caps it at net.core.somaxconn; a storm of connects is better queued than refused. */
#define BACKLOG 65535

/* ---- listener_list.c ---- */

/* Write why `text` cannot be listened on. Returns err. */
int listener_explain(const struct listener_list *list, char *error, size_t size, const char *text,
                     int err);
/* A zeroed listener at the end of the list; NULL without memory. */
struct listener *listener_append(struct listener_list *list);
/* Close and free the last one. */
void listener_drop_last(struct listener_list *list);
/* Note the configured address. */
void listener_note_address(struct listener *listener, const struct sockaddr *address,
                           socklen_t length);
/* Take over a socket that listens on this address already. False: there is none. */
bool listener_adopt(const struct listener_list *list, struct listener *listener,
                    const struct sockaddr *address, socklen_t length, bool is_dual);

/* ---- listener_tcp.c; errors as listener_open() ---- */

int listener_open_every_interface(struct listener_list *list, const char *text, uint16_t port,
                                  char *error, size_t error_size);
int listener_open_tcp(struct listener_list *list, const char *text, const char *host,
                      const char *port, char *error, size_t error_size);
/* Errors: 0; a negative errno. */
int listener_bind_tcp(const struct listener_list *list, struct listener *listener,
                      const struct addrinfo *to, bool dual);
/* Write the listener's name, from the address that it is bound to. */
void listener_name_tcp(struct listener *listener);

/* ---- listener_unix.c; errors as listener_open() ---- */

int listener_open_unix(struct listener_list *list, const char *text, const char *path,
                       const struct listener_how *how, char *error, size_t error_size);

#endif

#ifndef LASTCALL_TRUST_H
#define LASTCALL_TRUST_H

/* The proxies that the operator trusts (`trusted-proxies`): what they say about a client is
 * believed, because they wrote it themselves or have checked it. */

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

struct trust;

#define TRUST_ERROR_SIZE 256

/* Read a list of addresses and networks, with commas or blanks between them: "10.0.0.0/8, ::1";
 * "unix" is every peer on a Unix socket, "none" adds nothing.
 * Owner:  the caller; ends with trust_destroy().     Thread: any.
 * Errors: NULL, and `error` holds one line; an empty one: no memory. */
struct trust *trust_create(const char *list, char error[TRUST_ERROR_SIZE]);

/* NULL is allowed. */
void trust_destroy(struct trust *trust);

/* These:     Thread: any.     Blocks: never. */

/* Is the address one of the list? IPv4 as ::ffff:a.b.c.d (RFC 4291 section 2.5.5.2). */
bool trust_has(const struct trust *trust, const struct in6_addr *address);
/* Is the other end of a connection? `peer_len` 0: it is not known, as after a reset, when
 * getpeername(2) fails; nobody unknown is trusted. */
bool trust_has_peer(const struct trust *trust, const struct sockaddr *peer, socklen_t peer_len);
bool trust_has_unix(const struct trust *trust);

/* Read "192.0.2.1", "2001:db8::1", "[2001:db8::1]:80" or "192.0.2.1:80"; the port is not looked
 * at. IPv4 becomes ::ffff:a.b.c.d. False: it is none of these. */
bool trust_read_address(const char *text, size_t bytes, struct in6_addr *ret_address,
                        bool *ret_is_v4);

#endif

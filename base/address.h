#ifndef LASTCALL_ADDRESS_H
#define LASTCALL_ADDRESS_H

/* Internet addresses as text. */

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

#define ADDRESS_TEXT_SIZE (INET6_ADDRSTRLEN + 8)

/* Write `192.0.2.1:80` or `[2001:db8::1]:80`. False: the address is of another family, and `text`
 * is untouched.     Thread: any. */
bool address_text(const struct sockaddr_storage *address, char *text, size_t size);

#endif

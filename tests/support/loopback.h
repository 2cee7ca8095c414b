/* Ports and listeners of a test, on 127.0.0.1. */
#pragma once

#include <stdint.h>

/*
 * A free port, for a server that a test starts. It lies outside ip_local_port_range (ip(7)): the
 * kernel could give such a port to a client, or to a socket bound to port 0, before the server
 * binds it. No port is returned twice in a process, nor to two test programs that run at once.
 */
uint16_t free_port(void);

/* A listening socket of the test's own at a port of the kernel's choice, close-on-exec; the caller
 * closes it. */
int listen_here(uint16_t *ret_port, int backlog);

/* Ports and listeners of a test, on 127.0.0.1. */
#pragma once

#include <stdint.h>

/*
 * A port that nobody holds, for a server that a test starts. Never one that the kernel gives out
 * itself, to clients and to sockets bound to port 0 (ip(7), ip_local_port_range): one of those may
 * be gone before the server asks for it. Never the same twice in a process.
 */
uint16_t free_port(void);

/* A listening socket of the test's own at a port of the kernel's choice, close-on-exec; the caller
 * closes it. */
int listen_here(uint16_t *ret_port, int backlog);

#ifndef LASTCALL_TEST_AS_MANAGER_H
#define LASTCALL_TEST_AS_MANAGER_H

/* A test that plays the service manager: it receives READY=1, STOPPING=1 and so on. */

/* A datagram socket at `path`, which NOTIFY_SOCKET names for processes started from now on; recv(2)
 * waits for 15 s. The caller closes it, and unlinks the path. */
int listen_as_manager(const char *path);

#endif

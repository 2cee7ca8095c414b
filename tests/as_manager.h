#ifndef LASTCALL_TEST_AS_MANAGER_H
#define LASTCALL_TEST_AS_MANAGER_H

/* A test in the place of the service manager, which is told READY=1, STOPPING=1 and so on. */

/* A datagram socket at `path` that NOTIFY_SOCKET names to whatever is started from now on; recv(2)
 * waits for 15 s. The caller closes it, and unlinks the path. */
int listen_as_manager(const char *path);

#endif

#ifndef LASTCALL_TEST_WITH_APP_H
#define LASTCALL_TEST_WITH_APP_H

/* lastcall in front of an application: the application's address, how to start both, the state of
 * the application's processes, and a client. The applications are in tests/support/app/. */

#include "admin_client.h"

#define LIMIT_MS 30000
#define PYTHON "python3", LASTCALL_SUPPORT_FOLDER "/app/app.py"
#define NODE "node", LASTCALL_SUPPORT_FOLDER "/app/app.js"
#define APP(...) ((const char *const[]){__VA_ARGS__, NULL})

extern char url[96]; /* where it is to listen, and the port of that */
extern uint16_t app_port;

/* A free port for it, and a gate ($APP_GATE) that is shut. Of every test. */
int with_app_set_up(void **state);
int with_app_clean_up(void **state);

/* What an application in the mode "late" waits for. */
void open_gate(void *unused);
void shut_gate(void);

/* For what starts NODE. */
bool have_node(void);

/* lastcall with `flags`, in front of the application `command`. */
void start(struct process *p, const char *const *flags, const char *const *command);

/* The same, and the application has answered. */
void start_up(struct process *p, const char *const *flags, const char *const *command);

/* The number after the last `text` in the log. */
pid_t last_pid(const struct process *p, const char *text);

/* Play the service manager, which receives READY=1 once the application has answered; for processes
 * that are started before NOTIFY_SOCKET is unset. In a build without libsystemd this skips the
 * calling test, by name. */
int listen_for_ready(void);

/* Its state as /proc has it; 0: there is no such process. */
char state_of(pid_t pid, pid_t *ret_parent);

/* Wait until it is gone, or another process's zombie: the subreaper here may be slow. */
void wait_dead(pid_t pid);

/* Children of `p` that have ended and were not waited for. */
unsigned zombies_of(const struct process *p);
void wait_no_zombies(const struct process *p);

/* Whole tests, for a server with these options and its application in Python. The application ends
 * while a request is unfinished. */
void leaves_a_request_unfinished(const char *const *options);
void finds_the_world_as_if_started_alone(const char *const *options);

/* Until the process has read all that was sent on our connections: nothing is on the way to it any
 * more, and then nothing waits in its receive queues. */
void wait_taken(const struct process *p, unsigned connections);

#endif

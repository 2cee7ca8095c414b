#ifndef LASTCALL_TEST_WITH_APP_H
#define LASTCALL_TEST_WITH_APP_H

/* lastcall with an application behind it: where that listens, how it is started, what has become of
 * its processes, and a client that asks. tests/app/ has the applications. */

#include "admin_client.h"

#define LIMIT_MS 30000
#define GET(path) "GET " path " HTTP/1.1\r\nHost: test\r\n\r\n"
#define PYTHON "python3", LASTCALL_TESTS_FOLDER "/app/app.py"
#define NODE "node", LASTCALL_TESTS_FOLDER "/app/app.js"
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

/* For a configuration: as root one would go on as nobody, who may not read everything here. */
const char *own_user_name(void);

/* lastcall with `flags`, and behind it the application `command`. */
void start(struct process *p, const char *const *flags, const char *const *command);

/* The same, and the application has answered. */
void start_up(struct process *p, const char *const *flags, const char *const *command);

/* The number behind the last `text` in the log. */
pid_t last_pid(const struct process *p, const char *text);

/* In the place of the service manager, which is told READY=1 when the application has answered; for
 * what is started before NOTIFY_SOCKET is unset. Skips the test that calls it, by name, in a build
 * without libsystemd. */
int listen_for_ready(void);

/* Its state as /proc has it; 0: there is no such process. */
char state_of(pid_t pid, pid_t *ret_parent);

/* Gone, or somebody else's zombie: whoever inherits it here may be slow. */
void wait_dead(pid_t pid);

/* Children of `p` that have ended and were not waited for. */
unsigned zombies_of(const struct process *p);
void wait_no_zombies(const struct process *p);

/* The answer on a connection of its own, malloc(3)ed; and that it holds `want`. */
char *ask(const struct process *p, const char *request);
void assert_answers(const struct process *p, const char *request, const char *want);

/* Until the drain says that so many requests wait for the application. */
void wait_in_flight(struct process *p, int want);

/* Until the process has read all that was sent on our connections: nothing is on the way to it any
 * more, and then nothing waits in its receive queues. */
void wait_taken(const struct process *p, unsigned connections);

#endif

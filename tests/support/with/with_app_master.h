#ifndef LASTCALL_TEST_WITH_APP_MASTER_H
#define LASTCALL_TEST_WITH_APP_MASTER_H

/* A master with an application: its generations, and the application as seen through them. */

#include "with_app.h"

#define MASTER "-m", "master", "--restart-probation", "20ms"

extern char admin_address[64]; /* for --admin */

/* Setup of each program: it adopts the children of a killed master. Setup of each test. */
int with_app_master_begin(void **state);
int with_app_master_set_up(void **state);
int with_app_master_clean_up(void **state);

/* The process of the worker that serves as generation `n`. */
pid_t wait_generation(struct process *p, unsigned n);

/* Wait until the log has `what` that many times. */
void wait_count(struct process *p, const char *what, unsigned n);

/* The application says so itself. */
pid_t app_pid(const struct process *p);

/* The answer on this connection, which is closed then. */
void expect_200(int fd);

/* SIGTERM, a clean end, and the release. */
void stop(struct process *p);

#endif

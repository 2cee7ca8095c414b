#ifndef LASTCALL_REGISTRATION_H
#define LASTCALL_REGISTRATION_H

/* Registers this instance in Redis: a key that exists while the process is ready, for load
 * balancers and service registries.
 *
 *     RUNNING    the key is set, with a time to live, and renewed after each third of it
 *     LAME_DUCK  or CLOSING, without a lame duck: the key is deleted
 *     undrain    the key is set again
 *     killed     the key expires
 *
 * The key is renewed and deleted only while it has our value: each value has the id of its process,
 * so a successor on the same address keeps its key. A thread does all of that. An unreachable, slow
 * or full Redis is logged once per outage, and the thread tries again with backoff. Neither serving
 * nor the exit waits for Redis, except for 100 ms in registration_leave(). */

#include <stdint.h>

#include "coord.h"

struct registration;

struct registration_config {
    const char *url;           /* see redis_url.h; NULL: no registration */
    const char *password_file; /* its first line is the password; NULL: the url's */
    uint64_t ttl_ns;
    /* Templates with %h the name of this host, %p the port of the first TCP listener, %i the id of
     * this process, %% a percent sign; in `value` also %a the address. */
    const char *key;
    const char *address;
    const char *value; /* NULL: JSON with address, id, host, pid and since */
    int port;          /* for %p; 0: no TCP listener, an error; -1: not known yet, no error */
};

#define REGISTRATION_ERROR_SIZE 384

/* Read the password and expand the templates; this neither connects nor starts a thread. On failure
 * `error` holds one line that names the setting, without the password.
 * Owner:  the caller; ends with registration_destroy(). The config's texts are not kept.
 * Thread: any.     Blocks: on the disk.
 * Errors: 0 and *ret_registration; -EINVAL; -ENOTSUP: built without hiredis; -ENOMEM. */
int registration_create(const struct registration_config *config,
                        struct registration **ret_registration,
                        char error[REGISTRATION_ERROR_SIZE]);

/* Start the thread; from registration_begin() on it follows the steps of `coord`.
 * Thread: main only, once, before coord_run().     Errors: 0; a negative errno. */
int registration_start(struct registration *registration, struct coord *coord);

/* The process serves: register it. NULL is allowed.     Thread: any.     Blocks: never. */
void registration_begin(struct registration *registration);

/* A successor registers: leave the key to it from now on. NULL is allowed.
 * Thread: any.     Blocks: never. */
void registration_hand_over(struct registration *registration);

/* The process ends: wait until the key is deleted, which usually has happened before. NULL is
 * allowed.
 * Thread: any but its own.     Blocks: up to 100 ms, and not at all while Redis is known to be
 *         unreachable. */
void registration_leave(struct registration *registration);

/* Stop and join the thread; the key stays as it is. NULL is allowed.     Thread: any but its own,
 * after coord_run().     Blocks: briefly, or as long as the resolver. */
void registration_stop(struct registration *registration);

/* NULL is allowed.     Thread: any, after registration_stop() or if it was never started. */
void registration_destroy(struct registration *registration);

#endif

#ifndef LASTCALL_REGISTRATION_H
#define LASTCALL_REGISTRATION_H

/* This instance in a registry: a key in Redis that is there while the process is ready, for
 * balancers and service registries to watch.
 *
 *     RUNNING    the key is set, with a time to live, and renewed every third of it
 *     LAME_DUCK  or CLOSING, where there is no lame duck: the key is deleted
 *     undrain    it is set again
 *     killed     it expires by itself
 *
 * It is deleted, and renewed, only while its value is ours: each process has an id in it, so a
 * successor on the same address keeps what it has set. A thread of its own does all of that. A
 * Redis that is away, slow or full is said once an outage and tried again, with backoff; neither
 * serving nor the exit ever waits for it, beyond the moment in registration_leave(). */

#include <stdint.h>

#include "coord.h"

struct registration;

struct registration_config {
    const char *url;           /* see redis_url.h; NULL: no registration */
    const char *password_file; /* its first line is the password; NULL: the url's */
    uint64_t ttl_ns;
    /* Texts with %h the name of this host, %p the port of the first TCP listener, %i the id of this
     * process, %% a percent sign; in `value` also %a the address. */
    const char *key;
    const char *address;
    const char *value; /* NULL: JSON with address, id, host, pid and since */
    int port;          /* for %p; 0: there is none; -1: not known yet, no reason to fail */
};

#define REGISTRATION_ERROR_SIZE 384

/* Read the password and put the texts together; nothing is connected to, or started. On failure
 * `error` holds one line that names the setting, and no password.
 * Owner:  the caller; ends with registration_destroy(). The config's texts are not kept.
 * Thread: any.     Blocks: on the disk.
 * Errors: 0 and *ret_registration; -EINVAL; -ENOTSUP: built without hiredis; -ENOMEM. */
int registration_create(const struct registration_config *config,
                        struct registration **ret_registration,
                        char error[REGISTRATION_ERROR_SIZE]);

/* Start the thread; it follows the steps of `coord`, from registration_begin() on.
 * Thread: main only, once, before coord_run().     Errors: 0; a negative errno. */
int registration_start(struct registration *registration, struct coord *coord);

/* The process serves: register it. NULL is allowed.     Thread: any.     Blocks: never. */
void registration_begin(struct registration *registration);

/* A successor registers: what is there is left to it from now on. NULL is allowed.
 * Thread: any.     Blocks: never. */
void registration_hand_over(struct registration *registration);

/* The process ends: the key has to be gone, which it is already as a rule. NULL is allowed.
 * Thread: any but its own.     Blocks: up to 100 ms, and not at all where Redis is known to be
 * away. */
void registration_leave(struct registration *registration);

/* Stop and join the thread; the key stays as it is. NULL is allowed.     Thread: any but its own,
 * after coord_run().     Blocks: briefly, or as long as the resolver. */
void registration_stop(struct registration *registration);

/* NULL is allowed.     Thread: any, after registration_stop() or if it was never started. */
void registration_destroy(struct registration *registration);

#endif

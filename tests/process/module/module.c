/* A module for test_module.c; the macros make others of it that cannot be loaded.
 *
 * Its handler answers with its args. ?sleep=MS: it blocks so long, whatever happens; ?exit=N: it
 * calls exit(3); ?leave=1: it ends its thread. Args that begin with "file=" name a file, to which
 * it writes when a handler returns and when it ends. */

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lastcall/lastcall.h"

struct state {
    char args[256];
};

static void note(const struct state *state, const char *text)
{
    FILE *file = strncmp(state->args, "file=", 5) == 0 ? fopen(state->args + 5, "a") : NULL;

    if (file == NULL)
        return;
    (void)fprintf(file, "%s\n", text);
    (void)fclose(file);
}

/* Ways in which a handler may not end. */
static void end_wrongly(lc_req *req)
{
    const char *status = lc_query(req, "exit");

    if (status != NULL)
        (void)printf("printed before it exits"); /* and not flushed */
    if (status != NULL)
        exit(atoi(status));
    if (lc_query(req, "leave") != NULL)
        pthread_exit(NULL);
}

static void answer(lc_req *req, void *user)
{
    const char *ms = lc_query(req, "sleep");
    struct timespec time = {.tv_sec = ms != NULL ? atol(ms) / 1000 : 0,
                            .tv_nsec = ms != NULL ? atol(ms) % 1000 * 1000000 : 0};

    while (ms != NULL && nanosleep(&time, &time) != 0)
        ;
    end_wrongly(req);
    note(user, "returned");
    (void)lc_sendf(req, 200, "text/plain", "args: %s\n", ((struct state *)user)->args);
}

static int init(lc_server *server, const char *name, const char *args, void **ret_state)
{
#ifdef MODULE_REFUSES
    (void)name;
    (void)args;
    (void)ret_state;
    return lc_handle(server, "no pattern", answer, NULL);
#else
    struct state *state = calloc(1, sizeof(*state));

    if (state == NULL)
        return -ENOMEM;
    (void)snprintf(state->args, sizeof(state->args), "%s", args);
    *ret_state = state;
    if (strcmp(args, "error") == 0) {
        free(state);
        return -EADDRINUSE;
    }
    if (strcmp(args, "exit") == 0)
        exit(9);
    if (strcmp(args, "no handler") == 0)
        return 0;
    if (strcmp(args, "pattern") == 0)
        return lc_handle(server, "/everywhere/{rest...}", answer, state) != 0
                   ? -1
                   : lc_name(server, name, answer, state);
    return lc_name(server, name, answer, state);
#endif
}

static void fini(void *state)
{
    note(state, "ended");
    free(state);
}

#ifdef MODULE_IS_NEWER
LC_API extern const struct lc_module lastcall_module_1;
LC_API const struct lc_module lastcall_module_1 = {
    sizeof(struct lc_module), LC_ABI + 1, "newer", "1", init, fini};
#elif defined(MODULE_HAS_NO_SYMBOL)
LC_API extern const struct lc_module lastcall_module_2;
LC_API const struct lc_module lastcall_module_2 = {
    sizeof(struct lc_module), LC_ABI, "other", "1", init, fini};
#elif defined(MODULE_NEEDS_MORE)
extern int lc_of_a_later_version(void);
static int begin(lc_server *server, const char *name, const char *args, void **ret_state)
{
    return lc_of_a_later_version() + init(server, name, args, ret_state);
}
LC_MODULE("more", "1", begin, fini);
#else
LC_MODULE("test", "1.0", init, fini);
#endif

#include "cgi.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cgi_p.h"
#include "file.h"

/* ---- from the start to the end of the server ---- */

static int copy_texts(struct cgi *cgi, const struct cgi_settings *settings)
{
    size_t bytes = strlen(settings->mount);

    while (bytes > 0 && settings->mount[bytes - 1] == '/')
        bytes--;
    cgi->mount = strndup(settings->mount, bytes);
    cgi->settings.mount = cgi->mount;
    cgi->settings.env_count = 0;
    for (size_t i = 0; i < settings->env_count; i++) {
        cgi->settings.env[i] = strdup(settings->env[i]);
        if (cgi->settings.env[i] == NULL)
            return -ENOMEM;
        cgi->settings.env_count++;
    }
    return cgi->mount != NULL ? 0 : -ENOMEM;
}

/* The folder stays the one that it is now, whatever its name leads to later. */
static int open_dir(struct cgi *cgi, const char *dir)
{
    cgi->settings.dir = realpath(dir, NULL);
    if (cgi->settings.dir == NULL)
        return -errno;
    cgi->dir_fd = open(cgi->settings.dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return cgi->dir_fd >= 0 ? 0 : -errno;
}

int cgi_create(const struct cgi_settings *settings, struct cgi **ret_cgi,
               char error[CGI_ERROR_SIZE])
{
    struct cgi *cgi = calloc(1, sizeof(*cgi));

    if (cgi == NULL)
        return -ENOMEM;
    cgi->settings = *settings;
    cgi->settings.dir = NULL;
    cgi->dir_fd = -1;
    int err = copy_texts(cgi, settings);
    if (err == 0)
        err = open_dir(cgi, settings->dir);
    if (err != 0) {
        (void)snprintf(error, CGI_ERROR_SIZE, "the folder of scripts %.300s: %s", settings->dir,
                       strerrordesc_np(-err));
        cgi_destroy(cgi);
        return err;
    }
    *ret_cgi = cgi;
    return 0;
}

void cgi_destroy(struct cgi *cgi)
{
    if (cgi == NULL)
        return;
    for (size_t i = 0; i < cgi->settings.env_count; i++)
        free((char *)(uintptr_t)cgi->settings.env[i]);
    free((char *)(uintptr_t)cgi->settings.dir);
    free(cgi->mount);
    file_close(&cgi->dir_fd);
    free(cgi);
}

/* ---- a request ---- */

static const char *text_of(int status)
{
    switch (status) {
    case 400:
        return "the path is not valid";
    case 403:
        return "this may not be run";
    case 404:
        return "there is no such script";
    case 503:
        return "the script could not be run; try again later";
    case 504:
        return "the script took too long";
    default:
        return "the script did not answer as it must";
    }
}

void cgi_refuse(struct exchange *exchange, int status)
{
    struct exchange_answer_field *retry =
        status == 503 ? exchange->ops->alloc(exchange, sizeof(*retry)) : NULL;

    if (retry != NULL)
        *retry = (struct exchange_answer_field){.name = "retry-after", .value = "1"};
    exchange->status = status;
    exchange->content_type = "text/plain; charset=utf-8";
    exchange->answer_fields = retry;
    exchange->length = -1;
    exchange->text = exchange->scratch;
    exchange->text_bytes =
        (size_t)snprintf(exchange->scratch, EXCHANGE_SCRATCH, "%d %s\n", status, text_of(status));
}

/* Processes, memory or descriptors may be there again later; a script that the kernel cannot start
 * stays one. */
static void refuse_start(struct cgi_run *run, int err)
{
    bool is_busy = err == -EAGAIN || err == -ENOMEM || err == -EMFILE || err == -ENFILE;

    run->why = is_busy ? CGI_BUSY : CGI_BAD;
    (void)snprintf(run->reason, sizeof(run->reason), "cannot start it: %s%s", strerrordesc_np(-err),
                   err == -ENOENT ? " (does the interpreter in its first line exist?)" : "");
    cgi_say_failure(run);
    cgi_refuse(run->exchange, is_busy ? 503 : 502);
}

static void run_script(struct cgi *cgi, struct exchange *exchange, const struct cgi_script *script)
{
    struct cgi_run *run = calloc(1, sizeof(*run));
    char *buffer = malloc(CGI_ROOM);

    if (run == NULL || buffer == NULL) {
        cgi_refuse(exchange, 503);
    } else {
        run->cgi = cgi;
        run->exchange = exchange;
        run->script = script;
        run->buffer = buffer;
        int err = cgi_spawn(run);
        if (err == 0) {
            cgi_run(run);
            cgi_output_end(run);
        } else {
            refuse_start(run, err);
        }
    }
    free(buffer);
    free(run);
}

static bool may_run_one_more(struct cgi *cgi)
{
    unsigned most = cgi->settings.max_running;
    unsigned now = atomic_load_explicit(&cgi->running, memory_order_relaxed);

    do {
        if (most > 0 && now >= most)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(&cgi->running, &now, now + 1,
                                                    memory_order_relaxed, memory_order_relaxed));
    return true;
}

void cgi_handle(struct exchange *exchange, void *user)
{
    struct cgi *cgi = user;
    struct cgi_script *script = malloc(sizeof(*script));
    char path[PATH_MAX];
    int err = cgi_resolve_path(exchange->path, path);
    int status = script == NULL ? 503
                 : err != 0     ? (err == -EINVAL ? 400 : 404)
                                : cgi_lookup(cgi->settings.dir, cgi->dir_fd, cgi->mount,
                                             cgi->settings.any_link, path, script);

    if (status != 0) {
        cgi_refuse(exchange, status);
    } else if (!may_run_one_more(cgi)) {
        cgi_refuse(exchange, 503);
    } else {
        if (exchange->ops->cancelled(exchange) == 0)
            run_script(cgi, exchange, script);
        atomic_fetch_sub_explicit(&cgi->running, 1, memory_order_relaxed);
    }
    free(script);
}

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "file.h"
#include "process.h"

/* Files that are written while the process serves, or at its end: check at the start whether they
 * can be. The heartbeat is not checked: its folder may appear later, and it is tried again. */

static int refuse(const char *what, const char *path, int err, const struct options *options)
{
    char error[1024];

    if (err == -EACCES && options->user != NULL && geteuid() != 0)
        (void)snprintf(error, sizeof(error),
                       "cannot write the %s to %.500s: user %s may not write in its folder", what,
                       path, options->user);
    else if (err == -ENOENT)
        (void)snprintf(error, sizeof(error),
                       "cannot write the %s to %.500s: its folder does not exist (create it)", what,
                       path);
    else
        (void)snprintf(error, sizeof(error), "cannot write the %s to %.500s: %s", what, path,
                       file_error_text(err));
    return process_fail_with(EXIT_STATUS_CONFIG, error);
}

int process_check_paths(const struct options *options)
{
    int err = options->report != NULL ? file_check_writable(options->report) : 0;

    if (err != 0)
        return refuse("report", options->report, err, options);
    /* A start writes the pid file anyway, and reports errors. */
    err = options->test && options->pid_file != NULL ? file_check_writable(options->pid_file) : 0;
    return err != 0 ? refuse("pid file", options->pid_file, err, options) : 0;
}

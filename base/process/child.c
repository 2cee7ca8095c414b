#include "child.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "exit_status.h"

char **child_environment(bool (*is_left_out)(const char *variable), char *extra)
{
    size_t count = 0, n = 0;

    while (environ[count] != NULL)
        count++;
    char **made = calloc(count + 2, sizeof(*made));
    if (made == NULL)
        return NULL;
    for (size_t i = 0; i < count; i++)
        if (!is_left_out(environ[i]))
            made[n++] = environ[i];
    made[n] = extra;
    return made;
}

bool child_has_ended(pid_t pid, int *ret_status)
{
    int status;
    pid_t got;

    do
        got = waitpid(pid, &status, WNOHANG);
    while (got < 0 && errno == EINTR);
    if (got == pid)
        *ret_status = status;
    else if (got < 0 && errno == ECHILD)
        *ret_status = CHILD_LOST;
    else
        return false;
    return true;
}

const char *child_describe(int status, char text[CHILD_TEXT_SIZE])
{
    if (status == CHILD_LOST)
        (void)snprintf(text, CHILD_TEXT_SIZE,
                       "is gone, and another part of the program took its status");
    else if (WIFSIGNALED(status))
        (void)snprintf(text, CHILD_TEXT_SIZE, "was ended by SIG%s", sigabbrev_np(WTERMSIG(status)));
    else
        (void)snprintf(text, CHILD_TEXT_SIZE, "exited with status %d", WEXITSTATUS(status));
    return text;
}

int child_exit_status(int status)
{
    if (status == CHILD_LOST)
        return EXIT_STATUS_UNAVAILABLE;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

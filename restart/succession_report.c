/* Why a restart failed, for the log and for the client that requested it; and what the successor's
 * end means for our exit status. */

#include "succession_p.h"

#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "child.h"
#include "exit_status.h"
#include "log.h"

static void describe_end(const struct succession *succession, char *text, size_t size)
{
    char how[CHILD_TEXT_SIZE];

    if (succession->spawn_error != 0)
        (void)snprintf(text, size, "cannot start %s: %s", succession->config.binary,
                       strerrordesc_np(succession->spawn_error));
    else
        (void)snprintf(text, size, "it %s", child_describe(succession->status, how));
}

static void log_failure(struct succession *succession)
{
    char reason[512], end[256], words[800], why[HANDOVER_WHY_SIZE], took[CLOCK_TEXT_SIZE];
    const struct message said = {.version = succession->broken_version};

    describe_end(succession, end, sizeof(end));
    switch (succession->restart.failure) {
    case RESTART_FAILED_TIMEOUT:
        (void)snprintf(reason, sizeof(reason), "it was not ready after %s, and was killed",
                       clock_format_duration(succession->restart.config.timeout_ns, took));
        break;
    case RESTART_FAILED_BROKEN:
        (void)snprintf(reason, sizeof(reason), "%s", handover_why(succession->broken, &said, why));
        break;
    case RESTART_FAILED_PROBATION:
        (void)snprintf(reason, sizeof(reason), "%s during its probation", end);
        break;
    case RESTART_FAILED_COMMIT:
        (void)snprintf(reason, sizeof(reason), "%s after it was told to accept", end);
        break;
    default:
        (void)snprintf(reason, sizeof(reason), "%s", end);
        break;
    }
    (void)succession_last_lines(succession, words, sizeof(words));
    bool is_first = succession->config.timing.stays && succession->generation == 0;
    (void)snprintf(succession->failure, sizeof(succession->failure), "%s%s%s", reason,
                   words[0] != '\0' ? "; its last lines: " : "", words);
    log_line(LOG_LEVEL_ERROR, is_first ? "start-failed" : "restart-failed",
             json_pack("{s:o, s:o}", "reason", log_json_text(reason), "said", log_json_text(words)),
             "%s: %s",
             is_first ? "cannot start the first worker" : "restart failed, this process goes on",
             succession->failure);
}

void succession_report(struct succession *succession)
{
    if (succession->restart.failure != RESTART_FAILED_NOT) /* else its cancellation was logged */
        log_failure(succession);
    else
        (void)snprintf(succession->failure, sizeof(succession->failure), "it was cancelled");
    if (succession->config.hooks->failed != NULL)
        succession->config.hooks->failed(succession->config.arg);
}

/* The connections that it had accepted are lost, so log an error. */
void succession_log_kill(const struct succession *succession)
{
    const struct message said = {.version = succession->broken_version};
    char why[HANDOVER_WHY_SIZE];

    log_line(LOG_LEVEL_ERROR, "restart-killed", NULL,
             "killing process %ld, which was told to accept and then to stop: %s",
             (long)succession->pid,
             succession->broken != 0 ? handover_why(succession->broken, &said, why)
                                     : "it did not answer");
}

int succession_failed_status(const struct succession *succession)
{
    int status = WIFEXITED(succession->status) ? WEXITSTATUS(succession->status) : 0;

    return succession->spawn_error == 0 && status >= EXIT_STATUS_USAGE &&
                   status <= EXIT_STATUS_CONFIG
               ? status
               : EXIT_STATUS_UNAVAILABLE;
}

int succession_drain_status(const struct succession *succession)
{
    int status = WIFEXITED(succession->status) ? WEXITSTATUS(succession->status) : -1;

    if (succession->status == CHILD_LOST) /* it may have left requests unfinished */
        return EXIT_STATUS_DEADLINE;
    if (status == EXIT_STATUS_CLEAN || status == EXIT_STATUS_DEADLINE ||
        status == EXIT_STATUS_FORCED)
        return status;
    return succession->restart.failure != RESTART_FAILED_NOT ? EXIT_STATUS_DEADLINE
                                                             : EXIT_STATUS_CLEAN;
}

#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "admin.h"
#include "options_p.h"
#include "standard_fds.h"

/* Values of options that need more than base/flags.h knows. Each function is a flag_set_cb. */

const char *options_add_listen(const struct flag *flag, const char *text, void *at, void *target,
                               char *want)
{
    struct options *options = target;

    (void)flag;
    (void)at;
    (void)want;
    if (options->listen_count == OPTIONS_LISTEN_MAX)
        return "no more than 64 addresses";
    options->listen[options->listen_count++] = text;
    return NULL;
}

const char *options_add_proxy(const struct flag *flag, const char *text, void *at, void *target,
                              char *want)
{
    struct options *options = target;

    (void)flag;
    (void)at;
    (void)want;
    if (options->proxy_count == OPTIONS_PROXY_MAX)
        return "no more than 16 URLs";
    options->proxy[options->proxy_count++] = text;
    return NULL;
}

const char *options_set_descriptor(const struct flag *flag, const char *text, void *at,
                                   void *target, char *want)
{
    char *end;
    long fd = strtol(text, &end, 10);

    (void)flag;
    (void)target;
    (void)want;
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || fd > INT_MAX ||
        fcntl((int)fd, F_GETFD) < 0 || standard_fds_was_closed((int)fd))
        return "want the number of an open descriptor";
    *(int *)at = (int)fd;
    return NULL;
}

/* Only what can be checked without opening anything; listener_open() checks the rest. */
const char *options_set_address(const struct flag *flag, const char *text, void *at, void *target,
                                char *want)
{
    const char *colon = strrchr(text, ':'), *port = colon != NULL ? colon + 1 : text;
    static const char wanted[] =
        "want PORT, HOST:PORT, [IPV6]:PORT, unix:/PATH or off (there is no TLS on it)";

    (void)flag;
    (void)target;
    (void)want;
    if (strncmp(text, "tls:", 4) == 0 || strcmp(text, "unix:") == 0)
        return wanted;
    if (strcmp(text, "off") != 0 && strncmp(text, "unix:", 5) != 0 &&
        (port[0] == '\0' || port[strspn(port, "0123456789")] != '\0'))
        return wanted;
    *(const char **)at = text;
    return NULL;
}

/* It becomes the name of a file. */
const char *options_set_name(const struct flag *flag, const char *text, void *at, void *target,
                             char *want)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    size_t n = strlen(text);

    (void)flag;
    (void)target;
    (void)want;
    if (n < 1 || n > ADMIN_NAME_MAX || strspn(text, allowed) != n || text[0] == '.')
        return "want 1 to 48 letters, digits, dots, underscores or hyphens, no dot first";
    *(const char **)at = text;
    return NULL;
}

const char *options_set_mode(const struct flag *flag, const char *text, void *at, void *target,
                             char *want)
{
    static const char *const names[] = {[OPTIONS_MODE_WORKER] = "worker",
                                        [OPTIONS_MODE_TEST] = "test",
                                        [OPTIONS_MODE_MASTER] = "master",
                                        [OPTIONS_MODE_DAEMON] = "daemon"};
    struct options *options = target;

    (void)flag;
    (void)at;
    (void)want;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(text, names[i]) == 0) {
            options->mode = (enum options_mode)i;
            options->test = options->mode == OPTIONS_MODE_TEST;
            return NULL;
        }
    }
    return "want worker, master, daemon or test";
}

const char *options_set_format(const struct flag *flag, const char *text, void *at, void *target,
                               char *want)
{
    (void)flag;
    (void)target;
    (void)want;
    if (strcmp(text, "text") != 0 && strcmp(text, "json") != 0)
        return "want text or json";
    *(enum log_format *)at = text[0] == 'j' ? LOG_FORMAT_JSON : LOG_FORMAT_TEXT;
    return NULL;
}

const char *options_set_sync(const struct flag *flag, const char *text, void *at, void *target,
                             char *want)
{
    (void)flag;
    (void)target;
    (void)want;
    *(bool *)at = strcmp(text, "msync") == 0;
    return *(bool *)at || strcmp(text, "none") == 0 ? NULL : "want none or msync";
}

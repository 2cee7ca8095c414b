#include "config_p.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "log.h"
#include "options.h"
#include "library.h"

/* Messages about the configuration, with file, line and column; and the path of a helper program,
 * with a message if it is missing. */

/* ---- a directive that does not exist ---- */

#define TYPING_ERRORS 2
#define NAME_MOST 64

static _Thread_local const h2o_globalconf_t *knows; /* NULL: no configuration is being read */

void config_report_knows(const h2o_globalconf_t *conf)
{
    knows = conf;
}

static unsigned least(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

/* How many letters have to be put in, left out or exchanged to make one name of the other. */
static unsigned distance(const char *a, const char *b)
{
    unsigned row[NAME_MOST + 1];
    size_t n = strlen(b);

    if (n > NAME_MOST)
        return UINT_MAX;
    for (unsigned k = 0; k <= n; k++)
        row[k] = k;
    for (unsigned i = 0; a[i] != '\0'; i++) {
        unsigned before = row[0];
        row[0] = i + 1;
        for (size_t k = 0; k < n; k++) {
            unsigned exchanged = before + (a[i] != b[k]);
            before = row[k + 1];
            row[k + 1] = least(exchanged, least(row[k], row[k + 1]) + 1);
        }
    }
    return row[n];
}

static const char *nearest(const char *name)
{
    const char *found = NULL;
    unsigned best = least(TYPING_ERRORS, (unsigned)strlen(name) / 3) + 1;

    if (knows == NULL)
        return NULL;
    for (const h2o_linklist_t *at = knows->configurators.next; at != &knows->configurators;
         at = at->next) {
        const h2o_configurator_t *of = H2O_STRUCT_FROM_MEMBER(h2o_configurator_t, _link, at);
        for (size_t i = 0; i < of->commands.size; i++) {
            unsigned far = distance(name, of->commands.entries[i].name);
            if (far < best) {
                best = far;
                found = of->commands.entries[i].name;
            }
        }
    }
    return found;
}

/* What may have been meant by what the library does not know; "" if nothing comes near. */
static const char *hint(const char *text, char *room, size_t size)
{
    static const char unknown[] = "unknown command: ";

    if (strncmp(text, unknown, sizeof(unknown) - 1) != 0)
        return "";
    const char *name = text + sizeof(unknown) - 1, *key = strrchr(name, '.'), *meant;
    if (key != NULL && options_has_directive(name))
        (void)snprintf(room, size, "; write it as `%.*s: {%s: ...}`", (int)(key - name), name,
                       key + 1);
    else if ((meant = nearest(name)) != NULL)
        (void)snprintf(room, size, "; did you mean %s?", meant);
    else
        return "";
    return room;
}

void config_report(h2o_configurator_command_t *cmd, yoml_t *node, const char *reason, va_list args)
{
    char text[1024], room[256];

    (void)vsnprintf(text, sizeof(text), reason, args);
    size_t n = strlen(text);
    while (n > 0 && text[n - 1] == '\n')
        text[--n] = '\0';
    bool is_warning = strncmp(text, "[warning] ", 10) == 0;
    log_line(is_warning ? LOG_LEVEL_WARN : LOG_LEVEL_ERROR, "configuration",
             json_pack("{s:s, s:I, s:I}", "file", node->filename != NULL ? node->filename : "?",
                       "line", (json_int_t)node->line + 1, "column", (json_int_t)node->column + 1),
             "%s:%zu:%zu: %s%s%s%s", node->filename != NULL ? node->filename : "?", node->line + 1,
             node->column + 1, cmd != NULL ? cmd->name : "", cmd != NULL ? ": " : "",
             is_warning ? text + 10 : text, cmd == NULL ? hint(text, room, sizeof(room)) : "");
}

/* The library's fastcgi.spawn starts helpers that another package brings. Its own function would
 * only report that a file is missing; this one names the package. */
char *config_command_path(const char *cmd)
{
    const char *root = getenv("H2O_ROOT");
    char *path = NULL;

    if (cmd[0] == '/' || strchr(cmd, '/') == NULL)
        return h2o_strdup(NULL, cmd, SIZE_MAX).base;
    if (asprintf(&path, "%s/%s", root != NULL ? root : "/usr", cmd) < 0)
        abort(); /* as libh2o does when memory runs out */
    if (strncmp(cmd, "share/h2o/", 10) == 0 && access(path, R_OK) != 0)
        log_line(LOG_LEVEL_WARN, "configuration", NULL,
                 "%s is missing: apt-get install h2o, or set H2O_ROOT to where share/h2o is", path);
    return path;
}

bool config_get_text(h2o_configurator_command_t *cmd, yoml_t *mapping, const char *name,
                     yoml_t **ret_text)
{
    *ret_text = yoml_get(mapping, name);
    if (*ret_text == NULL || (*ret_text)->type == YOML_TYPE_SCALAR)
        return true;
    (void)config_fail(cmd, *ret_text, "%s must be a text or a number", name);
    return false;
}

int config_unknown_key(h2o_configurator_command_t *cmd, yoml_t *key, const char *known)
{
    return config_fail(cmd, key, "unknown key %s; known are %s",
                       key->type == YOML_TYPE_SCALAR ? key->data.scalar : "(not a text)", known);
}

int config_get_switch(h2o_configurator_command_t *cmd, yoml_t *node, bool *ret_on)
{
    ssize_t on = h2o_configurator_get_one_of(cmd, node, "OFF,ON");

    if (on < 0)
        return -1;
    *ret_on = on == 1;
    return 0;
}

int config_get_number(h2o_configurator_command_t *cmd, yoml_t *node, uint64_t least, uint64_t most,
                      uint64_t *ret_number)
{
    unsigned long long number;

    if (node->type != YOML_TYPE_SCALAR)
        return config_fail(cmd, node, "want a whole number");
    if (h2o_configurator_scanf(cmd, node, "%llu", &number) != 0)
        return -1;
    if (number < least || number > most)
        return config_fail(cmd, node, "%s: want a whole number from %llu to %llu",
                           node->data.scalar, (unsigned long long)least, (unsigned long long)most);
    *ret_number = number;
    return 0;
}

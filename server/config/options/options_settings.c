#include <stdio.h>
#include <string.h>

#include "options_p.h"

/* The rows of the table that a configuration file may set. */

bool options_has_directive(const char *directive)
{
    for (size_t i = 0; i < options_row_count; i++)
        if (options_rows[i].setting != NULL && strcmp(options_rows[i].setting, directive) == 0)
            return true;
    return false;
}

bool options_is_list(const char *directive)
{
    for (size_t i = 0; i < options_row_count; i++)
        if (options_rows[i].setting != NULL && strcmp(options_rows[i].setting, directive) == 0)
            return options_rows[i].kind == FLAG_ANY_TEXT;
    return false;
}

/* The part of a directive after `GROUP.`; NULL: the directive is not of that group. */
static const char *below(const char *directive, const char *group)
{
    size_t n = strlen(group);
    return directive != NULL && n > 0 && strncmp(directive, group, n) == 0 && directive[n] == '.'
               ? directive + n + 1
               : NULL;
}

bool options_has_group(const char *group)
{
    for (size_t i = 0; i < options_row_count; i++)
        if (below(options_rows[i].setting, group) != NULL)
            return true;
    return false;
}

const char *options_names_of_group(const char *group, char *names)
{
    size_t n = 0;

    names[0] = '\0';
    for (size_t i = 0; i < options_row_count; i++) {
        const char *name = below(options_rows[i].setting, group);
        size_t length = name != NULL ? strcspn(name, ".") : 0;
        /* A subgroup's rows follow each other: name the subgroup once. */
        if (name == NULL || (n >= length && strncmp(names + n - length, name, length) == 0))
            continue;
        n += (size_t)snprintf(names + n, OPTIONS_NAMES_SIZE - n, "%s%.*s", n > 0 ? ", " : "",
                              (int)length, name);
        if (n >= OPTIONS_NAMES_SIZE)
            break;
    }
    return names;
}

const char *options_override(struct options *options, const char *directive, const char *text,
                             bool is_last, char *want)
{
    for (size_t i = 0; i < options_row_count; i++) {
        if (options_rows[i].setting == NULL || strcmp(options_rows[i].setting, directive) != 0)
            continue;
        const char *wanted = flags_set(&options_rows[i], text, options, want);
        if (wanted == NULL)
            options->given[i] = is_last;
        return wanted;
    }
    return "there is no such setting";
}

const char *options_set_directive(struct options *options, const char *directive, const char *text,
                                  char *want)
{
    struct options scratch = *options;

    for (size_t i = 0; i < options_row_count; i++) {
        if (options_rows[i].setting == NULL || strcmp(options_rows[i].setting, directive) != 0)
            continue;
        /* The text must be valid even if a flag overrides it. */
        return flags_set(&options_rows[i], text, options->given[i] ? &scratch : options, want);
    }
    return "there is no such setting";
}

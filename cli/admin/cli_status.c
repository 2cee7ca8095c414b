#include "cli_status.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "cli_text.h"

bool cli_is_status(const json_t *status)
{
    return json_integer_value(json_object_get(status, "schema")) == 1;
}

const json_t *cli_value(const json_t *status, const char *path)
{
    char name[32];

    while (status != NULL && *path != '\0') {
        size_t n = strcspn(path, ".");
        if (n >= sizeof(name))
            return NULL;
        memcpy(name, path, n);
        name[n] = '\0';
        status = json_object_get(status, name);
        path += n + (path[n] == '.');
    }
    return status;
}

double cli_number(const json_t *status, const char *path, double fallback)
{
    const json_t *value = cli_value(status, path);
    return json_is_number(value) ? json_number_value(value) : fallback;
}

const char *cli_text(const json_t *status, const char *path)
{
    const char *text = json_string_value(cli_value(status, path));
    return text != NULL ? text : "";
}

bool cli_has(const json_t *status, const char *path)
{
    return json_is_object(cli_value(status, path));
}

char *cli_listeners(const json_t *status, char *buf, size_t size)
{
    const json_t *listeners = json_object_get(status, "listeners"), *listener;
    size_t used = 0, index;

    (void)snprintf(buf, size, "none");
    json_array_foreach(listeners, index, listener)
    {
        char address[128];
        if (!json_is_string(listener) || used + 4 >= size)
            break;
        (void)cli_clean(json_string_value(listener), address, sizeof(address), SIZE_MAX);
        int n = snprintf(buf + used, size - used, "%s%s", index > 0 ? ", " : "", address);
        used += n > 0 ? (size_t)n : 0;
    }
    return buf;
}

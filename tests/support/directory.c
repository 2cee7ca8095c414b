#include "directory.h"

#include <stdio.h>
#include <stdlib.h>

char directory[] = "/tmp/lastcall-test-XXXXXX";

int make_directory(void **state)
{
    (void)state;
    return mkdtemp(directory) != NULL ? 0 : -1;
}

int remove_directory(void **state)
{
    char command[64];
    (void)state;
    (void)snprintf(command, sizeof(command), "rm -rf %s", directory);
    return system(command);
}

const char *in_directory(const char *name)
{
    static char paths[16][160];
    static unsigned next;
    char *path = paths[next++ % 16];
    (void)snprintf(path, sizeof(paths[0]), "%s/%s", directory, name);
    return path;
}

#include "directory.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define NAME "lastcall-test-XXXXXX"
#define ROOM_BYTES (UINT64_C(1) << 30) /* several programs, and 64 MiB for each record */

char directory[sizeof("/dev/shm/" NAME)] = "/tmp/" NAME;

int make_directory(void **state)
{
    (void)state;
    return mkdtemp(directory) != NULL ? 0 : -1;
}

const char *memory_folder(void)
{
    static const char folder[] = "/dev/shm";
    struct statvfs at;

    if (access(folder, W_OK) != 0 || statvfs(folder, &at) != 0)
        return "/tmp";
    return (uint64_t)at.f_bavail * at.f_frsize >= ROOM_BYTES ? folder : "/tmp";
}

int make_directory_in_memory(void **state)
{
    (void)snprintf(directory, sizeof(directory), "%s/" NAME, memory_folder());
    return make_directory(state);
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

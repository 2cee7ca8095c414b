#include "with_slow_clients.h"

#include <stdio.h>
#include <time.h>
#include <unistd.h>

int with_slow_clients_set_up(void **state)
{
    if (with_config_set_up(state) != 0)
        return -1;
    FILE *file = fopen(in_directory("big"), "w");
    return file == NULL || ftruncate(fileno(file), 64 << 20) != 0 || fclose(file) != 0;
}

void pause_ms(long ms)
{
    const struct timespec pace = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

    (void)nanosleep(&pace, NULL);
}

#include "with_journal.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "directory.h"

char journal[128], admin_address[160];

int with_journal_set_up(void **state)
{
    (void)state;
    (void)snprintf(journal, sizeof(journal), "%s/XXXXXX", directory);
    (void)snprintf(admin_address, sizeof(admin_address), "unix:%s/admin", directory);
    return mkdtemp(journal) == NULL ? -1 : 0;
}

unsigned count_records(void)
{
    unsigned n = 0;
    DIR *d = opendir(journal);

    for (struct dirent *entry; d != NULL && (entry = readdir(d)) != NULL;)
        n += strncmp(entry->d_name, "inflight.", strlen("inflight.")) == 0;
    if (d != NULL)
        (void)closedir(d);
    return n;
}

#include "with_journal.h"

#include <stdio.h>
#include <stdlib.h>

#include "directory.h"

char journal[128], admin_address[160];

int with_journal_set_up(void **state)
{
    (void)state;
    (void)snprintf(journal, sizeof(journal), "%s/XXXXXX", directory);
    (void)snprintf(admin_address, sizeof(admin_address), "unix:%s/admin", directory);
    return mkdtemp(journal) == NULL ? -1 : 0;
}

#ifndef LIBRARY_DOUBLE_H
#define LIBRARY_DOUBLE_H

#include "lastcall/lastcall.h"

struct server;

/* From now on the server has started; lc_hold() asks `running`, which the test makes up. */
void double_start(lc_server *server, struct server *running);

/* What lc_files() and the like have added last: "PATH DIRECTIVE VALUE". */
const char *double_path(const lc_server *server);

#endif

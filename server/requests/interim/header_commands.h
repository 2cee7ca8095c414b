#ifndef LASTCALL_HEADER_COMMANDS_H
#define LASTCALL_HEADER_COMMANDS_H

/* The directives `header.*` of a path, such as `header.unset`. libh2o carries them out in a filter,
 * which a final answer passes and an interim one does not. The filter here does the same, and
 * interim answers can ask it which fields it would not leave as they are. */

#include <stdbool.h>
#include <stddef.h>

#include "h2o_api.h"

/* Replaces h2o_headers_register(). libh2o has merged the commands of the file and of the host into
 * those of the path. Owner: the caller has taken a reference to `cmds` for the path, which libh2o
 * never releases.     Thread: before start.     Blocks: never. */
void header_commands_register(h2o_pathconf_t *path, h2o_headers_command_t *cmds);

/* Would one of them remove, replace or extend a field of this name, which is in lower case?
 * `add` and `setifempty` keep what is there.     Thread: any, after start.     Blocks: never. */
bool header_commands_change(const h2o_pathconf_t *path, const char *name, size_t name_len);

#endif

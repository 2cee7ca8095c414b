#ifndef LASTCALL_REPLAY_FILE_H
#define LASTCALL_REPLAY_FILE_H

/* A source that reads archive files (docs/archive.md) and notes the outcomes in FILE.done. */

#include "replay_source.h"

/* Open `path`, an archive file or a journal folder. In a folder, first archive the requests that
 * killed processes left in their records, unless `dry_run`.
 * Owner:  *ret_source is the caller's; `filter` is borrowed until its close().
 * Thread: main only.
 * Errors: an enum replay_exit; `error` (REPLAY_ERROR_SIZE bytes) has the message. */
int replay_file_open(const char *path, const struct replay_filter *filter, bool dry_run,
                     struct replay_source **ret_source, char *error);

#endif

#ifndef LASTCALL_FILE_H
#define LASTCALL_FILE_H

/* Write `text` to `path`, for everyone to read: whole or not at all (a temporary file beside it,
 * then rename(2)), so that whoever waits for the file never reads half of it. Thread: any. Blocks:
 * on the disk.     Errors: 0; a negative errno, then `path` is as it was. */
int file_write_whole(const char *path, const char *text);

#endif

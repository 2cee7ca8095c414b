#ifndef LASTCALL_FILE_H
#define LASTCALL_FILE_H

/* Files whose names come from the user: a report, a log, a pid file. Anything may be at such a
 * name, and it may change while we look:
 *
 *     a regular file, or nothing    we write a new file beside it and rename(2) it to the name
 *     a symbolic link               we follow it, and it stays
 *     a device, a FIFO, one of our  we write to it; we neither replace it nor wait for its reader
 *     descriptors (/dev/stdout)
 *     a folder, a disk, a socket    we refuse it
 *
 * Link note. Root follows a link only if the link belongs to root. Otherwise the owner of a folder
 * with a log in it could make root write to any file. Each link on the way is opened before it is
 * checked and read, so no other process can exchange it in between.
 *
 * All of these: Thread: any. Blocks: on the disk. */

#include <stddef.h>
#include <sys/types.h>

/* How many descriptors file_write() needs at a time. */
#define FILE_DESCRIPTORS 3

/* How long a write to a FIFO or a device may wait in total. */
#define FILE_WAIT_MS 500

/* Write `text` to `path` with the permissions `mode`, whatever umask(2) says. A regular file is
 * written whole or not at all, so that no reader sees half of it. What cannot be replaced is
 * written to directly.
 * Blocks: also FILE_WAIT_MS on a FIFO or device that accepts nothing.
 * Errors: 0; a negative errno, and a regular file is unchanged: -ENXIO the FIFO has no reader;
 *         -ETIMEDOUT it accepted too little; -ELOOP see link note; -EISDIR; -ENOTSUP what is at the
 *         name cannot be written to. */
int file_write_whole_as(const char *path, const char *text, mode_t mode);

/* The same, readable for everyone. */
int file_write_whole(const char *path, const char *text);

/* Could file_write() write it now? Nothing is created, opened or changed.
 * Errors: 0; a negative errno, as above; -ENOENT the folder does not exist. */
int file_check_writable(const char *path);

/* open(2) with O_CLOEXEC, O_NOCTTY and O_NONBLOCK; links as above.
 * Owner:  the caller, close(2).     Errors: a descriptor; a negative errno. */
int file_open(const char *path, int flags, mode_t mode);

/* Open a log to append to. A FIFO need not have a reader yet: it keeps what fits, and the rest is
 * lost. Only a FIFO stays in O_NONBLOCK.
 * Owner:  the caller, close(2).     Errors: a descriptor; a negative errno. */
int file_open_log(const char *path);

/* Open a regular file to read. It never waits for the writer of a FIFO, and does not follow a link
 * at the end of the path.
 * Owner:  the caller, close(2).
 * Errors: a descriptor; a negative errno; -ENOTSUP: not a regular file. */
int file_open_regular(const char *path);

/* Flush the names in a folder to the disk, as fsync(2) flushes the bytes of a file. Without it a
 * new or renamed file may be gone after a loss of power.
 * Errors: 0, also where the file system does not support it; a negative errno. */
int file_sync_folder(const char *dir);

/* Close *fd, unless it is -1, and make it -1. */
void file_close(int *fd);

/* The text for an error of these functions, for a log line. */
const char *file_error_text(int err);

#endif

#include "pid_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "file.h"

/* Opened before the process dropped privileges; -1: it was not. */
static int pid_fd = -1;

#define TEXT_SIZE 24

/* Returns its length. */
static int put_text(char text[TEXT_SIZE])
{
    return snprintf(text, TEXT_SIZE, "%ld\n", (long)getpid());
}

int pid_file_write(const char *path)
{
    char text[TEXT_SIZE];
    int n = put_text(text);
    if (pid_fd < 0)
        return file_write_whole(path, text);
    /* In this order: a reader of the first line gets the old number or the new one. */
    return pwrite(pid_fd, text, (size_t)n, 0) == n && ftruncate(pid_fd, n) == 0 ? 0 : -errno;
}

bool pid_file_names_us(const char *path)
{
    char text[24] = "";
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    bool is_ours =
        fd >= 0 && read(fd, text, sizeof(text) - 1) > 0 && strtol(text, NULL, 10) == (long)getpid();

    if (fd >= 0)
        (void)close(fd);
    return is_ours;
}

void pid_file_remove(const char *path)
{
    if (pid_file_names_us(path) && unlink(path) != 0 && pid_fd >= 0)
        (void)!ftruncate(pid_fd, 0); /* then it names no process */
}

/* Open an existing file, if it looks like a pid file: others may be able to write in the folder,
 * and root must not write through their link. Stores the descriptor in pid_fd. */
static int open_existing(const char *path, off_t *ret_size)
{
    struct stat st;

    pid_fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (pid_fd < 0)
        return -errno;
    if (fstat(pid_fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_nlink == 1) {
        *ret_size = st.st_size;
        return 0;
    }
    (void)close(pid_fd);
    pid_fd = -1;
    return -EEXIST;
}

/* A missing or empty file is written now, while the process may: a program that waits for the file
 * must find a number in it. The listeners are open, so clients that then connect are not refused.
 * An existing number stays until pid_file_write(): its process may be alive, and this start may
 * still fail. */
int pid_file_open(const char *path)
{
    char text[TEXT_SIZE];
    off_t size = 0;

    int err = open_existing(path, &size);
    if (err != -ENOENT && (err != 0 || size > 0))
        return err;
    if (err == 0)
        (void)close(pid_fd);
    (void)put_text(text);
    err = file_write_whole(path, text);
    return err == 0 ? open_existing(path, &size) : err;
}

void pid_file_take(int fd)
{
    pid_fd = fd;
}

int pid_file_fd(void)
{
    return pid_fd;
}

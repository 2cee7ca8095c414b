#include "pid_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "file.h"

/* Open since before root was given up, -1: it was not. The folder, often /run, may be root's alone.
 */
static int pid_fd = -1;

int pid_file_write(const char *path)
{
    char text[24];
    int n = snprintf(text, sizeof(text), "%ld\n", (long)getpid());
    if (pid_fd < 0)
        return file_write_whole(path, text);
    /* In this order: who reads the first line meanwhile reads one of the two. */
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

/* Ours only: a successor may have written its own by now. */
void pid_file_remove(const char *path)
{
    if (pid_file_names_us(path) && unlink(path) != 0 && pid_fd >= 0)
        (void)!ftruncate(pid_fd, 0); /* at least it names nobody */
}

/* Before root is given up. What stands there already must be a file like one of ours: the folder
 * may be others' too, and root writes where a link leads. */
int pid_file_open(const char *path)
{
    struct stat st;

    pid_fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0644);
    if (pid_fd < 0)
        return -errno;
    if (fstat(pid_fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_nlink == 1)
        return 0;
    (void)close(pid_fd);
    pid_fd = -1;
    return -EEXIST;
}

void pid_file_take(int fd)
{
    pid_fd = fd;
}

int pid_file_fd(void)
{
    return pid_fd;
}

#include "listener_p.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* Unix-domain listeners. */

/* A socket file that refuses a connect is left over from a crash; otherwise it is in use. */
static int remove_stale(const struct sockaddr_un *address)
{
    struct stat st;
    if (lstat(address->sun_path, &st) != 0)
        return 0;
    if (!S_ISSOCK(st.st_mode))
        return -EEXIST;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    int err = connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 ? 0 : errno;
    (void)close(fd);
    if (err != ECONNREFUSED)
        return -EADDRINUSE;
    return unlink(address->sun_path) == 0 ? 0 : -errno;
}

/* Before listen(2), so no client can connect while the file has the wrong owner. In a folder that
 * other users may write to, the file may have been replaced: so a descriptor holds it, and its
 * type, owner and links are checked first. */
static int hand_over(const char *path, const struct listener_how *how, char *error,
                     size_t error_size)
{
    const struct passwd *owner = how->owner != NULL ? getpwnam(how->owner) : NULL;
    const struct group *group = how->group != NULL ? getgrnam(how->group) : NULL;
    uid_t uid = owner != NULL ? owner->pw_uid : (uid_t)-1;
    gid_t gid = group != NULL ? group->gr_gid : owner != NULL ? owner->pw_gid : (gid_t)-1;
    struct stat st;

    if ((how->owner != NULL && owner == NULL) || (how->group != NULL && group == NULL)) {
        (void)snprintf(error, error_size, "cannot listen on %s: there is no %s %s", path,
                       owner == NULL && how->owner != NULL ? "user" : "group",
                       owner == NULL && how->owner != NULL ? how->owner : how->group);
        return -EINVAL;
    }
    if (owner == NULL && group == NULL)
        return 0;
    int fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    bool known = fd >= 0 && fstat(fd, &st) == 0;
    int err = known ? 0 : errno;
    if (known && (!S_ISSOCK(st.st_mode) || st.st_uid != geteuid() || st.st_nlink != 1))
        err = EEXIST;
    if (err == 0 && fchownat(fd, "", uid, gid, AT_EMPTY_PATH) != 0)
        err = errno;
    if (fd >= 0)
        (void)close(fd);
    if (err == 0)
        return 0;
    (void)snprintf(error, error_size, "cannot hand %s over to its owner: %s", path,
                   strerrordesc_np(err));
    return -EPERM;
}

/* The file that this process has just made; the folder may be one in which others write. */
static int add_permissions(const char *path, mode_t mode)
{
    char name[32];
    struct stat st = {0};
    int fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC), err = 0;

    if (fd < 0 || fstat(fd, &st) != 0)
        err = -errno;
    else if (!S_ISSOCK(st.st_mode) || st.st_uid != geteuid())
        err = -EEXIST;
    (void)snprintf(name, sizeof(name), "/proc/self/fd/%d", fd); /* fchmod(2) takes no O_PATH */
    if (err == 0 && (st.st_mode & 07777) != mode && chmod(name, mode) != 0)
        err = -errno;
    if (fd >= 0)
        (void)close(fd);
    return err;
}

/* The file has the socket's own permissions from the beginning, less what umask(2) takes, which is
 * not changed here: it is the whole process's. What it took is given before the socket listens. */
static int bind_unix(const struct listener *listener, const struct sockaddr_un *address, int mode)
{
    if (mode >= 0 && fchmod(listener->fd, (mode_t)mode) != 0)
        return -errno;
    if (bind(listener->fd, (const struct sockaddr *)address, sizeof(*address)) != 0)
        return -errno;
    int err = mode >= 0 ? add_permissions(address->sun_path, (mode_t)mode) : 0;
    if (err != 0)
        (void)unlink(address->sun_path);
    return err;
}

/* Make the socket of a listener that no other process has open, up to listen(2). */
static int make_unix(struct listener *listener, const struct sockaddr_un *address,
                     const struct listener_how *how, char *error, size_t error_size)
{
    const char *path = address->sun_path;
    struct stat st;

    listener->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int err = listener->fd < 0 ? -errno : remove_stale(address);
    if (err == 0)
        err = bind_unix(listener, address, how != NULL ? how->mode : -1);
    if (err != 0)
        return err;
    listener->path = strdup(path); /* from here on the file is ours to remove */
    if (how != NULL)
        err = hand_over(path, how, error, error_size);
    if (err == 0 && listener->path == NULL)
        err = -ENOMEM;
    if (err == 0 && (lstat(path, &st) != 0 || listen(listener->fd, BACKLOG) != 0))
        err = -errno;
    if (err == 0) {
        listener->path_dev = st.st_dev;
        listener->path_ino = st.st_ino;
    } else {
        (void)unlink(path);
    }
    return err;
}

int listener_open_unix(struct listener_list *list, const char *text, const char *path,
                       const struct listener_how *how, char *error, size_t error_size)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    if (path[0] == '\0' || strlen(path) >= sizeof(address.sun_path)) {
        (void)snprintf(error, error_size, "cannot listen on %s: the path must have 1 to %zu bytes",
                       text, sizeof(address.sun_path) - 1);
        return -EINVAL;
    }
    (void)strcpy(address.sun_path, path);
    struct listener *listener = listener_append(list);
    if (listener == NULL)
        return listener_explain(list, error, error_size, text, -ENOMEM);
    listener->family = AF_UNIX;
    listener->is_local = true;
    listener_note_address(listener, (const struct sockaddr *)&address, sizeof(address));
    (void)snprintf(listener->name, sizeof(listener->name), "%s", text);
    if (how != NULL && how->dry_run)
        return 0;
    error[0] = '\0';
    if (listener_adopt(list, listener, (const struct sockaddr *)&address, sizeof(address), false)) {
        if (listener->is_held || (listener->path = strdup(path)) != NULL)
            return 0;
        listener_drop_last(list);
        return listener_explain(list, error, error_size, text, -ENOMEM);
    }
    int err = make_unix(listener, &address, how, error, error_size);
    if (err == 0)
        return 0;
    listener_drop_last(list);
    if (err == -EEXIST)
        (void)snprintf(error, error_size,
                       "cannot listen on %s: a file that is not a socket is in the way", text);
    else if (error[0] == '\0')
        (void)listener_explain(list, error, error_size, text, err);
    return err;
}

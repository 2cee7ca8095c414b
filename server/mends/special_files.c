/* A FIFO or a device in a document root.
 *
 * libh2o opens a file with open(2) and without O_NONBLOCK, on the loop. Opening a FIFO waits until
 * another process opens its other end, so one request for it blocks every connection of the loop; a
 * device does whatever its driver does. Upstream still opens files this way.
 *
 * Replaced: h2o_filecache_open_file(), through which every file goes: those of file.dir and
 * file.file, their compressed siblings, index files, error documents. Anything that is neither
 * a file nor a folder is reported as unreadable (EACCES): 403, or the next sibling. It is not even
 * opened: opening would wake a program that waits for a reader of the FIFO, which then fails. */

#include "mends.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "library.h"

static bool is_servable(mode_t mode)
{
    return S_ISREG(mode) || S_ISDIR(mode);
}

h2o_filecache_ref_t *special_files_open(h2o_filecache_t *cache, const char *path, int flags)
{
    struct stat st;

    if (stat(path, &st) != 0)
        return NULL; /* errno is as after open(2) */
    if (!is_servable(st.st_mode)) {
        errno = EACCES;
        return NULL;
    }
    /* It may have been replaced by a FIFO since. */
    h2o_filecache_ref_t *ref =
        library.h2o_filecache_open_file(cache, path, flags | O_NONBLOCK | O_NOCTTY);
    if (ref != NULL && !is_servable(ref->st.st_mode)) {
        h2o_filecache_close_file(ref);
        errno = EACCES;
        return NULL;
    }
    return ref;
}

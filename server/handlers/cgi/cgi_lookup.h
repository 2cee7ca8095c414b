#ifndef LASTCALL_CGI_LOOKUP_H
#define LASTCALL_CGI_LOOKUP_H

/* Which script does a path mean? The path is decoded, "." and ".." are resolved, and what the
 * route's paths begin with is taken off. Then each segment is a folder, until one is a file: that
 * is the script (SCRIPT_NAME), and what follows is its PATH_INFO.
 *
 * Names that begin with a dot, and empty ones, are not found. A symbolic link is followed if it
 * leads to something below the folder of the scripts, or anywhere if that is configured. */

#include <limits.h>
#include <stdbool.h>

struct cgi_script {
    char path[PATH_MAX];   /* absolute */
    char folder[PATH_MAX]; /* of it */
    char name[PATH_MAX];   /* SCRIPT_NAME, decoded, as the client names it */
    char info[PATH_MAX];   /* PATH_INFO, decoded; "": none */
};

/* Decode `target`, a path with or without a query, and resolve its dots, as libh2o does to find the
 * route. "..", where nothing is left to go up from, is dropped.
 * Thread: any.     Errors: 0; -ENAMETOOLONG; -EINVAL: no path, or it has a NUL. */
int cgi_resolve_path(const char *target, char path[PATH_MAX]);

/* `dir`: absolute; `dir_fd`: open(2) of it, with O_PATH; `mount`: without a slash at its end.
 * Thread: any.     Blocks: on the disk.
 * Errors: the status to answer with: 0: *ret_script is the script; 403: it is there, but is no
 * regular file or cannot be executed; 404; 500: the disk, or too few descriptors. */
int cgi_lookup(const char *dir, int dir_fd, const char *mount, bool any_link, const char *path,
               struct cgi_script *ret_script);

#endif

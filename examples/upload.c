/* Files into a folder, by PUT or by the form of a browser. A file appears whole or not at all.
 *
 *     cc upload.c $(pkg-config --cflags --libs lastcall) -o upload
 *     mkdir -p /tmp/files && ./upload /tmp/files 127.0.0.1:8080
 *     curl -T big.iso 127.0.0.1:8080/files/big.iso */
#define _GNU_SOURCE 1 /* O_TMPFILE */
#include <fcntl.h>
#include <lastcall/lastcall.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int folder;

static void put(lc_req *request, void *user)
{
    const char *name = lc_param(request, "name");

    (void)user;
    if (name[0] == '.' || strchr(name, '/') != NULL) { /* %2F is a slash by now */
        lc_fail(request, 400, "not a plain file name");
        return;
    }
    int result = lc_save_body(request, folder, name, LC_SYNC);
    if (result == LC_OK)
        lc_sendf(request, 201, "text/plain", "%lld bytes\n", (long long)lc_body_size(request));
    else
        lc_fail(request, 500, lc_strerror(result));
}

static int save_part(const struct lc_part *part)
{
    char unnamed[64];
    int fd = openat(folder, ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0644);
    if (fd < 0)
        return 0;
    snprintf(unnamed, sizeof(unnamed), "/proc/self/fd/%d", fd);
    int saved = write(fd, part->bytes, part->count) == (ssize_t)part->count &&
                linkat(AT_FDCWD, unnamed, folder, part->filename, AT_SYMLINK_FOLLOW) == 0;
    close(fd);
    return saved;
}

static void form(lc_req *request, void *user)
{
    struct lc_part part = LC_PART_INIT;
    int saved = 0, failed = 0, more;

    (void)user;
    while ((more = lc_next_part(request, &part)) == 1) {
        if (part.filename == NULL || part.filename[0] == '.' || part.filename[0] == '\0')
            continue;
        if (save_part(&part))
            saved++;
        else
            failed++;
    }
    if (more != 0)
        lc_fail(request, 400, lc_strerror(more));
    else
        lc_sendf(request, failed == 0 ? 201 : 409, "text/plain", "%d saved, %d not\n", saved,
                 failed);
}

int main(int argc, char **argv)
{
    const char *path = argc > 1 ? argv[1] : ".";
    struct lc_route_options large = LC_ROUTE_OPTIONS_INIT;
    lc_server *server = lc_new();

    folder = open(path, O_DIRECTORY | O_CLOEXEC);
    if (folder < 0) {
        perror(path);
        return 1;
    }
    large.max_running = 4; /* of the workers: the others stay free */
    lc_set(server, "limit-request-body", "1073741824");
    lc_listen(server, argc > 2 ? argv[2] : "127.0.0.1:8080");
    lc_handle_with(server, "PUT /files/{name}", put, NULL, &large);
    lc_handle_with(server, "POST /files/", form, NULL, &large);
    return lc_run(server);
}

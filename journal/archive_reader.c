#include "archive_reader.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "file.h"

/* Longer than any line of ours: a body has 16 MiB at most, and base64 adds a third. */
#define LINE_LONGEST (UINT64_C(64) << 20)

struct archive_reader {
    char **paths;
    size_t path_count;
    bool is_folder; /* the names of its day files; or one name that the user gave, which may be any
                       file */
    size_t next_path;
    char *path; /* the open file; NULL: none */
    FILE *file;
    uint64_t offset; /* the offset that getline(3) reads next */
    char *line;
    size_t line_size;
    struct unfinished request; /* borrowed by the last item */
};

bool archive_is_day_file(const char *name)
{
    static const char prefix[] = "unfinished-", suffix[] = ".ndjson";
    const size_t before = sizeof(prefix) - 1;

    return strncmp(name, prefix, before) == 0 && strspn(name + before, "0123456789") == 8 &&
           strcmp(name + before + 8, suffix) == 0;
}

static int is_wanted(const struct dirent *entry)
{
    return archive_is_day_file(entry->d_name);
}

static int add_folder(struct archive_reader *reader, const char *path)
{
    struct dirent **entries;
    int n = scandir(path, &entries, is_wanted, alphasort);
    int err = 0;

    if (n < 0)
        return -errno;
    reader->paths = calloc((size_t)n + 1, sizeof(*reader->paths));
    for (int i = 0; i < n; i++) {
        if (reader->paths == NULL ||
            asprintf(&reader->paths[reader->path_count], "%s/%s", path, entries[i]->d_name) < 0)
            err = -ENOMEM;
        else
            reader->path_count++;
        free(entries[i]);
    }
    free(entries);
    return reader->paths == NULL ? -ENOMEM : err;
}

static int add_file(struct archive_reader *reader, const char *path)
{
    reader->paths = calloc(1, sizeof(*reader->paths));
    if (reader->paths == NULL || (reader->paths[0] = strdup(path)) == NULL)
        return -ENOMEM;
    reader->path_count = 1;
    return access(path, R_OK) == 0 ? 0 : -errno;
}

int archive_reader_open(const char *path, struct archive_reader **ret_reader)
{
    struct stat st;
    struct archive_reader *reader;

    if (stat(path, &st) != 0)
        return -errno;
    reader = calloc(1, sizeof(*reader));
    if (reader == NULL)
        return -ENOMEM;
    reader->is_folder = S_ISDIR(st.st_mode);
    int err = reader->is_folder ? add_folder(reader, path) : add_file(reader, path);
    if (err != 0) {
        archive_reader_close(reader);
        return err;
    }
    *ret_reader = reader;
    return 0;
}

static void close_file(struct archive_reader *reader)
{
    if (reader->file != NULL)
        (void)fclose(reader->file);
    reader->file = NULL;
}

static int open_next(struct archive_reader *reader)
{
    reader->path = reader->paths[reader->next_path++];
    reader->offset = 0;
    int fd = reader->is_folder ? file_open_regular(reader->path)
                               : open(reader->path, O_RDONLY | O_CLOEXEC);
    int err = fd >= 0 ? 0 : reader->is_folder ? fd : -errno;
    if (err == -ENOENT) /* it was removed meanwhile */
        return 0;
    reader->file = err == 0 ? fdopen(fd, "r") : NULL;
    if (err == 0 && reader->file == NULL) {
        err = -errno;
        (void)close(fd);
    }
    return err;
}

static int judge(struct archive_reader *reader, ssize_t len, struct archive_item *ret_item)
{
    bool ended = reader->line[len - 1] == '\n';

    memset(ret_item, 0, sizeof(*ret_item));
    ret_item->path = reader->path;
    ret_item->offset = reader->offset;
    ret_item->line = reader->line;
    ret_item->len = (size_t)len - ended;
    reader->line[ret_item->len] = '\0';
    reader->offset += (uint64_t)len;
    if ((uint64_t)len > LINE_LONGEST) {
        (void)snprintf(ret_item->why, sizeof(ret_item->why), "a line of %zd bytes", len);
        return 1;
    }
    int err = unfinished_parse(ret_item->line, ret_item->len, &ret_item->request, ret_item->why);
    if (err == -ENOMEM)
        return err;
    if (err != 0 && !ended)
        return 0; /* still being written, or its writer was killed; the next writer repairs it */
    reader->request = ret_item->request;
    return 1;
}

int archive_reader_next(struct archive_reader *reader, struct archive_item *ret_item)
{
    unfinished_release(&reader->request);
    for (;;) {
        if (reader->file == NULL) {
            if (reader->next_path == reader->path_count)
                return 0;
            int err = open_next(reader);
            if (err != 0)
                return err;
            continue;
        }
        errno = 0;
        ssize_t len = getline(&reader->line, &reader->line_size, reader->file);
        if (len < 0) {
            int err = errno;
            close_file(reader);
            if (err != 0)
                return -err;
            continue;
        }
        int found = judge(reader, len, ret_item);
        if (found != 0)
            return found;
    }
}

void archive_reader_close(struct archive_reader *reader)
{
    if (reader == NULL)
        return;
    close_file(reader);
    unfinished_release(&reader->request);
    for (size_t i = 0; i < reader->path_count; i++)
        free(reader->paths[i]);
    free(reader->paths);
    free(reader->line);
    free(reader);
}

#include "leftovers.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "file.h"
#include "record.h"

struct reading {
    struct leftovers *leftovers;
    size_t room;
    leftovers_bad *on_bad;
    void *arg;
    uint64_t now_ms;
};

static void say_bad(const struct reading *reading, const char *place, uint64_t offset,
                    const char *why)
{
    if (reading->on_bad != NULL)
        reading->on_bad(reading->arg, place, offset, why);
}

/* Test the lock without taking it: a server that starts now must get it, or it would consider the
 * owner alive. Read access is enough for the test. */
static bool has_owner(int fd)
{
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    return fcntl(fd, F_OFD_GETLK, &whole) != 0 || whole.l_type != F_UNLCK;
}

/* Takes ownership of the request. */
static int add(struct reading *reading, const char *place, uint64_t pid, struct unfinished *request)
{
    struct leftovers *to = reading->leftovers;

    if (to->count == reading->room) {
        size_t room = reading->room == 0 ? 16 : 2 * reading->room;
        struct leftover *grown = realloc(to->items, room * sizeof(*grown));
        if (grown == NULL)
            return -ENOMEM;
        to->items = grown;
        reading->room = room;
    }
    char *copy = strdup(place);
    if (copy == NULL)
        return -ENOMEM;
    request->reason = UNFINISHED_REASON_CRASHED;
    request->class = unfinished_classify(request->state, &request->method);
    request->archived_ms = reading->now_ms;
    request->age_ms =
        reading->now_ms > request->began_ms ? (double)(reading->now_ms - request->began_ms) : 0;
    to->items[to->count++] = (struct leftover){.place = copy, .pid = pid, .request = *request};
    memset(request, 0, sizeof(*request));
    return 0;
}

static int read_bytes(struct reading *reading, const char *place, const void *bytes, size_t size)
{
    char why[UNFINISHED_WHY_SIZE];
    struct record record;
    struct record_item item;
    uint32_t index = 0;
    const size_t before = reading->leftovers->count;
    int err = 0, found;

    if (record_open(bytes, size, &record, why) != 0) {
        say_bad(reading, place, 0, why);
        return 0;
    }
    while (err == 0 && (found = record_next(&record, &index, &item)) != 0) {
        if (found < 0)
            return found;
        if (item.kind == RECORD_REQUEST)
            err = add(reading, place, record.header.pid, &item.request);
        else
            say_bad(reading, place, item.offset, item.why);
        unfinished_release(&item.request);
    }
    reading->leftovers->records += reading->leftovers->count > before;
    return err;
}

static int read_record(struct reading *reading, const char *place)
{
    struct stat st;
    int err = 0, fd = file_open_regular(place);

    if (fd == -ENOENT) /* a starting server has moved it meanwhile */
        return 0;
    if (fd == -ENOTSUP || fd == -ELOOP) { /* a server would skip it, too */
        say_bad(reading, place, 0, "not a regular file");
        return 0;
    }
    if (fd < 0)
        return fd;
    if (!has_owner(fd) && fstat(fd, &st) == 0 && st.st_size > 0) {
        void *bytes = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
        err = bytes == MAP_FAILED ? -errno : 0;
        if (err == 0) {
            err = read_bytes(reading, place, bytes, (size_t)st.st_size);
            (void)munmap(bytes, (size_t)st.st_size);
        }
    }
    (void)close(fd);
    return err;
}

static int read_entry(struct reading *reading, const char *dir, const char *name)
{
    char *place;

    if (asprintf(&place, "%s/%s", dir, name) < 0)
        return -ENOMEM;
    int err = read_record(reading, place);
    free(place);
    return err;
}

static int is_record(const struct dirent *entry)
{
    bool is_new = false;
    return record_is_name(entry->d_name, &is_new) && !is_new;
}

int leftovers_read(const char *dir, leftovers_bad *on_bad, void *arg,
                   struct leftovers *ret_leftovers)
{
    struct reading reading = {
        .leftovers = ret_leftovers, .on_bad = on_bad, .arg = arg, .now_ms = clock_wall_ms()};
    struct dirent **entries;
    int err = 0;

    memset(ret_leftovers, 0, sizeof(*ret_leftovers));
    int n = scandir(dir, &entries, is_record, alphasort);
    if (n < 0)
        return -errno;
    for (int i = 0; i < n; i++) {
        if (err == 0)
            err = read_entry(&reading, dir, entries[i]->d_name);
        free(entries[i]);
    }
    free(entries);
    return err;
}

void leftovers_release(struct leftovers *leftovers)
{
    for (size_t i = 0; i < leftovers->count; i++) {
        free(leftovers->items[i].place);
        unfinished_release(&leftovers->items[i].request);
    }
    free(leftovers->items);
    memset(leftovers, 0, sizeof(*leftovers));
}

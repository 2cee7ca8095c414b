#include "replay_p.h"

#include <dirent.h>
#include <errno.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "archive_reader.h"

/* Each file is locked for the whole run (see marks.h), so no request of it can be settled by two. A
 * file that somebody else works on is left out, and named. */

struct file {
    char *path;
    struct marks *marks;
};

struct file_source {
    struct replay_source source;
    struct file *files;
    size_t count;
    size_t busy; /* files that others work on */
    size_t at;   /* the one that is being read */
    struct archive_reader *reader;
    void *taken; /* tsearch(3) of the ids that were handed out */
};

static struct file_source *self(struct replay_source *source)
{
    return (struct file_source *)(void *)source;
}

static int fail(struct replay_source *source, int err, const char *path)
{
    (void)snprintf(source->error, sizeof(source->error), "cannot read %.400s: %s", path,
                   strerrordesc_np(-err));
    return err;
}

/* ---- walking through all files ---- */

/* 1 and *ret_item with the number of its file in *ret_file; 0 at the end; a negative errno. */
static int next_line(struct file_source *files, struct archive_item *ret_item)
{
    for (;;) {
        int err = 1;
        if (files->reader == NULL) {
            if (files->at == files->count)
                return 0;
            if (files->files[files->at].marks == NULL) {
                files->at++;
                continue;
            }
            err = archive_reader_open(files->files[files->at].path, &files->reader);
            if (err == -ENOENT) { /* it was taken away since */
                files->at++;
                continue;
            }
        }
        if (err >= 0)
            err = archive_reader_next(files->reader, ret_item);
        if (err < 0)
            return fail(&files->source, err, files->files[files->at].path);
        if (err > 0)
            return 1;
        archive_reader_close(files->reader);
        files->reader = NULL;
        files->at++;
    }
}

static void rewind_all(struct file_source *files)
{
    archive_reader_close(files->reader);
    files->reader = NULL;
    files->at = 0;
}

static int compare_ids(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* Returns whether it is the first time. */
static bool take_id(struct file_source *files, const char *id)
{
    if (tfind(id, &files->taken, compare_ids) != NULL)
        return false;
    char *copy = strdup(id);
    if (copy != NULL && tsearch(copy, &files->taken, compare_ids) == NULL)
        free(copy);
    return true; /* without memory for it, it may be sent twice, with one key */
}

static void forget_ids(struct file_source *files)
{
    tdestroy(files->taken, free);
    files->taken = NULL;
}

static enum replay_verdict judge(struct file_source *files, const struct archive_item *line)
{
    const struct mark *mark = marks_find(files->files[files->at].marks, line->request.id);
    enum replay_verdict verdict =
        replay_judge_request(files->source.filter, &line->request, mark, marks_now_ms());

    return verdict == REPLAY_SEND && !take_id(files, line->request.id) ? REPLAY_TWICE : verdict;
}

static void name_garbage(struct file_source *files)
{
    for (size_t i = 0; i < files->count; i++) {
        uint64_t offset;
        size_t n =
            files->files[i].marks != NULL ? marks_garbage(files->files[i].marks, &offset) : 0;
        if (n > 0)
            (void)fprintf(stderr, "%s.done: %zu line%s no decision, the first at byte %llu\n",
                          files->files[i].path, n, n == 1 ? " is" : "s are",
                          (unsigned long long)offset);
        files->source.garbage += n;
    }
}

static int survey(struct replay_source *source, size_t *ret_count)
{
    struct file_source *files = self(source);
    struct archive_item line;
    size_t count = 0;
    int err;

    name_garbage(files);
    while ((err = next_line(files, &line)) > 0) {
        if (line.why[0] != '\0') {
            (void)fprintf(stderr, "%s: byte %llu: no request: %s\n", line.path,
                          (unsigned long long)line.offset, line.why);
            source->garbage++;
            continue;
        }
        enum replay_verdict verdict = judge(files, &line);
        source->left_alone[verdict]++;
        count += verdict == REPLAY_SEND;
    }
    rewind_all(files);
    forget_ids(files);
    *ret_count = count;
    return err;
}

/* ---- one by one ---- */

/* The line is read again: the reader keeps its request for itself. */
static int make_item(struct file_source *files, const struct archive_item *line,
                     struct replay_item **ret_item)
{
    struct replay_item *item = calloc(1, sizeof(*item));
    const struct mark *mark = marks_find(files->files[files->at].marks, line->request.id);
    char why[UNFINISHED_WHY_SIZE];
    int err = item != NULL ? unfinished_parse(line->line, line->len, &item->request, why) : -ENOMEM;

    if (err != 0) {
        free(item);
        return fail(&files->source, err, line->path);
    }
    item->file = files->at;
    item->attempt = mark != NULL ? mark->attempt : 0;
    if (mark != NULL && mark->not_before_ms > marks_now_ms()) {
        uint64_t wait_ms = mark->not_before_ms - marks_now_ms();
        item->due_ns = clock_now_ns() + (wait_ms < 60000 ? wait_ms : 60000) * NS_PER_MS;
    }
    *ret_item = item;
    return 1;
}

static int park(struct file_source *files, const struct archive_item *line, const char *why)
{
    struct mark mark = {.outcome = MARK_PARKED, .at_ms = marks_now_ms(), .answer = why};

    memcpy(mark.id, line->request.id, sizeof(mark.id));
    files->source.parked++;
    int err = marks_add(files->files[files->at].marks, &mark);
    return err == 0 ? 0 : fail(&files->source, err, line->path);
}

static int next(struct replay_source *source, struct replay_item **ret_item)
{
    struct file_source *files = self(source);
    struct archive_item line;
    int err;

    while ((err = next_line(files, &line)) > 0) {
        if (line.why[0] != '\0' || judge(files, &line) != REPLAY_SEND)
            continue;
        const char *why = source->dry_run ? NULL : replay_cannot_send(&line.request);
        if (why == NULL)
            return make_item(files, &line, ret_item);
        err = park(files, &line, why);
        if (err < 0)
            return err;
    }
    return err;
}

static int begin(struct replay_source *source, struct replay_item *item)
{
    (void)source;
    item->attempt++;
    return 1;
}

static int decide(struct replay_source *source, struct replay_item *item, const struct mark *mark)
{
    const struct file *file = &self(source)->files[item->file];
    int err = marks_add(file->marks, mark);

    return err == 0 ? 1 : fail(source, err, file->path);
}

static int flush(struct replay_source *source)
{
    struct file_source *files = self(source);

    for (size_t i = 0; i < files->count; i++) {
        int err = files->files[i].marks != NULL ? marks_flush(files->files[i].marks) : 0;
        if (err != 0) {
            (void)snprintf(source->error, sizeof(source->error), "cannot write %.400s.done: %s",
                           files->files[i].path, strerrordesc_np(-err));
            return err;
        }
    }
    return 0;
}

static void give_back(struct replay_source *source, struct replay_item *item)
{
    (void)source; /* it was never taken away from the file */
    (void)item;
}

static size_t elsewhere(struct replay_source *source)
{
    return self(source)->busy;
}

static void close_source(struct replay_source *source)
{
    struct file_source *files = self(source);

    archive_reader_close(files->reader);
    for (size_t i = 0; i < files->count; i++) {
        marks_close(files->files[i].marks);
        free(files->files[i].path);
    }
    forget_ids(files);
    free(files->files);
    free(files);
}

static const struct replay_source_ops ops = {survey, next,      begin,     decide,
                                             flush,  give_back, elsewhere, close_source};

/* ---- opening ---- */

static int is_day_file(const struct dirent *entry)
{
    return archive_is_day_file(entry->d_name);
}

static int list_folder(struct file_source *files, const char *path)
{
    struct dirent **entries;
    int n = scandir(path, &entries, is_day_file, alphasort), err = 0;

    if (n < 0)
        return -errno;
    files->files = calloc((size_t)n + 1, sizeof(*files->files));
    for (int i = 0; i < n; i++) {
        if (files->files == NULL ||
            asprintf(&files->files[files->count].path, "%s/%s", path, entries[i]->d_name) < 0)
            err = -ENOMEM;
        else
            files->count++;
        free(entries[i]);
    }
    free(entries);
    return files->files == NULL ? -ENOMEM : err;
}

static int list_file(struct file_source *files, const char *path)
{
    files->files = calloc(1, sizeof(*files->files));
    if (files->files == NULL || (files->files[0].path = strdup(path)) == NULL)
        return -ENOMEM;
    files->count = 1;
    return 0;
}

static int open_marks(struct file_source *files, bool is_folder, char *error)
{
    for (size_t i = 0; i < files->count; i++) {
        char why[MARKS_ERROR_SIZE];
        struct file *file = &files->files[i];
        int err = marks_open(file->path, !files->source.dry_run, &file->marks, why);
        if (err == -EBUSY && is_folder) {
            files->busy++;
            (void)fprintf(stderr, "left out: %s\n", why);
        } else if (err != 0) {
            (void)snprintf(error, REPLAY_ERROR_SIZE, "%s", why);
            return err == -EBUSY ? REPLAY_EXIT_BUSY : REPLAY_EXIT_NOINPUT;
        }
    }
    return 0;
}

int replay_file_open(const char *path, const struct replay_filter *filter, bool dry_run,
                     struct replay_source **ret_source, char *error)
{
    struct file_source *files = calloc(1, sizeof(*files));
    struct stat st;
    int status = REPLAY_EXIT_NOINPUT;

    int err = files == NULL ? -ENOMEM : stat(path, &st) != 0 ? -errno : 0;
    if (err == 0) {
        files->source.ops = &ops;
        files->source.unit = "file";
        files->source.filter = filter;
        files->source.dry_run = dry_run;
        err = S_ISDIR(st.st_mode) ? list_folder(files, path) : list_file(files, path);
    }
    if (err != 0)
        (void)snprintf(error, REPLAY_ERROR_SIZE, "cannot read %.400s: %s", path,
                       strerrordesc_np(-err));
    else
        status = open_marks(files, S_ISDIR(st.st_mode), error);
    if (status != 0) {
        if (files != NULL)
            close_source(&files->source);
        return status;
    }
    *ret_source = &files->source;
    return 0;
}

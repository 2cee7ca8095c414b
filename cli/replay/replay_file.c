#include "replay_file.h"

#include <dirent.h>
#include <errno.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include "archive_reader.h"
#include "clock.h"
#include "journal.h"
#include "leftovers.h"
#include "replay_exit.h"

/* Each file is locked for the whole run (dispositions.h), so no two replayers settle a request. A
 * file that another replayer has locked is skipped and reported. */

struct file {
    char *path;
    struct dispositions *dispositions;
};

struct file_source {
    struct replay_source source;
    struct file *files;
    size_t count;
    size_t busy; /* files that other replayers have locked */
    size_t at;   /* index of the file that is being read */
    struct archive_reader *reader;
    void *taken; /* tsearch(3) tree of the ids that next() returned */
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

/* 1 and *ret_item, from the file at files->at; 0 at the end; a negative errno. */
static int next_line(struct file_source *files, struct archive_item *ret_item)
{
    for (;;) {
        int err = 1;
        if (files->reader == NULL) {
            if (files->at == files->count)
                return 0;
            if (files->files[files->at].dispositions == NULL) {
                files->at++;
                continue;
            }
            err = archive_reader_open(files->files[files->at].path, &files->reader);
            if (err == -ENOENT) { /* removed since the folder was listed */
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

/* Returns whether the id is new. */
static bool take_id(struct file_source *files, const char *id)
{
    if (tfind(id, &files->taken, compare_ids) != NULL)
        return false;
    char *copy = strdup(id);
    if (copy != NULL && tsearch(copy, &files->taken, compare_ids) == NULL)
        free(copy);
    return true; /* out of memory: it may be sent twice, with the same key */
}

static void forget_ids(struct file_source *files)
{
    tdestroy(files->taken, free);
    files->taken = NULL;
}

static enum replay_verdict judge(struct file_source *files, const struct archive_item *line)
{
    const struct disposition *disposition =
        dispositions_find(files->files[files->at].dispositions, line->request.id);
    enum replay_verdict verdict =
        replay_judge_request(files->source.filter, &line->request, disposition, clock_wall_ms());

    return verdict == REPLAY_SEND && !take_id(files, line->request.id) ? REPLAY_TWICE : verdict;
}

static void report_garbage(struct file_source *files)
{
    for (size_t i = 0; i < files->count; i++) {
        uint64_t offset;
        size_t n = files->files[i].dispositions != NULL
                       ? dispositions_garbage(files->files[i].dispositions, &offset)
                       : 0;
        if (n > 0)
            (void)fprintf(stderr, "%s.done: %zu invalid line%s, the first at byte %llu\n",
                          files->files[i].path, n, n == 1 ? "" : "s", (unsigned long long)offset);
        files->source.garbage += n;
    }
}

static int survey(struct replay_source *source, size_t *ret_count)
{
    struct file_source *files = self(source);
    struct archive_item line;
    size_t count = 0;
    int err;

    report_garbage(files);
    while ((err = next_line(files, &line)) > 0) {
        if (line.why[0] != '\0') {
            (void)fprintf(stderr, "%s: byte %llu: not a request: %s\n", line.path,
                          (unsigned long long)line.offset, line.why);
            source->garbage++;
            continue;
        }
        enum replay_verdict verdict = judge(files, &line);
        source->skipped[verdict]++;
        count += verdict == REPLAY_SEND;
    }
    rewind_all(files);
    forget_ids(files);
    *ret_count = count;
    return err;
}

/* ---- one by one ---- */

/* Parse the line again: the reader owns the request that it parsed. */
static int make_item(struct file_source *files, const struct archive_item *line,
                     struct replay_item **ret_item)
{
    struct replay_item *item = calloc(1, sizeof(*item));
    const struct disposition *disposition =
        dispositions_find(files->files[files->at].dispositions, line->request.id);
    char why[UNFINISHED_WHY_SIZE];
    int err = item != NULL ? unfinished_parse(line->line, line->len, &item->request, why) : -ENOMEM;

    if (err != 0) {
        free(item);
        return fail(&files->source, err, line->path);
    }
    item->file = files->at;
    item->attempt = disposition != NULL ? disposition->attempt : 0;
    if (disposition != NULL && disposition->not_before_ms > clock_wall_ms()) {
        uint64_t wait_ms = disposition->not_before_ms - clock_wall_ms();
        item->due_ns = clock_now_ns() + (wait_ms < 60000 ? wait_ms : 60000) * NS_PER_MS;
    }
    *ret_item = item;
    return 1;
}

static int park(struct file_source *files, const struct archive_item *line, const char *why)
{
    struct disposition disposition = {
        .outcome = DISPOSITION_PARKED, .at_ms = clock_wall_ms(), .answer = why};

    memcpy(disposition.id, line->request.id, sizeof(disposition.id));
    files->source.parked++;
    int err = dispositions_add(files->files[files->at].dispositions, &disposition);
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

static int decide(struct replay_source *source, struct replay_item *item,
                  const struct disposition *disposition)
{
    const struct file *file = &self(source)->files[item->file];
    int err = dispositions_add(file->dispositions, disposition);

    return err == 0 ? 1 : fail(source, err, file->path);
}

static int flush(struct replay_source *source)
{
    struct file_source *files = self(source);

    for (size_t i = 0; i < files->count; i++) {
        int err = files->files[i].dispositions != NULL
                      ? dispositions_flush(files->files[i].dispositions)
                      : 0;
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
    (void)source; /* the request is still in the file */
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
        dispositions_close(files->files[i].dispositions);
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

static int open_dispositions(struct file_source *files, bool is_folder, char *error)
{
    for (size_t i = 0; i < files->count; i++) {
        char why[DISPOSITIONS_ERROR_SIZE];
        struct file *file = &files->files[i];
        int err = dispositions_open(file->path, !files->source.dry_run, &file->dispositions, why);
        if (err == -EBUSY && is_folder) {
            files->busy++;
            (void)fprintf(stderr, "skipped: %s\n", why);
        } else if (err != 0) {
            (void)snprintf(error, REPLAY_ERROR_SIZE, "%s", why);
            return err == -EBUSY ? REPLAY_EXIT_BUSY : REPLAY_EXIT_NOINPUT;
        }
    }
    return 0;
}

/* A killed process leaves its requests in its record. If no server has started since, the replay
 * archives them as a server would. As root it acts as the owner of the folder, so that the files
 * get that owner. */
static int archive_leftovers(const char *dir, const struct stat *owner, uint64_t *ret_archived)
{
    bool is_root = geteuid() == 0 && owner->st_uid != 0;
    int err = 0;

    if (is_root && (setegid(owner->st_gid) != 0 || seteuid(owner->st_uid) != 0))
        err = -errno;
    if (err == 0)
        err = journal_recover(dir, ret_archived);
    if (is_root && (seteuid(0) != 0 || setegid(0) != 0) && err == 0)
        err = -errno;
    return err;
}

static int count_leftovers(const char *dir, size_t *ret_count)
{
    struct leftovers leftovers;
    int err = leftovers_read(dir, NULL, NULL, &leftovers);

    *ret_count = leftovers.count;
    leftovers_release(&leftovers);
    return err;
}

static int take_leftovers(const char *dir, const struct stat *owner, bool dry_run)
{
    uint64_t archived = 0;
    size_t count, left;
    int err = count_leftovers(dir, &count);

    if (err != 0 || count == 0)
        return err;
    if (dry_run) {
        (void)fprintf(stderr,
                      "%zu more not archived yet: the process was killed (a replay archives %s "
                      "first; see lastcall unfinished)\n",
                      count, count == 1 ? "it" : "them");
        return 0;
    }
    err = archive_leftovers(dir, owner, &archived);
    if (err == 0)
        err = count_leftovers(dir, &left);
    return err != 0 ? err : left > 0 ? -EIO : 0; /* journal_recover() has logged why */
}

static int list(struct file_source *files, const char *path, bool *ret_is_folder, char *error)
{
    struct stat st;
    const char *what = "read";

    int err = stat(path, &st) != 0 ? -errno : 0;
    *ret_is_folder = err == 0 && S_ISDIR(st.st_mode);
    if (*ret_is_folder) {
        err = take_leftovers(path, &st, files->source.dry_run);
        if (err != 0)
            what = "archive the requests that ended processes left in";
        else
            err = list_folder(files, path);
    } else if (err == 0) {
        err = list_file(files, path);
    }
    if (err != 0)
        (void)snprintf(error, REPLAY_ERROR_SIZE, "cannot %s %.400s: %s", what, path,
                       strerrordesc_np(-err));
    return err == 0 ? 0 : REPLAY_EXIT_NOINPUT;
}

int replay_file_open(const char *path, const struct replay_filter *filter, bool dry_run,
                     struct replay_source **ret_source, char *error)
{
    struct file_source *files = calloc(1, sizeof(*files));
    bool is_folder;

    if (files == NULL) {
        (void)snprintf(error, REPLAY_ERROR_SIZE, "out of memory");
        return REPLAY_EXIT_NOINPUT;
    }
    files->source.ops = &ops;
    files->source.unit = "file";
    files->source.filter = filter;
    files->source.dry_run = dry_run;
    int status = list(files, path, &is_folder, error);
    if (status == 0)
        status = open_dispositions(files, is_folder, error);
    if (status != 0) {
        close_source(&files->source);
        return status;
    }
    *ret_source = &files->source;
    return 0;
}

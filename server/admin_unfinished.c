#include <stdlib.h>
#include <string.h>

#include "admin_p.h"
#include "archive_reader.h"
#include "marks.h"

/* GET /unfinished: what the archive holds, and what became of it. It is read from the disk on the
 * admin thread, so there is a limit to the time that takes, and who asks again soon gets the same
 * answer. Bodies and headers are not shown: `lastcall unfinished --show ID` does that, to who may
 * read the folder. */

#define NAMED_MOST 100
#define READ_MOST_NS (200 * NS_PER_MS)
#define GOOD_FOR_NS (2 * NS_PER_S)

struct survey {
    uint64_t outcomes[MARK_OUTCOME_COUNT];
    uint64_t garbage;
    bool complete;
    json_t *open; /* the first ones */
    char *file;   /* whose marks these are */
    struct marks *marks;
};

static json_t *text_json(const struct unfinished_text *text)
{
    return log_json_text(text->base != NULL ? text->base : "");
}

static json_t *request_json(const struct unfinished *request, enum mark_outcome outcome)
{
    char began[UNFINISHED_TIME_SIZE];

    return json_pack(
        "{s:s, s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:s, s:f, s:I, s:b}", "id", request->id,
        "outcome", mark_outcome_name(outcome), "reason", unfinished_reason_name(request->reason),
        "class", unfinished_class_name(request->class), "state",
        unfinished_state_name(request->state), "method", text_json(&request->method), "authority",
        text_json(&request->authority), "path", text_json(&request->path), "began",
        unfinished_format_time(request->began_ms, began), "age_ms", request->age_ms, "body_bytes",
        (json_int_t)request->body_bytes, "incomplete", request->gap != UNFINISHED_GAP_NONE);
}

/* A file whose marks can not be read has none that we know of. */
static const struct mark *find_mark(struct survey *survey, const struct archive_item *item)
{
    char error[MARKS_ERROR_SIZE];

    if (survey->file == NULL || strcmp(survey->file, item->path) != 0) {
        free(survey->file);
        marks_close(survey->marks);
        survey->marks = NULL;
        survey->file = strdup(item->path);
        if (survey->file == NULL || marks_open(item->path, false, &survey->marks, error) != 0)
            survey->marks = NULL;
    }
    return survey->marks != NULL ? marks_find(survey->marks, item->request.id) : NULL;
}

static void take(struct survey *survey, const struct archive_item *item)
{
    if (item->why[0] != '\0') {
        survey->garbage++;
        return;
    }
    const struct mark *mark = find_mark(survey, item);
    enum mark_outcome outcome = mark != NULL ? mark->outcome : MARK_NONE;
    survey->outcomes[outcome]++;
    if ((outcome == MARK_NONE || outcome == MARK_FAILED) &&
        json_array_size(survey->open) < NAMED_MOST)
        (void)json_array_append_new(survey->open, request_json(&item->request, outcome));
}

static int read_all(const char *dir, struct survey *survey)
{
    uint64_t until_ns = clock_now_ns() + READ_MOST_NS;
    struct archive_reader *reader;
    struct archive_item item;
    int found = archive_reader_open(dir, &reader);

    if (found != 0)
        return found;
    while ((found = archive_reader_next(reader, &item)) > 0) {
        take(survey, &item);
        if (clock_now_ns() > until_ns)
            break;
    }
    survey->complete = found == 0;
    archive_reader_close(reader);
    marks_close(survey->marks);
    free(survey->file);
    return found < 0 ? found : 0;
}

static json_t *survey_json(const char *dir, struct survey *survey)
{
    json_t *counts = json_object();
    uint64_t waiting = survey->outcomes[MARK_NONE] + survey->outcomes[MARK_FAILED];
    uint64_t named = json_array_size(survey->open);

    for (int i = 0; i < MARK_OUTCOME_COUNT; i++)
        (void)json_object_set_new(counts, mark_outcome_name((enum mark_outcome)i),
                                  json_integer((json_int_t)survey->outcomes[i]));
    return json_pack("{s:i, s:o, s:b, s:o, s:I, s:o, s:I}", "schema", 1, "dir", log_json_text(dir),
                     "complete", survey->complete, "counts", counts, "garbage",
                     (json_int_t)survey->garbage, "waiting", survey->open, "waiting_left_out",
                     (json_int_t)(waiting - named));
}

char *admin_unfinished_text(struct admin *admin, int *ret_error)
{
    const char *dir = admin->options->journal_dir;
    uint64_t now_ns = clock_now_ns();

    *ret_error = 0;
    if (admin->unfinished == NULL || now_ns >= admin->unfinished_good_until_ns) {
        struct survey survey = {.open = json_array()};
        *ret_error = read_all(dir, &survey);
        json_t *all = survey_json(dir, &survey);
        free(admin->unfinished);
        admin->unfinished = all != NULL && *ret_error == 0 ? json_dumps(all, JSON_COMPACT) : NULL;
        json_decref(all);
        admin->unfinished_good_until_ns = clock_now_ns() + GOOD_FOR_NS;
    }
    return admin->unfinished != NULL ? strdup(admin->unfinished) : NULL;
}

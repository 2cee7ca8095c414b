#include <stdlib.h>
#include <string.h>

#include "admin_p.h"
#include "archive_reader.h"
#include "dispositions.h"

/* GET /unfinished: the requests in the archive, and what became of them. The admin thread reads the
 * archive from the disk: so reading has a time limit, and clients that ask again soon get the same
 * answer. Bodies and headers are not shown; `lastcall unfinished --show ID` shows them to users who
 * may read the folder. */

#define NAMED_MOST 100
#define READ_MOST_NS (200 * NS_PER_MS)
#define GOOD_FOR_NS (2 * NS_PER_S)

struct survey {
    uint64_t outcomes[DISPOSITION_OUTCOME_COUNT];
    uint64_t garbage;
    bool complete;
    json_t *open; /* the first ones */
    char *file;   /* the file that `dispositions` belong to */
    struct dispositions *dispositions;
};

static json_t *text_json(const struct unfinished_text *text)
{
    return log_json_text(text->base != NULL ? text->base : "");
}

static json_t *request_json(const struct unfinished *request, enum disposition_outcome outcome)
{
    char began[UNFINISHED_TIME_SIZE];

    return json_pack(
        "{s:s, s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:s, s:f, s:I, s:b}", "id", request->id,
        "outcome", disposition_outcome_name(outcome), "reason",
        unfinished_reason_name(request->reason), "class", unfinished_class_name(request->class),
        "state", unfinished_state_name(request->state), "method", text_json(&request->method),
        "authority", text_json(&request->authority), "path", text_json(&request->path), "began",
        unfinished_format_time(request->began_ms, began), "age_ms", request->age_ms, "body_bytes",
        (json_int_t)request->body_bytes, "incomplete", request->gap != UNFINISHED_GAP_NONE);
}

/* NULL also if the dispositions of the file cannot be read. */
static const struct disposition *find_disposition(struct survey *survey,
                                                  const struct archive_item *item)
{
    char error[DISPOSITIONS_ERROR_SIZE];

    if (survey->file == NULL || strcmp(survey->file, item->path) != 0) {
        free(survey->file);
        dispositions_close(survey->dispositions);
        survey->dispositions = NULL;
        survey->file = strdup(item->path);
        if (survey->file == NULL ||
            dispositions_open(item->path, false, &survey->dispositions, error) != 0)
            survey->dispositions = NULL;
    }
    return survey->dispositions != NULL ? dispositions_find(survey->dispositions, item->request.id)
                                        : NULL;
}

static void take(struct survey *survey, const struct archive_item *item)
{
    if (item->why[0] != '\0') {
        survey->garbage++;
        return;
    }
    const struct disposition *disposition = find_disposition(survey, item);
    enum disposition_outcome outcome =
        disposition != NULL ? disposition->outcome : DISPOSITION_NONE;
    survey->outcomes[outcome]++;
    if ((outcome == DISPOSITION_NONE || outcome == DISPOSITION_FAILED) &&
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
    dispositions_close(survey->dispositions);
    free(survey->file);
    return found < 0 ? found : 0;
}

static json_t *survey_json(const char *dir, struct survey *survey)
{
    json_t *counts = json_object();
    uint64_t waiting = survey->outcomes[DISPOSITION_NONE] + survey->outcomes[DISPOSITION_FAILED];
    uint64_t named = json_array_size(survey->open);

    for (int i = 0; i < DISPOSITION_OUTCOME_COUNT; i++)
        (void)json_object_set_new(counts, disposition_outcome_name((enum disposition_outcome)i),
                                  json_integer((json_int_t)survey->outcomes[i]));
    return json_pack("{s:i, s:o, s:b, s:o, s:I, s:o, s:I}", "schema", 1, "dir", log_json_text(dir),
                     "complete", survey->complete, "counts", counts, "garbage",
                     (json_int_t)survey->garbage, "waiting", survey->open, "waiting_left_out",
                     (json_int_t)(waiting - named));
}

char *admin_unfinished_text(struct admin *admin, int *ret_error)
{
    const char *dir = admin->config.journal_dir;
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

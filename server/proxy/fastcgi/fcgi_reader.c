#include "fcgi_reader.h"

#include <string.h>
#include <strings.h>

#include "answer_head.h"

enum { STATUS_COMPLETE, STATUS_CANNOT_MULTIPLEX, STATUS_OVERLOADED, STATUS_UNKNOWN_ROLE };

void fcgi_reader_init(struct fcgi_reader *reader, bool to_head, fcgi_on_line *on_line, void *data)
{
    *reader = (struct fcgi_reader){.to_head = to_head, .on_line = on_line, .data = data};
}

/* ---- lines of FCGI_STDERR ---- */

static void say_line(struct fcgi_reader *reader)
{
    size_t size = reader->line_size;

    reader->line_size = 0;
    if (size > 0 && reader->line[size - 1] == '\r')
        size--;
    if (size > 0)
        reader->on_line(reader->data, reader->line, size);
}

static void take_words(struct fcgi_reader *reader, const char *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (bytes[i] != '\n')
            reader->line[reader->line_size++] = bytes[i];
        if (bytes[i] == '\n' || reader->line_size == sizeof(reader->line))
            say_line(reader);
    }
}

/* ---- records ---- */

static size_t number_at(const unsigned char *bytes)
{
    return (size_t)bytes[0] << 8 | bytes[1];
}

static unsigned type_of(const struct fcgi_reader *reader)
{
    return reader->header[1];
}

static const char *look_at_header(const struct fcgi_reader *reader)
{
    unsigned type = type_of(reader);

    if (reader->header[0] != 1)
        return "the application sent a record of an unknown version";
    if (type != FCGI_TYPE_STDOUT && type != FCGI_TYPE_STDERR && type != FCGI_TYPE_END_REQUEST)
        return "the application sent a record of an unexpected type";
    if (number_at(reader->header + 2) != FCGI_REQUEST_ID)
        return "the application sent a record of another request";
    if (type == FCGI_TYPE_END_REQUEST && number_at(reader->header + 4) != sizeof(reader->end_body))
        return "the application sent an FCGI_END_REQUEST of a wrong length";
    return NULL;
}

static void end_content(struct fcgi_reader *reader)
{
    switch (type_of(reader)) {
    case FCGI_TYPE_STDOUT:
        reader->stdout_has_ended = number_at(reader->header + 4) == 0;
        break;
    case FCGI_TYPE_STDERR:
        say_line(reader);
        break;
    default: /* FCGI_END_REQUEST */
        reader->has_ended = true;
        break;
    }
}

static void begin_record(struct fcgi_reader *reader)
{
    reader->header_size = 0;
    reader->broken = look_at_header(reader);
    if (reader->broken != NULL)
        return;
    reader->content_left = number_at(reader->header + 4);
    reader->padding_left = reader->header[6];
    if (reader->content_left == 0)
        end_content(reader);
}

static size_t take_header(struct fcgi_reader *reader, const char *bytes, size_t size)
{
    size_t missing = FCGI_RECORD_HEADER - reader->header_size, n = size < missing ? size : missing;

    memcpy(reader->header + reader->header_size, bytes, n);
    reader->header_size += n;
    if (reader->header_size == FCGI_RECORD_HEADER)
        begin_record(reader);
    return n;
}

static size_t take_padding(struct fcgi_reader *reader, size_t size)
{
    size_t n = size < reader->padding_left ? size : reader->padding_left;

    reader->padding_left -= n;
    return n;
}

/* Content goes to `to`, where `*kept` bytes of it stand already. */
static size_t take_content(struct fcgi_reader *reader, const char *bytes, size_t size, char *to,
                           size_t *kept)
{
    size_t n = size < reader->content_left ? size : reader->content_left;

    switch (type_of(reader)) {
    case FCGI_TYPE_STDOUT:
        memmove(to + *kept, bytes, n);
        *kept += n;
        break;
    case FCGI_TYPE_STDERR:
        take_words(reader, bytes, n);
        break;
    default: /* FCGI_END_REQUEST, whose length is known */
        memcpy(reader->end_body + reader->end_size, bytes, n);
        reader->end_size += n;
        break;
    }
    reader->content_left -= n;
    if (reader->content_left == 0)
        end_content(reader);
    return n;
}

size_t fcgi_reader_unframe(struct fcgi_reader *reader, char *bytes, size_t size)
{
    size_t at = 0, kept = 0;

    while (at < size && reader->broken == NULL) {
        if (reader->content_left > 0) {
            at += take_content(reader, bytes + at, size - at, bytes, &kept);
        } else if (reader->padding_left > 0) {
            at += take_padding(reader, size - at);
        } else if (reader->has_ended) {
            reader->has_excess = true;
            break;
        } else {
            at += take_header(reader, bytes + at, size - at);
        }
    }
    return kept;
}

/* ---- the end ---- */

static bool ended_well(const struct fcgi_reader *reader)
{
    static const unsigned char well[5]; /* appStatus and protocolStatus */

    return memcmp(reader->end_body, well, sizeof(well)) == 0;
}

bool fcgi_reader_end(const struct fcgi_reader *reader, bool in_order)
{
    if (reader->has_no_body)
        return true;
    if (reader->has_length)
        return reader->left == 0;
    if (reader->has_ended)
        return ended_well(reader);
    bool is_between_records = reader->header_size == 0 && reader->content_left == 0;
    return reader->stdout_has_ended && is_between_records && in_order;
}

bool fcgi_reader_may_keep(const struct fcgi_reader *reader)
{
    return reader->has_ended && reader->end_body[4] == STATUS_COMPLETE && !reader->has_excess &&
           reader->padding_left == 0 && reader->broken == NULL;
}

static ssize_t refuse(struct fcgi_reader *reader, enum fcgi_failure failure, const char *fault)
{
    reader->failure = failure;
    reader->fault = fault;
    return -1;
}

/* It has ended, or broken the protocol, too early. `failure`: what that is at this point. */
static ssize_t refuse_end(struct fcgi_reader *reader, enum fcgi_failure failure, const char *fault)
{
    if (reader->broken != NULL)
        return refuse(reader, FCGI_MALFORMED, reader->broken);
    switch (reader->end_body[4]) {
    case STATUS_COMPLETE:
        break;
    case STATUS_OVERLOADED:
        return refuse(reader, FCGI_OVERLOADED, "the application is overloaded");
    case STATUS_CANNOT_MULTIPLEX:
    case STATUS_UNKNOWN_ROLE:
        return refuse(reader, failure, "the application refused the request");
    default:
        return refuse(reader, FCGI_MALFORMED, "the application sent an unknown protocol status");
    }
    return refuse(reader, failure, fault);
}

/* ---- the head ---- */

static bool is_named(const struct phr_header *field, const char *name)
{
    return field->name_len == strlen(name) && strncasecmp(field->name, name, field->name_len) == 0;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* "404", "404 Not Found". */
static bool read_status(struct answer_fields *fields, const char *value, size_t size)
{
    if (size < 3 || !is_digit(value[0]) || !is_digit(value[1]) || !is_digit(value[2]) ||
        (size > 3 && value[3] != ' '))
        return false;
    fields->status = (value[0] - '0') * 100 + (value[1] - '0') * 10 + (value[2] - '0');
    if (size > 4) {
        fields->reason = value + 4;
        fields->reason_len = size - 4;
    }
    return fields->status >= 200;
}

static const char *take_length(struct fcgi_reader *reader, const struct phr_header *field)
{
    size_t length = h2o_strtosize(field->value, field->value_len);

    if (reader->has_length)
        return "the application sent Content-Length twice";
    if (length > INT64_MAX) /* SIZE_MAX: it is no number */
        return "the application sent an invalid Content-Length";
    reader->has_length = true;
    reader->left = length;
    return NULL;
}

/* Status goes out of the fields. */
static const char *take_fields(struct fcgi_reader *reader, struct answer_fields *fields)
{
    bool has_location = false;
    size_t kept = 0;

    fields->status = 0;
    fields->reason = "";
    fields->reason_len = 0;
    for (size_t i = 0; i < fields->count; i++) {
        const struct phr_header *field = &fields->fields[i];
        const char *fault = NULL;
        if (field->name == NULL)
            return "the application sent a folded header line";
        if (is_named(field, "status")) {
            if (fields->status != 0)
                return "the application sent Status twice";
            if (!read_status(fields, field->value, field->value_len))
                return "the application sent an invalid Status";
            continue;
        }
        if (is_named(field, "content-length"))
            fault = take_length(reader, field);
        if (fault != NULL)
            return fault;
        has_location |= is_named(field, "location");
        fields->fields[kept++] = *field;
    }
    fields->count = kept;
    if (fields->status == 0)
        fields->status = has_location ? 302 : 200; /* RFC 3875 section 6.2.3 */
    return NULL;
}

static ssize_t wait_for_head(struct fcgi_reader *reader, size_t size)
{
    if (size > ANSWER_HEAD_MAX)
        return refuse(reader, FCGI_MALFORMED, "the application sent a head of more than 64 KiB");
    if (reader->broken != NULL || reader->has_ended)
        return refuse_end(reader, FCGI_ENDED,
                          size > 0 ? "the application ended in the head of its answer"
                                   : "the application ended without an answer");
    reader->looked_at = size > 2 ? size : 0; /* else the parser misses the end of an empty head */
    return 0;
}

ssize_t fcgi_reader_head(struct fcgi_reader *reader, const char *bytes, size_t size,
                         struct answer_fields *ret_fields)
{
    if (size == 0)
        return wait_for_head(reader, 0);
    ret_fields->minor_version = 0;
    ret_fields->count = ANSWER_FIELDS_MAX;
    int parsed =
        phr_parse_headers(bytes, size, ret_fields->fields, &ret_fields->count, reader->looked_at);
    if (parsed == -2)
        return wait_for_head(reader, size);
    if (parsed > (int)ANSWER_HEAD_MAX)
        return refuse(reader, FCGI_MALFORMED, "the application sent a head of more than 64 KiB");
    if (parsed < 0)
        return refuse(reader, FCGI_MALFORMED,
                      ret_fields->count == ANSWER_FIELDS_MAX
                          ? "the application sent a head with more than 200 fields"
                          : "the application sent a malformed head");
    const char *fault = take_fields(reader, ret_fields);
    if (fault != NULL)
        return refuse(reader, FCGI_MALFORMED, fault);
    reader->has_head = true;
    reader->has_no_body = reader->to_head || ret_fields->status == 204 || ret_fields->status == 304;
    return parsed;
}

/* ---- the body ---- */

ssize_t fcgi_reader_body(struct fcgi_reader *reader, size_t size)
{
    size_t taken = reader->has_no_body                         ? 0
                   : reader->has_length && reader->left < size ? (size_t)reader->left
                                                               : size;

    if (reader->has_length)
        reader->left -= reader->has_no_body ? 0 : taken;
    reader->excess += size - taken;
    if (reader->excess > FCGI_EXCESS_MAX) {
        reader->has_excess = true;
        reader->is_whole = true;
    } else if ((reader->has_ended && reader->padding_left == 0) || reader->broken != NULL) {
        if (!fcgi_reader_end(reader, false))
            return refuse_end(reader, FCGI_CUT,
                              reader->has_length
                                  ? "the application sent less than its Content-Length"
                                  : "the application exited with an error");
        reader->is_whole = true;
    }
    return (ssize_t)taken;
}

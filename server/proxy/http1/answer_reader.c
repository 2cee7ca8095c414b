#include "answer_reader.h"

#include <string.h>
#include <strings.h>

#include "answer_head.h"
#include "library.h"

static ssize_t refuse(struct answer_reader *reader, const char *fault)
{
    reader->fault = fault;
    return -1;
}

void answer_reader_init(struct answer_reader *reader, bool to_head, bool may_upgrade)
{
    *reader = (struct answer_reader){.to_head = to_head,
                                     .may_upgrade = may_upgrade,
                                     .check = {.trailer_left = ANSWER_TRAILER_MAX},
                                     .decoder = {.consume_trailer = 1}};
}

bool answer_is_interim(int status)
{
    return status < 200 && status != 101;
}

/* ---- the head ---- */

static bool is_named(const struct phr_header *field, const char *name, size_t len)
{
    return field->name_len == len && strncasecmp(field->name, name, len) == 0;
}

static bool has_value(const struct phr_header *field, const char *text)
{
    return field->value_len == strlen(text) &&
           strncasecmp(field->value, text, field->value_len) == 0;
}

/* What the fields of one head say about its body. */
struct framing {
    unsigned codings, lengths;
    bool is_chunked;
    size_t length;
    bool says_close, says_keep;
};

static const char *look_at_field(struct framing *framing, const struct phr_header *field)
{
    if (is_named(field, H2O_STRLIT("transfer-encoding"))) {
        framing->is_chunked = has_value(field, "chunked");
        if (++framing->codings > 1)
            return "the upstream sent Transfer-Encoding twice";
        if (!framing->is_chunked && !has_value(field, "identity"))
            return "the upstream sent a Transfer-Encoding that is not chunked";
    } else if (is_named(field, H2O_STRLIT("content-length"))) {
        if (++framing->lengths > 1)
            return "the upstream sent Content-Length twice";
        framing->length = h2o_strtosize(field->value, field->value_len);
        if (framing->length > INT64_MAX) /* SIZE_MAX: it is no number */
            return "the upstream sent an invalid Content-Length";
    } else if (is_named(field, H2O_STRLIT("connection"))) {
        framing->says_close |=
            h2o_contains_token(field->value, field->value_len, H2O_STRLIT("close"), ',') != 0;
        framing->says_keep |=
            h2o_contains_token(field->value, field->value_len, H2O_STRLIT("keep-alive"), ',') != 0;
    }
    return NULL;
}

static const char *look_at_fields(struct framing *framing, const struct answer_fields *fields)
{
    for (size_t i = 0; i < fields->count; i++) {
        if (fields->fields[i].name == NULL)
            return "the upstream sent a folded header line";
        const char *fault = look_at_field(framing, &fields->fields[i]);
        if (fault != NULL)
            return fault;
    }
    /* RFC 9112 section 6.3 lets a proxy choose; such an answer may be the second half of an attack,
     * and nginx refuses it, too. */
    return framing->is_chunked && framing->lengths > 0
               ? "the upstream sent both Content-Length and Transfer-Encoding"
               : NULL;
}

static bool has_no_body(const struct answer_reader *reader, int status)
{
    return reader->to_head || status == 101 || status == 204 || status == 304;
}

static void begin_body(struct answer_reader *reader, const struct answer_fields *fields,
                       const struct framing *framing)
{
    bool is_new = fields->minor_version >= 1;

    if (has_no_body(reader, fields->status)) {
        reader->end = END_AT_ONCE;
    } else if (framing->is_chunked) {
        reader->end = END_BY_CHUNK;
    } else if (framing->lengths > 0) {
        reader->end = END_BY_LENGTH;
        reader->left = framing->length;
    } else {
        reader->end = END_BY_CLOSE;
    }
    reader->is_whole =
        reader->end == END_AT_ONCE || (reader->end == END_BY_LENGTH && reader->left == 0);
    /* HTTP/1.0 knows no chunks: one who sends them may read the next request in a way of its own.
     */
    reader->may_keep = reader->end != END_BY_CLOSE && fields->status != 101 &&
                       !framing->says_close &&
                       (is_new || (framing->says_keep && !framing->is_chunked));
}

static ssize_t look_at_head(struct answer_reader *reader, const struct answer_fields *fields)
{
    struct framing framing = {0};

    if (fields->status < 100 || fields->status > 999)
        return refuse(reader, "the upstream sent an invalid status");
    const char *fault = look_at_fields(&framing, fields);
    if (fault != NULL)
        return refuse(reader, fault);
    if (fields->status == 101 && !reader->may_upgrade)
        return refuse(reader, "the upstream switched protocols without a request to upgrade");
    if (!answer_is_interim(fields->status))
        begin_body(reader, fields, &framing);
    else if (++reader->interims > ANSWER_INTERIMS_MAX)
        return refuse(reader, "the upstream sent more than 64 interim answers");
    return 0;
}

/* The parser would wait for the end of what is no head. */
static bool begins_as_head(const char *bytes, size_t size)
{
    static const char begin[] = "HTTP/1.";

    return memcmp(bytes, begin, size < strlen(begin) ? size : strlen(begin)) == 0;
}

ssize_t answer_reader_head(struct answer_reader *reader, const char *bytes, size_t size,
                           struct answer_fields *ret_fields)
{
    if (!begins_as_head(bytes, size))
        return refuse(reader, "the upstream sent no HTTP/1 answer");
    ret_fields->count = ANSWER_FIELDS_MAX;
    int parsed = phr_parse_response(bytes, size, &ret_fields->minor_version, &ret_fields->status,
                                    &ret_fields->reason, &ret_fields->reason_len,
                                    ret_fields->fields, &ret_fields->count, reader->looked_at);
    if (parsed == -2 ? size > ANSWER_HEAD_MAX : parsed > (int)ANSWER_HEAD_MAX)
        return refuse(reader, "the upstream sent a head of more than 64 KiB");
    if (parsed == -2) {
        reader->looked_at = size;
        return 0;
    }
    if (parsed < 0)
        return refuse(reader, ret_fields->count == ANSWER_FIELDS_MAX
                                  ? "the upstream sent a head with more than 200 fields"
                                  : "the upstream sent a malformed head");
    reader->looked_at = 0;
    return look_at_head(reader, ret_fields) != 0 ? -1 : parsed;
}

/* ---- the body ---- */

static ssize_t read_chunks(struct answer_reader *reader, char *bytes, size_t size)
{
    size_t decoded = size;

    if (strict_chunks_check(&reader->check, bytes, size) != REFUSAL_NONE)
        return refuse(reader, "the upstream sent a malformed chunk");
    ssize_t excess = library.phr_decode_chunked(&reader->decoder, bytes, &decoded);
    if (excess == -1)
        return refuse(reader, "the upstream sent a malformed chunk");
    reader->is_whole = excess >= 0;
    reader->has_excess = excess > 0;
    return (ssize_t)decoded;
}

static ssize_t read_length(struct answer_reader *reader, size_t size)
{
    size_t taken = size < reader->left ? size : (size_t)reader->left;

    reader->left -= taken;
    reader->is_whole = reader->left == 0;
    reader->has_excess = taken < size;
    return (ssize_t)taken;
}

ssize_t answer_reader_body(struct answer_reader *reader, char *bytes, size_t size)
{
    if (size == 0)
        return 0;
    if (reader->is_whole) {
        reader->has_excess = true;
        return 0;
    }
    switch (reader->end) {
    case END_BY_CHUNK:
        return read_chunks(reader, bytes, size);
    case END_BY_LENGTH:
        return read_length(reader, size);
    case END_AT_ONCE: /* is_whole */
    case END_BY_CLOSE:
        break;
    }
    return (ssize_t)size;
}

bool answer_reader_end(struct answer_reader *reader, bool in_order)
{
    if (reader->end == END_BY_CLOSE && in_order)
        reader->is_whole = true;
    return reader->is_whole;
}

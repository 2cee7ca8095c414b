/* libFuzzer: what a script prints. The end of its header is the same, however its bytes arrive; and
 * what is passed on can be sent in a header of HTTP: no name or value ends its line, none is a
 * field of the connection. */

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "cgi_head.h"

/* A second look for the empty line, byte by byte. */
static size_t plain_end(const char *bytes, size_t count)
{
    size_t line = 0; /* its bytes so far, without a CR at its end */
    bool cr = false;

    for (size_t i = 0; i < count; i++) {
        if (bytes[i] == '\n') {
            if (line == 0)
                return i + 1;
            line = 0;
            cr = false;
            continue;
        }
        line += cr; /* it was not at the end */
        cr = bytes[i] == '\r';
        line += !cr;
    }
    return 0;
}

static size_t end_in_pieces(const char *bytes, size_t count)
{
    size_t have = 0, end = 0;

    while (end == 0 && have < count) {
        size_t before = have, piece = 1 + (size_t)(unsigned char)bytes[have] % 7;
        have = piece < count - have ? have + piece : count;
        end = cgi_head_end(bytes, have, before);
    }
    return end;
}

static void check_text(const char *text, bool is_name, const char *from, const char *to)
{
    assert(text >= from && text + strlen(text) < to);
    assert(!is_name || *text != '\0');
    for (; *text != '\0'; text++) {
        assert((unsigned char)*text >= ' ' || *text == '\t');
        assert(!is_name || (*text != ':' && *text != ' ' && *text != '\t'));
    }
}

static void check_fields(const struct cgi_head *head, const char *bytes, size_t count)
{
    static const char *const never[] = {"Connection", "Content-Length",    "Content-Type",
                                        "Status",     "Transfer-Encoding", "Date",
                                        "Server"};

    assert(head->count <= CGI_HEAD_FIELDS);
    for (size_t i = 0; i < head->count; i++) {
        check_text(head->fields[i].name, true, bytes, bytes + count);
        check_text(head->fields[i].value, false, bytes, bytes + count);
        for (size_t k = 0; k < sizeof(never) / sizeof(never[0]); k++)
            assert(strcasecmp(head->fields[i].name, never[k]) != 0);
    }
    assert(head->status >= 200 && head->status <= 599);
    assert(head->length >= -1);
    if (head->content_type != NULL)
        check_text(head->content_type, false, bytes, bytes + count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct cgi_head head;
    char error[CGI_HEAD_ERROR] = "";
    char *bytes = malloc(size + 1);

    if (bytes == NULL)
        return 0;
    memcpy(bytes, data, size);
    size_t end = cgi_head_end(bytes, size, 0);
    assert(end == plain_end(bytes, size));
    assert(end == end_in_pieces(bytes, size));
    char *exact = malloc(end > 0 ? end : 1); /* a read beyond the header is seen */
    if (exact != NULL && end > 0) {
        memcpy(exact, bytes, end);
        if (cgi_head_parse(exact, end, &head, error) == 0)
            check_fields(&head, exact, end);
        else
            assert(error[0] != '\0');
    }
    free(exact);
    free(bytes);
    return 0;
}

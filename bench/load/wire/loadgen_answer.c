#include "loadgen_answer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* The states of the parser:
 *
 *      STATUS -> HEADER ... -> SIZED ----------------------------------> DONE
 *        ^           |-------> UNTIL_EOF                                  ^
 *        '--- 1xx ---|                                                    |
 *                    '-------> CHUNK_SIZE -> CHUNK -> CHUNK_END           |
 *                                  ^ '---------- 0 -------'--> TRAILER ---'
 *                                  '------------------'
 *
 * The parser keeps LOAD_LINE_MAX_BYTES of a line, enough for the few headers that matter, and
 * ignores the rest of it. Input that is not HTTP leads to BROKEN. */

static void read_status(struct load_answer *a)
{
    const char *p = a->line;

    if (a->line_len < 12 || strncmp(p, "HTTP/1.", 7) != 0 || (p[7] != '0' && p[7] != '1') ||
        p[8] != ' ' || (a->line_len > 12 && p[12] != ' ')) {
        a->state = ANSWER_BROKEN;
        return;
    }
    int status = 0;
    for (int i = 9; i < 12; i++) {
        if (p[i] < '0' || p[i] > '9') {
            a->state = ANSWER_BROKEN;
            return;
        }
        status = status * 10 + (p[i] - '0');
    }
    a->status = status;
    a->is_http10 = p[7] == '0';
    a->announces_close = a->announces_keepalive = false;
    a->chunked = a->has_length = false;
    a->left = 0;
    a->state = status < 100 || status == 101 ? ANSWER_BROKEN : ANSWER_HEADER;
}

/* Is `word` one of the elements of a comma-separated list? */
static bool list_has(const char *list, const char *word)
{
    size_t word_len = strlen(word);

    while (*list != '\0') {
        list += strspn(list, " \t,");
        size_t len = strcspn(list, " \t,;");
        if (len == word_len && strncasecmp(list, word, len) == 0)
            return true;
        list += strcspn(list, ",");
    }
    return false;
}

static void read_content_length(struct load_answer *a, const char *value)
{
    uint64_t length = 0;
    const char *p = value;

    for (; *p >= '0' && *p <= '9'; p++) {
        if (length > (UINT64_MAX - 9) / 10)
            break;
        length = length * 10 + (uint64_t)(*p - '0');
    }
    if (p == value || p[strspn(p, " \t")] != '\0' || (a->has_length && a->left != length)) {
        a->state = ANSWER_BROKEN;
        return;
    }
    a->has_length = true;
    a->left = length;
}

static void read_header(struct load_answer *a)
{
    char *colon = strchr(a->line, ':');

    if (colon == NULL || colon == a->line) {
        a->state = ANSWER_BROKEN;
        return;
    }
    *colon = '\0';
    const char *value = colon + 1 + strspn(colon + 1, " \t");
    if (strcasecmp(a->line, "Content-Length") == 0) {
        read_content_length(a, value);
    } else if (strcasecmp(a->line, "Transfer-Encoding") == 0) {
        a->chunked = a->chunked || list_has(value, "chunked");
    } else if (strcasecmp(a->line, "Connection") == 0) {
        a->announces_close = a->announces_close || list_has(value, "close");
        a->announces_keepalive = a->announces_keepalive || list_has(value, "keep-alive");
    }
}

/* The empty line: what kind of body follows? RFC 9112 section 6.3. */
static void end_headers(struct load_answer *a, bool is_head)
{
    int status = a->status;

    if (status < 200)
        a->state = ANSWER_STATUS; /* interim: the answer follows */
    else if (is_head || status == 204 || status == 304)
        a->state = ANSWER_DONE;
    else if (a->chunked)
        a->state = ANSWER_CHUNK_SIZE;
    else if (a->has_length)
        a->state = a->left > 0 ? ANSWER_SIZED : ANSWER_DONE;
    else
        a->state = ANSWER_UNTIL_EOF;
}

static void read_chunk_size(struct load_answer *a)
{
    size_t digits = strspn(a->line, "0123456789abcdefABCDEF");
    char next = a->line[digits];

    errno = 0;
    unsigned long long size = strtoull(a->line, NULL, 16);
    if (digits == 0 || errno != 0 || (next != '\0' && next != ';' && next != ' ' && next != '\t')) {
        a->state = ANSWER_BROKEN;
        return;
    }
    a->left = size;
    a->state = size > 0 ? ANSWER_CHUNK : ANSWER_TRAILER;
}

static void read_line(struct load_answer *a, bool is_head)
{
    if (a->line_len > 0 && a->line[a->line_len - 1] == '\r')
        a->line_len--;
    a->line[a->line_len] = '\0';

    if (a->state == ANSWER_STATUS)
        read_status(a);
    else if (a->state == ANSWER_HEADER && a->line_len > 0)
        read_header(a);
    else if (a->state == ANSWER_HEADER)
        end_headers(a, is_head);
    else if (a->state == ANSWER_CHUNK_SIZE)
        read_chunk_size(a);
    else if (a->state == ANSWER_CHUNK_END)
        a->state = a->line_len == 0 ? ANSWER_CHUNK_SIZE : ANSWER_BROKEN;
    else if (a->line_len == 0)
        a->state = ANSWER_DONE; /* the end of the trailer */
    a->line_len = 0;
}

static size_t take_line(struct load_answer *a, const uint8_t *data, size_t len, bool is_head)
{
    const uint8_t *newline = memchr(data, '\n', len);
    size_t take = newline != NULL ? (size_t)(newline - data) : len;
    size_t room = sizeof(a->line) - 1 - a->line_len;
    size_t keep = take < room ? take : room;

    memcpy(a->line + a->line_len, data, keep);
    a->line_len += keep;
    if (newline == NULL)
        return len;
    read_line(a, is_head);
    return take + 1;
}

static size_t take_body(struct load_answer *a, size_t len)
{
    size_t take = a->state == ANSWER_UNTIL_EOF || a->left > len ? len : (size_t)a->left;

    if (a->state == ANSWER_UNTIL_EOF)
        return take;
    a->left -= take;
    if (a->left == 0)
        a->state = a->state == ANSWER_SIZED ? ANSWER_DONE : ANSWER_CHUNK_END;
    return take;
}

void load_answer_expect(struct load_answer *a)
{
    a->state = ANSWER_STATUS;
    a->status = 0;
    a->line_len = 0;
    a->announces_close = a->announces_keepalive = false;
}

size_t load_answer_step(struct load_answer *a, const uint8_t *data, size_t len, bool is_head,
                        size_t *ret_body)
{
    bool in_body =
        a->state == ANSWER_SIZED || a->state == ANSWER_UNTIL_EOF || a->state == ANSWER_CHUNK;

    size_t used = in_body ? take_body(a, len) : take_line(a, data, len, is_head);
    *ret_body = in_body ? used : 0;
    return used;
}

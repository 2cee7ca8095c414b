#include "cli_sse.h"

#include <stdlib.h>
#include <string.h>

/* The format: lines that end in CR, LF or CR LF, each `field: value`. A line that begins with a
 * colon is a comment. An empty line ends the event. */

static bool append(char **text, size_t *used, size_t *room, const char *bytes, size_t size)
{
    if (size > CLI_SSE_MAX - *used)
        return false;
    if (*used + size + 1 > *room) {
        size_t want = 2 * (*used + size + 1);
        char *larger = realloc(*text, want);
        if (larger == NULL)
            return false;
        *text = larger;
        *room = want;
    }
    memcpy(*text + *used, bytes, size);
    *used += size;
    (*text)[*used] = '\0';
    return true;
}

static void end_event(struct cli_sse *sse,
                      void (*on_event)(void *arg, const char *name, const char *data), void *arg)
{
    if (sse->data_bytes > 0 && !sse->too_large) {
        sse->data[sse->data_bytes - 1] = '\0'; /* the \n after the last data line */
        on_event(arg, sse->name[0] != '\0' ? sse->name : "message", sse->data);
    }
    sse->data_bytes = 0;
    sse->name[0] = '\0';
    sse->too_large = false;
}

static void end_line(struct cli_sse *sse,
                     void (*on_event)(void *arg, const char *name, const char *data), void *arg)
{
    char *line = sse->line;
    size_t size = sse->line_bytes;

    sse->line_bytes = 0;
    if (size == 0) {
        end_event(sse, on_event, arg);
        return;
    }
    char *colon = memchr(line, ':', size);
    size_t field = colon != NULL ? (size_t)(colon - line) : size;
    const char *value = colon != NULL ? colon + 1 : line + size;
    value += *value == ' ';
    size_t value_bytes = size - (size_t)(value - line);
    if (field == 4 && memcmp(line, "data", 4) == 0) {
        if (!append(&sse->data, &sse->data_bytes, &sse->data_room, value, value_bytes) ||
            !append(&sse->data, &sse->data_bytes, &sse->data_room, "\n", 1))
            sse->too_large = true;
    } else if (field == 5 && memcmp(line, "event", 5) == 0 && value_bytes < sizeof(sse->name)) {
        memcpy(sse->name, value, value_bytes);
        sse->name[value_bytes] = '\0';
    }
}

void cli_sse_feed(struct cli_sse *sse, const char *bytes, size_t size,
                  void (*on_event)(void *arg, const char *name, const char *data), void *arg)
{
    for (const char *end = bytes + size; bytes < end;) {
        if (sse->after_cr && *bytes == '\n') { /* the second half of CR LF */
            sse->after_cr = false;
            bytes++;
            continue;
        }
        size_t n = 0, left = (size_t)(end - bytes);
        while (n < left && bytes[n] != '\r' && bytes[n] != '\n')
            n++;
        if (n > 0 && !append(&sse->line, &sse->line_bytes, &sse->line_room, bytes, n))
            sse->too_large = true;
        bytes += n;
        sse->after_cr = false;
        if (bytes < end) {
            sse->after_cr = *bytes == '\r';
            end_line(sse, on_event, arg);
            bytes++;
        }
    }
}

void cli_sse_release(struct cli_sse *sse)
{
    free(sse->line);
    free(sse->data);
    memset(sse, 0, sizeof(*sse));
}

#include "cli_text.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <wchar.h>
#include <wctype.h>

/* Where a text may be cut, so that the dots still fit into `columns` and `size`. */
struct cut {
    bool has_room; /* for dots at all */
    size_t at;
};

static void note_cut(struct cut *cut, size_t used, size_t width, size_t size, size_t columns)
{
    if (cut->has_room && width <= columns - 3 && used + 4 <= size)
        cut->at = used;
}

char *cli_clean(const char *text, char *buf, size_t size, size_t columns)
{
    mbstate_t state = {0};
    struct cut cut = {.has_room = columns >= 4 && size >= 8};
    size_t used = 0, width = 0;

    while (*text != '\0') {
        wchar_t wide;
        size_t n = mbrtowc(&wide, text, strlen(text), &state);
        bool known = n != 0 && n != (size_t)-1 && n != (size_t)-2;
        int wants = known && iswprint((wint_t)wide) ? wcwidth(wide) : -1;
        bool shown = wants > 0; /* a character without width may hide text or turn its direction */
        size_t bytes = shown ? n : 1, step = shown ? (size_t)wants : 1;
        if (!known) {
            memset(&state, 0, sizeof(state));
            n = 1;
        }
        if (width + step > columns || used + bytes + 1 > size) {
            if (cut.has_room) {
                memcpy(buf + cut.at, "...", 3);
                used = cut.at + 3;
            }
            break;
        }
        if (shown)
            memcpy(buf + used, text, n);
        else
            buf[used] = '?';
        used += bytes;
        width += step;
        note_cut(&cut, used, width, size, columns);
        text += n;
    }
    buf[used] = '\0';
    return buf;
}

char *cli_duration(double ms, char buf[CLOCK_TEXT_SIZE])
{
    if (!(ms > 0))
        ms = 0;
    if (ms >= 999.5 && ms < 59950)
        (void)snprintf(buf, CLOCK_TEXT_SIZE, "%.1fs", ms / 1000);
    else if (ms < 999.5)
        (void)snprintf(buf, CLOCK_TEXT_SIZE, "%.0fms", ms);
    else
        (void)clock_format_duration((uint64_t)(ms < 1e12 ? ms : 1e12) * NS_PER_MS, buf);
    return buf;
}

#include "replay_show.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"

#define BAR 24
#define TERMINAL_EVERY_NS (100 * NS_PER_MS)
#define LINES_EVERY_NS (5 * NS_PER_S)

void replay_show_begin(struct replay_show *show, size_t total, bool quiet)
{
    *show = (struct replay_show){.terminal = isatty(STDERR_FILENO) == 1,
                                 .quiet = quiet,
                                 .total = total,
                                 .began_ns = clock_now_ns()};
    show->next_ns = show->began_ns + (show->terminal ? TERMINAL_EVERY_NS : LINES_EVERY_NS);
}

static size_t done_of(const struct replay_counts *counts)
{
    return counts->settled + counts->parked + counts->given_up + counts->taken_over;
}

/* "about 12s left", from the rate so far; "" if it is not known. */
static void format_left(const struct replay_show *show, const struct replay_counts *counts,
                        uint64_t now_ns, char *text, size_t size)
{
    char left[CLOCK_TEXT_SIZE];
    size_t done = done_of(counts);

    text[0] = '\0';
    if (done == 0 || done >= show->total)
        return;
    double each_ns = (double)(now_ns - show->began_ns) / (double)done;
    uint64_t left_ns = (uint64_t)(each_ns * (double)(show->total - done));
    left_ns = (left_ns + NS_PER_S - 1) / NS_PER_S * NS_PER_S; /* rounded up to seconds */
    (void)snprintf(text, size, ", about %s left", clock_format_duration(left_ns, left));
}

static void draw(const struct replay_show *show, const struct replay_counts *counts,
                 uint64_t now_ns)
{
    char bar[BAR + 1], left[64];
    size_t done = done_of(counts), total = show->total > done ? show->total : done;
    size_t filled = total > 0 ? done * BAR / total : BAR;

    memset(bar, '-', BAR);
    memset(bar, '#', filled);
    bar[BAR] = '\0';
    format_left(show, counts, now_ns, left, sizeof(left));
    (void)fprintf(
        stderr, "\r\033[K[%s] %zu/%zu: %zu settled, %zu parked, %zu waiting, %zu under way%s", bar,
        done, total, counts->settled, counts->parked, counts->waiting, counts->in_flight, left);
}

void replay_show_progress(struct replay_show *show, const struct replay_counts *counts,
                          uint64_t now_ns)
{
    char left[64];

    if (show->quiet || now_ns < show->next_ns)
        return;
    show->next_ns = now_ns + (show->terminal ? TERMINAL_EVERY_NS : LINES_EVERY_NS);
    if (show->terminal) {
        draw(show, counts, now_ns);
        return;
    }
    format_left(show, counts, now_ns, left, sizeof(left));
    (void)fprintf(stderr, "%zu of %zu: %zu settled, %zu parked, %zu waiting, %zu under way%s\n",
                  done_of(counts), show->total, counts->settled, counts->parked, counts->waiting,
                  counts->in_flight, left);
}

void replay_show_line(struct replay_show *show, const char *format, ...)
{
    va_list args;

    if (show->terminal && !show->quiet)
        (void)fputs("\r\033[K", stderr);
    va_start(args, format);
    (void)vfprintf(stderr, format, args);
    va_end(args);
    (void)fputc('\n', stderr);
}

void replay_show_end(struct replay_show *show)
{
    if (show->terminal && !show->quiet)
        (void)fputs("\r\033[K", stderr);
}

void replay_show_text(const struct unfinished_text *text)
{
    for (size_t i = 0; i < text->len; i++) {
        unsigned char c = (unsigned char)text->base[i];
        unsigned char after = i + 1 < text->len ? (unsigned char)text->base[i + 1] : 0;
        bool is_control = c < 0x20 || c == 0x7f || (c == 0xc2 && after >= 0x80 && after < 0xa0);
        (void)putchar(is_control ? '?' : c);
    }
}

void replay_show_request(const struct unfinished *request)
{
    replay_show_text(&request->method);
    (void)putchar(' ');
    replay_show_text(&request->authority);
    replay_show_text(&request->path);
    (void)printf(" (%s, %s)", unfinished_class_name(request->class),
                 unfinished_reason_name(request->reason));
}

uint64_t replay_show_next_ns(const struct replay_show *show)
{
    return show->quiet ? CLOCK_NEVER : show->next_ns;
}

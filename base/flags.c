#include "flags.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sysexits.h>

#include "clock.h"

#define LONG_BASE 1000 /* above every letter */
#define WIDTH 100      /* of --help */

/* ---- help ---- */

static void print_wrapped(const char *text, size_t indent)
{
    size_t column = indent;

    while (*text != '\0') {
        size_t word = strcspn(text, " ");
        if (column > indent && column + 1 + word > WIDTH) {
            (void)printf("\n%*s", (int)indent, "");
            column = indent;
        } else if (column > indent) {
            (void)putchar(' ');
            column++;
        }
        (void)fwrite(text, 1, word, stdout);
        column += word;
        text += word;
        text += strspn(text, " ");
    }
    (void)putchar('\n');
}

static bool has_letters(const struct flags *flags)
{
    for (size_t i = 0; i < flags->count; i++)
        if (flags->rows[i].letter != 0)
            return true;
    return false;
}

static void print_row(const struct flags *flags, const struct flag *row)
{
    char left[64], letter[] = "-x, ", text[512];
    const char *before = has_letters(flags) ? "    " : "";

    if (row->letter != 0) {
        letter[1] = row->letter;
        before = letter;
    }
    (void)snprintf(left, sizeof(left), "  %s--%s%s%s", before, row->name,
                   row->argument != NULL ? " " : "", row->argument != NULL ? row->argument : "");
    (void)snprintf(text, sizeof(text), "%s%s%s%s", row->help,
                   row->fallback != NULL ? " (default: " : "",
                   row->fallback != NULL ? row->fallback : "", row->fallback != NULL ? ")" : "");
    (void)printf("%-*s", (int)flags->column, left);
    if (strlen(left) >= flags->column) /* a long name has a line of its own */
        (void)printf("\n%*s", (int)flags->column, "");
    print_wrapped(text, flags->column);
}

void flags_print(const struct flags *flags)
{
    for (size_t i = 0; i < flags->count; i++) {
        const struct flag *row = &flags->rows[i];
        if (row->name == NULL)
            continue;
        if (row->group != NULL)
            (void)printf("\n%s:\n", row->group);
        print_row(flags, row);
    }
}

int flags_usage(const struct flags *flags, const char *format, ...)
{
    va_list args;

    (void)fflush(stdout);
    (void)fprintf(stderr, "%s: ", flags->program);
    va_start(args, format);
    (void)vfprintf(stderr, format, args);
    va_end(args);
    (void)fprintf(stderr, "; see %s --help\n", flags->program);
    return EX_USAGE;
}

/* ---- values ---- */

static const char *set_number(const struct flag *row, const char *text, uint64_t *ret_number,
                              char *want)
{
    char *end;

    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    if (text[0] >= '0' && text[0] <= '9' && *end == '\0' && errno == 0 && number >= row->least &&
        number <= row->most) {
        *ret_number = number;
        return NULL;
    }
    (void)snprintf(want, FLAGS_WANT_SIZE, "want a whole number from %llu to %llu",
                   (unsigned long long)row->least, (unsigned long long)row->most);
    return want;
}

static const char *set_duration(const struct flag *row, const char *text, uint64_t *ret_ns,
                                char *want)
{
    char least[CLOCK_TEXT_SIZE], most[CLOCK_TEXT_SIZE];
    uint64_t ns;

    if (clock_parse_duration(text, &ns) != 0)
        return "want a duration such as 250ms, 10s or 2m";
    if (ns >= row->least && ns <= row->most) {
        *ret_ns = ns;
        return NULL;
    }
    (void)snprintf(want, FLAGS_WANT_SIZE, "want a duration from %s to %s",
                   row->least == 0 ? "0" : clock_format_duration(row->least, least),
                   clock_format_duration(row->most, most));
    return want;
}

static const char *set_size(const struct flag *row, const char *text, uint64_t *ret_bytes,
                            char *want)
{
    static const char units[] = "KMG";
    char *end;

    errno = 0;
    unsigned long long bytes = strtoull(text, &end, 10);
    const char *unit = *end != '\0' ? strchr(units, *end & ~0x20) : NULL;
    unsigned shift = unit != NULL ? 10 * (unsigned)(unit - units + 1) : 0;
    end += unit != NULL;
    end += unit != NULL && *end == 'i';
    end += unit != NULL && (*end == 'B' || *end == 'b');
    if (text[0] >= '0' && text[0] <= '9' && *end == '\0' && errno == 0 &&
        bytes <= UINT64_MAX >> shift && bytes << shift >= row->least &&
        bytes << shift <= row->most) {
        *ret_bytes = bytes << shift;
        return NULL;
    }
    (void)snprintf(want, FLAGS_WANT_SIZE,
                   "want a size from %lluKB to %lluMB, such as 512KB or 64MB",
                   (unsigned long long)row->least >> 10, (unsigned long long)row->most >> 20);
    return want;
}

static const char *set_on(const char *text, bool *ret_on)
{
    if (text[0] != '\0' && strcasecmp(text, "ON") != 0 && strcasecmp(text, "OFF") != 0)
        return "want ON or OFF";
    *ret_on = strcasecmp(text, "OFF") != 0;
    return NULL;
}

const char *flags_set(const struct flag *flag, const char *text, void *target, char *want)
{
    void *at = (char *)target + flag->offset;

    switch (flag->kind) {
    case FLAG_TEXT:
        if (text[0] == '\0')
            return "want a text that is not empty";
        *(const char **)at = text;
        return NULL;
    case FLAG_ANY_TEXT:
        *(const char **)at = text;
        return NULL;
    case FLAG_NUMBER:
        return set_number(flag, text, at, want);
    case FLAG_DURATION:
        return set_duration(flag, text, at, want);
    case FLAG_SIZE:
        return set_size(flag, text, at, want);
    case FLAG_ON:
        return set_on(text, at);
    case FLAG_CUSTOM:
        return flag->set(flag, text, at, target, want);
    case FLAG_ACTION:
        break;
    }
    return NULL;
}

/* ---- parsing ---- */

static void fill_getopt(const struct flags *flags, struct option *longs, char *shorts)
{
    if (flags->is_command)
        *shorts++ = '+'; /* do not move operands */
    *shorts++ = ':';     /* report a missing value as such */
    for (size_t i = 0; i < flags->count; i++) {
        const struct flag *row = &flags->rows[i];
        if (row->name == NULL)
            continue;
        *longs++ =
            (struct option){.name = row->name,
                            .has_arg = row->argument != NULL ? required_argument : no_argument,
                            .val = LONG_BASE + (int)i};
        if (row->letter != 0) {
            *shorts++ = row->letter;
            if (row->argument != NULL)
                *shorts++ = ':';
        }
    }
    *longs = (struct option){0};
    *shorts = '\0';
}

static const struct flag *find_row(const struct flags *flags, int choice)
{
    if (choice >= LONG_BASE)
        return &flags->rows[choice - LONG_BASE];
    for (size_t i = 0; i < flags->count; i++)
        if (flags->rows[i].letter == choice)
            return &flags->rows[i];
    return &flags->rows[0]; /* not reached: getopt(3) returns only letters of the rows */
}

/* One flag. -1: go on; otherwise the exit status. */
static int take(const struct flags *flags, const struct flag *row, const char *text)
{
    char want[FLAGS_WANT_SIZE];

    if (row->kind == FLAG_ACTION) {
        row->act(flags);
        return 0;
    }
    const char *wanted = flags_set(row, text, flags->target, want);
    bool shows = text[0] != '\0' && !row->is_secret;
    if (wanted != NULL)
        return flags_usage(flags, "--%s%s%s: %s", row->name, shows ? " " : "", shows ? text : "",
                           wanted);
    if (flags->given != NULL)
        flags->given[row - flags->rows] = true;
    return -1;
}

int flags_parse(const struct flags *flags, int argc, char **argv, int *ret_operands,
                bool *ret_dashes)
{
    struct option longs[FLAGS_ROWS_MAX + 1];
    char shorts[2 * FLAGS_ROWS_MAX + 3];
    int choice, at;

    fill_getopt(flags, longs, shorts);
    opterr = 0;
    optind = 0; /* glibc: start anew, whatever was parsed before */
    at = 1;
    while ((choice = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
        if (choice == ':')
            return flags_usage(flags, "%s: wants a value", argv[optind - 1]);
        if (choice == '?' && optopt >= LONG_BASE)
            return flags_usage(flags, "%s: takes no value", argv[optind - 1]);
        if (choice == '?' && optopt > 0)
            return flags_usage(flags, "-%c: no such option", optopt);
        if (choice == '?')
            return flags_usage(flags, "%s: no such option", argv[optind - 1]);
        int status = take(flags, find_row(flags, choice), optarg != NULL ? optarg : "");
        if (status >= 0)
            return status;
        at = optind;
    }
    *ret_operands = optind;
    /* With is_command nothing is moved: `at` is the index after the last flag. */
    *ret_dashes = flags->is_command && at < argc && strcmp(argv[at], "--") == 0;
    return -1;
}

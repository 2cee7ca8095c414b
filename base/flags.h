#ifndef LASTCALL_FLAGS_H
#define LASTCALL_FLAGS_H

/* Command lines. One table has the name, type, bounds, default and help of each flag; the parser,
 * --help and the texts about wrong values all read it. A row may also be a setting of the
 * configuration file: then flags_set() takes its text, with the same bounds and error texts. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FLAGS_WANT_SIZE 160
#define FLAGS_ROWS_MAX 128

enum flag_kind {
    FLAG_TEXT,     /* const char *, not empty, borrowed */
    FLAG_ANY_TEXT, /* const char *, may be empty, borrowed */
    FLAG_NUMBER,   /* uint64_t, from least to most */
    FLAG_DURATION, /* uint64_t, nanoseconds, from least to most: 250ms, 10s, 2m */
    FLAG_SIZE,     /* uint64_t, bytes, from least to most: 4096, 64KB, 2GB; K is 1024 */
    FLAG_ON,       /* bool: true if the flag is given; in a file ON or OFF */
    FLAG_CUSTOM,   /* set() stores it */
    FLAG_ACTION,   /* act() runs, and the parser returns 0: for --help and --version */
};

struct flag;
struct flags;

/* Store `text`. Returns NULL, or what is wanted instead of `text`, which may be in `want`
 * (FLAGS_WANT_SIZE bytes). `at` is the address of the value, `target` that of the whole struct. */
typedef const char *flag_set_cb(const struct flag *flag, const char *text, void *at, void *target,
                                char *want);

struct flag {
    const char *name;    /* the flag without --; NULL: it is not a flag */
    const char *setting; /* the directive of a configuration file; NULL: it is not one */
    char letter;         /* the short flag, or 0 */
    bool is_secret;      /* error texts do not show its value */
    enum flag_kind kind;
    const char *argument; /* the value's name in --help; NULL: the flag takes no value */
    size_t offset;        /* of the value in the target struct */
    uint64_t least, most;
    const char *fallback; /* the default, for --help; NULL: none is shown */
    const char *help;
    const char *group; /* the heading above this row; NULL: none */
    flag_set_cb *set;
    void (*act)(const struct flags *flags);
};

struct flags {
    const char *program; /* for messages: `lastcall replay` */
    const struct flag *rows;
    size_t count;    /* FLAGS_ROWS_MAX at most */
    void *target;    /* the struct of the values */
    bool *given;     /* count of them: is set if the flag was given; may be NULL */
    size_t column;   /* of the help texts */
    bool is_command; /* the first operand ends the flags, as in `lastcall -- COMMAND` */
};

/* Parse a command line, first with argv[1]. Operands are moved after the flags, unless
 * flags->is_command.
 * Owner:  texts are borrowed from argv.     Thread: main only.
 * Errors: -1 go on, and *ret_operands is the index of the first operand (argc: there is none), and
 * *ret_dashes says whether it follows `--`; otherwise the exit status, 0 after FLAG_ACTION, or
 * EX_USAGE after one line on standard error. */
int flags_parse(const struct flags *flags, int argc, char **argv, int *ret_operands,
                bool *ret_dashes);

/* Store the text of one row into `target`. Returns NULL, or what is wanted instead; `want` has
 * FLAGS_WANT_SIZE bytes for that. Of FLAG_ON an empty text means ON.     Thread: any. */
const char *flags_set(const struct flag *flag, const char *text, void *target, char *want);

/* Print the rows, with their groups, as --help does.     Thread: main only. */
void flags_print(const struct flags *flags);

/* Print `PROGRAM: ...; see PROGRAM --help` on standard error. Returns EX_USAGE.
 * Thread: any. */
int flags_usage(const struct flags *flags, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif

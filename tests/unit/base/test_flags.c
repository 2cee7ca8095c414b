/* The table of flags: parsing, bounds, operands, and the texts about what is wrong. */

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include <cmocka.h>

#include "clock.h"
#include "flags.h"

struct values {
    const char *file;
    uint64_t count;
    uint64_t pause_ns;
    uint64_t size;
    bool loud;
    const char *last; /* of --add */
    unsigned added;
    unsigned helped;
};

static const char *add(const struct flag *flag, const char *text, void *at, void *target,
                       char *want)
{
    struct values *values = target;

    (void)flag;
    (void)want;
    if (strcmp(text, "no") == 0)
        return "want anything but no";
    *(const char **)at = text;
    values->added++;
    return NULL;
}

static void help(const struct flags *flags)
{
    ((struct values *)flags->target)->helped++;
}

#define AT(field) .offset = offsetof(struct values, field)

static const struct flag rows[] = {
    {.name = "file", .letter = 'f', .kind = FLAG_TEXT, .argument = "FILE", AT(file), .help = "it"},
    {.name = "count",
     .setting = "the.count",
     .kind = FLAG_NUMBER,
     .argument = "N",
     AT(count),
     .least = 1,
     .most = 9,
     .fallback = "3",
     .help = "how many",
     .group = "Numbers"},
    {.name = "pause",
     .kind = FLAG_DURATION,
     .argument = "DUR",
     AT(pause_ns),
     .least = NS_PER_MS,
     .most = NS_PER_S,
     .help = "how long"},
    {.name = "size",
     .kind = FLAG_SIZE,
     .argument = "SIZE",
     AT(size),
     .least = 1024,
     .most = 1 << 20,
     .help = "how large",
     .is_secret = true},
    {.name = "loud", .letter = 'l', .kind = FLAG_ON, AT(loud), .help = "say more"},
    {.name = "add", .kind = FLAG_CUSTOM, .argument = "TEXT", AT(last), .set = add, .help = "one"},
    {.name = "help", .kind = FLAG_ACTION, .act = help, .help = "this"},
};
#define ROWS (sizeof(rows) / sizeof(rows[0]))

static struct values values;
static bool given[ROWS];
static char said[4096]; /* standard error of the last parse() */
static int operands;
static bool dashes;

static int parse(bool is_command, char **argv)
{
    const struct flags flags = {.program = "prog",
                                .rows = rows,
                                .count = ROWS,
                                .target = &values,
                                .given = given,
                                .column = 20,
                                .is_command = is_command};
    int argc = 0, fd = dup(STDERR_FILENO);
    FILE *file = tmpfile();

    assert_non_null(file);
    memset(&values, 0, sizeof(values));
    memset(given, 0, sizeof(given));
    while (argv[argc] != NULL)
        argc++;
    assert_true(dup2(fileno(file), STDERR_FILENO) >= 0);
    int status = flags_parse(&flags, argc, argv, &operands, &dashes);
    (void)fflush(stderr);
    assert_true(dup2(fd, STDERR_FILENO) >= 0);
    (void)close(fd);
    rewind(file);
    said[fread(said, 1, sizeof(said) - 1, file)] = '\0';
    (void)fclose(file);
    return status;
}

#define PARSE(...) parse(false, (char *[]){"prog", __VA_ARGS__, NULL})
#define PARSE_COMMAND(...) parse(true, (char *[]){"prog", __VA_ARGS__, NULL})

static void assert_refused(int status, const char *text)
{
    assert_int_equal(status, EX_USAGE);
    assert_string_equal(said, text);
}

static void test_values_arrive_by_long_and_short_names(void **state)
{
    (void)state;
    assert_int_equal(PARSE("-f", "a", "--count=4", "--pause", "20ms", "--size", "64K", "-l"), -1);
    assert_string_equal(values.file, "a");
    assert_int_equal(values.count, 4);
    assert_int_equal(values.pause_ns, 20 * NS_PER_MS);
    assert_int_equal(values.size, 65536);
    assert_true(values.loud);
    assert_true(given[0] && given[1] && given[2] && given[3] && given[4]);
    assert_false(given[5]);
    assert_string_equal(said, "");
}

static void test_a_flag_may_be_given_several_times(void **state)
{
    (void)state;
    assert_int_equal(PARSE("--add", "x", "--add", "y"), -1);
    assert_int_equal(values.added, 2);
    assert_string_equal(values.last, "y");
}

static void test_wrong_values_are_named_with_what_is_wanted(void **state)
{
    (void)state;
    assert_refused(PARSE("--count", "10"),
                   "prog: --count 10: want a whole number from 1 to 9; see prog --help\n");
    assert_refused(PARSE("--count", "+4"),
                   "prog: --count +4: want a whole number from 1 to 9; see prog --help\n");
    assert_refused(PARSE("--pause", "2s"),
                   "prog: --pause 2s: want a duration from 1ms to 1s; see prog --help\n");
    assert_refused(PARSE("--pause", "2"),
                   "prog: --pause 2: want a duration such as 250ms, 10s or 2m; see prog --help\n");
    assert_refused(PARSE("--file", ""),
                   "prog: --file: want a text that is not empty; see prog --help\n");
    assert_refused(PARSE("--add", "no"), "prog: --add no: want anything but no; see prog --help\n");
}

static void test_a_secret_value_is_not_repeated(void **state)
{
    (void)state;
    assert_refused(PARSE("--size", "1"), "prog: --size: want a size from 1KB to 1MB, such as 512KB "
                                         "or 64MB; see prog --help\n");
}

static void test_unknown_and_incomplete_flags_are_refused(void **state)
{
    (void)state;
    assert_refused(PARSE("--no"), "prog: --no: no such option; see prog --help\n");
    assert_refused(PARSE("-x"), "prog: -x: no such option; see prog --help\n");
    assert_refused(PARSE("--file"), "prog: --file: wants a value; see prog --help\n");
    assert_refused(PARSE("--loud=1"), "prog: --loud=1: takes no value; see prog --help\n");
}

static void test_operands_may_stand_between_flags(void **state)
{
    char *argv[] = {"prog", "one", "-l", "two", NULL};

    (void)state;
    assert_int_equal(parse(false, argv), -1);
    assert_int_equal(operands, 2);
    assert_string_equal(argv[operands], "one");
    assert_true(values.loud);
}

static void test_a_command_ends_the_flags(void **state)
{
    (void)state;
    assert_int_equal(PARSE_COMMAND("-l", "--", "cmd", "--count", "99"), -1);
    assert_true(dashes);
    assert_int_equal(operands, 3);
    assert_int_equal(PARSE_COMMAND("-l", "cmd", "--count", "99"), -1);
    assert_false(dashes);
    assert_int_equal(operands, 2);
    assert_int_equal(PARSE_COMMAND("--file", "--"), -1); /* a value, not the end */
    assert_false(dashes);
    assert_string_equal(values.file, "--");
}

static void test_an_action_runs_and_ends_the_parse(void **state)
{
    (void)state;
    assert_int_equal(PARSE("--help", "--no"), 0);
    assert_int_equal(values.helped, 1);
}

static void test_a_setting_has_the_bounds_of_its_flag(void **state)
{
    char want[FLAGS_WANT_SIZE];

    (void)state;
    assert_null(flags_set(&rows[1], "9", &values, want));
    assert_int_equal(values.count, 9);
    assert_string_equal(flags_set(&rows[1], "0", &values, want), "want a whole number from 1 to 9");
    assert_null(flags_set(&rows[4], "OFF", &values, want));
    assert_false(values.loud);
    assert_string_equal(flags_set(&rows[4], "maybe", &values, want), "want ON or OFF");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values_arrive_by_long_and_short_names),
        cmocka_unit_test(test_a_flag_may_be_given_several_times),
        cmocka_unit_test(test_wrong_values_are_named_with_what_is_wanted),
        cmocka_unit_test(test_a_secret_value_is_not_repeated),
        cmocka_unit_test(test_unknown_and_incomplete_flags_are_refused),
        cmocka_unit_test(test_operands_may_stand_between_flags),
        cmocka_unit_test(test_a_command_ends_the_flags),
        cmocka_unit_test(test_an_action_runs_and_ends_the_parse),
        cmocka_unit_test(test_a_setting_has_the_bounds_of_its_flag),
    };
    return cmocka_run_group_tests_name("flags", tests, NULL, NULL);
}

#include "cli_view.h"

#include <stdarg.h>
#include <string.h>

#include "cli_status.h"
#include "cli_text.h"

/* One line, cut to `width` columns. */
static void line(FILE *out, size_t width, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void line(FILE *out, size_t width, const char *format, ...)
{
    char text[1024], cut[1024 + 8];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    (void)fprintf(out, "%s\n", cli_clean(text, cut, sizeof(cut), width));
}

static const char *plural(double n)
{
    return n == 1 ? "" : "s";
}

/* ---- the overview ---- */

static void print_phases(FILE *out, const json_t *status, size_t width)
{
    const json_t *phase;
    char text[256] = "", at[CLOCK_TEXT_SIZE], name[32];
    size_t index, used = 0;

    json_array_foreach(cli_value(status, "drain.phases"), index, phase)
    {
        int n = snprintf(text + used, sizeof(text) - used, "%s%s at %s", index > 0 ? ", " : "",
                         cli_clean(cli_text(phase, "phase"), name, sizeof(name), SIZE_MAX),
                         cli_duration(cli_number(phase, "at_ms", 0), at));
        used += n > 0 ? (size_t)n : 0;
        if (used >= sizeof(text))
            break;
    }
    if (text[0] != '\0')
        line(out, width, "              %s", text);
}

static void print_drain(FILE *out, const json_t *status, size_t width)
{
    const json_t *triggers = cli_value(status, "drain.triggers");
    const json_t *first = json_array_get(triggers, 0);
    double more =
        (double)json_array_size(triggers) - 1 + cli_number(status, "drain.triggers_left_out", 0);
    double lame_duck = cli_number(status, "drain.lame_duck_left_ms", -1),
           left = cli_number(status, "drain.left_ms", -1);
    char time[CLOCK_TEXT_SIZE], whole[CLOCK_TEXT_SIZE], others[48] = "";
    const char *detail = cli_text(first, "detail");

    if (more > 0)
        (void)snprintf(others, sizeof(others), ", and %.0f more trigger%s", more, plural(more));
    line(out, width, "drain         begun by %s%s%s%s%s; %s", cli_text(first, "name"),
         detail[0] != '\0' ? " (" : "", detail, detail[0] != '\0' ? ")" : "", others,
         json_is_true(cli_value(status, "drain.can_be_called_off"))
             ? "it can be called off"
             : "past the point of no return");
    print_phases(out, status, width);
    if (lame_duck >= 0)
        line(out, width, "              the listeners close in %s; the deadline is %s after that",
             cli_duration(lame_duck, time),
             cli_duration(cli_number(status, "drain.deadline_ms", 0), whole));
    else if (left >= 0)
        line(out, width,
             "              %s left of %s; %.0f answered since, %.0f idle connection%s released",
             cli_duration(left, time),
             cli_duration(cli_number(status, "drain.deadline_ms", 0), whole),
             cli_number(status, "drain.answered", 0), cli_number(status, "drain.idle_released", 0),
             plural(cli_number(status, "drain.idle_released", 0)));
}

void cli_print_overview(FILE *out, const json_t *status, size_t width)
{
    char up[CLOCK_TEXT_SIZE], listeners[400];

    line(out, width, "%s, process %.0f, up %s: %s, %s, %s", cli_text(status, "server"),
         cli_number(status, "pid", 0), cli_duration(1000 * cli_number(status, "uptime_s", 0), up),
         cli_text(status, "phase"),
         json_is_true(cli_value(status, "ready")) ? "ready" : "not ready",
         json_is_true(cli_value(status, "live")) ? "live" : "a loop is stuck");
    line(out, width, "listens on    %s", cli_listeners(status, listeners, sizeof(listeners)));
    line(out, width,
         "requests      %.0f in flight, %.1f/s, %.0f answered, %.0f shed, %.0f unfinished",
         cli_number(status, "requests.in_flight", 0), cli_number(status, "requests.per_second", 0),
         cli_number(status, "requests.answered", 0), cli_number(status, "requests.shed", 0),
         cli_number(status, "requests.given_up", 0));
    line(out, width, "connections   %.0f open of %.0f, %.0f lingering, %.0f accepted",
         cli_number(status, "connections.open", 0), cli_number(status, "connections.max", 0),
         cli_number(status, "connections.lingering", 0),
         cli_number(status, "connections.accepted", 0));
    line(out, width, "workers       %.0f of %.0f busy, queue %.0f of %.0f, %.0f refused",
         cli_number(status, "pool.running", 0), cli_number(status, "pool.workers", 0),
         cli_number(status, "pool.queued", 0), cli_number(status, "pool.queue", 0),
         cli_number(status, "pool.refused", 0));
    if (cli_has(status, "drain"))
        print_drain(out, status, width);
}

/* ---- the upstreams ---- */

static void print_upstream(FILE *out, const json_t *upstream, size_t width)
{
    double left = cli_number(upstream, "ejected_left_ms", -1);
    char time[CLOCK_TEXT_SIZE], state[64];

    (void)snprintf(state, sizeof(state), "%s%s%s", cli_text(upstream, "state"),
                   left >= 0 ? " " : "", left >= 0 ? cli_duration(left, time) : "");
    line(out, width, "%9.0f  %11.0f  %10.0f  %8.0f  %-14s  %s  %s%s",
         cli_number(upstream, "in_flight", 0), cli_number(upstream, "connections", 0),
         cli_number(upstream, "requests", 0), cli_number(upstream, "failures", 0), state,
         cli_text(upstream, "route"), cli_text(upstream, "url"),
         json_is_true(cli_value(upstream, "backup")) ? " (backup)" : "");
}

void cli_print_upstreams(FILE *out, const json_t *status, size_t rows, size_t width)
{
    const json_t *upstreams = json_object_get(status, "upstreams"), *upstream;
    size_t count = json_array_size(upstreams), index;
    size_t room = rows > 2 ? rows - 2 : 0; /* below the empty line and the heading */

    if (count == 0 || room == 0)
        return;
    line(out, width, "%s", "");
    line(out, width, "%9s  %11s  %10s  %8s  %-14s  %s", "IN FLIGHT", "CONNECTIONS", "REQUESTS",
         "FAILURES", "STATE", "UPSTREAM");
    size_t shown = count <= room ? count : room - 1;
    json_array_foreach(upstreams, index, upstream)
    {
        if (index == shown)
            break;
        print_upstream(out, upstream, width);
    }
    if (shown < count)
        line(out, width, "%9s  and %zu more", "", count - shown);
}

/* ---- the list ---- */

#define PEER_FROM 72
#define PEER_COLUMNS 21 /* `255.255.255.255:65535` */

void cli_print_requests(FILE *out, const json_t *status, size_t rows, size_t width)
{
    const json_t *oldest = json_object_get(status, "oldest"), *request;
    size_t count = json_array_size(oldest), index;
    double left_out = cli_number(status, "oldest_left_out", 0);
    size_t room = rows > 1 ? rows - 1 : 0, shown = count;
    /* A narrow window has no room for the peer. */
    int peer_columns = width < PEER_FROM ? 0 : PEER_COLUMNS;
    int peer_most = width == CLI_WIDTH_ANY ? -1 : peer_columns;
    const char *gap = width < PEER_FROM ? "" : "  ";

    if (rows == 0)
        return;
    if (count == 0) {
        line(out, width, "no request is in flight");
        return;
    }
    line(out, width, "%8s  %-10s  %-*.*s%s%s", "AGE", "STATE", peer_columns, peer_columns, "PEER",
         gap, "REQUEST");
    if (count > room || left_out > 0)
        shown = count + 1 <= room ? count : room > 0 ? room - 1 : 0;
    json_array_foreach(oldest, index, request)
    {
        char age[CLOCK_TEXT_SIZE];
        if (index == shown)
            break;
        line(out, width, "%8s  %-10s  %-*.*s%s%s %s%s",
             cli_duration(cli_number(request, "age_ms", 0), age), cli_text(request, "state"),
             peer_columns, peer_most, cli_text(request, "peer"), gap, cli_text(request, "method"),
             cli_text(request, "authority"), cli_text(request, "path"));
    }
    double more = (double)(count - shown) + left_out;
    if (more > 0 && room > 0)
        line(out, width, "%8s  and %.0f more", "", more);
}

/* ---- a drain, as it goes ---- */

/* The bar gets the room that a usual text leaves; its size does not change with the numbers. */
#define PHASE_COLUMNS 9
#define TEXT_COLUMNS 44
#define BAR_LEAST 10
#define BAR_MOST 40

static void print_bar(FILE *out, double done, size_t columns)
{
    size_t inside = columns - 2, full = (size_t)(done * (double)inside);

    (void)fputc('[', out);
    for (size_t i = 0; i < inside; i++)
        (void)fputc(i < full ? '#' : '-', out);
    (void)fputc(']', out);
}

static void format_left(const json_t *status, char *text, size_t size)
{
    char time[CLOCK_TEXT_SIZE];
    double lame_duck = cli_number(status, "drain.lame_duck_left_ms", -1),
           left = cli_number(status, "drain.left_ms", -1);

    text[0] = '\0';
    if (lame_duck >= 0)
        (void)snprintf(text, size, ", closes in %s", cli_duration(lame_duck, time));
    else if (left >= 0)
        (void)snprintf(text, size, ", %s left", cli_duration(left, time));
}

void cli_print_progress(FILE *out, const json_t *status, bool with_bar, size_t width, double *most)
{
    double requests = cli_number(status, "requests.in_flight", 0),
           connections = cli_number(status, "connections.open", 0),
           begun = cli_number(status, "drain.began_with.in_flight", 0) +
                   cli_number(status, "drain.began_with.connections", 0);
    double waited_for = requests + connections;
    char what[32], text[160], left[64], whole[sizeof(what) + sizeof(text) + 2], cut[sizeof(whole)];

    *most = waited_for > *most ? waited_for : *most;
    *most = begun > *most ? begun : *most;
    double done = *most > 0 ? 1 - waited_for / *most : 1;
    (void)cli_clean(cli_text(status, "phase"), what, sizeof(what), SIZE_MAX);
    format_left(status, left, sizeof(left));
    (void)snprintf(text, sizeof(text), "%.0f in flight, %.0f connection%s%s", requests, connections,
                   plural(connections), left);
    size_t bar = width - PHASE_COLUMNS - TEXT_COLUMNS - 2;
    bar = bar < BAR_MOST ? bar : BAR_MOST;
    if (!with_bar || width < PHASE_COLUMNS + TEXT_COLUMNS + 2 + BAR_LEAST ||
        width < PHASE_COLUMNS + bar + strlen(text) + 2) {
        (void)snprintf(whole, sizeof(whole), "%s: %s", what, text);
        (void)fputs(cli_clean(whole, cut, sizeof(cut), width), out);
        return;
    }
    (void)fprintf(out, "%-*s ", PHASE_COLUMNS, what);
    print_bar(out, done, bar);
    (void)fprintf(out, " %s", text);
}

static void print_last_seen(FILE *out, const json_t *status)
{
    const json_t *request;
    char age[CLOCK_TEXT_SIZE];
    double left_out = cli_number(status, "oldest_left_out", 0);
    size_t index;

    json_array_foreach(json_object_get(status, "oldest"), index, request)
        line(out, CLI_WIDTH_ANY, "last seen in flight: %s %s%s from %s, %s, age %s",
             cli_text(request, "method"), cli_text(request, "authority"), cli_text(request, "path"),
             cli_text(request, "peer"), cli_text(request, "state"),
             cli_duration(cli_number(request, "age_ms", 0), age));
    if (left_out > 0)
        (void)fprintf(out, "last seen in flight: and %.0f more\n", left_out);
}

/* The deadline counts from `closing`; the lame-duck time before that is extra. */
static double cut_after_ms(const json_t *phases)
{
    double closing_ms = 0, after_ms = 0;

    for (size_t i = 0; i < json_array_size(phases); i++) {
        const json_t *phase = json_array_get(phases, i);
        const char *name = cli_text(phase, "phase");
        double at_ms = cli_number(phase, "at_ms", 0);
        if (strcmp(name, "closing") == 0)
            closing_ms = at_ms;
        if (strcmp(name, "aborting") == 0)
            return at_ms - closing_ms;
        after_ms = at_ms;
    }
    return after_ms;
}

void cli_print_end(FILE *out, const json_t *status, int exit_status)
{
    const json_t *phases = cli_value(status, "drain.phases");
    const json_t *last = json_array_get(phases, json_array_size(phases) - 1);
    double after_ms = exit_status == 3 ? cut_after_ms(phases) : cli_number(last, "at_ms", 0);
    double released = cli_number(status, "drain.idle_released", 0);
    char took[CLOCK_TEXT_SIZE];

    (void)cli_duration(after_ms, took);
    if (exit_status == 0)
        (void)fprintf(out, "drained in %s: ", took);
    else if (exit_status == 3)
        (void)fprintf(out, "the deadline passed, after %s: ", took);
    else if (exit_status == 4)
        (void)fprintf(out, "cut short by a second signal, after %s: ", took);
    else
        (void)fprintf(out, "ended with status %d, after %s: ", exit_status, took);
    (void)fprintf(out, "%.0f answered, %.0f idle connection%s released",
                  cli_number(status, "drain.answered", 0), released, plural(released));
    if (exit_status != 0)
        (void)fprintf(out, ", %.0f unfinished", cli_number(status, "requests.given_up", 0));
    (void)fputc('\n', out);
    /* The list is slightly older than the end; the server's own report is exact. */
    if (exit_status != 0)
        print_last_seen(out, status);
}

#ifndef LASTCALL_COMMANDS_H
#define LASTCALL_COMMANDS_H

/* The commands of lastcall-cli: the name, the function and one line of help for each.
 *
 * A command gets its own name as argv[0] and returns the exit status: one of sysexits(3), or one
 * that its --help documents. Thread: main only, for all of them. */
#define CLI_COMMANDS(X)                                                                            \
    X("drain", cmd_drain, "drain a running server; --wait shows the progress until it exits")      \
    X("undrain", cmd_undrain, "call off a drain while the listeners are still open")               \
    X("reload", cmd_reload, "restart a running server in place and wait for the result")           \
    X("status", cmd_status, "show what a running server is doing")                                 \
    X("top", cmd_top, "show the requests in flight, continuously")                                 \
    X("replay", cmd_replay, "send unfinished requests again")                                      \
    X("unfinished", cmd_unfinished, "list unfinished requests and their outcomes")

#define X(name, run, help) int run(int argc, char **argv);
CLI_COMMANDS(X)
#undef X

#endif

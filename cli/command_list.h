#ifndef LASTCALL_COMMAND_LIST_H
#define LASTCALL_COMMAND_LIST_H

/* Name, function, and a line of help for each command. */
#define CLI_COMMANDS(X)                                                                            \
    X("drain", cli_drain, "drain a running server; --wait shows how it goes, and ends as it ends") \
    X("undrain", cli_undrain, "call a drain off, as long as the listeners are open")               \
    X("status", cli_status, "what a running server is doing")                                      \
    X("top", cli_top, "the requests in flight, as they come and go")                               \
    X("replay", replay_command, "send unfinished requests again")                                  \
    X("unfinished", unfinished_command, "list unfinished requests, and what became of them")

#endif

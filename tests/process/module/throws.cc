// A module that throws. Its args say where: init, begin, fini, or in the handler, which catches
// nothing ("handler") or is that of lc_safe ("safe"). ?throw=1: its handler throws; ?under=1: its
// middleware catches what the handler throws, if that could come so far.

#include <cstdio>
#include <cstring>
#include <lastcall/lastcall.h>
#include <stdexcept>

static bool fini_throws, begin_throws;

static void answer(lc_req *req, void *)
{
    if (lc_query(req, "throw") != nullptr)
        throw std::runtime_error("thrown by the handler");
    (void)lc_send(req, 200, "text/plain", "not thrown\n");
}

static void around(lc_req *req, void *)
{
    try {
        lc_next(req);
    } catch (const std::exception &) {
        (void)lc_send(req, 200, "text/plain", "caught\n");
    }
}

static void *begin(unsigned, void *)
{
    if (begin_throws)
        throw std::runtime_error("thrown by begin");
    begin_throws = true; // the first one is that of the start
    static int own;
    return &own;
}

static int init(lc_server *server, const char *name, const char *args, void **)
{
    if (std::strcmp(args, "init") == 0)
        throw std::runtime_error("thrown by init");
    fini_throws = std::strcmp(args, "fini") == 0;
    if (std::strcmp(args, "begin") == 0)
        (void)lc_each_worker(server, begin, nullptr, nullptr);
    if (std::strcmp(args, "middleware") == 0)
        (void)lc_use(server, "/", around, nullptr);
    if (std::strcmp(args, "inline") == 0) {
        lc_route_options options = LC_ROUTE_OPTIONS_INIT;
        options.flags = LC_INLINE;
        (void)lc_handle_with(server, "/inline", answer, nullptr, &options);
    }
    return lc_name(server, name, std::strcmp(args, "safe") == 0 ? lc_safe<answer> : answer,
                   nullptr);
}

static void fini(void *)
{
    if (fini_throws)
        throw std::runtime_error("thrown by fini");
}

LC_MODULE("throws", "1.0", init, fini);

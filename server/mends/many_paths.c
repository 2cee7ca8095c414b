/* Many paths in a configuration.
 *
 * A path's handlers, filters and loggers are told when a context begins and ends. The pseudo-path
 * of file.custom-handler can be met several times, so libh2o keeps a list of the paths that it has
 * told, and looks for each path in it, one by one: for 20,000 paths that takes 0.4 s in each loop,
 * one loop after the other under a mutex, and as long at the end. Upstream still does that.
 *
 * Replaced: h2o_context_init_pathconf_context() and h2o_context_dispose_pathconf_context(). A path
 * of the configuration is met once in a context, so it needs no list. The others have no text: the
 * pseudo-paths, and the fallback of each host. */

#include "mends.h"

#include "library.h"

#define EACH(type, list, call)                                                                     \
    do {                                                                                           \
        for (size_t i = 0; i < (list).size; i++) {                                                 \
            type *one = (list).entries[i];                                                         \
            if (one->call != NULL)                                                                 \
                one->call(one, ctx);                                                               \
        }                                                                                          \
    } while (0)

void many_paths_init(h2o_context_t *ctx, h2o_pathconf_t *path)
{
    if (path->path.base == NULL) {
        library.h2o_context_init_pathconf_context(ctx, path);
        return;
    }
    EACH(h2o_handler_t, path->handlers, on_context_init);
    EACH(h2o_filter_t, path->filters, on_context_init);
    EACH(h2o_logger_t, path->loggers, on_context_init);
}

void many_paths_dispose(h2o_context_t *ctx, h2o_pathconf_t *path)
{
    if (path->path.base == NULL) {
        library.h2o_context_dispose_pathconf_context(ctx, path);
        return;
    }
    EACH(h2o_handler_t, path->handlers, on_context_dispose);
    EACH(h2o_filter_t, path->filters, on_context_dispose);
    EACH(h2o_logger_t, path->loggers, on_context_dispose);
}

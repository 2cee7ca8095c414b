#ifndef LASTCALL_REQUIRE_H
#define LASTCALL_REQUIRE_H

/* What must hold, else there is a bug in this program. A process that went on would lose requests
 * or corrupt its record, so it ends: it logs the file, the line, the function and the condition,
 * and calls abort(3), which leaves a core.
 *
 *     REQUIRE(condition)  in all builds: for conditions that cost a comparison or two
 *     ASSERT(condition)   in debug and sanitizer builds only: for conditions that walk a list
 *
 * Both evaluate their condition at most once, and it must have no side effects. What a client, the
 * kernel or the disk can cause is an error, and returned. */

#include <stdbool.h>

/* Log one line and abort. It takes no lock that another thread may hold for long, and no memory.
 * Thread: any.     Blocks: on stderr, 10 ms at most. */
_Noreturn void require_failed(const char *file, int line, const char *function,
                              const char *condition);

/* `text` is stringified before the condition's own macros are expanded. */
#define REQUIRE_TEXT(condition, text)                                                              \
    (__builtin_expect(!(condition), 0) ? require_failed(__FILE__, __LINE__, __func__, text)        \
                                       : (void)0)

#define REQUIRE(condition) REQUIRE_TEXT(condition, #condition)

#ifdef NDEBUG
#define ASSERT(condition) ((void)(false && (condition)))
#else
#define ASSERT(condition) REQUIRE_TEXT(condition, #condition)
#endif

#endif

#include "scope.h"

#include "thread.h"

/* It belongs to the thread, not to the code that runs there: a fiber (pool/fiber.h) may continue on
 * another thread, which has the same scope. */
static _Thread_local const struct scope *current;

NOT_LOOKED_INTO const struct scope *scope_get(void)
{
    return current;
}

NOT_LOOKED_INTO const struct scope *scope_enter(const struct scope *scope)
{
    const struct scope *before = current;

    current = scope;
    return before;
}

/* What a thread knows of itself. */

#include "pool_p.h"

_Thread_local struct pool_worker *pool_self;
_Thread_local struct pool *pool_holding;

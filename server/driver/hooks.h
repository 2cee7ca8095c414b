#ifndef LASTCALL_HOOKS_H
#define LASTCALL_HOOKS_H

#include "loop.h"

/* The calls from the lower files up; see struct loop_hooks, loop.h. */
extern const struct loop_hooks loop_hooks;

#endif

#ifndef LASTCALL_LOADGEN_WIRES_H
#define LASTCALL_LOADGEN_WIRES_H

/* The protocols. */

#include "loadgen_state.h"

extern const struct load_wire load_wire_h1;
extern const struct load_wire load_wire_h2;

#endif

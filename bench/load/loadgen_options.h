#ifndef LASTCALL_LOADGEN_OPTIONS_H
#define LASTCALL_LOADGEN_OPTIONS_H

#include "loadgen_state.h"

/* Check the options, fill the fields of *l that they decide, raise the limit on open files.
 * Thread: the run's.     Errors: as load_run(). */
int load_options_apply(struct load *l, const struct load_options *options);

#endif

#ifndef LASTCALL_BROTLI_H
#define LASTCALL_BROTLI_H

/* Answers compressed with brotli, for the directive `compress`; see brotli.c. */

#include <stdint.h>

#include "h2o_api.h"

/* Compress the answers of a path with brotli, if `args` select it.
 * Thread: main only, while the configuration is read. */
void brotli_register(h2o_pathconf_t *path, const h2o_compress_args_t *args);

/* The version of the loaded libbrotli: major << 24 | minor << 12 | patch.     Thread: any. */
uint32_t brotli_version(void);

#endif

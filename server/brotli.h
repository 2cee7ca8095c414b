#ifndef LASTCALL_BROTLI_H
#define LASTCALL_BROTLI_H

/* Answers compressed with brotli, as `compress` asks for them. The filter needs no call: it is
 * found by name, see brotli.c. */

#include <stdint.h>

/* Of the library in use: major << 24 | minor << 12 | patch.     Thread: any. */
uint32_t brotli_version(void);

#endif

#ifndef LASTCALL_FUZZ_PIECES_H
#define LASTCALL_FUZZ_PIECES_H

/* An input as a small file system: its pieces, parted by the byte 0x1e, are the files `a`, `b`, `c`
 * and so on, and no others are there: so a fuzzer makes up files that include each other. What of
 * ours calls open(2) is linked to it (-Wl,--wrap=open). Libraries are not; but meanwhile the limit
 * on open files is 0, so that they read no file of the machine, run no command and ask no network.
 */

#include <stddef.h>
#include <stdint.h>

/* From here on the files are those of `bytes`. Borrowed until pieces_end().     Thread: any, alone.
 */
void pieces_begin(const uint8_t *bytes, size_t size);
void pieces_end(void);

#endif

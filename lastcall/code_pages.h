#ifndef LASTCALL_CODE_PAGES_H
#define LASTCALL_CODE_PAGES_H

/* A process that exits takes its memory apart before its parent is told, and half of a small
 * server's memory is code: it takes longer than all the rest after the last response. So a drain
 * takes the code apart while it waits; what is still needed comes back at its next use, from the
 * page cache. */

/* Begin to do so, on a thread of its own that nobody waits for. Under a debugger nothing happens,
 * since its breakpoints would be lost; nor without a thread.
 * Thread: any.     Blocks: for the start of a thread. */
void code_pages_drop(void);

#endif

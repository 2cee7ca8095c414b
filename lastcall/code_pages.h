#ifndef LASTCALL_CODE_PAGES_H
#define LASTCALL_CODE_PAGES_H

/* A process that exits takes its memory apart before its parent is told. Half of the memory of a
 * small server is code, and to unmap that takes longer than anything else after the last response.
 * So a drain unmaps the code before. What is still needed comes back at its next use, from the page
 * cache. */

/* Begin to do so, on a thread of its own that nobody waits for. Pages that somebody has changed
 * stay. Without a thread, memory or /proc nothing happens.
 * Thread: any.     Blocks: for the start of a thread. */
void code_pages_drop(void);

#endif

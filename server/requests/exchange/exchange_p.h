#ifndef LASTCALL_EXCHANGE_P_H
#define LASTCALL_EXCHANGE_P_H

/* What the files of exchange/ share: a handler's calls on a real request. job_p.h has what the
 * files about jobs need of them. */

#include "container_of.h"
#include "job_p.h"

static inline struct job *job_of_exchange(struct exchange *exchange)
{
    return container_of(exchange->job, struct job, pool_job);
}

/* Thread of all calls of struct exchange_ops: the holder. */

/* ---- exchange_cancel.c, cancels.c: of struct exchange_ops ---- */

int exchange_cancel_fd(struct exchange *exchange);
int exchange_on_cancel(struct exchange *exchange, void (*cancel)(void *arg), void *arg);

/* ---- exchange_write.c: of struct exchange_ops ---- */

int exchange_write(struct exchange *exchange, const void *bytes, size_t count, int64_t wait_ms);
int exchange_flush(struct exchange *exchange, int64_t wait_ms);

/* ---- kept.c: of struct exchange_ops ---- */

uint64_t exchange_keep(struct exchange *exchange);

/* ---- exchange_answer.c ---- */

/* Status and fields, into the library's answer.     Thread: owner loop only. */
void exchange_set_head(struct job *job);

/* ---- exchange_file.c ---- */

/* Send the body, which is in a file; the head is set.     Thread: owner loop only. */
void exchange_answer_file(struct job *job);

#endif

#ifndef LASTCALL_TEST_ARCHIVE_MADE_H
#define LASTCALL_TEST_ARCHIVE_MADE_H

/* Requests for an archive, made by a test. */

#include "unfinished.h"

/* The id of the `n`th: 32 hex digits. Returns `id`. */
char *made_id(char id[UNFINISHED_ID_SIZE], unsigned n);

/* A whole request, which began a minute ago and was stopped by the deadline.
 * Owner: the caller, unfinished_release(). */
void made_request(struct unfinished *ret_request, unsigned n, const char *method, const char *path,
                  const char *body);

void made_header(struct unfinished *request, const char *name, const char *value);

/* Append it as a line to a file, and release it. */
void made_append(const char *path, struct unfinished *request);

/* `count` requests to /orders/N with a body of their own, of the class idempotent. */
void made_archive(const char *path, unsigned count);

#endif

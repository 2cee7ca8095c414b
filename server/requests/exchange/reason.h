#ifndef LASTCALL_REASON_H
#define LASTCALL_REASON_H

/* The reason phrase of a status, "Not Found"; static text, never NULL.     Thread: any. */
const char *reason_of(int status);

#endif

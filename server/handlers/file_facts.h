#ifndef LASTCALL_FILE_FACTS_H
#define LASTCALL_FILE_FACTS_H

/* What an answer says of a file. Thread: any.     Blocks: never. */

#include <stdbool.h>
#include <time.h>

#define FILE_DATE_SIZE 30

/* The media type by the name's extension, from libh2o's table; "application/octet-stream" if that
 * has none. Owner: static. */
const char *file_media_type(const char *name);

/* An HTTP-date (RFC 9110 section 5.6.7): "Sun, 06 Nov 1994 08:49:37 GMT". */
void file_date(time_t time, char text[FILE_DATE_SIZE]);
/* Read one. False: it is none of the form that must be generated. */
bool file_read_date(const char *text, time_t *ret_time);

#endif

#ifndef LOG_SEEN_H
#define LOG_SEEN_H

/* The log, kept for the test and not written: the program is linked with --wrap=log_line. */

/* How many lines have this event, and `text` in them? Of the last 64.     Thread: any. */
unsigned log_seen(const char *event, const char *text);
unsigned log_seen_all(void);
void log_seen_reset(void);

#endif

#ifndef LASTCALL_TEST_LIBRARY_CLIENT_H
#define LASTCALL_TEST_LIBRARY_CLIENT_H

/* A client of a server of the library, by libcurl: one request after the other. */

#include <stddef.h>

/* For the initial state of a test: by which protocol it is to ask. */
extern void *const library_http1, *const library_http2;

/* A test by either protocol, in an array of struct CMUnitTest. */
#define BOTH(test)                                                                                 \
    {#test " HTTP/1.1", test, NULL, NULL, library_http1},                                          \
    {                                                                                              \
#test " HTTP/2", test, NULL, NULL, library_http2                                           \
    }

/* 11, 20: what lc_http_version() says then. */
int library_version(const void *protocol);

/* Of a server on that port of 127.0.0.1.     Returns 0. */
int library_client_begin(int port);
void library_client_end(void);

/* The last answer. */
struct library_got {
    long status;   /* 0: none came */
    int is_broken; /* a client sees that it is not whole */
    char *body;    /* a '\0' follows */
    size_t size;
    char headers[8192]; /* names in lower case */
};
extern struct library_got got;

/* Ask, and wait for the answer. `fields` end with NULL; both may be NULL. */
void library_ask_for(const void *protocol, const char *method, const char *path,
                     const char *const *fields, const void *body, size_t size);

/* Called with each piece of the body as it arrives, until it returns 0: then the client leaves.
 * NULL: no call. Holds for the next request. */
void library_on_piece(int (*piece)(const char *bytes, size_t size));

#endif

#ifndef LASTCALL_CGI_VARS_H
#define LASTCALL_CGI_VARS_H

/* The environment of a script: what RFC 3875, section 4.1, says, HTTP_* from the request's fields,
 * and what is configured; nothing of this process's own. */

#include "cgi.h"
#include "cgi_lookup.h"

/* NULL-terminated, "NAME=value". A configured variable replaces one of section 4.1.
 * Owner:  the caller; one free(3).     Thread: any.     Errors: NULL: no memory. */
char **cgi_vars_make(const struct cgi_settings *settings, const struct exchange *exchange,
                     const struct cgi_script *script);

#endif

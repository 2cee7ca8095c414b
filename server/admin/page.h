#ifndef LASTCALL_PAGE_H
#define LASTCALL_PAGE_H

/* page.html, made part of the program by the build (embed.cmake). */

#include <stddef.h>

extern const unsigned char page_html[];
extern const size_t page_html_bytes;

#endif

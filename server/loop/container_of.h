#ifndef LASTCALL_CONTAINER_OF_H
#define LASTCALL_CONTAINER_OF_H

#include <stddef.h>

/* The structure whose `member` is at `ptr`. */
#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

#endif

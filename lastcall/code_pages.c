#include "code_pages.h"

#include <fcntl.h>
#include <link.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "thread.h"

static bool is_traced(void)
{
    static const char name[] = "\nTracerPid:\t";
    char text[4096];
    int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;

    if (fd >= 0)
        (void)close(fd);
    text[n > 0 ? n : 0] = '\0';
    const char *found = strstr(text, name);
    return found == NULL || found[sizeof(name) - 1] != '0';
}

/* A segment that nobody may write is as in the file, so its pages may go; see madvise(2),
 * MADV_DONTNEED. What the loader has changed at the start is in a segment that it could write. An
 * object with DT_TEXTREL is an exception, and the house builds none; Debian has none, either. */
static int drop(struct dl_phdr_info *object, size_t size, void *arg)
{
    const uintptr_t in_page = (uintptr_t)sysconf(_SC_PAGESIZE) - 1;

    (void)size;
    (void)arg;
    for (size_t i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &object->dlpi_phdr[i];
        uintptr_t from = object->dlpi_addr + segment->p_vaddr;
        if (segment->p_type != PT_LOAD || (segment->p_flags & PF_W))
            continue;
        uintptr_t begin = from & ~in_page, end = (from + segment->p_memsz + in_page) & ~in_page;
        (void)madvise((void *)begin, end - begin, MADV_DONTNEED);
    }
    return 0;
}

/* While dl_iterate_phdr(3) calls, no other thread can unload an object. */
static void *drop_all(void *arg)
{
    (void)arg;
    if (!is_traced())
        (void)dl_iterate_phdr(drop, NULL);
    return NULL;
}

void code_pages_drop(void)
{
    pthread_t thread;

    if (thread_start(&thread, "code-pages", drop_all, NULL) == 0)
        (void)pthread_detach(thread);
}

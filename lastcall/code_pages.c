#include "code_pages.h"

#include <link.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "thread.h"

/* What may be dropped: what the kernel can read again from the file, unchanged. A page that
 * somebody has changed is a private copy, and would be lost: a debugger's breakpoint, a probe of
 * perf(1), a text relocation, what the loader has relocated, code that an agent has patched. The
 * kernel counts the private copies of an area as its anonymous memory; see proc(5), smaps. */

struct area {
    uintptr_t from, to;
};

struct clean {
    struct area *areas; /* in the order of their addresses */
    size_t count;
};

#define AREAS_MOST 4096

static bool is_file_that_nobody_writes(const char *line, struct area *ret_area)
{
    unsigned long long from, to, inode;
    char rights[8];

    if (sscanf(line, "%llx-%llx %7s %*x %*x:%*x %llu", &from, &to, rights, &inode) != 4)
        return false;
    *ret_area = (struct area){(uintptr_t)from, (uintptr_t)to};
    return inode != 0 && rights[1] == '-' && rights[3] == 'p';
}

/* Empty if /proc does not tell, or without memory. */
static struct clean list_clean(void)
{
    struct clean clean = {.areas = calloc(AREAS_MOST, sizeof(*clean.areas))};
    FILE *file = clean.areas != NULL ? fopen("/proc/self/smaps", "re") : NULL;
    struct area at;
    char line[512];
    bool wanted = false;
    unsigned long copies;

    while (file != NULL && clean.count < AREAS_MOST && fgets(line, sizeof(line), file) != NULL) {
        if (line[0] < 'A' || line[0] > 'Z') { /* an area begins, with an address */
            wanted = is_file_that_nobody_writes(line, &at);
        } else if (wanted && sscanf(line, "Anonymous: %lu kB", &copies) == 1) {
            if (copies == 0)
                clean.areas[clean.count++] = at;
            wanted = false;
        }
    }
    if (file != NULL)
        (void)fclose(file);
    return clean;
}

static void drop_within(const struct clean *clean, uintptr_t from, uintptr_t to)
{
    for (size_t i = 0; i < clean->count; i++) {
        uintptr_t begin = clean->areas[i].from > from ? clean->areas[i].from : from;
        uintptr_t end = clean->areas[i].to < to ? clean->areas[i].to : to;
        if (begin < end)
            (void)madvise((void *)begin, end - begin, MADV_DONTNEED); /* see madvise(2) */
    }
}

/* While dl_iterate_phdr(3) calls, no other thread can unload an object, so that the areas are still
 * what they were when they were listed. */
static int drop(struct dl_phdr_info *object, size_t size, void *arg)
{
    const uintptr_t in_page = (uintptr_t)sysconf(_SC_PAGESIZE) - 1;
    struct clean *clean = arg;

    (void)size;
    if (clean->areas == NULL)
        *clean = list_clean();
    for (size_t i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &object->dlpi_phdr[i];
        uintptr_t from = object->dlpi_addr + segment->p_vaddr;
        if (segment->p_type == PT_LOAD && !(segment->p_flags & PF_W))
            drop_within(clean, from & ~in_page, (from + segment->p_memsz + in_page) & ~in_page);
    }
    return 0;
}

static void *drop_all(void *arg)
{
    struct clean clean = {.areas = NULL};

    (void)arg;
    (void)dl_iterate_phdr(drop, &clean);
    free(clean.areas);
    return NULL;
}

void code_pages_drop(void)
{
    pthread_t thread;

    if (thread_start(&thread, "code-pages", drop_all, NULL) == 0)
        (void)pthread_detach(thread);
}

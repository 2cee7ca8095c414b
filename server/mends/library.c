#include "library.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Finds the library's own functions, and the words through which it calls functions. */

struct replaced_library library;

static bool unmended; /* immutable after replaced_init() */

bool mends_are_on(void)
{
    return !unmended;
}

static const struct {
    const char *name;
    void **theirs;
} functions[] = {
#define X(name) {#name, (void **)(void *)&library.name},
    REPLACED_FUNCTIONS(X)
#undef X
};
#define FUNCTIONS (sizeof(functions) / sizeof(functions[0]))

bool replaced_init(char *error, size_t error_size)
{
    const char *text = getenv("LASTCALL_UNMENDED");
    static bool done; /* what is found stays; the loops of another server may be reading it */

    if (done)
        return true;
    unmended = text != NULL && strcmp(text, "1") == 0;
    for (size_t i = 0; i < FUNCTIONS; i++) {
        *functions[i].theirs = dlsym(RTLD_NEXT, functions[i].name);
        if (*functions[i].theirs != NULL)
            continue;
        /* The linker found it, so it is in an object before this one. */
        bool is_before = dlsym(RTLD_DEFAULT, functions[i].name) != NULL;
        (void)snprintf(error, error_size,
                       is_before ? LIBRARY_NAME " comes before lastcall's library in this process "
                                                "(%s): link -llastcall before it, or do not load it"
                                 : "the loaded " LIBRARY_NAME " has no function %s: install "
                                   "Debian's libh2o-evloop0.13 (2.2.5)",
                       functions[i].name);
        return false;
    }
    done = true;
    return true;
}

struct search {
    const char *object;
    const char *name;
    void **word; /* NULL: not found */
    bool is_protected;
};

/* What elf(5) calls the dynamic section, as far as relocations of functions need it. */
struct tables {
    const ElfW(Sym) * symbols;
    const char *strings;
    const ElfW(Rela) * plt, *others;
    size_t plt_bytes, others_bytes;
};

static const void *address(const struct dl_phdr_info *info, ElfW(Addr) value)
{
    /* glibc has relocated these entries on most architectures, not on all. */
    return (const void *)(value < info->dlpi_addr ? value + info->dlpi_addr : value);
}

static void read_dynamic(const struct dl_phdr_info *info, const ElfW(Dyn) * entry,
                         struct tables *ret_tables)
{
    for (; entry->d_tag != DT_NULL; entry++) {
        switch (entry->d_tag) {
        case DT_SYMTAB:
            ret_tables->symbols = address(info, entry->d_un.d_ptr);
            break;
        case DT_STRTAB:
            ret_tables->strings = address(info, entry->d_un.d_ptr);
            break;
        case DT_JMPREL:
            ret_tables->plt = address(info, entry->d_un.d_ptr);
            break;
        case DT_PLTRELSZ:
            ret_tables->plt_bytes = entry->d_un.d_val;
            break;
        case DT_RELA:
            ret_tables->others = address(info, entry->d_un.d_ptr);
            break;
        case DT_RELASZ:
            ret_tables->others_bytes = entry->d_un.d_val;
            break;
        default:
            break;
        }
    }
}

/* The word that the relocation for `name` fills; NULL: there is no such relocation. */
static void **find_slot(const struct dl_phdr_info *info, const struct tables *tables,
                        const ElfW(Rela) * relocations, size_t bytes, const char *name)
{
    for (size_t i = 0; i < bytes / sizeof(*relocations); i++) {
        size_t symbol = ELF64_R_SYM(relocations[i].r_info);
        if (symbol == 0 || strcmp(tables->strings + tables->symbols[symbol].st_name, name) != 0)
            continue;
        return (void **)(info->dlpi_addr + relocations[i].r_offset);
    }
    return NULL;
}

static int look_at_object(struct dl_phdr_info *info, size_t size, void *arg)
{
    struct search *search = arg;
    struct tables tables = {0};

    (void)size;
    if (strstr(info->dlpi_name, search->object) == NULL)
        return 0;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        if (info->dlpi_phdr[i].p_type == PT_DYNAMIC)
            read_dynamic(info, (const void *)(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr),
                         &tables);
        search->is_protected |= info->dlpi_phdr[i].p_type == PT_GNU_RELRO;
    }
    if (tables.symbols == NULL || tables.strings == NULL)
        return 0;
    search->word = find_slot(info, &tables, tables.plt, tables.plt_bytes, search->name);
    if (search->word == NULL)
        search->word = find_slot(info, &tables, tables.others, tables.others_bytes, search->name);
    return 1;
}

void **replaced_find_word(const char *object, const char *name, bool *ret_is_protected)
{
    struct search search = {.object = object, .name = name};
    (void)dl_iterate_phdr(look_at_object, &search);
    *ret_is_protected = search.is_protected;
    return search.word;
}

void *replaced_find_target(const char *object, const char *name)
{
    bool is_protected;
    void **word = replaced_find_word(object, name, &is_protected);
    return word != NULL ? *word : NULL;
}

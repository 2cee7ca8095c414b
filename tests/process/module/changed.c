/* A module that changes its own code when it starts, as an agent or a text relocation does. Its
 * handler answers with what stands in the code, and the address of a constant that nobody changes.
 */

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lastcall/lastcall.h"

/* Among the code, on pages of its own, however large a page is. */
__asm__(".pushsection .text.in_code, \"ax\", %progbits\n"
        ".balign 65536\n"
        "in_code: .asciz \"as in the file\"\n"
        ".balign 65536\n"
        ".popsection\n");
extern char in_code[] __attribute__((visibility("hidden")));

static const char unchanged[] = "in_code: %s; unchanged: %p\n";

static int change(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    static const char changed[] = "changed";

    if (mprotect(in_code, page, PROT_READ | PROT_WRITE) != 0)
        return -errno;
    memcpy(in_code, changed, sizeof(changed));
    return mprotect(in_code, page, PROT_READ | PROT_EXEC) == 0 ? 0 : -errno;
}

static void answer(lc_req *req, void *user)
{
    const char *volatile text = in_code;

    (void)user;
    (void)lc_sendf(req, 200, "text/plain", unchanged, text, (const void *)unchanged);
}

static int init(lc_server *server, const char *name, const char *args, void **ret_state)
{
    int err = change();

    (void)args;
    (void)ret_state;
    return err != 0 ? err : lc_name(server, name, answer, NULL);
}

LC_MODULE("changed", "1", init, NULL);

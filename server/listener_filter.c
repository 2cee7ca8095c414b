#include <errno.h>
#include <linux/bpf.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "listener.h"

/* The filter of listener_stop_newcomers() for a process that gives its privileges away. There are
 * kernels on which only CAP_NET_ADMIN may attach a filter to a TCP socket (seen: 6.18), and by the
 * time of the drain it is gone. So the filter is attached at the start, by root, with a switch: one
 * number in a map that this process has mapped, and may write to whoever it has become. The classic
 * kind of filter knows no maps; this is an eBPF program (bpf(2)), checked and compiled by the
 * kernel: while the switch is off, a load and a branch for each segment. */

static int bpf(int command, union bpf_attr *attr)
{
    return (int)syscall(SYS_bpf, command, attr, sizeof(*attr));
}

static int load_program(int map_fd)
{
    /* The skb starts at the TCP header; flags are byte 13, SYN is 0x02 and ACK 0x10. */
    const struct bpf_insn program[] = {
        {.code = BPF_ALU64 | BPF_MOV | BPF_X,
         .dst_reg = 6,
         .src_reg = 1}, /* LD_ABS wants it there */
        {.code = BPF_LD | BPF_DW | BPF_IMM,
         .dst_reg = 1,
         .src_reg = BPF_PSEUDO_MAP_VALUE,
         .imm = map_fd},
        {.code = 0}, /* the second half of it */
        {.code = BPF_LDX | BPF_W | BPF_MEM, .dst_reg = 1, .src_reg = 1},
        {.code = BPF_JMP | BPF_JEQ | BPF_K, .dst_reg = 1, .off = 5, .imm = 0},
        {.code = BPF_LD | BPF_B | BPF_ABS, .imm = 13},
        {.code = BPF_ALU64 | BPF_AND | BPF_K, .imm = 0x12},
        {.code = BPF_JMP | BPF_JNE | BPF_K, .off = 2, .imm = 0x02},
        {.code = BPF_ALU64 | BPF_MOV | BPF_K, .imm = 0}, /* drop it */
        {.code = BPF_JMP | BPF_EXIT},
        {.code = BPF_ALU | BPF_MOV | BPF_K, .imm = -1}, /* keep it whole */
        {.code = BPF_JMP | BPF_EXIT},
    };
    union bpf_attr attr;

    memset(&attr, 0, sizeof(attr));
    attr.prog_type = BPF_PROG_TYPE_SOCKET_FILTER;
    attr.insns = (uintptr_t)program;
    attr.insn_cnt = sizeof(program) / sizeof(program[0]);
    attr.license = (uintptr_t) "MIT";
    return bpf(BPF_PROG_LOAD, &attr);
}

static void *map_page(int map_fd)
{
    void *page =
        mmap(NULL, (size_t)sysconf(_SC_PAGESIZE), PROT_READ | PROT_WRITE, MAP_SHARED, map_fd, 0);
    return page != MAP_FAILED ? page : NULL;
}

/* Each listener has a map of its own: one that a successor does not want is closed alone. */
static int prepare(struct listener *listener)
{
    union bpf_attr attr;

    memset(&attr, 0, sizeof(attr));
    attr.map_type = BPF_MAP_TYPE_ARRAY;
    attr.key_size = attr.value_size = sizeof(uint32_t);
    attr.max_entries = 1;
    attr.map_flags = BPF_F_MMAPABLE;
    int map_fd = bpf(BPF_MAP_CREATE, &attr);
    if (map_fd < 0)
        return -errno;
    void *page = map_page(map_fd);
    int program_fd = page != NULL ? load_program(map_fd) : -1;
    int err = program_fd < 0 || setsockopt(listener->fd, SOL_SOCKET, SO_ATTACH_BPF, &program_fd,
                                           sizeof(program_fd)) != 0
                  ? -errno
                  : 0;
    if (program_fd >= 0)
        (void)close(program_fd); /* the socket holds it, and it holds the map */
    listener->switch_fd = map_fd;
    listener->newcomers_off = page;
    if (err != 0)
        listener_forget_switch(listener);
    return err;
}

void listener_spare_connection(const struct listener *listener, int fd)
{
    int unused = 0;
    if (listener->newcomers_off != NULL)
        (void)setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, &unused, sizeof(unused));
}

int listener_list_prepare(struct listener_list *list)
{
    int err = 0;

    for (size_t i = 0; err == 0 && i < list->count; i++) {
        struct listener *listener = &list->items[i];
        /* One that others hold is never closed by us, and one that we were handed has its switch,
         * or its predecessor has none. */
        if (listener->family != AF_UNIX && listener->fd >= 0 && !listener->is_held &&
            !listener->is_inherited)
            err = prepare(listener);
    }
    return err;
}

int listener_take_switch(struct listener *listener, int switch_fd)
{
    listener->switch_fd = switch_fd;
    listener->newcomers_off = map_page(switch_fd);
    if (listener->newcomers_off != NULL)
        return 0;
    int err = -errno;
    listener_forget_switch(listener);
    return err;
}

void listener_forget_switch(struct listener *listener)
{
    if (listener->newcomers_off != NULL)
        (void)munmap((void *)listener->newcomers_off, (size_t)sysconf(_SC_PAGESIZE));
    if (listener->switch_fd >= 0)
        (void)close(listener->switch_fd);
    listener->newcomers_off = NULL;
    listener->switch_fd = -1;
}

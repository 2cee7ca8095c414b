#include "unit_bounds.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef LASTCALL_SECCOMP
#include <seccomp.h>
#endif

#include <cmocka.h>

#include "process.h"

#define UNIT LASTCALL_DEPLOY_FOLDER "/systemd/lastcall.service"

/* ---- the unit ---- */

/* Append the value of each line `name=`; all of them, or the first. */
static const char *read_unit(const char *name, bool only_first)
{
    static char values[4096];
    char line[1024];
    size_t n = strlen(name);
    FILE *unit = fopen(UNIT, "re");

    assert_non_null(unit);
    values[0] = '\0';
    while (fgets(line, sizeof(line), unit) != NULL) {
        if (strncmp(line, name, n) != 0 || line[n] != '=')
            continue;
        line[strcspn(line, "\n")] = '\0';
        size_t used = strlen(values);
        (void)snprintf(values + used, sizeof(values) - used, "%s%s", used > 0 ? " " : "",
                       line + n + 1);
        if (only_first)
            break;
    }
    (void)fclose(unit);
    return values;
}

const char *unit_setting(const char *name)
{
    return read_unit(name, false);
}

const char *unit_command(const char *name)
{
    return read_unit(name, true);
}

/* Call `take` for each word of a setting. */
static void each_word(const char *name, void (*take)(const char *word))
{
    char *words = strdup(unit_setting(name)), *rest = words, *word;

    while ((word = strsep(&rest, " ")) != NULL)
        if (word[0] != '\0')
            take(word);
    free(words);
}

/* ---- capabilities ---- */

static const char *const capabilities[] = {"CHOWN",
                                           "DAC_OVERRIDE",
                                           "DAC_READ_SEARCH",
                                           "FOWNER",
                                           "FSETID",
                                           "KILL",
                                           "SETGID",
                                           "SETUID",
                                           "SETPCAP",
                                           "LINUX_IMMUTABLE",
                                           "NET_BIND_SERVICE",
                                           "NET_BROADCAST",
                                           "NET_ADMIN",
                                           "NET_RAW",
                                           "IPC_LOCK",
                                           "IPC_OWNER",
                                           "SYS_MODULE",
                                           "SYS_RAWIO",
                                           "SYS_CHROOT",
                                           "SYS_PTRACE",
                                           "SYS_PACCT",
                                           "SYS_ADMIN",
                                           "SYS_BOOT",
                                           "SYS_NICE",
                                           "SYS_RESOURCE",
                                           "SYS_TIME",
                                           "SYS_TTY_CONFIG",
                                           "MKNOD",
                                           "LEASE",
                                           "AUDIT_WRITE",
                                           "AUDIT_CONTROL",
                                           "SETFCAP",
                                           "MAC_OVERRIDE",
                                           "MAC_ADMIN",
                                           "SYSLOG",
                                           "WAKE_ALARM",
                                           "BLOCK_SUSPEND",
                                           "AUDIT_READ",
                                           "PERFMON",
                                           "BPF",
                                           "CHECKPOINT_RESTORE"};
#define CAPABILITIES (sizeof(capabilities) / sizeof(capabilities[0]))

static uint64_t bounding_set;

static void keep_capability(const char *word)
{
    for (size_t i = 0; i < CAPABILITIES; i++)
        if (strncmp(word, "CAP_", 4) == 0 && strcmp(word + 4, capabilities[i]) == 0) {
            bounding_set |= UINT64_C(1) << i;
            return;
        }
    fail_msg("CapabilityBoundingSet: the test does not know %s", word);
}

static void drop_capability(const char *word)
{
    uint64_t all = bounding_set;

    bounding_set = 0;
    keep_capability(word);
    bounding_set = all & ~bounding_set;
}

/* What execve(2) then gives to root is what is left of the bounding set. */
static void limit_capabilities(void)
{
    for (unsigned long i = 0; prctl(PR_CAPBSET_READ, i, 0, 0, 0) >= 0; i++)
        if ((bounding_set >> i & 1) == 0 && prctl(PR_CAPBSET_DROP, i, 0, 0, 0) != 0)
            _exit(126);
}

/* ---- folders ---- */

static void set_read_only(const char *path, bool is_read_only, bool with_all_below)
{
    struct mount_attr attr = {0};

    if (is_read_only)
        attr.attr_set = MOUNT_ATTR_RDONLY;
    else
        attr.attr_clr = MOUNT_ATTR_RDONLY;
    if (mount_setattr(AT_FDCWD, path, with_all_below ? AT_RECURSIVE : 0, &attr, sizeof(attr)) != 0)
        _exit(125);
}

static void make_mount(const char *path)
{
    if (mount(path, path, NULL, MS_BIND | MS_REC, NULL) != 0)
        _exit(124);
}

static char writable[16][128];
static size_t writable_count;

static void note_writable(const char *path)
{
    assert_true(writable_count < 16);
    (void)snprintf(writable[writable_count++], sizeof(writable[0]), "%s", path);
}

static char made[8][128];
static size_t made_count;

static void note_made(const char *base, const char *setting)
{
    char *words = strdup(unit_setting(setting)), *rest = words, *word;

    while ((word = strsep(&rest, " ")) != NULL) {
        if (word[0] == '\0')
            continue;
        assert_true(made_count < 8);
        (void)snprintf(made[made_count], sizeof(made[0]), "%s/%s", base, word);
        note_writable(made[made_count++]);
    }
    free(words);
}

/* ProtectSystem=strict, with what the unit excepts. /tmp is the process's own there, and stays. */
static void limit_folders(void)
{
    static const char *const own[] = {"/run", "/var/lib", "/var/log"};

    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
        _exit(123);
    for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
        if (mount("tmpfs", own[i], "tmpfs", 0, "mode=0755") != 0)
            _exit(122);
    for (size_t i = 0; i < made_count; i++)
        if (mkdir(made[i], 0755) != 0)
            _exit(121);
    make_mount("/tmp");
    for (size_t i = 0; i < writable_count; i++)
        make_mount(writable[i]);
    set_read_only("/", true, true);
    set_read_only("/tmp", false, true);
    set_read_only("/proc", false, true);
    set_read_only("/sys", false, true);
    set_read_only("/dev", false, true);
    for (size_t i = 0; i < writable_count; i++)
        set_read_only(writable[i], false, true);
}

/* ---- system calls ---- */

bool unit_bounds_filter(void)
{
#if !defined(LASTCALL_SECCOMP) || defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return false; /* a sanitizer makes additional calls */
#else
    return true;
#endif
}

#ifdef LASTCALL_SECCOMP

static scmp_filter_ctx filter;
static char *sets; /* what `systemd-analyze syscall-filter` prints */

static void read_sets(void)
{
    size_t size = 0;
    FILE *all = popen("echo; systemd-analyze syscall-filter 2>/dev/null", "re");

    free(sets);
    sets = NULL;
    if (all != NULL && getdelim(&sets, &size, '\0', all) <= 0) {
        free(sets);
        sets = NULL;
    }
    if (all != NULL)
        (void)pclose(all);
}

static void allow(const char *word)
{
    if (word[0] != '@') {
        int number = seccomp_syscall_resolve_name(word);
        if (number != __NR_SCMP_ERROR)
            (void)seccomp_rule_add(filter, SCMP_ACT_ALLOW, number, 0);
        return;
    }
    char head[64];
    (void)snprintf(head, sizeof(head), "\n%s\n", word);
    const char *at = strstr(sets, head);
    if (at == NULL)
        fail_msg("SystemCallFilter: systemd-analyze does not know %s", word);
    for (at += strlen(head); strncmp(at, "    ", 4) == 0; at += strcspn(at, "\n") + 1) {
        char name[64];
        if (at[4] != '#' && sscanf(at + 4, "%63s", name) == 1)
            allow(name);
    }
}

static void make_filter(void)
{
    if (filter != NULL)
        seccomp_release(filter);
    filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
    assert_non_null(filter);
    allow("@default"); /* as systemd has it: else there is no execve(2) */
    each_word("SystemCallFilter", allow);
}

static void limit_calls(void)
{
    if (unit_bounds_filter() && seccomp_load(filter) != 0)
        _exit(120);
}
#else
static void make_filter(void)
{
}

static void limit_calls(void)
{
}
#endif

/* ---- all of them ---- */

static void in_child(void)
{
    limit_folders();
    limit_capabilities();
    if (strcmp(unit_setting("NoNewPrivileges"), "yes") == 0)
        (void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    limit_calls(); /* the last, as it forbids the others */
}

const char *unit_bounds_missing(void)
{
    int status;

    if (geteuid() != 0)
        return "needs root";
    if (process_runs_under_valgrind())
        return "valgrind makes system calls of its own";
#ifdef LASTCALL_SECCOMP
    read_sets();
    if (unit_bounds_filter() && (sets == NULL || strstr(sets, "\n@system-service\n") == NULL))
        return "needs systemd-analyze syscall-filter";
#endif
    pid_t pid = fork();
    if (pid == 0) {
        limit_folders();
        _exit(0);
    }
    if (waitpid(pid, &status, 0) != pid || status != 0)
        return "needs a mount namespace of its own";
    return NULL;
}

void unit_bounds_on(const char *without)
{
    bounding_set = 0;
    writable_count = made_count = 0;
    each_word("CapabilityBoundingSet", keep_capability);
    if (without != NULL)
        drop_capability(without);
    each_word("ReadWritePaths", note_writable);
    note_made("/run", "RuntimeDirectory");
    note_made("/var/lib", "StateDirectory");
    note_made("/var/log", "LogsDirectory");
    make_filter();
    process_in_child = in_child;
}

void unit_bounds_off(void)
{
    process_in_child = NULL;
}

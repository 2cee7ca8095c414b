/* The specification of cgi_lookup.h: which script a path means. */

#include "cgi_lookup.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "directory.h"

static int dir_fd;
static char dir[64]; /* <directory>/cgi; beside it lies <directory>/outside */
static struct cgi_script script;

static void make_file(const char *name, mode_t mode)
{
    int fd = open(in_directory(name), O_WRONLY | O_CREAT | O_CLOEXEC, mode);
    assert_true(fd >= 0);
    (void)close(fd);
}

static void make_folder(const char *name)
{
    assert_int_equal(mkdir(in_directory(name), 0755), 0);
}

static void make_link(const char *target, const char *name)
{
    assert_int_equal(symlink(target, in_directory(name)), 0);
}

static int set_up(void **state)
{
    if (make_directory(state) != 0)
        return -1;
    make_folder("cgi");
    make_folder("cgi/sub");
    make_folder("outside");
    make_file("cgi/run", 0755);
    make_file("cgi/sub/run.py", 0755);
    make_file("cgi/data", 0644);
    make_file("cgi/.hidden", 0755);
    make_file("outside/run", 0755);
    make_link("run", "cgi/near");
    make_link("sub", "cgi/folder");
    make_link("../outside", "cgi/far");
    make_link("../outside/run", "cgi/far-run");
    make_link(in_directory("outside/run"), "cgi/far-absolute");
    make_link("circle", "cgi/circle");
    make_link("nothing", "cgi/broken");
    assert_int_equal(mkfifo(in_directory("cgi/fifo"), 0755), 0);
    (void)snprintf(dir, sizeof(dir), "%s/cgi", directory);
    dir_fd = open(dir, O_PATH | O_CLOEXEC);
    return dir_fd >= 0 ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)close(dir_fd);
    return remove_directory(state);
}

static int find(const char *path, bool any_link)
{
    return cgi_lookup(dir, dir_fd, "/x", any_link, path, &script);
}

/* ---- the path ---- */

static void test_a_path_is_decoded_and_its_dots_are_resolved(void **state)
{
    static const struct {
        const char *target, *path;
    } cases[] = {
        {"/", "/"},
        {"/a", "/a"},
        {"/a/", "/a/"},
        {"/a?b/../c", "/a"},
        {"/a%20b%2Fc", "/a b/c"},
        {"/a%2e%2E/b", "/a../b"},
        {"/a/%2e%2e/b", "/b"},
        {"/a%2f..%2fb", "/b"},
        {"/a/./b", "/a/b"},
        {"/a/.", "/a/"},
        {"/a/..", "/"},
        {"/a/b/../", "/a/"},
        {"/..", "/"},
        {"/../../a", "/a"},
        {"/a//b", "/a//b"},
        {"/a//../b", "/a/b"},
        {"/a%", "/a%"},
        {"/a%4", "/a%4"},
        {"/a%zz", "/a%zz"},
        {"/...", "/..."},
        {"/.a/..b", "/.a/..b"},
    };
    char path[PATH_MAX];
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(cgi_resolve_path(cases[i].target, path), 0);
        assert_string_equal(path, cases[i].path);
    }
}

static void test_what_is_no_path_is_refused(void **state)
{
    char path[PATH_MAX], *target = malloc(PATH_MAX + 2);
    (void)state;
    assert_int_equal(cgi_resolve_path("*", path), -EINVAL);
    assert_int_equal(cgi_resolve_path("", path), -EINVAL);
    assert_int_equal(cgi_resolve_path("/a%00", path), -EINVAL);
    memset(target, 'a', PATH_MAX + 1);
    target[0] = '/';
    target[PATH_MAX + 1] = '\0';
    assert_int_equal(cgi_resolve_path(target, path), -ENAMETOOLONG);
    target[PATH_MAX] = '\0';
    assert_int_equal(cgi_resolve_path(target, path), -ENAMETOOLONG);
    target[PATH_MAX - 1] = '\0';
    assert_int_equal(cgi_resolve_path(target, path), 0);
    free(target);
}

/* ---- the script ---- */

static void test_the_first_file_is_the_script(void **state)
{
    static const struct {
        const char *path, *file, *name, *info;
    } cases[] = {
        {"/x/run", "/run", "/x/run", ""},
        {"/x/run/", "/run", "/x/run", "/"},
        {"/x/run/a//b", "/run", "/x/run", "/a//b"},
        {"/x/sub/run.py/run", "/sub/run.py", "/x/sub/run.py", "/run"},
        {"/x/near", "/near", "/x/near", ""},
        {"/x/folder/run.py", "/folder/run.py", "/x/folder/run.py", ""},
    };
    char file[256];
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(find(cases[i].path, false), 0);
        (void)snprintf(file, sizeof(file), "%s%s", dir, cases[i].file);
        assert_string_equal(script.path, file);
        *strrchr(file, '/') = '\0';
        assert_string_equal(script.folder, file);
        assert_string_equal(script.name, cases[i].name);
        assert_string_equal(script.info, cases[i].info);
    }
}

static void test_what_is_no_script_is_not_run(void **state)
{
    static const struct {
        const char *path;
        int status;
    } cases[] = {
        {"/x", 404},
        {"/x/", 404},
        {"/xrun", 404},
        {"/y/run", 404},
        {"/x/sub", 404},
        {"/x/sub/", 404},
        {"/x/none", 404},
        {"/x/none/run", 404},
        {"/x//run", 404},
        {"/x/.hidden", 404},
        {"/x/../outside/run", 404},
        {"/x/data", 403},
        {"/x/data/a", 403},
        {"/x/fifo", 403},
        {"/x/broken", 404},
        {"/x/circle", 403},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        if (find(cases[i].path, false) != cases[i].status)
            fail_msg("%s: not %d", cases[i].path, cases[i].status);
}

static void test_a_link_leads_out_only_if_that_is_allowed(void **state)
{
    static const char *const paths[] = {"/x/far/run", "/x/far-run", "/x/far-absolute"};
    (void)state;
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        assert_int_equal(find(paths[i], false), 403);
        assert_int_equal(find(paths[i], true), 0);
    }
    assert_int_equal(find("/x/circle", true), 403);
}

static void test_a_script_on_the_root_path(void **state)
{
    (void)state;
    assert_int_equal(cgi_lookup(dir, dir_fd, "", false, "/run/a", &script), 0);
    assert_string_equal(script.name, "/run");
    assert_string_equal(script.info, "/a");
    assert_int_equal(cgi_lookup(dir, dir_fd, "", false, "/", &script), 404);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_path_is_decoded_and_its_dots_are_resolved),
        cmocka_unit_test(test_what_is_no_path_is_refused),
        cmocka_unit_test(test_the_first_file_is_the_script),
        cmocka_unit_test(test_what_is_no_script_is_not_run),
        cmocka_unit_test(test_a_link_leads_out_only_if_that_is_allowed),
        cmocka_unit_test(test_a_script_on_the_root_path),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "fixture.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* A local user who can write below the root puts something else in place of each component. */

#define KEY "d1/d2/value"

static char outside[64];
static struct cm_storage *st;

static void make_outside(void)
{
    char path[128];
    int fd;

    (void)snprintf(outside, sizeof outside, "/tmp/cm-outside-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(outside));
    for (int i = 0; i < 2; i++) {
        (void)snprintf(path, sizeof path, "%s%s", outside, i == 0 ? "/d2" : "/d2/value");
        if (i == 0) {
            ck_assert_int_eq(mkdir(path, 0700), 0);
            continue;
        }
        fd = open(path, O_WRONLY | O_CREAT, 0600);
        ck_assert(fd >= 0);
        ck_assert_int_eq(write(fd, "outside", 7), 7);
        (void)close(fd);
    }
}

static void check_outside(void)
{
    char path[128];
    char text[16] = "";
    int fd;

    (void)snprintf(path, sizeof path, "%s/d2/value", outside);
    fd = open(path, O_RDONLY);
    ck_assert_msg(fd >= 0, "the file outside is gone");
    ck_assert_int_eq(read(fd, text, sizeof text - 1), 7);
    ck_assert_str_eq(text, "outside");
    (void)close(fd);
    (void)unlink(path);
    (void)snprintf(path, sizeof path, "%s/d2", outside);
    ck_assert_msg(rmdir(path) == 0, "something was put outside");
    ck_assert_int_eq(rmdir(outside), 0);
}

static void put_link(const char *rel)
{
    char target[128];
    const char *tail = strcmp(rel, "d1") == 0      ? ""
                       : strcmp(rel, "d1/d2") == 0 ? "/d2"
                                                   : "/d2/value";

    (void)snprintf(target, sizeof target, "%s%s", outside, tail);
    ck_assert_int_eq(symlink(target, at(rel)), 0);
}

static void put_fifo(const char *rel)
{
    ck_assert_int_eq(mkfifo(at(rel), 0600), 0);
}

static void put_socket(const char *rel)
{
    struct sockaddr_un sun = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    (void)snprintf(sun.sun_path, sizeof sun.sun_path, "%s", at(rel));
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&sun, sizeof sun), 0);
    (void)close(fd);
}

static void put_device(const char *rel)
{
    if (mknod(at(rel), S_IFCHR | 0600, makedev(1, 3)) != 0)
        put_fifo(rel); /* not allowed here; at least something */
}

static const struct {
    void (*put)(const char *rel);
    const char *name;
} things[] = {
    { put_link, "symbolic link" },
    { put_fifo, "FIFO" },
    { put_socket, "socket" },
    { put_device, "device" },
};

static void says(const char *what, const char *where)
{
    ck_assert_msg(strstr(err.msg, where) != NULL, "'%s' does not name '%s'", err.msg, where);
    if (strcmp(what, "device") != 0)
        ck_assert_msg(strstr(err.msg, what) != NULL, "'%s' does not name a %s", err.msg, what);
}

static cm_status ignore(void *user, const struct cm_key_info *info, struct cm_err *e)
{
    (void)user;
    (void)info;
    (void)e;
    return CM_OK;
}

/* With the thing @what at @where, a component of KEY. */
static void all_operations_refuse(const char *what, const char *where)
{
    struct cm_commit_item items[2] = { { .key = "first", .value = cm_span_str("x") },
                                       { .key = KEY, .value = cm_span_str("x") } };
    struct cm_buf got = CM_BUF_INIT(64);
    struct cm_key_info info;

    must_fail(cm_storage_load(st, NULL, KEY, &got, &err), CM_E_PERM);
    says(what, where);
    must_fail(cm_storage_store(st, NULL, KEY, cm_span_str("mine"), &err), CM_E_PERM);
    says(what, where);
    must_fail(cm_storage_stat(st, NULL, KEY, &info, &err), CM_E_PERM);
    must_fail(cm_storage_commit(st, NULL, NULL, items, 2, &err), CM_E_PERM);
    says(what, where);
    ck_assert_ptr_null(value_at(st, "first"));
    if (strcmp(where, KEY) != 0) {
        must_fail(cm_storage_remove(st, NULL, KEY, &err), CM_E_PERM);
        must_fail(cm_storage_list(st, NULL, "d1/d2", true, ignore, NULL, &err), CM_E_PERM);
    }
    ck_assert_uint_eq(got.len, 0);
    ck_assert_uint_eq(entries_in("certmesh/tmp"), 0);
    ck_assert_uint_eq(entries_in("certmesh/redo"), 0);
    cm_buf_free(&got);
}

static void matrix(void)
{
    static const char *const places[] = { "d1", "d1/d2", KEY };

    st = file_open(NULL);
    for (size_t t = 0; t < CM_ARRAY_LEN(things); t++)
        for (size_t p = 0; p < CM_ARRAY_LEN(places); p++) {
            make_outside();
            if (p >= 1)
                ck_assert_int_eq(mkdir(at("d1"), 0700), 0);
            if (p == 2)
                ck_assert_int_eq(mkdir(at("d1/d2"), 0700), 0);
            things[t].put(places[p]);
            all_operations_refuse(things[t].name, places[p]);
            ck_assert(exists(places[p]));
            /* Removing the whole tree removes the thing, not what it leads to. */
            if (p >= 1) {
                must(cm_storage_remove(st, NULL, "d1", &err));
                ck_assert(!exists("d1"));
            } else {
                ck_assert_int_eq(unlink(at("d1")), 0);
            }
            check_outside();
        }
    cm_storage_close(st);
}

START_TEST(nothing_is_followed_or_waited_for)
{
    matrix();
}
END_TEST

START_TEST(nothing_is_followed_without_openat2_either)
{
    cm_file_force_walk(true);
    matrix();
}
END_TEST

static void refuses_to_read(const char *because)
{
    struct cm_buf got = CM_BUF_INIT(64);

    must_fail(cm_storage_load(st, NULL, KEY, &got, &err), CM_E_PERM);
    ck_assert_msg(strstr(err.msg, because) != NULL && strstr(err.msg, KEY) != NULL, "%s", err.msg);
    cm_buf_free(&got);
}

START_TEST(values_of_doubtful_origin_are_not_read_but_can_be_replaced)
{
    st = file_open(NULL);
    must(cm_storage_store(st, NULL, KEY, cm_span_str("x"), &err));
    ck_assert_int_eq(link(at(KEY), at("other-name")), 0);
    refuses_to_read("hard links");
    must(cm_storage_store(st, NULL, KEY, cm_span_str("y"), &err));
    ck_assert_str_eq(value_at(st, KEY), "y");
    ck_assert_str_eq(read_file("other-name"), "x");
    for (mode_t mode = 0; mode <= 0777; mode++) {
        ck_assert_int_eq(chmod(at(KEY), mode), 0);
        if ((mode & 022) != 0)
            refuses_to_read("chmod go-w");
        else if ((mode & 0400) != 0 || geteuid() == 0)
            ck_assert_str_eq(value_at(st, KEY), "y");
    }
    must(cm_storage_store(st, NULL, KEY, cm_span_str("z"), &err));
    ck_assert_uint_eq(mode_of(KEY), 0600);
    if (geteuid() == 0) {
        ck_assert_int_eq(chown(at(KEY), 65534, 65534), 0);
        refuses_to_read("uid 65534");
        must(cm_storage_store(st, NULL, KEY, cm_span_str("z"), &err));
        ck_assert_str_eq(value_at(st, KEY), "z");
        ck_assert_int_eq(chown(at("d1/d2"), 65534, 65534), 0);
        must_fail(cm_storage_store(st, NULL, KEY, cm_span_str("w"), &err), CM_E_PERM);
        ck_assert_int_eq(chown(at("d1/d2"), 0, 0), 0);
    }
    ck_assert_int_eq(chmod(at("d1/d2"), 0707), 0);
    must_fail(cm_storage_store(st, NULL, KEY, cm_span_str("w"), &err), CM_E_PERM);
    ck_assert_msg(strstr(err.msg, "chmod o-w") != NULL, "%s", err.msg);
    cm_storage_close(st);
}
END_TEST

START_TEST(what_is_too_large_is_refused_before_it_is_read)
{
    struct cm_buf got = CM_BUF_INIT(4 * CM_STORAGE_VALUE_MAX);

    st = file_open(NULL);
    write_file("sparse", "x", 0600);
    ck_assert_int_eq(truncate(at("sparse"), (off_t)1 << 40), 0);
    must_fail(cm_storage_load(st, NULL, "sparse", &got, &err), CM_E_LIMIT);
    ck_assert_ptr_null(got.data);
    /* There is room for it in the buffer, and yet. */
    ck_assert_int_eq(truncate(at("sparse"), CM_STORAGE_VALUE_MAX + 1), 0);
    must_fail(cm_storage_load(st, NULL, "sparse", &got, &err), CM_E_LIMIT);
    ck_assert_ptr_null(got.data);
    cm_storage_close(st);
}
END_TEST

static void swap_for_ever(void)
{
    char real[128];
    char link_path[128];

    (void)snprintf(real, sizeof real, "%s", at("d1/d2"));
    (void)snprintf(link_path, sizeof link_path, "%s", at("d1/link"));
    for (;;)
        (void)renameat2(AT_FDCWD, real, AT_FDCWD, link_path, RENAME_EXCHANGE);
}

static void race(void)
{
    char target[128];
    pid_t pid;

    make_outside();
    st = file_open(NULL);
    must(cm_storage_store(st, NULL, KEY, cm_span_str("inside"), &err));
    (void)snprintf(target, sizeof target, "%s/d2", outside);
    ck_assert_int_eq(symlink(target, at("d1/link")), 0);
    pid = fork();
    if (pid == 0)
        swap_for_ever();
    for (int i = 0; i < 3000; i++) {
        struct cm_buf got = CM_BUF_INIT(64);
        cm_status rc = cm_storage_store(st, NULL, KEY, cm_span_str("inside"), &err);

        ck_assert_msg(rc == CM_OK || rc == CM_E_PERM || rc == CM_E_EXISTS || rc == CM_E_IO, "%s",
                      err.msg);
        if (cm_storage_load(st, NULL, KEY, &got, &err) == CM_OK)
            ck_assert_str_eq(cm_buf_str(&got), "inside");
        cm_buf_free(&got);
    }
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, NULL, 0);
    check_outside();
    cm_storage_close(st);
}

START_TEST(who_swaps_a_directory_for_a_link_gains_nothing)
{
    race();
}
END_TEST

START_TEST(who_swaps_a_directory_for_a_link_gains_nothing_without_openat2)
{
    cm_file_force_walk(true);
    race();
}
END_TEST

START_TEST(oddities_in_place_of_locks_are_named_at_once)
{
    struct cm_grant g;

    st = file_open(NULL);
    must(cm_storage_try_lock(st, NULL, "l", CM_NS_PER_S, &g, NULL, &err));
    must(cm_storage_unlock(st, NULL, &g, &err));
    for (size_t t = 0; t < CM_ARRAY_LEN(things); t++) {
        make_outside();
        things[t].put("locks/l.lock");
        must_fail(cm_storage_try_lock(st, NULL, "l", CM_NS_PER_S, &g, NULL, &err), CM_E_PERM);
        says(things[t].name, "locks/l.lock");
        ck_assert_int_eq(unlink(at("locks/l.lock")), 0);
        check_outside();
    }
    ck_assert_int_eq(mkdir(at("locks/l.lock"), 0700), 0);
    must_fail(cm_storage_try_lock(st, NULL, "l", CM_NS_PER_S, &g, NULL, &err), CM_E_PERM);
    ck_assert_int_eq(rmdir(at("locks/l.lock")), 0);
    ck_assert_int_eq(unlink(at("certmesh/locks/l.guard")), 0);
    put_fifo("certmesh/locks/l.guard");
    must_fail(cm_storage_try_lock(st, NULL, "l", CM_NS_PER_S, &g, NULL, &err), CM_E_PERM);
    cm_storage_close(st);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        nothing_is_followed_or_waited_for,
        nothing_is_followed_without_openat2_either,
        values_of_doubtful_origin_are_not_read_but_can_be_replaced,
        what_is_too_large_is_refused_before_it_is_read,
        who_swaps_a_directory_for_a_link_gains_nothing,
        who_swaps_a_directory_for_a_link_gains_nothing_without_openat2,
        oddities_in_place_of_locks_are_named_at_once,
    };

    return run_with_root("file_hostile", tests, CM_ARRAY_LEN(tests), 30);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "file.h"
#include "fixture.h"

#include <fcntl.h>
#include <pthread.h>
#include <regex.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* What lies where on the disk: peers and operators rely on it. */

START_TEST(values_are_plain_files_with_modes_of_their_own)
{
    static const mode_t masks[] = { 0, 022, 077, 0277, 0777 };

    for (size_t i = 0; i < CM_ARRAY_LEN(masks); i++) {
        struct cm_storage *st = file_open(NULL);
        char key[96];
        char dir[64];

        (void)umask(masks[i]);
        (void)snprintf(dir, sizeof dir, "certificates/ca%zu/a.example", i);
        (void)snprintf(key, sizeof key, "%s/a.example.key", dir);
        must(cm_storage_store(st, NULL, key, cm_span_str("PEM"), &err));
        (void)umask(022);
        ck_assert_str_eq(read_file(key), "PEM");
        ck_assert_uint_eq(mode_of(key), 0600);
        ck_assert_uint_eq(mode_of(dir), 0700);
        ck_assert_uint_eq(mode_of("certificates"), 0700);
        ck_assert_uint_eq(mode_of("certmesh/tmp"), 0700);
        ck_assert_uint_eq(entries_in("certmesh/tmp"), 0);
        cm_storage_close(st);
        root_remove();
    }
}
END_TEST

START_TEST(locks_lie_where_peers_look_for_them)
{
    struct cm_storage *st = file_open(NULL);
    struct cm_grant g;
    regex_t re;

    (void)umask(0);
    must(cm_storage_try_lock(st, NULL, "issue_cert_*.Example.com", CM_NS_PER_S, &g, NULL, &err));
    (void)umask(022);
    ck_assert(exists("locks/issue_cert_wildcard_.example.com.lock"));
    ck_assert_uint_eq(entries_in("locks"), 1);
    ck_assert_uint_eq(entries_in("certmesh/tmp"), 0);
    ck_assert_uint_eq(mode_of("locks/issue_cert_wildcard_.example.com.lock"), 0600);
    ck_assert_uint_eq(mode_of("certmesh/locks/issue_cert_wildcard_.example.com.guard"), 0600);
    ck_assert_int_eq(
        regcomp(&re,
                "^\\{\"created\":\"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:"
                "[0-9]{2}\\.[0-9]{9}Z\",\"updated\":\"[0-9]{4}-[0-9]{2}-[0-9]{2}T"
                "[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{9}Z\",\"host\":\"[A-Za-z0-9._-]+\","
                "\"pid\":[1-9][0-9]*\\}\n$",
                REG_EXTENDED),
        0);
    ck_assert_int_eq(
        regexec(&re, read_file("locks/issue_cert_wildcard_.example.com.lock"), 0, NULL, 0), 0);
    regfree(&re);
    must(cm_storage_unlock(st, NULL, &g, &err));
    ck_assert_uint_eq(entries_in("locks"), 0);
    cm_storage_close(st);
}
END_TEST

START_TEST(a_heartbeat_keeps_created_and_the_size)
{
    struct cm_storage *st = file_open(NULL);
    struct cm_grant g;
    char first[256];
    const char *second;

    must(cm_storage_try_lock(st, NULL, "beat", CM_NS_PER_S, &g, NULL, &err));
    (void)snprintf(first, sizeof first, "%s", read_file("locks/beat.lock"));
    real_pause(2 * CM_NS_PER_MS);
    must(cm_storage_refresh(st, NULL, &g, &err));
    second = read_file("locks/beat.lock");
    ck_assert_uint_eq(strlen(second), strlen(first));
    ck_assert_mem_eq(second, first, strlen("{\"created\":\"2026-08-29T18:20:01.123456789Z\""));
    ck_assert_str_ne(second, first);
    must(cm_storage_unlock(st, NULL, &g, &err));
    cm_storage_close(st);
}
END_TEST

static void *read_lock_file(void *arg)
{
    _Atomic bool *stop = arg;
    uintptr_t bad = 0;

    while (!*stop) {
        char text[256];
        int fd = open(at("locks/whole.lock"), O_RDONLY);
        ssize_t n = fd >= 0 ? read(fd, text, sizeof text) : 0;

        /* What a peer would take for a broken lock: absent, empty, cut, or with a tail. */
        if (n <= 0 || text[n - 1] != '\n' || text[n - 2] != '}' ||
            memchr(text, '\n', (size_t)n) != text + n - 1)
            bad++;
        if (fd >= 0)
            (void)close(fd);
    }
    return (void *)bad;
}

START_TEST(a_lock_record_is_whole_at_any_moment)
{
    struct cm_storage *st = file_open(NULL);
    _Atomic bool stop = false;
    struct cm_grant g;
    pthread_t thread;
    void *bad = NULL;

    must(cm_storage_try_lock(st, NULL, "whole", 5 * CM_NS_PER_S, &g, NULL, &err));
    ck_assert_int_eq(pthread_create(&thread, NULL, read_lock_file, &stop), 0);
    for (int i = 0; i < 500; i++)
        must(cm_storage_refresh(st, NULL, &g, &err));
    stop = true;
    (void)pthread_join(thread, &bad);
    ck_assert_uint_eq((uintptr_t)bad, 0);
    must(cm_storage_unlock(st, NULL, &g, &err));
    cm_storage_close(st);
}
END_TEST

static cm_status collect(void *user, const struct cm_key_info *info, struct cm_err *e)
{
    char *text = user;

    (void)e;
    ck_assert_uint_lt(strlen(text) + strlen(info->key), 200);
    (void)snprintf(text + strlen(text), 256 - strlen(text), "%s ", info->key);
    return CM_OK;
}

START_TEST(lists_show_values_only)
{
    struct cm_storage *st = file_open(NULL);
    char text[256] = "";
    struct cm_grant g;

    must(cm_storage_store(st, NULL, "certmesh/retry/x", cm_span_str("x"), &err));
    must(cm_storage_store(st, NULL, "v", cm_span_str("x"), &err));
    must(cm_storage_try_lock(st, NULL, "l", CM_NS_PER_S, &g, NULL, &err));
    write_file("certmesh/tmp/new-1-1-stray", "x", 0600);
    ck_assert_int_eq(symlink("/etc/passwd", at("link")), 0);
    ck_assert_int_eq(mkfifo(at("fifo"), 0600), 0);
    must(cm_storage_list(st, NULL, "", true, collect, text, &err));
    ck_assert_str_eq(text, "certmesh/retry/x v ");
    text[0] = '\0';
    must(cm_storage_list(st, NULL, "", false, collect, text, &err));
    ck_assert_str_eq(text, "certmesh v ");
    /* Recursive removal spares locks in use. */
    must(cm_storage_remove(st, NULL, "certmesh", &err));
    must(cm_storage_refresh(st, NULL, &g, &err));
    must(cm_storage_unlock(st, NULL, &g, &err));
    cm_storage_close(st);
}
END_TEST

START_TEST(old_strays_are_swept_and_fresh_ones_are_not)
{
    const struct timespec old[2] = { { 1000, 0 }, { 1000, 0 } };
    struct cm_storage *st = file_open(NULL);

    must(cm_storage_store(st, NULL, "v", cm_span_str("x"), &err));
    cm_storage_close(st);
    write_file("certmesh/tmp/new-1-1-old", "x", 0600);
    write_file("certmesh/tmp/new-1-1-fresh", "x", 0600);
    ck_assert_int_eq(utimensat(AT_FDCWD, at("certmesh/tmp/new-1-1-old"), old, 0), 0);
    st = file_open(NULL);
    ck_assert(exists("certmesh/tmp/new-1-1-old")); /* who only reads need not wait for that */
    must(cm_storage_store(st, NULL, "v", cm_span_str("y"), &err));
    ck_assert(!exists("certmesh/tmp/new-1-1-old"));
    ck_assert(exists("certmesh/tmp/new-1-1-fresh"));
    cm_storage_close(st);
}
END_TEST

START_TEST(guards_nobody_needs_go_after_a_month)
{
    const struct timespec old[2] = { { 1000, 0 }, { 1000, 0 } };
    struct cm_storage *st = file_open(NULL);
    static const char *const names[] = { "used", "idle", "held" };
    struct cm_grant g[3];

    for (int i = 0; i < 3; i++)
        must(cm_storage_try_lock(st, NULL, names[i], CM_NS_PER_S, &g[i], NULL, &err));
    must(cm_storage_unlock(st, NULL, &g[0], &err));
    must(cm_storage_unlock(st, NULL, &g[1], &err));
    ck_assert_int_eq(utimensat(AT_FDCWD, at("certmesh/locks/idle.guard"), old, 0), 0);
    ck_assert_int_eq(utimensat(AT_FDCWD, at("certmesh/locks/held.guard"), old, 0), 0);
    struct cm_storage *other = file_open(NULL);
    must(cm_storage_store(other, NULL, "v", cm_span_str("x"), &err));
    cm_storage_close(other);
    ck_assert(exists("certmesh/locks/used.guard"));
    ck_assert(!exists("certmesh/locks/idle.guard"));
    ck_assert(exists("certmesh/locks/held.guard"));
    must(cm_storage_unlock(st, NULL, &g[2], &err));
    cm_storage_close(st);
}
END_TEST

START_TEST(a_damaged_guard_does_not_send_the_fence_back)
{
    static const char *const damage[] = { "", "garbage", "certmesh-guard 1\nfence 000",
                                          "certmesh-guard 1\nfence 99999999999999999999999\n",
                                          ("certmesh-guard 1\nfence 00000000000000000005\nboot -\n"
                                           "created x\nttl_ns 1\nsum 0123456789abcdef\n") };
    struct fake_env fake;
    struct cm_storage *st;
    uint64_t fence = 0;

    fake_env_now(&fake);
    st = file_open(&fake.env);
    for (size_t i = 0; i <= CM_ARRAY_LEN(damage); i++) {
        struct cm_grant g;

        for (int k = 0; k < 3; k++) {
            must(cm_storage_try_lock(st, NULL, "f", CM_NS_PER_S, &g, NULL, &err));
            ck_assert(g.fence > fence);
            fence = g.fence;
            must(cm_storage_unlock(st, NULL, &g, &err));
        }
        if (i < CM_ARRAY_LEN(damage))
            write_file("certmesh/locks/f.guard", damage[i], 0600);
        /* Counting starts anew from the seconds of the clock. */
        fake_env_advance(&fake, CM_NS_PER_S);
    }
    ck_assert_int_eq(unlink(at("certmesh/locks/f.guard")), 0);
    cm_storage_close(st);
}
END_TEST

/* Another version that finds them reckons with the same sums. */
START_TEST(sums_on_disk_stay_what_they_are)
{
    const struct fst_guard_record guard = { 7, "-", "x", 1 };
    struct fst_redo_item item = { .tmp = "new", .tmp_inode = 2, .old = "-", .key = "a/b" };
    const struct fst_redo redo = { .boot_id = "b", .lock = "l", .n = 1, .items = &item };
    CM_AUTO_BUF struct cm_buf text = CM_BUF_INIT(1000);
    char record[FST_GUARD_BYTES + 1] = "";
    char safe[FST_SAFE_MAX];
    char name[251];

    fst_guard_text(&guard, record);
    ck_assert_ptr_nonnull(strstr(record, "\nsum f9b9e419c0868a6d\n"));
    item.before.modified_ns = -3;
    must(fst_redo_text(&redo, &text, &err));
    ck_assert_ptr_nonnull(strstr(cm_buf_str(&text), " a/b\nend 9098aba3cd88cc78\n"));
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    must(fst_lock_safe(name, safe, &err));
    ck_assert_str_eq(safe + strlen(safe) - 18, "n-0cc2566b9cafe80d");
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        values_are_plain_files_with_modes_of_their_own,
        locks_lie_where_peers_look_for_them,
        a_heartbeat_keeps_created_and_the_size,
        a_lock_record_is_whole_at_any_moment,
        lists_show_values_only,
        old_strays_are_swept_and_fresh_ones_are_not,
        guards_nobody_needs_go_after_a_month,
        a_damaged_guard_does_not_send_the_fence_back,
        sums_on_disk_stay_what_they_are,
    };

    return run_with_root("file_layout", tests, CM_ARRAY_LEN(tests), 30);
}

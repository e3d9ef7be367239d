/* SPDX-License-Identifier: Apache-2.0 */
#include "fixture.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Single values when the disk fails: every step in turn, with every error that may come. What
 * must hold: an error is reported, the old value or the new one is there, no stray is left, no
 * descriptor leaks. */

#define KEY "certificates/ca/a.example/a.example.key"

static struct {
    unsigned n;       /* calls seen */
    unsigned fail_at; /* 0 = never */
    bool for_good;    /* all from there on */
    int error;
    bool fired;
    size_t write_max; /* 0 = no limit */
    char log[2048];
    unsigned fsyncs;
} hook;

static const char *call_name(enum cm_file_call call)
{
    switch (call) {
    case CM_FILE_CREATE:
        return "create";
    case CM_FILE_MKDIR:
        return "mkdir";
    case CM_FILE_WRITE:
        return "write";
    case CM_FILE_FSYNC:
        return "fsync";
    case CM_FILE_FSYNC_DIR:
        return "fsyncdir";
    case CM_FILE_CLOSE:
        return "close";
    case CM_FILE_RENAME:
        return "rename";
    case CM_FILE_LINK:
        return "link";
    case CM_FILE_UNLINK:
        return "unlink";
    }
    return "?";
}

/* Clean-up is not made to fail here: what it would leave is the sweep's. */
static int on_call(enum cm_file_call call, const char *name, size_t *len)
{
    size_t used = strlen(hook.log);

    (void)name;
    (void)snprintf(hook.log + used, sizeof hook.log - used, "%s ", call_name(call));
    if (call == CM_FILE_UNLINK)
        return 0;
    hook.fsyncs += call == CM_FILE_FSYNC;
    if (call == CM_FILE_WRITE && hook.write_max > 0 && *len > hook.write_max)
        *len = hook.write_max;
    hook.n++;
    if (hook.fail_at == 0 || hook.n < hook.fail_at || (hook.n > hook.fail_at && !hook.for_good))
        return 0;
    hook.fired = true;
    return hook.error;
}

static void arm(unsigned fail_at, int error)
{
    memset(&hook, 0, sizeof hook);
    hook.fail_at = fail_at;
    hook.error = error;
    cm_file_set_hook(on_call);
}

START_TEST(a_value_is_flushed_before_and_after_it_gets_its_name)
{
    struct cm_storage *st = file_open(NULL);

    must(cm_storage_store(st, NULL, KEY, cm_span_str("old"), &err));
    arm(0, 0);
    must(cm_storage_store(st, NULL, KEY, cm_span_str("new"), &err));
    ck_assert_str_eq(hook.log, "create write fsync close rename fsyncdir ");
    cm_storage_close(st);
}
END_TEST

START_TEST(a_removal_is_flushed_too)
{
    struct cm_storage *st = file_open(NULL);

    must(cm_storage_store(st, NULL, KEY, cm_span_str("old"), &err));
    arm(0, 0);
    must(cm_storage_remove(st, NULL, KEY, &err));
    /* The rest is for those who watch, and not needed. */
    ck_assert_str_eq(hook.log, "unlink fsyncdir create close unlink ");
    arm(0, 0);
    must(cm_storage_remove(st, NULL, "certificates", &err));
    ck_assert_msg(strstr(hook.log, "unlink fsyncdir ") != NULL, "%s", hook.log);
    cm_storage_close(st);
}
END_TEST

START_TEST(new_directories_are_flushed_too)
{
    struct cm_storage *st = file_open(NULL);

    must(cm_storage_store(st, NULL, "x", cm_span_str("x"), &err));
    arm(0, 0);
    must(cm_storage_store(st, NULL, "a/b/c", cm_span_str("x"), &err));
    ck_assert_str_eq(hook.log,
                     "create write fsync close mkdir fsyncdir mkdir fsyncdir rename fsyncdir ");
    cm_storage_close(st);
}
END_TEST

static const int errors[] = { ENOSPC, EIO,    EDQUOT, EROFS,  EMFILE, ENFILE, ENOMEM,
                              EINTR,  ESTALE, EPERM,  EACCES, EXDEV,  ENOENT };

/* Returns false when no fault fired any more: the end of the sweep. */
static bool store_with_fault(unsigned n, int error, bool for_good, const char *old)
{
    struct cm_storage *st = file_open(NULL);
    unsigned fds;
    const char *now;
    cm_status rc;

    if (old != NULL)
        must(cm_storage_store(st, NULL, KEY, cm_span_str(old), &err));
    fds = open_fds();
    arm(n, error);
    hook.for_good = for_good;
    rc = cm_storage_store(st, NULL, KEY, cm_span_str("new"), &err);
    cm_file_set_hook(NULL);
    ck_assert_uint_eq(open_fds(), fds);
    now = value_at(st, KEY);
    if (rc == CM_OK)
        ck_assert_str_eq(now, "new");
    else
        ck_assert_msg(err.msg[0] != '\0' && rc != CM_E_NOTFOUND, "%s", err.msg);
    if (now == NULL)
        ck_assert_msg(old == NULL, "call %u, errno %d: the old value is gone", n, error);
    else if (strcmp(now, "new") != 0)
        ck_assert_str_eq(now, old);
    ck_assert_uint_eq(entries_in("certmesh/tmp"), 0);
    must(cm_storage_store(st, NULL, KEY, cm_span_str("again"), &err));
    ck_assert_str_eq(value_at(st, KEY), "again");
    cm_storage_close(st);
    root_remove();
    return hook.fired;
}

START_TEST(a_failing_step_of_a_store_leaves_the_old_value_or_the_new_one)
{
    unsigned points = 0;

    for (size_t e = 0; e < CM_ARRAY_LEN(errors); e++)
        for (int how = 0; how < 4; how++)
            for (unsigned n = 1;
                 store_with_fault(n, errors[e], how % 2 == 0, how < 2 ? "the old value" : NULL);
                 n++)
                points++;
    ck_assert_msg(points > 400, "only %u faults fired", points);
}
END_TEST

START_TEST(a_failed_flush_is_a_failure_and_not_tried_again)
{
    struct cm_storage *st = file_open(NULL);

    must(cm_storage_store(st, NULL, KEY, cm_span_str("old"), &err));
    arm(3, EIO);
    must_fail(cm_storage_store(st, NULL, KEY, cm_span_str("new"), &err), CM_E_IO);
    ck_assert_uint_eq(hook.fsyncs, 1);
    ck_assert_ptr_nonnull(strstr(err.msg, KEY));
    ck_assert_int_eq(err.sys_errno, EIO);
    arm(3, EINTR);
    must_fail(cm_storage_store(st, NULL, KEY, cm_span_str("new"), &err), CM_E_IO);
    ck_assert_uint_eq(hook.fsyncs, 1);
    cm_file_set_hook(NULL);
    ck_assert_str_eq(value_at(st, KEY), "old");
    cm_storage_close(st);
}
END_TEST

START_TEST(a_failed_close_is_a_failed_write)
{
    struct cm_storage *st = file_open(NULL);

    must(cm_storage_store(st, NULL, KEY, cm_span_str("old"), &err));
    arm(4, EDQUOT);
    must_fail(cm_storage_store(st, NULL, KEY, cm_span_str("new"), &err), CM_E_IO);
    cm_file_set_hook(NULL);
    ck_assert_str_eq(value_at(st, KEY), "old");
    cm_storage_close(st);
}
END_TEST

START_TEST(short_writes_are_continued)
{
    struct cm_storage *st = file_open(NULL);
    struct cm_grant g;

    arm(0, 0);
    hook.write_max = 3;
    must(cm_storage_store(st, NULL, KEY, cm_span_str("a value in several writes"), &err));
    must(cm_storage_try_lock(st, NULL, "l", CM_NS_PER_S, &g, NULL, &err));
    must(cm_storage_refresh(st, NULL, &g, &err));
    must(cm_storage_unlock(st, NULL, &g, &err));
    cm_file_set_hook(NULL);
    ck_assert_str_eq(value_at(st, KEY), "a value in several writes");
    cm_storage_close(st);
}
END_TEST

static bool lock_with_fault(unsigned n, int error, bool for_good)
{
    struct cm_storage *st = file_open(NULL);
    struct cm_grant g = { .fence = 0 };
    struct cm_grant next;
    unsigned fds = open_fds();
    uint64_t fence = 0;
    cm_status rc;

    arm(n, error);
    hook.for_good = for_good;
    rc = cm_storage_try_lock(st, NULL, "l", CM_NS_PER_S, &g, NULL, &err);
    if (rc == CM_OK) {
        fence = g.fence;
        rc = cm_storage_refresh(st, NULL, &g, &err);
        if (rc != CM_OK)
            ck_assert_int_ne(rc, CM_E_LOCK_LOST);
        rc = cm_storage_unlock(st, NULL, &g, &err);
    }
    cm_file_set_hook(NULL);
    ck_assert_uint_eq(open_fds(), fds);
    /* Whatever stayed belongs to nobody alive, and that shows at once. */
    must(cm_storage_try_lock(st, NULL, "l", CM_NS_PER_S, &next, NULL, &err));
    ck_assert(next.fence > fence);
    must(cm_storage_unlock(st, NULL, &next, &err));
    ck_assert_uint_eq(entries_in("locks"), 0);
    ck_assert_uint_eq(entries_in("certmesh/tmp"), 0);
    cm_storage_close(st);
    root_remove();
    return hook.fired;
}

START_TEST(a_failing_step_of_a_lock_leaves_no_lock_behind)
{
    static const int lock_errors[] = { ENOSPC, EIO, EMFILE, ESTALE, EACCES };
    unsigned points = 0;

    for (size_t e = 0; e < CM_ARRAY_LEN(lock_errors); e++)
        for (int how = 0; how < 2; how++)
            for (unsigned n = 1; lock_with_fault(n, lock_errors[e], how == 0); n++)
                points++;
    ck_assert_msg(points > 100, "only %u faults fired", points);
}
END_TEST

START_TEST(locks_work_where_there_are_no_links)
{
    static const int no_link[] = { EPERM, EOPNOTSUPP, EMLINK };

    for (size_t i = 0; i < CM_ARRAY_LEN(no_link); i++) {
        struct cm_storage *st = file_open(NULL);
        struct cm_grant g;
        struct cm_grant other;
        unsigned link_at = 0;

        /* Find the link among the calls, then make it fail. */
        arm(0, 0);
        must(cm_storage_try_lock(st, NULL, "l", CM_NS_PER_S, &g, NULL, &err));
        for (const char *p = hook.log; strncmp(p, "link ", 5) != 0; p = strchr(p, ' ') + 1)
            link_at += strncmp(p, "unlink ", 7) != 0;
        must(cm_storage_unlock(st, NULL, &g, &err));
        cm_storage_close(st);
        root_remove();
        st = file_open(NULL);
        arm(link_at + 1, no_link[i]);
        must(cm_storage_try_lock(st, NULL, "l", CM_NS_PER_S, &g, NULL, &err));
        ck_assert(hook.fired);
        cm_file_set_hook(NULL);
        must_fail(cm_storage_try_lock(st, NULL, "l", CM_NS_PER_S, &other, NULL, &err), CM_E_BUSY);
        must(cm_storage_refresh(st, NULL, &g, &err));
        ck_assert_ptr_nonnull(strstr(read_file("locks/l.lock"), "\"updated\""));
        must(cm_storage_unlock(st, NULL, &g, &err));
        ck_assert_uint_eq(entries_in("locks"), 0);
        cm_storage_close(st);
        root_remove();
    }
}
END_TEST

/* Every allocation of ours in turn. */
START_TEST(running_out_of_memory_is_an_error_like_others)
{
    struct cm_commit_item item = { .key = KEY, .value = cm_span_str("new") };
    struct cm_storage *st = file_open(NULL);
    unsigned fds = open_fds();
    uint64_t n = 1;

    must(cm_storage_store(st, NULL, KEY, cm_span_str("old"), &err));
    for (bool done = false; !done; n++) {
        struct cm_buf got = CM_BUF_INIT(64);
        struct cm_lease *lease = NULL;
        cm_status rc;

        (void)cm_alloc_fail_at(n);
        rc = cm_storage_load(st, NULL, KEY, &got, &err);
        if (rc == CM_OK)
            rc = cm_lease_acquire(st, NULL, "l", NULL, &lease, &err);
        if (rc == CM_OK)
            rc = cm_lease_commit(lease, NULL, &item, 1, &err);
        (void)cm_alloc_fail_at(0);
        cm_lease_release(lease);
        cm_buf_free(&got);
        done = rc == CM_OK;
        if (!done)
            ck_assert_msg(rc == CM_E_NOMEM, "allocation %llu: %s: %s", (unsigned long long)n,
                          cm_status_name(rc), err.msg);
        ck_assert_uint_eq(open_fds(), fds);
        ck_assert_str_eq(value_at(st, KEY), done ? "new" : "old");
        ck_assert_uint_eq(entries_in("locks"), 0);
    }
    ck_assert_msg(n > 8, "only %llu allocations", (unsigned long long)n);
    cm_storage_close(st);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        a_value_is_flushed_before_and_after_it_gets_its_name,
        a_removal_is_flushed_too,
        new_directories_are_flushed_too,
        a_failing_step_of_a_store_leaves_the_old_value_or_the_new_one,
        a_failed_flush_is_a_failure_and_not_tried_again,
        a_failed_close_is_a_failed_write,
        short_writes_are_continued,
        a_failing_step_of_a_lock_leaves_no_lock_behind,
        locks_work_where_there_are_no_links,
        running_out_of_memory_is_an_error_like_others,
    };

    return run_with_root("file_fault", tests, CM_ARRAY_LEN(tests), 60);
}

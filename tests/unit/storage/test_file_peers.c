/* SPDX-License-Identifier: Apache-2.0 */
#include "fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* Lock files as others leave them: certmagic's own in all their forms, and damaged ones. */

#define LOCK "locks/peer.lock"

static struct fake_env fake;
static struct cm_op op;
static struct cm_storage *st;

static void open_fake(void)
{
    fake_env_now(&fake);
    op = (struct cm_op){ .env = &fake.env };
    st = file_open(&fake.env);
    must(cm_storage_store(st, NULL, "x", cm_span_str("x"), &err));
    (void)mkdir(at("locks"), 0700);
}

static cm_status try_lock(struct cm_grant *g)
{
    int64_t wait_ns = 0;
    cm_status rc = cm_storage_try_lock(st, &op, "peer", 10 * CM_NS_PER_S, g, &wait_ns, &err);

    if (rc == CM_E_BUSY)
        ck_assert(wait_ns > 0 && wait_ns <= 10 * CM_NS_PER_S);
    return rc;
}

/* Stamp as Go prints local time: trailing zeros trimmed, an offset. @age_s before now. */
static const char *go_stamp(int64_t age_s)
{
    static char stamps[4][CM_TIME_TEXT];
    static unsigned next;
    char *out = stamps[next++ % 4];
    int64_t ns = fake.wall_ns - age_s * CM_NS_PER_S + 2 * 3600 * CM_NS_PER_S;
    size_t len;

    cm_time_format_rfc3339(ns - ns % CM_NS_PER_MS, false, out);
    len = strlen(out);
    (void)snprintf(out + len - 1, CM_TIME_TEXT - len + 1, "+02:00");
    return out;
}

static void peer_lock(int64_t created_age_s, int64_t updated_age_s)
{
    char text[256];

    (void)snprintf(text, sizeof text, "{\"created\":\"%s\",\"updated\":\"%s\"}\n",
                   go_stamp(created_age_s), go_stamp(updated_age_s));
    write_file(LOCK, text, 0644);
}

static void set_age(int64_t age_s)
{
    int64_t then = cm_env_system()->wall_ns(NULL) / CM_NS_PER_S - age_s;
    const struct timespec times[2] = { { then, 0 }, { then, 0 } };

    ck_assert_int_eq(utimensat(AT_FDCWD, at(LOCK), times, 0), 0);
}

START_TEST(a_fresh_lock_of_a_peer_is_respected)
{
    struct cm_grant g;

    open_fake();
    for (int i = 0; i < 20; i++) {
        peer_lock(100, 0); /* its heartbeat */
        must_fail(try_lock(&g), CM_E_BUSY);
        fake_env_advance(&fake, 5 * CM_NS_PER_S);
        must_fail(try_lock(&g), CM_E_BUSY);
    }
    ck_assert_int_eq(unlink(at(LOCK)), 0);
    must(try_lock(&g));
    must(cm_storage_unlock(st, &op, &g, &err));
    cm_storage_close(st);
}
END_TEST

static cm_status lock_info(struct cm_lock_info *ret)
{
    ret->size = (uint32_t)sizeof *ret;
    return cm_storage_lock_info(st, &op, "peer", ret, &err);
}

START_TEST(a_peer_does_not_say_who_holds_its_lock)
{
    struct cm_lock_info info;

    open_fake();
    must_fail(lock_info(&info), CM_E_NOTFOUND);
    peer_lock(100, 3);
    must(lock_info(&info));
    ck_assert_str_eq(info.holder, "another node");
    ck_assert_int_eq(info.since_ns / CM_NS_PER_S, fake.wall_ns / CM_NS_PER_S - 100);
    ck_assert_int_eq(info.refreshed_ns / CM_NS_PER_S, fake.wall_ns / CM_NS_PER_S - 3);
    write_file(LOCK, "", 0644); /* it is just being created */
    must(lock_info(&info));
    ck_assert_str_eq(info.holder, "another node");
    ck_assert_int_eq(info.since_ns, 0);
    write_file(LOCK,
               "{\"created\":\"2026-08-29T18:20:01Z\",\"updated\":\"2099-01-01T00:00:00Z\","
               "\"host\":\"a\\u001b[31mb\",\"pid\":7}",
               0644);
    must(lock_info(&info));
    ck_assert_str_eq(info.holder, "host a\\x1b[31mb, process 7"); /* no escape sequences */
    peer_lock(60, 11);
    set_age(11);
    must_fail(lock_info(&info), CM_E_NOTFOUND);
    ck_assert(exists(LOCK)); /* looked at, not cleared away */
    cm_storage_close(st);
}
END_TEST

START_TEST(a_dead_peers_lock_is_taken_at_once_when_it_is_old)
{
    struct cm_grant g;

    open_fake();
    peer_lock(60, 11);
    set_age(11);
    must(try_lock(&g));
    must(cm_storage_refresh(st, &op, &g, &err));
    must(cm_storage_unlock(st, &op, &g, &err));
    write_file(LOCK, "{\"created\":\"2020-01-01T00:00:00Z\"}\n", 0644); /* no "updated" */
    set_age(11);
    must(try_lock(&g));
    must(cm_storage_unlock(st, &op, &g, &err));
    cm_storage_close(st);
}
END_TEST

/* A peer whose clock is wrong by half a minute: "updated" alone would make us steal. */
START_TEST(clocks_that_disagree_do_not_steal)
{
    static const int64_t skews[] = { 30, 3600, -30, -3600 };
    struct cm_grant g;

    open_fake();
    for (size_t i = 0; i < CM_ARRAY_LEN(skews); i++) {
        peer_lock(skews[i], skews[i]);
        must_fail(try_lock(&g), CM_E_BUSY);
        fake_env_advance(&fake, 9 * CM_NS_PER_S);
        must_fail(try_lock(&g), CM_E_BUSY);
        fake_env_advance(&fake, 2 * CM_NS_PER_S); /* but dead is dead */
        must(try_lock(&g));
        must(cm_storage_unlock(st, &op, &g, &err));
    }
    cm_storage_close(st);
}
END_TEST

static char huge[300000];

START_TEST(no_damage_blocks_for_ever_and_none_is_stolen_at_sight)
{
    memset(huge, '{', sizeof huge - 1);
    {
        const char *const damage[] = {
            "",
            "\n",
            "{",
            "{\"created\":\"2026-08-29T18:20",
            "garbage",
            "[]",
            "{}",
            "42",
            "null",
            "{\"created\":42,\"updated\":{}}",
            "{\"created\":\"not a time\",\"updated\":\"neither\"}",
            "{\"created\":\"9999-12-31T23:59:59Z\",\"updated\":\"9999-12-31T23:59:59Z\"}",
            "{\"created\":\"0001-01-01T00:00:00Z\",\"updated\":\"0001-01-01T00:00:00Z\"}",
            "{\"created\":\"2026-08-29T18:20:01Z\",\"updated\":\"2099-01-01T00:00:00Z\"}}}tail",
            huge,
        };
        struct cm_grant g;

        open_fake();
        for (size_t i = 0; i < CM_ARRAY_LEN(damage); i++)
            for (int date = 0; date < 3; date++) {
                write_file(LOCK, damage[i], 0644);
                if (date == 1)
                    set_age(-3600 * 24 * 365); /* a file from the future */
                if (date == 2) {
                    /* Old on the clock of the disk: unreadable ones go at once. */
                    set_age(3600);
                    if (try_lock(&g) == CM_OK) {
                        must(cm_storage_unlock(st, &op, &g, &err));
                        continue;
                    }
                }
                must_fail(try_lock(&g), CM_E_BUSY);
                fake_env_advance(&fake, 9 * CM_NS_PER_S);
                must_fail(try_lock(&g), CM_E_BUSY);
                fake_env_advance(&fake, 2 * CM_NS_PER_S);
                must(try_lock(&g));
                must(cm_storage_unlock(st, &op, &g, &err));
                ck_assert_uint_eq(entries_in("locks") + entries_in("certmesh/tmp"), 0);
            }
    }
    cm_storage_close(st);
}
END_TEST

START_TEST(member_names_are_taken_whatever_their_case)
{
    struct cm_grant g;
    char text[256];

    open_fake();
    (void)snprintf(text, sizeof text, "{\"CREATED\":\"%s\",\"Updated\":\"%s\",\"extra\":1}",
                   go_stamp(100), go_stamp(1));
    write_file(LOCK, text, 0644);
    set_age(60); /* the disk says old, the record fresh: both must agree */
    must_fail(try_lock(&g), CM_E_BUSY);
    cm_storage_close(st);
}
END_TEST

START_TEST(a_peer_that_takes_our_lock_is_noticed_and_left_alone)
{
    struct cm_commit_item item = { .key = "k", .value = cm_span_str("late") };
    struct cm_grant g;

    open_fake();
    must(try_lock(&g));
    ck_assert_int_eq(unlink(at(LOCK)), 0); /* what certmagic does to a lock it deems stale */
    must_fail(cm_storage_refresh(st, &op, &g, &err), CM_E_LOCK_LOST);
    peer_lock(0, 0);
    must_fail(cm_storage_refresh(st, &op, &g, &err), CM_E_LOCK_LOST);
    must_fail(cm_storage_commit(st, &op, &g, &item, 1, &err), CM_E_LOCK_LOST);
    ck_assert_ptr_null(value_at(st, "k"));
    must_fail(cm_storage_unlock(st, &op, &g, &err), CM_E_LOCK_LOST);
    ck_assert(exists(LOCK));
    ck_assert_ptr_nonnull(strstr(read_file(LOCK), "+02:00"));
    cm_storage_close(st);
}
END_TEST

/* Between the verdict "abandoned" and the deed, something happens to the lock file. */
static int what_happens;

static int at_the_rename(enum cm_file_call call, const char *name, size_t *len)
{
    (void)len;
    if (call != CM_FILE_RENAME || strncmp(name, "lock-", 5) != 0)
        return 0;
    cm_file_set_hook(NULL);
    if (what_happens == 1)
        ck_assert_int_eq(unlink(at(LOCK)), 0); /* another peer stole it before us ... */
    if (what_happens <= 1)
        peer_lock(0, 0); /* ... or its holder came back to life */
    else
        ck_assert_int_eq(unlink(at(LOCK)), 0);
    return 0;
}

START_TEST(a_lock_that_changes_while_it_is_stolen_is_put_back)
{
    struct cm_grant g;

    open_fake();
    for (what_happens = 0; what_happens < 2; what_happens++) {
        peer_lock(60, 60);
        set_age(60);
        cm_file_set_hook(at_the_rename);
        must_fail(try_lock(&g), CM_E_BUSY);
        ck_assert_str_ne(read_file(LOCK), "");
        ck_assert_uint_eq(entries_in("certmesh/tmp"), 0);
    }
    peer_lock(60, 60);
    set_age(60);
    cm_file_set_hook(at_the_rename);
    must(try_lock(&g)); /* gone by itself */
    must(cm_storage_unlock(st, &op, &g, &err));
    cm_storage_close(st);
}
END_TEST

/* ------------------------------------------------------ beside a peer at work */

struct arena {
    _Atomic unsigned inside;
    _Atomic unsigned clashes;
    _Atomic unsigned turns[2];
    _Atomic bool stop;
};

static void use(struct arena *a, unsigned who)
{
    if (++a->inside > 1)
        a->clashes++;
    a->turns[who]++;
    real_pause(CM_NS_PER_MS / 4);
    a->inside--;
}

/* certmagic's way to take and give back, as far as it matters beside living holders. */
static void peer_main(struct arena *a)
{
    while (!a->stop) {
        int fd = open(at(LOCK), O_CREAT | O_EXCL | O_WRONLY, 0644);
        const char *text =
            "{\"created\":\"2026-01-01T00:00:00Z\",\"updated\":\"2099-01-01T00:00:00Z\"}";

        if (fd < 0) {
            real_pause(CM_NS_PER_MS);
            continue;
        }
        if (write(fd, text, strlen(text)) < 0)
            _exit(1);
        (void)fsync(fd);
        (void)close(fd);
        use(a, 0);
        (void)unlink(at(LOCK));
        real_pause(CM_NS_PER_MS);
    }
    _exit(0);
}

static void our_main(struct arena *a)
{
    struct cm_storage *own = file_open(NULL);

    while (!a->stop) {
        struct cm_grant g;

        if (cm_storage_try_lock(own, NULL, "peer", 10 * CM_NS_PER_S, &g, NULL, &err) != CM_OK) {
            real_pause(CM_NS_PER_MS);
            continue;
        }
        use(a, 1);
        if (cm_storage_unlock(own, NULL, &g, &err) != CM_OK)
            a->clashes++;
        real_pause(CM_NS_PER_MS);
    }
    cm_storage_close(own);
    _exit(0);
}

START_TEST(peers_and_we_take_turns)
{
    struct arena *a =
        mmap(NULL, sizeof *a, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t pids[4];

    ck_assert_ptr_ne(a, MAP_FAILED);
    open_fake();
    for (int i = 0; i < 4; i++) {
        pids[i] = fork();
        ck_assert_int_ge(pids[i], 0);
        if (pids[i] == 0)
            (i % 2 == 0 ? peer_main : our_main)(a);
    }
    for (int i = 0; i < 400 && (a->turns[0] < 100 || a->turns[1] < 100); i++)
        real_pause(25 * CM_NS_PER_MS);
    a->stop = true;
    for (int i = 0; i < 4; i++) {
        int status = 0;

        ck_assert_int_eq(waitpid(pids[i], &status, 0), pids[i]);
        ck_assert_int_eq(status, 0);
    }
    ck_assert_uint_eq(a->clashes, 0);
    ck_assert_msg(a->turns[0] >= 100 && a->turns[1] >= 100, "turns: peers %u, we %u", a->turns[0],
                  a->turns[1]);
    cm_storage_close(st);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        a_fresh_lock_of_a_peer_is_respected,
        a_peer_does_not_say_who_holds_its_lock,
        a_dead_peers_lock_is_taken_at_once_when_it_is_old,
        clocks_that_disagree_do_not_steal,
        no_damage_blocks_for_ever_and_none_is_stolen_at_sight,
        member_names_are_taken_whatever_their_case,
        a_peer_that_takes_our_lock_is_noticed_and_left_alone,
        a_lock_that_changes_while_it_is_stolen_is_put_back,
        peers_and_we_take_turns,
    };

    return run_with_root("file_peers", tests, CM_ARRAY_LEN(tests), 30);
}

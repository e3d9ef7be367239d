/* SPDX-License-Identifier: Apache-2.0 */
#include "file.h"
#include "fixture.h"

#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* What the contract of watching (tests/contract/contract_watch.c) does not know of: names that say
 * what they are about, other processes, peers, and directories that come and go. */

/* ------------------------------------------------------------------ names */

static const char *told_by(const char *name, const char *want_what)
{
    static char key[CM_STORAGE_KEY_MAX + 1];
    const char *what = NULL;

    if (!fst_bell_parse(name, &what, key))
        return "(nothing)";
    ck_assert_str_eq(what, want_what);
    return key;
}

static const char *through_a_name(const char *what, const char *about, size_t name_max)
{
    char name[FST_NAME_MAX];
    int n = snprintf(name, sizeof name, "%s-4711-12-0123456789abcdef", what);

    fst_bell_name(name, (size_t)n, name_max, what, about);
    ck_assert_uint_le(strlen(name), name_max);
    ck_assert(strpbrk(name, "/ ") == NULL);
    return told_by(name, what);
}

START_TEST(names_say_what_they_are_about)
{
    static const char *const keys[] = {
        "certificates/acme-v02.api.letsencrypt.org-directory/a.example/a.example.crt",
        "certificates/ca/wildcard_.a.example/wildcard_.a.example.json",
        "a",
        "a/a",
        "a/a/a",
        "a/ab/abc/abcd",
        "ab/a",
        "=/=/,/%/%25/- -",
        "issue_cert_a,b=c",
        "\xc3\xa9/x",
    };

    for (size_t i = 0; i < CM_ARRAY_LEN(keys); i++) {
        ck_assert_str_eq(through_a_name("new", keys[i], 255), keys[i]);
        ck_assert_str_eq(through_a_name("old", keys[i], 255), keys[i]);
        ck_assert_str_eq(through_a_name("gone", keys[i], 255), keys[i]);
        ck_assert_str_eq(through_a_name("lock", keys[i], 255), keys[i]);
    }
}
END_TEST

/* Less exactly, and never wrong. */
START_TEST(what_does_not_fit_is_told_by_a_directory_above)
{
    char dir[231];
    char key[CM_STORAGE_KEY_MAX + 1];
    const char *told;

    memset(dir, 'x', sizeof dir - 1);
    dir[sizeof dir - 1] = '\0';
    (void)snprintf(key, sizeof key, "certificates/ca/%s/%s.crt", dir, dir);
    told = through_a_name("new", key, 255);
    ck_assert_str_eq(told, "certificates/ca");
    for (size_t max = 30; max < 255; max++) {
        told = through_a_name("new", "certificates/ca/a.example/a.example.crt", max);
        if (strcmp(told, "(nothing)") != 0)
            ck_assert_msg(strncmp(told, "certificates/ca/a.example/a.example.crt", strlen(told)) ==
                              0,
                          "%s", told);
    }
    ck_assert_str_eq(through_a_name("lock", dir + 40, 255), dir + 40);
    ck_assert_str_eq(through_a_name("lock", dir + 40, 200), "(nothing)");
}
END_TEST

START_TEST(other_names_say_nothing)
{
    static const char *const names[] = {
        "",
        "-",
        "new",
        "new-1-2-3",
        "new-1-2-3-",
        "older-1-2-3-a",
        "ne-1-2-3-a",
        "redo-1-2-3-a",
        "new-1-2-3-%",
        "new-1-2-3-%4",
        "new-1-2-3-%00",
        "new-1-2-3-%g0",
        "new-1-2-3-=",
        "new-1-2-3-a=",
        "new-1-2-3-a,b=",
    };

    for (size_t i = 0; i < CM_ARRAY_LEN(names); i++)
        ck_assert_str_eq(told_by(names[i], "new"), "(nothing)");
    ck_assert_str_eq(told_by("new-1-2-3-a,=,=", "new"), "a/a/a");
}
END_TEST

/* ---------------------------------------------------------------- watching */

static struct {
    pthread_mutex_t mutex;
    char last[4][CM_STORAGE_KEY_MAX + 1]; /* by kind */
    unsigned n[4];
} heard = { .mutex = PTHREAD_MUTEX_INITIALIZER };

static void hear(void *user, const struct cm_change *c)
{
    (void)user;
    cm_mutex_lock(&heard.mutex);
    heard.n[c->kind]++;
    if (c->key != NULL)
        (void)snprintf(heard.last[c->kind], sizeof heard.last[0], "%s", c->key);
    cm_mutex_unlock(&heard.mutex);
}

static unsigned times(enum cm_change_kind kind)
{
    cm_mutex_lock(&heard.mutex);
    unsigned n = heard.n[kind];
    cm_mutex_unlock(&heard.mutex);
    return n;
}

static void must_hear(enum cm_change_kind kind, const char *key, unsigned more_than)
{
    for (int i = 0; i < 5000 && times(kind) <= more_than; i++)
        real_pause(CM_NS_PER_MS);
    ck_assert_msg(times(kind) > more_than, "nothing of '%s'", key);
    cm_mutex_lock(&heard.mutex);
    if (key[0] != '\0')
        ck_assert_str_eq(heard.last[kind], key);
    cm_mutex_unlock(&heard.mutex);
}

static struct cm_storage *st;
static struct cm_watch *watch;

static void begin(void)
{
    st = file_open(NULL);
    must(cm_storage_watch(st, hear, NULL, &watch, &err));
}

static void end(void)
{
    cm_storage_unwatch(st, watch);
    cm_storage_close(st);
}

static void child_stores(void)
{
    struct cm_storage *mine = file_open(NULL);

    must(cm_storage_store(mine, NULL, "by/child", cm_span_str("x"), &err));
    cm_storage_close(mine);
}

static pid_t start(void (*run)(void))
{
    pid_t pid = fork();

    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        run();
        _exit(0);
    }
    return pid;
}

START_TEST(another_process_is_heard)
{
    int status = 1;

    pid_t pid = -1;
    begin();
    pid = start(child_stores);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
    must_hear(CM_CHANGE_VALUE, "by/child", 0);
    end();
}
END_TEST

static void child_holds(void)
{
    struct cm_storage *mine = file_open(NULL);
    struct cm_grant g;

    must(cm_storage_try_lock(mine, NULL, "held by child", 10 * CM_NS_PER_S, &g, NULL, &err));
    must(cm_storage_store(mine, NULL, "holding", cm_span_str("x"), &err));
    for (;;)
        (void)pause();
}

START_TEST(death_of_a_holder_is_heard)
{
    pid_t pid = -1;

    begin();
    pid = start(child_holds);
    must_hear(CM_CHANGE_VALUE, "holding", 0);
    ck_assert_uint_eq(times(CM_CHANGE_UNLOCKED), 0);
    ck_assert_int_eq(kill(pid, SIGKILL), 0);
    must_hear(CM_CHANGE_UNLOCKED, "held by child", 0);
    (void)waitpid(pid, NULL, 0);
    end();
}
END_TEST

/* By the name of its file, which is all there is. A lease waits for that, too. */
START_TEST(peer_that_gives_a_lock_back_is_heard)
{
    begin();
    write_file("locks/issue_cert_wildcard_.a.example.lock", "{}", 0644);
    ck_assert_int_eq(unlink(at("locks/issue_cert_wildcard_.a.example.lock")), 0);
    must_hear(CM_CHANGE_UNLOCKED, "issue_cert_wildcard_.a.example", 0);
    end();
}
END_TEST

static void *unlink_soon(void *ret_ns)
{
    real_pause(300 * CM_NS_PER_MS);
    *(int64_t *)ret_ns = cm_env_system()->mono_ns(cm_env_system());
    (void)unlink(at("locks/issue_cert_wildcard_.a.example.lock"));
    return NULL;
}

START_TEST(who_waits_for_a_peer_is_woken)
{
    struct cm_lease *lease = NULL;
    char text[200];
    char stamp[CM_TIME_TEXT];
    pthread_t thread;
    int64_t at_ns = 0;

    st = file_open(NULL);
    cm_time_format_rfc3339(cm_env_system()->wall_ns(cm_env_system()), true, stamp);
    (void)snprintf(text, sizeof text, "{\"created\":\"%s\",\"updated\":\"%s\"}\n", stamp, stamp);
    (void)mkdir(at("locks"), 0700);
    write_file("locks/issue_cert_wildcard_.a.example.lock", text, 0644);
    ck_assert_int_eq(pthread_create(&thread, NULL, unlink_soon, &at_ns), 0);
    must(cm_lease_acquire(st, NULL, "issue_cert_*.a.example", NULL, &lease, &err));
    int64_t took_ns = cm_env_system()->mono_ns(cm_env_system());
    (void)pthread_join(thread, NULL);
    ck_assert_int_lt(took_ns - at_ns, 200 * CM_NS_PER_MS);
    cm_lease_release(lease);
    cm_storage_close(st);
}
END_TEST

/* ------------------------------------------------------- places that come and go */

START_TEST(directory_that_is_made_anew_is_watched_again)
{
    begin();
    must(cm_storage_store(st, NULL, "a", cm_span_str("x"), &err));
    must_hear(CM_CHANGE_VALUE, "a", 0);
    ck_assert_int_eq(rename(at("certmesh/tmp"), at("certmesh/other")), 0);
    must_hear(CM_CHANGE_MISSED, "", 0);
    must(cm_storage_store(st, NULL, "b", cm_span_str("x"), &err));
    must_hear(CM_CHANGE_VALUE, "b", 1);
    ck_assert_int_eq(rmdir(at("certmesh/tmp")), 0);
    must_hear(CM_CHANGE_MISSED, "", 1);
    must(cm_storage_store(st, NULL, "c", cm_span_str("x"), &err));
    must_hear(CM_CHANGE_VALUE, "c", 2);
    end();
}
END_TEST

START_TEST(without_descriptors_it_is_worth_another_try)
{
    struct rlimit few = { 0, 0 };
    struct rlimit before;

    st = file_open(NULL);
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
    few.rlim_max = before.rlim_max;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
    cm_status rc = cm_storage_watch(st, hear, NULL, &watch, &err);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
    ck_assert_int_eq(rc, CM_E_LIMIT);
    ck_assert_msg(strstr(err.msg, "max_user_instances") != NULL, "%s", err.msg);
    cm_storage_close(st);
}
END_TEST

START_TEST(nothing_is_left_open_or_lying_about)
{
    unsigned fds = open_fds();

    for (int i = 0; i < 5; i++) {
        begin();
        must(cm_storage_store(st, NULL, "dir/a", cm_span_str("x"), &err));
        must(cm_storage_remove(st, NULL, "dir/a", &err));
        end();
    }
    ck_assert_uint_eq(open_fds(), fds);
    ck_assert_uint_eq(entries_in("certmesh/tmp"), 0);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        names_say_what_they_are_about,
        what_does_not_fit_is_told_by_a_directory_above,
        other_names_say_nothing,
        another_process_is_heard,
        death_of_a_holder_is_heard,
        peer_that_gives_a_lock_back_is_heard,
        who_waits_for_a_peer_is_woken,
        directory_that_is_made_anew_is_watched_again,
        without_descriptors_it_is_worth_another_try,
        nothing_is_left_open_or_lying_about,
    };

    return run_with_root("file_watch", tests, CM_ARRAY_LEN(tests), 30);
}

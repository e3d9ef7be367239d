/* SPDX-License-Identifier: Apache-2.0 */
#include "kit.h"

#include <certmesh/cm_spi.h>
#include <dirent.h>
#include <fcntl.h>
#include <gnutls/crypto.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* A program that forks in the middle of an issuance, lock held, heart beating, port open: what its
 * children find, and that whatever they do, the parent's issuance ends well. The issuance stands
 * still in on_progress while the children live. */

static struct cm_config *cfg;
static sem_t reached, go_on;
static pthread_t thread;
static cm_status result;
static struct cm_err result_err;

static void on_progress(void *user, const char *name, enum cm_phase phase, const struct cm_err *err)
{
    (void)user;
    (void)name;
    (void)err;
    if (phase != CM_PHASE_FINALIZING)
        return;
    (void)sem_post(&reached);
    while (sem_wait(&go_on) != 0)
        continue;
}

static void *obtain(void *arg)
{
    static const char *const names[] = { "a.test" };

    (void)arg;
    result = cm_manage(cfg, NULL, names, 1, &result_err);
    return NULL;
}

static struct cm_config *new_config(bool halting)
{
    struct cm_config_options o = CM_CONFIG_OPTIONS_INIT;

    if (halting)
        o.on_progress = on_progress;
    return kit_config(o);
}

static int before; /* what check and meson left open for us */

/* How many descriptors above 2 would survive exec. */
static int inheritable(void)
{
    struct dirent *e;
    DIR *d = opendir("/proc/self/fd");
    int n = 0;

    while (d != NULL && (e = readdir(d)) != NULL) {
        int fd = atoi(e->d_name);
        int flags = e->d_name[0] == '.' || fd < 3 ? FD_CLOEXEC : fcntl(fd, F_GETFD);
        char path[64], what[128] = "";

        if (flags < 0 || (flags & FD_CLOEXEC) != 0)
            continue;
        (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        if (readlink(path, what, sizeof what - 1) < 0)
            what[0] = '\0';
        fprintf(stderr, "# descriptor %d (%s) survives exec\n", fd, what);
        n++;
    }
    if (d != NULL)
        (void)closedir(d);
    return n;
}

static void set_up(void)
{
    before = inheritable();
    kit_dir_make();
    ck_assert_int_eq(sem_init(&reached, 0, 0), 0);
    ck_assert_int_eq(sem_init(&go_on, 0, 0), 0);
    cfg = new_config(true);
    ck_assert_int_eq(pthread_create(&thread, NULL, obtain, NULL), 0);
    while (sem_wait(&reached) != 0)
        continue;
}

static bool locks_are_there(void)
{
    char path[96];

    (void)snprintf(path, sizeof path, "%s/locks", kit_dir);
    return kit_entries(path, "issue_cert_a.test") > 0;
}

/* The issuance goes on and ends well; its lock is gone; the next one has not to wait. */
static void finish(void)
{
    static const char *const names[] = { "a.test" };
    struct cm_obtain_result r = { .size = sizeof r };
    struct cm_err err = CM_ERR_INIT;
    struct cm_config *other;
    struct cm_op op;

    ck_assert(locks_are_there());
    (void)sem_post(&go_on);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    ck_assert_msg(result == CM_OK, "%s", result_err.msg);
    ck_assert(!locks_are_there());
    ck_assert_uint_eq(cm_cache_count(cm_config_cache(cfg)), 1);
    other = new_config(false);
    op = cm_op_within(NULL, 5 * CM_NS_PER_S);
    ck_assert_msg(cm_renew(other, &op, names[0], true, &r, &err) == CM_OK, "%s", err.msg);
    cm_config_free(other);
    cm_config_free(cfg);
}

static int wait_for(pid_t pid)
{
    int status = -1;

    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_msg(WIFEXITED(status), "the child was killed by signal %d", WTERMSIG(status));
    return WEXITSTATUS(status);
}

START_TEST(no_descriptor_of_ours_survives_exec)
{
    pid_t pid = fork();

    if (pid == 0) {
        int planted;

        if (inheritable() != before)
            _exit(1);
        /* and one that does is seen */
        planted = open("/dev/null", O_RDONLY);
        _exit(inheritable() == before + 1 && planted > 2 ? 0 : 2);
    }
    ck_assert_int_eq(wait_for(pid), 0);
    finish();
}
END_TEST

START_TEST(child_may_exec)
{
    pid_t pid = fork();

    if (pid == 0) {
        execl("/bin/sh", "sh", "-c", "exit 7", (char *)NULL);
        _exit(1);
    }
    ck_assert_int_eq(wait_for(pid), 7);
    finish();
}
END_TEST

/* atexit, destructors of GnuTLS, libcurl and ours: nothing waits for a thread that is not there. */
START_TEST(child_may_exit)
{
    pid_t pid = fork();

    if (pid == 0) {
        (void)alarm(20);
        exit(5);
    }
    ck_assert_int_eq(wait_for(pid), 5);
    finish();
}
END_TEST

/* It outlives the issuance with copies of every descriptor: locks of the parent end all the same.
 */
START_TEST(child_that_stays_keeps_nothing)
{
    int hold[2];
    pid_t pid;
    char c;

    ck_assert_int_eq(pipe2(hold, O_CLOEXEC), 0);
    pid = fork();
    if (pid == 0) {
        (void)close(hold[1]);
        _exit(read(hold[0], &c, 1) == 0 ? 0 : 1);
    }
    (void)close(hold[0]);
    finish();
    (void)close(hold[1]);
    ck_assert_int_eq(wait_for(pid), 0);
}
END_TEST

/* What a child does with handles of its parent, though told not to, harms only itself. */
START_TEST(child_cannot_release_what_is_the_parents)
{
    struct cm_err err = CM_ERR_INIT;
    struct cm_lease *lease = NULL;
    pid_t pid;

    ck_assert_msg(cm_lease_acquire(cm_config_storage(cfg), NULL, "forked", 0, &lease, &err) ==
                      CM_OK,
                  "%s", err.msg);
    pid = fork();
    if (pid == 0) {
        (void)alarm(20);
        if (cm_lease_check(lease, &err) == CM_OK)
            _exit(1);
        cm_lease_release(lease);
        _exit(0);
    }
    ck_assert_int_eq(wait_for(pid), 0);
    ck_assert_msg(cm_lease_check(lease, &err) == CM_OK, "%s", err.msg);
    ck_assert(!cm_cancel_is_fired(cm_lease_cancel(lease)));
    cm_lease_release(lease);
    finish();
}
END_TEST

/* Random numbers: of the environment (nonces of leases, jitter), of GnuTLS (nonces, keys). */
struct draw {
    unsigned char of[3][32];
};

static void draw(struct draw *d)
{
    const struct cm_env *env = cm_env_system();

    if (env->random(env, d->of[0], sizeof d->of[0]) != CM_OK ||
        gnutls_rnd(GNUTLS_RND_NONCE, d->of[1], sizeof d->of[1]) != 0 ||
        gnutls_rnd(GNUTLS_RND_KEY, d->of[2], sizeof d->of[2]) != 0)
        memset(d, 0, sizeof *d);
}

#define CHILDREN 8

START_TEST(children_draw_other_numbers)
{
    static struct draw drawn[CHILDREN + 1];
    int out[2];

    draw(&drawn[0]); /* the generators are running, and would be copied */
    ck_assert_int_eq(pipe2(out, O_CLOEXEC), 0);
    for (int i = 1; i <= CHILDREN; i++) {
        pid_t pid = fork();

        if (pid == 0) {
            draw(&drawn[i]);
            _exit(write(out[1], &drawn[i], sizeof drawn[i]) == sizeof drawn[i] ? 0 : 1);
        }
        ck_assert_int_eq(wait_for(pid), 0);
        ck_assert_int_eq(read(out[0], &drawn[i], sizeof drawn[i]), sizeof drawn[i]);
    }
    draw(&drawn[0]);
    for (int i = 0; i <= CHILDREN; i++)
        for (int j = 0; j < i; j++)
            for (int k = 0; k < 3; k++)
                ck_assert_int_ne(memcmp(drawn[i].of[k], drawn[j].of[k], 32), 0);
    finish();
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        no_descriptor_of_ours_survives_exec,
        child_may_exec,
        child_may_exit,
        child_that_stays_keeps_nothing,
        child_cannot_release_what_is_the_parents,
        children_draw_other_numbers,
    };
    Suite *s = suite_create("fork");
    TCase *tc = tcase_create("fork");

    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, set_up, kit_dir_drop);
    for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++)
        tcase_add_test(tc, tests[i]);
    suite_add_tcase(s, tc);
    return run_suite(s);
}

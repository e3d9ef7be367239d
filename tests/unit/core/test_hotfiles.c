/* SPDX-License-Identifier: Apache-2.0 */
#include "kit.h"
#include "life.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

/* Certificate files that somebody else replaces, in the ways in which that is done. Files and their
 * dates are of the real world, so these tests run on its clock; they wait for conditions only. */

#define HOUR 3600

static struct kit k;
static struct cm_err err;
static struct cm_cache *cache;
static char dir[64];

/* ---- files ---- */

struct pair {
    struct cm_buf chain, key;
};
#define PAIR_INIT                                                                                  \
    {                                                                                              \
        CM_BUF_INIT(CM_CHAIN_PEM_MAX), CM_BUF_SECRET(CM_KEY_PEM_MAX)                               \
    }

static void make(struct pair *p, int64_t from_s, int64_t lifetime_s)
{
    static const char *const name[] = { "hot.example" };

    cm_buf_reset(&p->chain);
    cm_buf_reset(&p->key);
    kit_make_pair(CM_PK_P256, name, 1, cm_env_wall_s(cm_env_system()) + from_s, lifetime_s,
                  &p->chain, &p->key);
}

static void pair_free(struct pair *p)
{
    cm_buf_free(&p->chain);
    cm_buf_free(&p->key);
}

static const char *path(const char *name)
{
    static char text[4][160];
    static unsigned turn;
    char *out = text[turn++ % 4];

    (void)snprintf(out, sizeof text[0], "%s/%s", dir, name);
    return out;
}

static void write_in_place(const char *name, const char *text)
{
    int fd = open(path(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    ck_assert_int_eq(close(fd), 0);
}

static void write_aside(const char *name, const char *text)
{
    write_in_place(".new", text);
    ck_assert_int_eq(rename(path(".new"), path(name)), 0);
}

static void link_to(const char *name, const char *target)
{
    (void)unlink(path(".link"));
    ck_assert_int_eq(symlink(target, path(".link")), 0);
    ck_assert_int_eq(rename(path(".link"), path(name)), 0);
}

/* ---- what is served ---- */

static bool keep_serial(void *user, struct cm_cert *cert)
{
    (void)snprintf(user, 64, "%s", cm_cert_serial(cert));
    return false;
}

static bool count_one(void *user, struct cm_cert *cert)
{
    (void)cert;
    ++*(unsigned *)user;
    return true;
}

static unsigned count_of(const char *name)
{
    unsigned n = 0;

    cm_cache_match(cache, name, count_one, &n);
    return n;
}

static bool is_served(const struct pair *p)
{
    struct cm_cert *cert = NULL;
    char serial[64] = "";

    ck_ok(
        cm_cert_from_pem(cm_buf_span(&p->chain), cm_buf_span(&p->key), NULL, NULL, 0, &cert, &err));
    cm_cache_match(cache, "hot.example", keep_serial, serial);
    bool same = strcmp(serial, cm_cert_serial(cert)) == 0;
    cm_cert_unref(cert);
    return same && count_of("hot.example") == 1;
}

static _Atomic unsigned came, replaced;

static cm_status on_event(void *user, const struct cm_event *ev, struct cm_err *e)
{
    (void)user;
    (void)e;
    if (ev->type == CM_EVENT_CACHED_UNMANAGED_CERT)
        (void)atomic_fetch_add(ev->replacement ? &replaced : &came, 1);
    return CM_OK;
}

static void begin(void)
{
    (void)snprintf(dir, sizeof dir, "/tmp/certmesh-hot.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    kit_init(&k);
    k.opts.on_event = on_event;
    atomic_store(&came, 0);
    atomic_store(&replaced, 0);
    kit_start(&k);
    cache = cm_config_cache(k.cfg);
}

static void remove_tree(const char *at)
{
    DIR *d = opendir(at);
    struct dirent *e;

    while (d != NULL && (e = readdir(d)) != NULL) {
        char sub[512];

        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        (void)snprintf(sub, sizeof sub, "%s/%s", at, e->d_name);
        if (unlink(sub) != 0)
            remove_tree(sub);
    }
    if (d != NULL)
        (void)closedir(d);
    (void)rmdir(at);
}

static void end(void)
{
    kit_stop(&k);
    remove_tree(dir);
}

static void watch(const char *chain, const char *key)
{
    ck_ok(cm_cache_watch_files(cache, path(chain), path(key), NULL, &err));
}

/* A pair of which the thread speaks whenever it has looked: the first of all pairs, so it comes
 * last; elsewhere, so that it does not have the others' directory watched. What was changed before
 * is_looked_at() has been seen when it returns. */
static void watch_sentinel(void)
{
    static const char *const name[] = { "sentinel.example" };
    struct pair p = PAIR_INIT;

    kit_make_pair(CM_PK_P256, name, 1, cm_env_wall_s(cm_env_system()) - HOUR, 24 * HOUR, &p.chain,
                  &p.key);
    ck_assert_int_eq(mkdir(path("s"), 0700), 0);
    write_in_place("s/sentinel.crt", cm_buf_str(&p.chain));
    write_in_place("s/sentinel.key", cm_buf_str(&p.key));
    watch("s/sentinel.crt", "s/sentinel.key");
    pair_free(&p);
}

static void is_looked_at(void)
{
    unsigned before = kit_logged("s/sentinel.key");
    char text[32];

    (void)snprintf(text, sizeof text, "no key, for the %u. time", before);
    write_aside("s/sentinel.key", text);
    kit_until(kit_logged("s/sentinel.key") > before);
}

START_TEST(renamed_into_place_and_written_in_place_are_both_seen)
{
    struct pair a = PAIR_INIT, b = PAIR_INIT, c = PAIR_INIT;

    begin();
    make(&a, -HOUR, 24 * HOUR);
    make(&b, -HOUR, 24 * HOUR);
    make(&c, -HOUR, 24 * HOUR);
    write_in_place("tls.crt", cm_buf_str(&a.chain));
    write_in_place("tls.key", cm_buf_str(&a.key));
    watch("tls.crt", "tls.key");
    ck_assert(is_served(&a));
    ck_assert_uint_eq(atomic_load(&came), 1);
    write_aside("tls.crt", cm_buf_str(&b.chain));
    write_aside("tls.key", cm_buf_str(&b.key));
    kit_until(is_served(&b));
    write_in_place("tls.key", cm_buf_str(&c.key));
    write_in_place("tls.crt", cm_buf_str(&c.chain));
    kit_until(is_served(&c));
    kit_until(atomic_load(&replaced) == 2);
    ck_assert_uint_eq(atomic_load(&came), 1);
    kit_until(kit_logged("hot_files_loaded") == 2); /* said when it is done */
    pair_free(&a);
    pair_free(&b);
    pair_free(&c);
    end();
}
END_TEST

/* However long the second file takes: the old pair is served until both are there. */
START_TEST(files_may_come_in_either_order)
{
    struct pair a = PAIR_INIT, b = PAIR_INIT, c = PAIR_INIT;

    begin();
    make(&a, -HOUR, 24 * HOUR);
    make(&b, -HOUR, 24 * HOUR);
    make(&c, -HOUR, 24 * HOUR);
    write_in_place("tls.crt", cm_buf_str(&a.chain));
    write_in_place("tls.key", cm_buf_str(&a.key));
    watch("tls.crt", "tls.key");
    write_aside("tls.crt", cm_buf_str(&b.chain));
    kit_until(kit_logged("hot_files_unusable") == 1);
    ck_assert(is_served(&a));
    write_aside("tls.key", cm_buf_str(&b.key));
    kit_until(is_served(&b));
    write_aside("tls.key", cm_buf_str(&c.key));
    kit_until(kit_logged("hot_files_unusable") == 2);
    ck_assert(is_served(&b));
    write_aside("tls.crt", cm_buf_str(&c.chain));
    kit_until(is_served(&c));
    pair_free(&a);
    pair_free(&b);
    pair_free(&c);
    end();
}
END_TEST

static void make_dir(const char *name, const struct pair *p)
{
    char file[64];

    ck_assert_int_eq(mkdir(path(name), 0700), 0);
    (void)snprintf(file, sizeof file, "%s/tls.crt", name);
    write_in_place(file, cm_buf_str(&p->chain));
    (void)snprintf(file, sizeof file, "%s/tls.key", name);
    write_in_place(file, cm_buf_str(&p->key));
}

/* tls.crt -> ..data/tls.crt, ..data -> ..2026_1: all files change by one rename of "..data". */
START_TEST(swapped_directory_link_of_kubernetes_is_seen)
{
    struct pair a = PAIR_INIT, b = PAIR_INIT, c = PAIR_INIT;

    begin();
    make(&a, -HOUR, 24 * HOUR);
    make(&b, -HOUR, 24 * HOUR);
    make(&c, -HOUR, 24 * HOUR);
    make_dir("..2026_1", &a);
    link_to("..data", "..2026_1");
    link_to("tls.crt", "..data/tls.crt");
    link_to("tls.key", "..data/tls.key");
    watch("tls.crt", "tls.key");
    ck_assert(is_served(&a));
    make_dir("..2026_2", &b);
    link_to("..data", "..2026_2");
    kit_until(is_served(&b));
    make_dir("..2026_3", &c);
    link_to("..data", "..2026_3");
    kit_until(is_served(&c));
    ck_assert_uint_eq(kit_logged("hot_files_unusable"), 0);
    pair_free(&a);
    pair_free(&b);
    pair_free(&c);
    end();
}
END_TEST

/* live/tls.crt -> ../archive/tls1.crt: the link is turned, or what it leads to is written over. */
START_TEST(links_into_another_directory_are_followed)
{
    struct pair a = PAIR_INIT, b = PAIR_INIT, c = PAIR_INIT;

    begin();
    make(&a, -HOUR, 24 * HOUR);
    make(&b, -HOUR, 24 * HOUR);
    make(&c, -HOUR, 24 * HOUR);
    make_dir("archive1", &a);
    make_dir("archive2", &b);
    link_to("tls.crt", "archive1/tls.crt");
    link_to("tls.key", "archive1/tls.key");
    watch("tls.crt", "tls.key");
    link_to("tls.crt", "archive2/tls.crt");
    link_to("tls.key", "archive2/tls.key");
    kit_until(is_served(&b));
    write_aside("archive2/tls.key", cm_buf_str(&c.key));
    write_aside("archive2/tls.crt", cm_buf_str(&c.chain));
    kit_until(is_served(&c));
    pair_free(&a);
    pair_free(&b);
    pair_free(&c);
    end();
}
END_TEST

/* now/tls.crt where "now" is the link: no event in the directory that was watched. */
START_TEST(directory_that_is_a_link_may_be_turned)
{
    struct pair a = PAIR_INIT, b = PAIR_INIT;

    begin();
    make(&a, -HOUR, 24 * HOUR);
    make(&b, -HOUR, 24 * HOUR);
    make_dir("v1", &a);
    make_dir("v2", &b);
    link_to("now", "v1");
    watch_sentinel();
    watch("now/tls.crt", "now/tls.key");
    is_looked_at();
    is_looked_at(); /* the first may have been the look at a new pair, with a second to follow */
    link_to("now", "v2");
    kit_until(is_served(&b));
    pair_free(&a);
    pair_free(&b);
    end();
}
END_TEST

START_TEST(what_is_of_no_use_is_said_once_and_takes_nothings_place)
{
    struct pair a = PAIR_INIT, other = PAIR_INIT, old = PAIR_INIT, good = PAIR_INIT;

    begin();
    make(&a, -HOUR, 24 * HOUR);
    make(&other, -HOUR, 24 * HOUR);
    make(&old, -48 * HOUR, 24 * HOUR);
    make(&good, -HOUR, 24 * HOUR);
    write_in_place("tls.crt", cm_buf_str(&a.chain));
    write_in_place("tls.key", cm_buf_str(&a.key));
    watch_sentinel();
    watch("tls.crt", "tls.key");

    write_aside("tls.crt", "-----BEGIN CERTIFICATE-----\nnot at all\n");
    kit_until(kit_logged("tls.crt' with") == 1);
    write_aside("tls.crt", "-----BEGIN CERTIFICATE-----\nnot at all\n"); /* the same again */
    is_looked_at();
    ck_assert_uint_eq(kit_logged("tls.crt' with"), 1);
    write_aside("tls.key", cm_buf_str(&other.key));
    write_aside("tls.crt", cm_buf_str(&a.chain));
    kit_until(kit_logged("does not belong") == 1);
    ck_assert_uint_eq(kit_logged("tls.crt' with"), 2);
    write_aside("tls.crt", cm_buf_str(&old.chain));
    write_aside("tls.key", cm_buf_str(&old.key));
    kit_until(kit_logged("expired") == 1);
    ck_assert_int_eq(unlink(path("tls.key")), 0);
    kit_until(kit_logged("look at") == 1);
    ck_assert_int_eq(unlink(path("tls.crt")), 0);
    is_looked_at(); /* and not said again */
    ck_assert_uint_eq(kit_logged("look at"), 1);
    ck_assert(is_served(&a));
    ck_assert_uint_eq(atomic_load(&replaced), 0);

    write_aside("tls.crt", cm_buf_str(&good.chain));
    write_aside("tls.key", cm_buf_str(&good.key));
    kit_until(is_served(&good));
    ck_assert_uint_eq(kit_logged("look at"), 1);
    ck_assert_uint_eq(kit_logged("not at all"), 0); /* contents are nobody's business */
    pair_free(&a);
    pair_free(&other);
    pair_free(&old);
    pair_free(&good);
    end();
}
END_TEST

START_TEST(touched_files_change_nothing)
{
    struct pair a = PAIR_INIT;
    struct stat before, after;

    begin();
    make(&a, -HOUR, 24 * HOUR);
    write_in_place("tls.crt", cm_buf_str(&a.chain));
    write_in_place("tls.key", cm_buf_str(&a.key));
    watch_sentinel();
    watch("tls.crt", "tls.key");
    ck_assert_int_eq(stat(path("tls.crt"), &before), 0);
    write_aside("tls.crt", cm_buf_str(&a.chain));
    ck_assert_int_eq(stat(path("tls.crt"), &after), 0);
    ck_assert(before.st_ino != after.st_ino);
    is_looked_at();
    ck_assert_uint_eq(kit_logged("hot_files_loaded"), 0);
    ck_assert_uint_eq(atomic_load(&replaced), 0);
    ck_assert(is_served(&a));
    pair_free(&a);
    end();
}
END_TEST

static _Atomic bool go_on;
static _Atomic unsigned missed, found;

static void *ask(void *unused)
{
    struct cm_cert *certs[CM_CANDIDATES_MAX];

    (void)unused;
    while (atomic_load(&go_on)) {
        size_t n = cm_cache_find(cache, "hot.example", strlen("hot.example"), certs);

        (void)atomic_fetch_add(n > 0 ? &found : &missed, 1);
        for (size_t i = 0; i < n; i++)
            cm_cert_unref(certs[i]);
    }
    return NULL;
}

START_TEST(served_name_is_never_missing_while_files_are_swapped)
{
    struct pair p[2] = { PAIR_INIT, PAIR_INIT };
    pthread_t threads[2];

    begin();
    atomic_store(&go_on, true);
    atomic_store(&missed, 0);
    atomic_store(&found, 0);
    make(&p[0], -HOUR, 24 * HOUR);
    make(&p[1], -HOUR, 24 * HOUR);
    make_dir("v0", &p[0]);
    make_dir("v1", &p[1]);
    link_to("now", "v0");
    link_to("tls.crt", "now/tls.crt");
    link_to("tls.key", "now/tls.key");
    watch("tls.crt", "tls.key");
    for (size_t i = 0; i < CM_ARRAY_LEN(threads); i++)
        ck_ok(cm_thread_start(&threads[i], "ask", ask, NULL, &err));
    for (unsigned i = 1; i <= 10; i++) {
        link_to("now", i % 2 != 0 ? "v1" : "v0");
        kit_until(is_served(&p[i % 2]));
    }
    atomic_store(&go_on, false);
    for (size_t i = 0; i < CM_ARRAY_LEN(threads); i++)
        (void)pthread_join(threads[i], NULL);
    ck_assert_uint_eq(atomic_load(&missed), 0);
    ck_assert_uint_gt(atomic_load(&found), 1000);
    pair_free(&p[0]);
    pair_free(&p[1]);
    end();
}
END_TEST

START_TEST(pair_that_is_of_no_use_at_first_is_refused)
{
    struct pair a = PAIR_INIT, old = PAIR_INIT;

    begin();
    make(&a, -HOUR, 24 * HOUR);
    make(&old, -48 * HOUR, 24 * HOUR);
    write_in_place("tls.crt", cm_buf_str(&a.chain));
    ck_refused(cm_cache_watch_files(cache, path("tls.crt"), path("tls.key"), NULL, &err),
               CM_E_NOTFOUND);
    ck_assert_ptr_nonnull(strstr(err.msg, "tls.key"));
    write_in_place("tls.key", cm_buf_str(&old.key));
    ck_refused(cm_cache_watch_files(cache, path("tls.crt"), path("tls.key"), NULL, &err), CM_E_KEY);
    write_in_place("tls.crt", cm_buf_str(&old.chain));
    ck_refused(cm_cache_watch_files(cache, path("tls.crt"), path("tls.key"), NULL, &err),
               CM_E_CERT);
    ck_assert_ptr_nonnull(strstr(err.msg, "expired"));
    ck_refused(cm_cache_watch_files(cache, NULL, path("tls.key"), NULL, &err), CM_E_INVAL);
    ck_assert_uint_eq(cm_cache_count(cache), 0);
    ck_assert_uint_eq(atomic_load(&came), 0);
    pair_free(&a);
    pair_free(&old);
    end();
}
END_TEST

START_TEST(without_memory_nothing_is_half_watched)
{
    const char *const tags[] = { "blue", "green", NULL };
    struct pair a = PAIR_INIT;
    unsigned failed = 0;
    cm_status rc;

    begin();
    make(&a, -HOUR, 24 * HOUR);
    write_in_place("tls.crt", cm_buf_str(&a.chain));
    write_in_place("tls.key", cm_buf_str(&a.key));
    do {
        ck_assert_uint_eq(cm_cache_count(cache), 0);
        (void)cm_alloc_fail_at(++failed);
        rc = cm_cache_watch_files(cache, path("tls.crt"), path("tls.key"), tags, &err);
        (void)cm_alloc_fail_at(0);
        ck_assert_msg(rc == CM_OK || rc == CM_E_NOMEM, "%s", err.msg);
    } while (rc != CM_OK);
    ck_assert_uint_gt(failed, 10);
    ck_assert(is_served(&a));
    pair_free(&a);
    end();
}
END_TEST

static bool has_thread(const char *name)
{
    DIR *d = opendir("/proc/self/task");
    struct dirent *e;
    bool found_it = false;

    ck_assert_ptr_nonnull(d);
    while ((e = readdir(d)) != NULL) {
        char file[300], comm[32] = "";

        (void)snprintf(file, sizeof file, "/proc/self/task/%s/comm", e->d_name);
        int fd = open(file, O_RDONLY | O_CLOEXEC);
        if (fd >= 0 && read(fd, comm, sizeof comm - 1) > 0)
            found_it = found_it || strncmp(comm, name, strlen(name)) == 0;
        if (fd >= 0)
            (void)close(fd);
    }
    (void)closedir(d);
    return found_it;
}

START_TEST(thread_begins_with_the_first_pair_and_ends_when_stopped)
{
    struct pair a = PAIR_INIT;
    const char *const tags[] = { "blue", NULL };

    begin();
    make(&a, -HOUR, 24 * HOUR);
    write_in_place("tls.crt", cm_buf_str(&a.chain));
    write_in_place("tls.key", cm_buf_str(&a.key));
    ck_assert(!has_thread("cm-hotfiles"));
    ck_ok(cm_cache_watch_files(cache, path("tls.crt"), path("tls.key"), tags, &err));
    kit_until(has_thread("cm-hotfiles")); /* it gives itself its name */
    cm_hotfiles_stop(cache);
    kit_until(!has_thread("cm-hotfiles")); /* /proc may be a moment late */
    cm_hotfiles_stop(cache);
    ck_refused(cm_cache_watch_files(cache, path("tls.crt"), path("tls.key"), tags, &err),
               CM_E_STATE);
    ck_assert(is_served(&a)); /* what is served goes on being served */
    pair_free(&a);
    end();
}
END_TEST

/* The last descriptor goes to the eventfd: none is left for inotify when the thread begins. Then it
 * looks every ten seconds. */
START_TEST(without_inotify_files_are_looked_at_from_time_to_time)
{
    struct pair a = PAIR_INIT, b = PAIR_INIT;
    struct rlimit was, few;

    begin();
    make(&a, -HOUR, 24 * HOUR);
    make(&b, -HOUR, 24 * HOUR);
    write_in_place("tls.crt", cm_buf_str(&a.chain));
    write_in_place("tls.key", cm_buf_str(&a.key));
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &was), 0);
    int next = dup(0);
    (void)close(next);
    few = (struct rlimit){ (rlim_t)next + 1, was.rlim_max };
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
    cm_status rc = cm_cache_watch_files(cache, path("tls.crt"), path("tls.key"), NULL, &err);
    kit_until(kit_logged("hot_files_blind") == 1);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &was), 0);
    ck_assert_int_ne(rc, CM_OK); /* no descriptor to read them either */
    watch("tls.crt", "tls.key"); /* wakes it, and it sees again */
    ck_assert(is_served(&a));
    write_aside("tls.crt", cm_buf_str(&b.chain));
    write_aside("tls.key", cm_buf_str(&b.key));
    kit_until(is_served(&b));
    ck_assert_uint_eq(kit_logged("hot_files_blind"), 1);
    pair_free(&a);
    pair_free(&b);
    end();
}
END_TEST

/* A directory that comes into being only with the new files has no watch: the pair is still seen,
 * by looking. */
START_TEST(directory_that_was_away_is_found_again)
{
    struct pair a = PAIR_INIT, b = PAIR_INIT;

    begin();
    make(&a, -HOUR, 24 * HOUR);
    make(&b, -HOUR, 24 * HOUR);
    make_dir("in", &a);
    watch("in/tls.crt", "in/tls.key");
    ck_assert_int_eq(rename(path("in"), path("away")), 0);
    kit_until(kit_logged("hot_files_blind") == 1);
    for (int ms = 0; ms < 1000; ms++) /* until it has settled, which nothing tells */
        kit_nap();
    ck_assert(is_served(&a));
    make_dir("in", &b);
    for (int i = 0; i < 3 && !is_served(&b); i++) /* ten seconds between two looks */
        for (int ms = 0; ms < 5000 && !is_served(&b); ms++)
            kit_nap();
    ck_assert(is_served(&b));
    pair_free(&a);
    pair_free(&b);
    end();
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        renamed_into_place_and_written_in_place_are_both_seen,
        files_may_come_in_either_order,
        swapped_directory_link_of_kubernetes_is_seen,
        links_into_another_directory_are_followed,
        directory_that_is_a_link_may_be_turned,
        what_is_of_no_use_is_said_once_and_takes_nothings_place,
        touched_files_change_nothing,
        served_name_is_never_missing_while_files_are_swapped,
        pair_that_is_of_no_use_at_first_is_refused,
        without_memory_nothing_is_half_watched,
        thread_begins_with_the_first_pair_and_ends_when_stopped,
        without_inotify_files_are_looked_at_from_time_to_time,
        directory_that_was_away_is_found_again,
    };

    return kit_run("hotfiles", tests, CM_ARRAY_LEN(tests));
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "kit.h"

#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

/* A certificate of the program's own that is brought more than once is in the cache once. */

static struct kit k;
static struct cm_err err;
static struct cm_cache *cache;
static struct cm_buf chain, key;
static char dir[64];
static const char *const names[] = { "own.example", "www.own.example" };

static void make(int64_t from_s)
{
    cm_buf_free(&chain);
    cm_buf_free(&key);
    kit_make_pair(CM_PK_P256, names, 2, from_s, 90 * 86400, &chain, &key);
}

static void begin(void)
{
    struct cm_buf plain = CM_BUF_INIT(CM_CHAIN_PEM_MAX), secret = CM_BUF_SECRET(CM_KEY_PEM_MAX);

    chain = plain;
    key = secret;
    kit_init(&k);
    kit_start(&k);
    cache = cm_config_cache(k.cfg);
    make(START_S - 3600);
    (void)snprintf(dir, sizeof dir, "/tmp/certmesh-own.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
}

static const char *path(const char *name)
{
    static char text[4][128];
    static unsigned turn;
    char *out = text[turn++ % 4];

    (void)snprintf(out, sizeof text[0], "%s/%s", dir, name);
    return out;
}

static void end(void)
{
    static const char *const files[] = { "a.crt", "a.key", "b.crt", "b.key", ".new" };

    kit_stop(&k);
    cm_buf_free(&chain);
    cm_buf_free(&key);
    for (size_t i = 0; i < CM_ARRAY_LEN(files); i++)
        (void)unlink(path(files[i]));
    (void)rmdir(dir);
}

static struct cm_cert *add(const char *const *tags)
{
    struct cm_cert *c = NULL;

    ck_ok(cm_cache_add_pem(cache, cm_buf_span(&chain), cm_buf_span(&key), tags, &c, &err));
    return c;
}

static void write_file(const char *name, const struct cm_buf *text)
{
    FILE *f = fopen(path(".new"), "we");

    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(text->data, 1, text->len, f), text->len);
    ck_assert_int_eq(fclose(f), 0);
    ck_assert_int_eq(rename(path(".new"), path(name)), 0);
}

static void write_pair(char which)
{
    const char crt[] = { which, '.', 'c', 'r', 't', '\0' };
    const char pem[] = { which, '.', 'k', 'e', 'y', '\0' };

    write_file(crt, &chain);
    write_file(pem, &key);
}

static size_t count_of(const char *name)
{
    struct cm_cert *found[CM_CANDIDATES_MAX];
    size_t n = cm_cache_find(cache, name, strlen(name), found);

    for (size_t i = 0; i < n; i++)
        cm_cert_unref(found[i]);
    return n;
}

START_TEST(added_twice_it_is_in_once)
{
    begin();
    struct cm_cert *a = add(NULL);
    struct cm_cert *b = add(NULL);
    ck_assert_ptr_eq(a, b);
    ck_assert_uint_eq(cm_cache_count(cache), 1);
    ck_assert_uint_eq(count_of("www.own.example"), 1);
    make(START_S - 1800); /* another for the same names */
    struct cm_cert *other = add(NULL);
    ck_assert_uint_eq(count_of("own.example"), 2);
    ck_assert(cm_cache_remove(cache, b)); /* for all who brought it */
    ck_assert(!cm_cache_remove(cache, a));
    ck_assert_uint_eq(count_of("own.example"), 1);
    ck_assert(cm_cache_remove(cache, other));
    ck_assert_uint_eq(cm_cache_count(cache), 0);
    cm_cert_unref(a);
    cm_cert_unref(b);
    cm_cert_unref(other);
    end();
}
END_TEST

START_TEST(it_has_the_tags_of_all_who_brought_it)
{
    const char *const red[] = { "red", "round", NULL };
    const char *const blue[] = { "blue", "round", NULL };

    begin();
    struct cm_cert *a = add(red);
    struct cm_cert *b = add(blue);
    ck_assert_uint_eq(cm_cache_count(cache), 1);
    ck_assert(cm_cert_has_tag(b, "red") && cm_cert_has_tag(b, "blue"));
    ck_assert(cm_cert_has_tag(b, "round") && !cm_cert_has_tag(b, "roun"));
    ck_assert(cm_cert_same_all(a, b));
    ck_ok(cm_store_check(b, &err)); /* key and all */
    ck_assert_str_eq(cm_cert_serial(a), cm_cert_serial(b));
    ck_assert_str_eq(cm_cert_name(b, 1), "www.own.example");
    struct cm_cert *c = add(red);
    ck_assert_ptr_eq(b, c);
    /* Whoever has the one from before may still say that it is to go. */
    ck_assert(cm_cache_remove(cache, a));
    ck_assert(!cm_cache_remove(cache, b));
    ck_assert_uint_eq(cm_cache_count(cache), 0);
    cm_cert_unref(a);
    cm_cert_unref(b);
    cm_cert_unref(c);
    end();
}
END_TEST

START_TEST(tags_of_all_have_a_limit)
{
    static char many[2][3000];
    const char *const first[] = { many[0], NULL };
    const char *const second[] = { many[1], NULL };

    memset(many[0], 'a', sizeof many[0] - 1);
    memset(many[1], 'b', sizeof many[1] - 1);
    begin();
    cm_cert_unref(add(first));
    cm_cert_unref(add(first));
    ck_refused(cm_cache_add_pem(cache, cm_buf_span(&chain), cm_buf_span(&key), second, NULL, &err),
               CM_E_LIMIT);
    ck_assert_uint_eq(cm_cache_count(cache), 1);
    end();
}
END_TEST

START_TEST(other_chain_makes_it_another)
{
    CM_AUTO_BUF struct cm_buf alone = CM_BUF_INIT(CM_CHAIN_PEM_MAX);
    struct cm_chain parsed = { .n = 0 };

    begin();
    cm_cert_unref(add(NULL));
    ck_ok(cm_chain_from_pem(cm_buf_span(&chain), &parsed, &err));
    ck_assert_uint_gt(parsed.n, 1);
    ck_ok(cm_cert_der_to_pem(parsed.der[0], &alone, &err));
    cm_chain_free(&parsed);
    ck_ok(cm_cache_add_pem(cache, cm_buf_span(&alone), cm_buf_span(&key), NULL, NULL, &err));
    ck_assert_uint_eq(cm_cache_count(cache), 2);
    end();
}
END_TEST

START_TEST(managed_and_own_are_two)
{
    struct cm_cert *managed = NULL;

    begin();
    struct cm_cert *own = add(NULL);
    ck_ok(cm_cert_from_pem(cm_buf_span(&chain), cm_buf_span(&key), "ca.test-dir", NULL,
                           CM_CERT_MANAGED, &managed, &err));
    ck_ok(cm_cache_put(cache, managed, START_S, &err));
    ck_assert_uint_eq(count_of("own.example"), 2);
    ck_assert(cm_cache_remove(cache, own));
    ck_assert_uint_eq(count_of("own.example"), 1);
    ck_assert(!cm_cache_remove(cache, own));
    ck_assert(cm_cache_remove(cache, managed));
    cm_cert_unref(own);
    cm_cert_unref(managed);
    end();
}
END_TEST

START_TEST(files_that_change_take_only_what_was_theirs)
{
    const char *const tags[] = { "file", NULL };

    int64_t now_s = cm_env_wall_s(cm_env_system()); /* as files are looked at */

    begin();
    make(now_s - 3600);
    write_pair('a');
    write_pair('b');
    ck_ok(cm_cache_watch_files(cache, path("a.crt"), path("a.key"), NULL, &err));
    ck_ok(cm_cache_watch_files(cache, path("b.crt"), path("b.key"), tags, &err));
    ck_assert_uint_eq(cm_cache_count(cache), 1);
    make(now_s - 1800);
    write_pair('a');
    kit_until(count_of("own.example") == 2); /* the old one is that of b still */
    write_pair('b');
    kit_until(count_of("own.example") == 1);
    /* What the program has brought itself stays although the files go on. */
    struct cm_cert *own = add(NULL);
    make(now_s - 900);
    write_pair('a');
    write_pair('b');
    kit_until(count_of("own.example") == 2);
    for (int i = 0; i < 200; i++)
        kit_nap();
    ck_assert_uint_eq(count_of("own.example"), 2);
    ck_assert(cm_cache_remove(cache, own));
    ck_assert_uint_eq(count_of("own.example"), 1);
    cm_cert_unref(own);
    end();
}
END_TEST

static void *add_and_remove(void *arg)
{
    const char *const tags[] = { arg, NULL };
    struct cm_err mine = CM_ERR_INIT;

    for (int i = 0; i < 150; i++) {
        struct cm_cert *c = NULL;

        if (cm_cache_add_pem(cache, cm_buf_span(&chain), cm_buf_span(&key), i % 3 ? tags : NULL, &c,
                             &mine) != CM_OK)
            return NULL;
        (void)cm_cache_remove(cache, c); /* unless another has */
        cm_cert_unref(c);
    }
    return arg;
}

START_TEST(threads_that_bring_the_same_leave_none_behind)
{
    static char tag[4][8] = { "a", "b", "c", "d" };
    pthread_t threads[4];
    void *ret = NULL;

    begin();
    for (size_t i = 0; i < 4; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, add_and_remove, tag[i]), 0);
    for (size_t i = 0; i < 4; i++) {
        ck_assert_int_eq(pthread_join(threads[i], &ret), 0);
        ck_assert_ptr_nonnull(ret);
    }
    ck_assert_uint_eq(cm_cache_count(cache), 0);
    end();
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        added_twice_it_is_in_once,
        it_has_the_tags_of_all_who_brought_it,
        tags_of_all_have_a_limit,
        other_chain_makes_it_another,
        managed_and_own_are_two,
        files_that_change_take_only_what_was_theirs,
        threads_that_bring_the_same_leave_none_behind,
    };

    return kit_run("own_once", tests, CM_ARRAY_LEN(tests));
}

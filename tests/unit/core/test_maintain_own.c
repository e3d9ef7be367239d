/* SPDX-License-Identifier: Apache-2.0 */
#include "kit.h"

#include "maintain.h"

#include <unistd.h>

/* Certificates that the program has put into the cache: told of before they expire, once each time,
 * for as long as they are in it. */

#define DAY_S INT64_C(86400)

static struct kit k;
static struct cm_err err;
static struct cm_cache *cache;
static const char *const mine[] = { "mine.example" };

static struct {
    _Atomic unsigned twentieth, fiftieth, expired, other;
} told;

static cm_status on_event(void *user, const struct cm_event *ev, struct cm_err *e)
{
    (void)user;
    (void)e;
    if (ev->type != CM_EVENT_CERT_EXPIRING)
        return CM_OK;
    (void)atomic_fetch_add(ev->tier == 20   ? &told.twentieth
                           : ev->tier == 50 ? &told.fiftieth
                           : ev->tier == 0  ? &told.expired
                                            : &told.other,
                           1);
    return CM_OK;
}

static void check_told(unsigned twentieth, unsigned fiftieth, unsigned expired)
{
    ck_assert_uint_eq(atomic_load(&told.twentieth), twentieth);
    ck_assert_uint_eq(atomic_load(&told.fiftieth), fiftieth);
    ck_assert_uint_eq(atomic_load(&told.expired), expired);
    ck_assert_uint_eq(atomic_load(&told.other), 0);
}

static void begin(bool no_thread)
{
    struct cm_cache_options co = { .size = (uint32_t)sizeof co, .no_thread = no_thread };

    memset(&told, 0, sizeof told);
    cache = NULL;
    kit_init(&k);
    ck_ok(cm_cache_new(&co, &cache, &err));
    k.opts.cache = cache;
    k.opts.on_event = on_event;
}

static void end(void)
{
    kit_stop(&k);
    cm_cache_free(cache);
}

/* With 90 days to live. */
static struct cm_cert *add(void)
{
    CM_AUTO_BUF struct cm_buf chain = CM_BUF_INIT(CM_CHAIN_PEM_MAX);
    CM_AUTO_BUF struct cm_buf key = CM_BUF_SECRET(CM_KEY_PEM_MAX);
    struct cm_cert *c = NULL;

    kit_make_pair(CM_PK_P256, mine, 1, START_S, 90 * DAY_S, &chain, &key);
    ck_ok(cm_cache_add_pem(cache, cm_buf_span(&chain), cm_buf_span(&key), NULL, &c, &err));
    return c;
}

static bool is_quiet(void)
{
    return cm_maint_in_flight(cm_cache_maint(cache)) == 0 &&
           cm_cache_next_due_s(cache) > cm_env_wall_s(&k.env.base);
}

static void live(int64_t s, bool no_thread)
{
    kit_pass(&k.env, s * CM_NS_PER_S);
    if (no_thread)
        ck_ok(cm_cache_maintain_now(cache, false, &err));
    kit_until(is_quiet());
}

START_TEST(own_certificate_is_told_of_three_times_before_it_is_over)
{
    for (int mode = 0; mode < 2; mode++) {
        begin(mode == 1);
        kit_start(&k);
        cm_cert_unref(add());
        live(85 * DAY_S, mode == 1); /* 85.5: a twentieth of 90 is left; 88.2: a fiftieth */
        check_told(0, 0, 0);
        for (int i = 0; i < 4; i++)
            live(DAY_S / 2, mode == 1);
        check_told(1, 0, 0);
        for (int i = 0; i < 4; i++)
            live(DAY_S / 2, mode == 1);
        check_told(1, 1, 0);
        for (int i = 0; i < 40; i++)
            live(DAY_S / 2, mode == 1);
        check_told(1, 1, 1);
        end();
    }
}
END_TEST

static void write_file(const char *path, const struct cm_buf *text)
{
    FILE *f = fopen(path, "w");

    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(text->data, 1, text->len, f), text->len);
    ck_assert_int_eq(fclose(f), 0);
}

/* The one from a file that is watched is no other. */
START_TEST(watched_certificate_is_told_of_too)
{
    CM_AUTO_BUF struct cm_buf chain = CM_BUF_INIT(CM_CHAIN_PEM_MAX);
    CM_AUTO_BUF struct cm_buf key = CM_BUF_SECRET(CM_KEY_PEM_MAX);
    char dir[] = "/tmp/cm-own-XXXXXX", crt_file[64], key_file[64];

    begin(true);
    kit_start(&k);
    ck_assert_ptr_nonnull(mkdtemp(dir));
    (void)snprintf(crt_file, sizeof crt_file, "%s/tls.crt", dir);
    (void)snprintf(key_file, sizeof key_file, "%s/tls.key", dir);
    /* Good by the real clock, too, which is the one for files. */
    kit_make_pair(CM_PK_P256, mine, 1, START_S, 4000 * DAY_S, &chain, &key);
    write_file(crt_file, &chain);
    write_file(key_file, &key);
    ck_ok(cm_cache_watch_files(cache, crt_file, key_file, NULL, &err));
    live(3795 * DAY_S, true);
    check_told(0, 0, 0);
    for (int i = 0; i < 10; i++)
        live(DAY_S, true);
    check_told(1, 0, 0);
    (void)unlink(crt_file);
    (void)unlink(key_file);
    (void)rmdir(dir);
    end();
}
END_TEST

/* It waits for a config, whose storage and clock are needed, however that comes. */
START_TEST(own_certificate_is_looked_after_from_the_first_config_on)
{
    begin(false);
    kit_pass(&k.env, 86 * DAY_S * CM_NS_PER_S);
    cm_cert_unref(add());
    for (int i = 0; i < 50; i++) /* the thread has found that there is none */
        kit_nap();
    kit_start(&k);
    kit_until(atomic_load(&told.twentieth) == 1);
    /* The last one goes, another one comes. */
    cm_config_free(k.cfg);
    kit_pass(&k.env, 3 * DAY_S * CM_NS_PER_S);
    for (int i = 0; i < 50; i++)
        kit_nap();
    check_told(1, 0, 0);
    kit_start(&k);
    kit_until(atomic_load(&told.fiftieth) == 1);
    check_told(1, 1, 0);
    end();
}
END_TEST

START_TEST(removed_certificate_is_forgotten)
{
    begin(true);
    kit_start(&k);
    struct cm_cert *first = add();
    struct cm_cert *second = add();
    live(DAY_S, true);
    ck_assert(cm_cache_remove(cache, first));
    ck_assert(!cm_cache_remove(cache, first));
    ck_assert_int_eq(atomic_load(&first->refs), 1); /* nobody but the test has it any more */
    live(86 * DAY_S, true);
    check_told(1, 0, 0); /* of the second */
    ck_assert(cm_cache_remove(cache, second));
    live(10 * DAY_S, true);
    check_told(1, 0, 0);
    ck_assert_int_eq(cm_cache_next_due_s(cache), INT64_MAX);
    cm_cert_unref(first);
    cm_cert_unref(second);
    end();
}
END_TEST

/* Whatever is being done with one at the moment when it is taken out; the sanitizers see the rest.
 */
START_TEST(certificates_come_and_go_while_they_are_looked_after)
{
    CM_AUTO_BUF struct cm_buf chain = CM_BUF_INIT(CM_CHAIN_PEM_MAX);
    CM_AUTO_BUF struct cm_buf key = CM_BUF_SECRET(CM_KEY_PEM_MAX);

    begin(false);
    kit_start(&k);
    kit_make_pair(CM_PK_P256, mine, 1, START_S, 90 * DAY_S, &chain, &key);
    for (int i = 0; i < 3000; i++) {
        struct cm_cert *c = NULL;

        ck_ok(cm_cache_add_pem(cache, cm_buf_span(&chain), cm_buf_span(&key), NULL, &c, &err));
        for (volatile int spin = 0; spin < (i % 64) * 200; spin++)
            continue;
        ck_assert(cm_cache_remove(cache, c));
        cm_cert_unref(c);
    }
    kit_until(cm_maint_in_flight(cm_cache_maint(cache)) == 0);
    ck_assert_uint_eq(cm_cache_count(cache), 0);
    ck_assert_int_eq(cm_cache_next_due_s(cache), INT64_MAX);
    end();
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        own_certificate_is_told_of_three_times_before_it_is_over,
        watched_certificate_is_told_of_too,
        own_certificate_is_looked_after_from_the_first_config_on,
        removed_certificate_is_forgotten,
        certificates_come_and_go_while_they_are_looked_after,
    };

    return kit_run("maintain_own", tests, CM_ARRAY_LEN(tests));
}

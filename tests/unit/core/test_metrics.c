/* SPDX-License-Identifier: Apache-2.0 */
#include "kit.h"
#include "life.h"
#include "staple.h"

#include <ctype.h>

/* What is exported for Prometheus: read back by a parser of the text format (version 0.0.4) that
 * knows its rules and nothing of certmesh. */

static struct kit k;
static struct cm_err err;

/* ---- a small, strict parser ---- */

struct series {
    char *text; /* name and labels as written */
    double value;
};
static struct parsed {
    struct series *at;
    size_t n, cap;
    char families[64][96];
    size_t n_families;
} parsed;

static void parsed_free(void)
{
    for (size_t i = 0; i < parsed.n; i++)
        free(parsed.at[i].text);
    free(parsed.at);
    memset(&parsed, 0, sizeof parsed);
}

static size_t name_len(const char *s)
{
    size_t n = 0;

    while (isalnum((unsigned char)s[n]) || s[n] == '_' || s[n] == ':')
        n++;
    return isdigit((unsigned char)s[0]) ? 0 : n;
}

/* Up to behind the closing brace. */
static const char *read_labels(const char *s)
{
    for (;;) {
        size_t n = name_len(s);

        ck_assert_msg(n > 0 && s[n] == '=' && s[n + 1] == '"', "label at: %.60s", s);
        for (s += n + 2; *s != '"'; s++) {
            ck_assert_msg(*s != '\0' && *s != '\n', "label value without end");
            if (*s == '\\') {
                s++;
                ck_assert_msg(strchr("\\\"n", *s) != NULL && *s != '\0', "escape \\%c", *s);
            }
        }
        s++;
        if (*s == '}')
            return s + 1;
        ck_assert_msg(*s == ',', "after a label: %.20s", s);
        s++;
    }
}

static void read_comment(const char *line)
{
    static char pending[96]; /* HELP was read, TYPE is to follow */
    char *name = parsed.families[parsed.n_families];
    char word[8], type[16];

    ck_assert_msg(sscanf(line, "# %7s %95s %15s", word, name, type) == 3, "%s", line);
    if (strcmp(word, "HELP") == 0) {
        for (size_t i = 0; i < parsed.n_families; i++)
            ck_assert_msg(strcmp(parsed.families[i], name) != 0, "%s comes twice", name);
        (void)snprintf(pending, sizeof pending, "%s", name);
        return;
    }
    ck_assert_str_eq(word, "TYPE");
    ck_assert_str_eq(pending, name);
    ck_assert(strcmp(type, "gauge") == 0 || strcmp(type, "counter") == 0 ||
              strcmp(type, "histogram") == 0);
    if (strcmp(type, "counter") == 0)
        ck_assert_str_eq(name + strlen(name) - 6, "_total");
    ck_assert_uint_lt(++parsed.n_families, CM_ARRAY_LEN(parsed.families));
}

static void read_sample(const char *line)
{
    size_t n = name_len(line);
    const char *end = line + n;
    char *stop;

    ck_assert_msg(n > 0 && parsed.n_families > 0, "%.80s", line);
    const char *family = parsed.families[parsed.n_families - 1];
    size_t len = strlen(family);
    ck_assert_msg(strncmp(line, family, len) == 0 &&
                      (n == len || strncmp(line + len, "_bucket", n - len) == 0 ||
                       strncmp(line + len, "_sum", n - len) == 0 ||
                       strncmp(line + len, "_count", n - len) == 0),
                  "in %s: %.80s", family, line);
    if (*end == '{')
        end = read_labels(end + 1);
    ck_assert_msg(*end == ' ', "%.80s", line);
    if (parsed.n == parsed.cap) {
        parsed.cap = parsed.cap > 0 ? parsed.cap * 2 : 64;
        parsed.at = realloc(parsed.at, parsed.cap * sizeof *parsed.at);
        ck_assert_ptr_nonnull(parsed.at);
    }
    struct series *x = &parsed.at[parsed.n++];
    x->text = strndup(line, (size_t)(end - line));
    x->value = strtod(end + 1, &stop);
    ck_assert_msg(stop != end + 1 && *stop == '\0', "%.80s", line);
}

static int by_text(const void *a, const void *b)
{
    const struct series *x = a;
    const struct series *y = b;

    return strcmp(x->text, y->text);
}

static void parse(char *text)
{
    parsed_free();
    while (*text != '\0') {
        char *end = strchr(text, '\n');

        ck_assert_ptr_nonnull(end); /* the last line has one, too */
        *end = '\0';
        if (text[0] == '#')
            read_comment(text);
        else
            read_sample(text);
        text = end + 1;
    }
    qsort(parsed.at, parsed.n, sizeof *parsed.at, by_text);
    for (size_t i = 1; i < parsed.n; i++)
        ck_assert_msg(strcmp(parsed.at[i - 1].text, parsed.at[i].text) != 0, "%s comes twice",
                      parsed.at[i].text);
}

/* ---- collecting ---- */

static struct cm_buf got = CM_BUF_INIT(256u * 1024 * 1024);
static size_t longest;
static void (*also_do)(void); /* while it is written */

static cm_status collect(void *user, struct cm_span text, struct cm_err *e)
{
    (void)user;
    if (text.len > longest)
        longest = text.len;
    if (also_do != NULL)
        also_do();
    return cm_buf_append(&got, text.data, text.len, e);
}

static void scrape(void (*also)(void))
{
    cm_buf_reset(&got);
    longest = 0;
    also_do = also;
    ck_ok(cm_metrics_write(k.cfg, collect, NULL, &err));
    ck_assert_uint_gt(got.len, 0);
    parse((char *)got.data);
}

static bool has(const char *text)
{
    const struct series key = { (char *)(uintptr_t)text, 0 };

    return bsearch(&key, parsed.at, parsed.n, sizeof key, by_text) != NULL;
}

static double value(const char *text)
{
    const struct series key = { (char *)(uintptr_t)text, 0 };
    const struct series *x = bsearch(&key, parsed.at, parsed.n, sizeof key, by_text);

    ck_assert_msg(x != NULL, "there is no %s", text);
    return x->value;
}

static size_t count(const char *begin)
{
    size_t n = 0;

    for (size_t i = 0; i < parsed.n; i++)
        n += strncmp(parsed.at[i].text, begin, strlen(begin)) == 0;
    return n;
}

static void begin(void)
{
    kit_init(&k);
    kit_start(&k);
}

static void end(void)
{
    parsed_free();
    cm_buf_free(&got);
    kit_stop(&k);
}

static void add_own(const char *name)
{
    CM_AUTO_BUF struct cm_buf chain = CM_BUF_INIT(CM_CHAIN_PEM_MAX);
    CM_AUTO_BUF struct cm_buf key = CM_BUF_SECRET(CM_KEY_PEM_MAX);

    kit_make_pair(CM_PK_P256, &name, 1, START_S, 86400, &chain, &key);
    for (int twice = 0; twice < 2; twice++) /* as a program may */
        ck_ok(cm_cache_add_pem(cm_config_cache(k.cfg), cm_buf_span(&chain), cm_buf_span(&key), NULL,
                               NULL, &err));
}

static struct cm_cert *newest;

static bool keep_first(void *user, struct cm_cert *cert)
{
    (void)user;
    newest = cert;
    return false;
}

static const char *with_labels(const char *family, const char *name, const char *issuer)
{
    static char text[512];

    cm_cache_match(cm_config_cache(k.cfg), name, keep_first, NULL);
    (void)snprintf(text, sizeof text, "%s{name=\"%s\",issuer=\"%s\",serial=\"%s\"}", family, name,
                   issuer, cm_cert_serial(newest));
    return text;
}

START_TEST(metrics_say_what_is_served_and_done)
{
    const char *const names[] = { "a.example", "b.example" };
    const char *const bad[] = { "bad.example" };
    struct cm_cert *cert = NULL;

    begin();
    ck_ok(cm_manage(k.cfg, NULL, names, 2, &err));
    k.issuer->refuse = "bad";
    ck_refused(cm_manage(k.cfg, NULL, bad, 1, &err), CM_E_POLICY);
    add_own("own.example");
    scrape(NULL);
    ck_ok(cm_load_stored(k.cfg, NULL, "a.example", &cert, &err));
    ck_assert(value(with_labels("certmesh_certificate_not_after_seconds", "a.example",
                                "ca.test-dir")) == (double)cm_cert_not_after_s(cert));
    ck_assert(value(with_labels("certmesh_certificate_not_before_seconds", "a.example",
                                "ca.test-dir")) == (double)cm_cert_not_before_s(cert));
    ck_assert(value(with_labels("certmesh_certificate_renew_at_seconds", "a.example",
                                "ca.test-dir")) == (double)cm_cert_renew_at_s(cert, k.cfg));
    ck_assert(value(with_labels("certmesh_certificate_managed", "a.example", "ca.test-dir")) == 1);
    ck_assert(value(with_labels("certmesh_certificate_managed", "own.example", "Kit CA")) == 0);
    ck_assert(!has(with_labels("certmesh_certificate_renew_at_seconds", "own.example", "Kit CA")));
    ck_assert_uint_eq(count("certmesh_certificate_not_after_seconds{"), 3);
    ck_assert(value("certmesh_certificates") == 3);
    ck_assert(value("certmesh_name_failing{name=\"bad.example\"}") == 1);
    ck_assert_uint_eq(count("certmesh_name_failing{"), 1);
    ck_assert(value("certmesh_names{state=\"served\"}") == 2);
    ck_assert(value("certmesh_names{state=\"failing\"}") == 1);
    ck_assert(value("certmesh_names{state=\"waiting\"}") == 0);
    ck_assert(value("certmesh_renewals_total{outcome=\"obtained\",class=\"\"}") == 2);
    ck_assert(value("certmesh_renewals_total{outcome=\"failed\",class=\"other\"}") == 1);
    ck_assert(value("certmesh_lock_wait_seconds_bucket{le=\"0.01\"}") == 2);
    ck_assert(value("certmesh_lock_wait_seconds_bucket{le=\"+Inf\"}") == 2);
    ck_assert(value("certmesh_lock_wait_seconds_count") == 2);
    ck_assert(value("certmesh_storage_up") == 1);
    ck_assert(value("certmesh_queue_length{queue=\"issue\"}") == 0);
    ck_assert(value("certmesh_queue_length{queue=\"order\"}") == 0);
    cm_cert_unref(cert);
    end();
}
END_TEST

START_TEST(histogram_is_cumulative)
{
    begin();
    cm_count_lock_wait(k.cfg, 50 * CM_NS_PER_MS);
    cm_count_lock_wait(k.cfg, 2 * CM_NS_PER_S);
    cm_count_lock_wait(k.cfg, 7200 * CM_NS_PER_S);
    scrape(NULL);
    ck_assert(value("certmesh_lock_wait_seconds_bucket{le=\"0.01\"}") == 0);
    ck_assert(value("certmesh_lock_wait_seconds_bucket{le=\"0.1\"}") == 1);
    ck_assert(value("certmesh_lock_wait_seconds_bucket{le=\"1\"}") == 1);
    ck_assert(value("certmesh_lock_wait_seconds_bucket{le=\"5\"}") == 2);
    ck_assert(value("certmesh_lock_wait_seconds_bucket{le=\"1800\"}") == 2);
    ck_assert(value("certmesh_lock_wait_seconds_bucket{le=\"+Inf\"}") == 3);
    ck_assert(value("certmesh_lock_wait_seconds_count") == 3);
    ck_assert(value("certmesh_lock_wait_seconds_sum") == 7202.05);
    end();
}
END_TEST

START_TEST(storage_that_is_down_is_seen)
{
    begin();
    for (int i = 0; i < 3; i++)
        cm_health_note(k.cfg, CM_E_IO, NULL);
    scrape(NULL);
    ck_assert(value("certmesh_storage_up") == 0);
    end();
}
END_TEST

START_TEST(staple_has_an_age_and_an_end)
{
    const struct cm_ocsp o = { .this_update_s = START_S - 500, .end_s = START_S + 7000 };
    const char *const names[] = { "a.example", "b.example" };
    struct cm_stapling *slot = NULL;
    struct cm_staple *staple = NULL;

    begin();
    ck_ok(cm_manage(k.cfg, NULL, names, 2, &err));
    cm_cache_match(cm_config_cache(k.cfg), "a.example", keep_first, NULL);
    ck_ok(cm_staple_new(cm_span_str("response"), &o, &staple, &err));
    ck_ok(cm_stapling_get(newest, &slot, &err));
    cm_stapling_swap(slot, staple);
    kit_pass(&k.env, 100 * CM_NS_PER_S);
    scrape(NULL);
    ck_assert(value(with_labels("certmesh_staple_age_seconds", "a.example", "ca.test-dir")) == 600);
    ck_assert(value(with_labels("certmesh_staple_next_update_seconds", "a.example",
                                "ca.test-dir")) == (double)(START_S + 7000));
    ck_assert_uint_eq(count("certmesh_staple_age_seconds"), 1);
    ck_assert_uint_eq(count("certmesh_staple_next_update_seconds"), 1);
    end();
}
END_TEST

START_TEST(labels_are_escaped)
{
    const char *const name[] = { "a.example" };
    struct cm_issuer *is;

    kit_init(&k);
    is = kit_issuer_new(&k.env, "odd\"\\\nkey");
    k.opts.issuers = &is;
    k.opts.n_issuers = 1;
    kit_start(&k);
    ck_ok(cm_manage(k.cfg, NULL, name, 1, &err));
    scrape(NULL);
    ck_assert(
        value(with_labels("certmesh_certificate_managed", "a.example", "odd\\\"\\\\\\nkey")) == 1);
    end();
}
END_TEST

static void use_the_cache(void)
{
    static bool once;
    const char *const name[] = { "late.example" };

    if (!once) {
        once = true;
        add_own("later.example");
        ck_ok(cm_manage(k.cfg, NULL, name, 1, &err));
    }
}

/* Or this would wait for itself. */
START_TEST(no_lock_is_held_while_the_text_is_written)
{
    begin();
    scrape(use_the_cache);
    scrape(NULL);
    ck_assert_uint_eq(count("certmesh_certificate_managed{"), 2);
    end();
}
END_TEST

static cm_status refuse(void *calls, struct cm_span text, struct cm_err *e)
{
    (void)text;
    ++*(unsigned *)calls;
    return cm_fail(e, CM_E_IO, "had enough");
}

START_TEST(reader_that_has_enough_ends_it)
{
    unsigned calls = 0;

    begin();
    ck_refused(cm_metrics_write(k.cfg, refuse, &calls, &err), CM_E_IO);
    ck_assert_str_eq(err.msg, "had enough");
    ck_assert_uint_eq(calls, 1);
    ck_refused(cm_metrics_write(k.cfg, NULL, NULL, &err), CM_E_INVAL);
    ck_refused(cm_metrics_write(NULL, refuse, &calls, &err), CM_E_INVAL);
    end();
}
END_TEST

START_TEST(without_memory_it_says_so)
{
    const char *const name[] = { "a.example" };
    unsigned refused = 0;
    unsigned written = 0; /* in a row: what fails may be another thread's */
    cm_status rc;

    begin();
    ck_ok(cm_manage(k.cfg, NULL, name, 1, &err));
    also_do = NULL;
    for (unsigned n = 1; written < 8; n++) {
        cm_buf_reset(&got);
        ck_ok(cm_buf_reserve(&got, 64 * 1024, &err)); /* the reader has what he needs */
        (void)cm_alloc_fail_at(n);
        rc = cm_metrics_write(k.cfg, collect, NULL, &err);
        (void)cm_alloc_fail_at(0);
        ck_assert_msg(rc == CM_OK || rc == CM_E_NOMEM, "%s", err.msg);
        refused += rc != CM_OK;
        written = rc == CM_OK ? written + 1 : 0;
    }
    ck_assert_uint_gt(refused, 0);
    end();
}
END_TEST

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SLOW_BUILD 1
#else
#define SLOW_BUILD 0
#endif

/* A certificate with nothing in it but its name. */
static void add_hollow(struct cm_key *key, size_t i)
{
    char name[32];
    char *names[] = { name };
    struct cm_chain chain = { .n = 1 };
    struct cm_leaf leaf = { .names = names, .n_names = 1 };
    struct cm_cert *cert = NULL;
    uint32_t der = (uint32_t)i;

    (void)snprintf(name, sizeof name, "host-%zu.example", i);
    (void)snprintf(leaf.serial_hex, sizeof leaf.serial_hex, "%zx", i);
    chain.der[0] = (struct cm_span){ (const uint8_t *)&der, sizeof der };
    leaf.not_before_s = START_S;
    leaf.not_after_s = START_S + 86400;
    leaf.key_type = CM_PK_P256;
    const struct cm_cert_parts parts = { &chain, &leaf, key, "ca", NULL, CM_CERT_MANAGED };
    ck_ok(cm_cert_new(&parts, &cert, &err));
    ck_ok(cm_cache_put(cm_config_cache(k.cfg), cert, START_S, &err));
    cm_cert_unref(cert);
}

static cm_status ignore(void *user, struct cm_span text, struct cm_err *e)
{
    (void)user;
    (void)text;
    (void)e;
    return CM_OK;
}

START_TEST(very_many_names_are_streamed)
{
    enum { NAMES = SLOW_BUILD ? 10000 : 100000 };
    const struct cm_env *real = cm_env_system();
    struct cm_key *key = NULL;

    begin();
    ck_ok(cm_key_generate(CM_PK_P256, &key, &err));
    for (size_t i = 0; i < NAMES; i++)
        add_hollow(key, i);
    int64_t from = real->mono_ns(real);
    ck_ok(cm_metrics_write(k.cfg, ignore, NULL, &err));
    int64_t took_ms = (real->mono_ns(real) - from) / CM_NS_PER_MS;
    scrape(NULL);
    printf("# %d names: %zu bytes in pieces of at most %zu, %lld ms\n", NAMES, got.len, longest,
           (long long)took_ms);
    ck_assert_uint_eq(count("certmesh_certificate_not_after_seconds{"), NAMES);
    ck_assert_uint_eq(count("certmesh_certificate_"), 4 * NAMES);
    ck_assert_uint_le(longest, 32768);
    cm_key_unref(key);
    end();
}
END_TEST

static size_t seen_of(const struct cm_name_failing *list, size_t n, const char *name)
{
    size_t seen = 0;

    for (size_t i = 0; i < n; i++)
        seen += strcmp(list[i].name, name) == 0;
    return seen;
}

/* The table has more buckets for each of them than before: none is lost, none comes twice. */
START_TEST(walk_over_names_survives_the_growth_of_the_table)
{
    enum { FIRST = 60, LATER = 3000 };
    static char text[FIRST + LATER][24];
    static const char *names[FIRST + LATER];
    static struct cm_name_failing seen[2 * (FIRST + LATER)];
    struct cm_names_walk walk = { 0 };
    size_t n = 0;
    int piece = 0;

    begin();
    k.issuer->refuse = "example";
    for (size_t i = 0; i < FIRST + LATER; i++) {
        (void)snprintf(text[i], sizeof text[i], "n%zu.example", i);
        names[i] = text[i];
    }
    ck_refused(cm_manage(k.cfg, NULL, names, FIRST, &err), CM_E_POLICY);
    do {
        n += cm_names_failing(k.cfg->names, &walk, seen + n, 16);
        if (++piece == 2)
            ck_refused(cm_manage(k.cfg, NULL, names + FIRST, LATER, &err), CM_E_POLICY);
    } while (!walk.done);
    ck_assert_int_gt(piece, 50); /* as it was at first, four would have done */
    for (size_t i = 0; i < FIRST; i++)
        ck_assert_msg(seen_of(seen, n, names[i]) == 1, "%s was seen %zu times", names[i],
                      seen_of(seen, n, names[i]));
    for (size_t i = FIRST; i < FIRST + LATER; i += 100)
        ck_assert_uint_le(seen_of(seen, n, names[i]), 1);
    ck_assert_uint_eq(walk.count[CM_NAME_SERVED], 0);
    end();
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        metrics_say_what_is_served_and_done,
        histogram_is_cumulative,
        storage_that_is_down_is_seen,
        staple_has_an_age_and_an_end,
        labels_are_escaped,
        no_lock_is_held_while_the_text_is_written,
        reader_that_has_enough_ends_it,
        without_memory_it_says_so,
        very_many_names_are_streamed,
        walk_over_names_survives_the_growth_of_the_table,
    };

    return kit_run("metrics", tests, CM_ARRAY_LEN(tests));
}

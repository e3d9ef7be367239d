/* SPDX-License-Identifier: Apache-2.0 */
#include "pg_kit.h"

#include <stdlib.h>
#include <string.h>

/* What is in the tables: values of all sizes and odd keys, as peers write and read them; many keys;
 * many values at once; and what the server tells of changes. */

/* The statements of CertMagic's own module for this database, from its description. */
#define PEER_STORE                                                                                 \
    "insert into certmagic_data (key, value) values ('%s', '%s') on conflict (key) do update "     \
    "set value = '%s', modified = current_timestamp"

static struct cm_storage *st;

static void setup(void)
{
    st = kit_open("PG_URL", NULL);
}

static void teardown(void)
{
    cm_storage_close(st);
}

START_TEST(values_of_all_sizes_come_back)
{
    static const size_t sizes[] = { 0, 1, 65536, CM_STORAGE_VALUE_MAX - 1, CM_STORAGE_VALUE_MAX };
    uint8_t *bytes = malloc(CM_STORAGE_VALUE_MAX);

    ck_assert_ptr_nonnull(bytes);
    for (size_t i = 0; i < CM_STORAGE_VALUE_MAX; i++)
        bytes[i] = (uint8_t)(i * 7 + i / 251);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct cm_buf got = CM_BUF_INIT(CM_STORAGE_VALUE_MAX);
        struct cm_key_info info;

        must(cm_storage_store(st, NULL, "v", (struct cm_span){ bytes, sizes[i] }, &err));
        must(cm_storage_load(st, NULL, "v", &got, &err));
        ck_assert_uint_eq(got.len, sizes[i]);
        ck_assert(sizes[i] == 0 || memcmp(got.data, bytes, sizes[i]) == 0);
        must(cm_storage_stat(st, NULL, "v", &info, &err));
        ck_assert_uint_eq(info.size, sizes[i]);
        cm_buf_free(&got);
    }
    free(bytes);
}
END_TEST

static cm_status count_keys(void *user, const struct cm_key_info *info, struct cm_err *e)
{
    char *text = user;
    size_t len = strlen(text);

    (void)e;
    (void)snprintf(text + len, 1024 - len, "%s%s ", info->key, info->terminal ? "" : "/");
    return CM_OK;
}

START_TEST(keys_are_data_never_patterns_nor_sql)
{
    static const char *const odd[] = { "a%b",  "a_b", "a'b", "a\\b", "a\"b",
                                       "a{b}", "a,b", "a$1", "NULL", "a' or '1'='1" };
    char listed[1024];

    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        char below[64];
        char near[64];

        (void)snprintf(below, sizeof below, "%s/x/y", odd[i]);
        kit_put(st, below, odd[i]);
        /* What a pattern would take along. */
        (void)snprintf(near, sizeof near, "a%zub/x", i);
        kit_put(st, near, "near");
    }
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        char below[64];
        char want[128];

        (void)snprintf(below, sizeof below, "%s/x/y", odd[i]);
        (void)snprintf(want, sizeof want, "%s ", below);
        kit_expect(st, below, odd[i]);
        listed[0] = '\0';
        must(cm_storage_list(st, NULL, odd[i], true, count_keys, listed, &err));
        ck_assert_str_eq(listed, want);
        must_fail(cm_storage_store(st, NULL, odd[i], cm_span_str("x"), &err), CM_E_EXISTS);
        must(cm_storage_remove(st, NULL, odd[i], &err));
        kit_expect(st, below, NULL);
    }
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        char near[64];

        (void)snprintf(near, sizeof near, "a%zub/x", i);
        kit_expect(st, near, "near");
    }
}
END_TEST

START_TEST(peers_and_we_read_each_other)
{
    kit_put(st, "certificates/ca/n/n.key", "ours");
    ck_assert_str_eq(kit_sql("select convert_from(value, 'UTF8') from certmagic_data where key = "
                             "'certificates/ca/n/n.key'"),
                     "ours");
    ck_assert_str_eq(kit_sql("select count(*) from certmagic_data where modified > "
                             "current_timestamp - interval '1 minute'"),
                     "1");
    (void)kit_sql(PEER_STORE, "certificates/ca/n/n.key", "theirs", "theirs");
    (void)kit_sql(PEER_STORE, "certificates/ca/n/n.crt", "new", "new");
    kit_expect(st, "certificates/ca/n/n.key", "theirs");
    kit_expect(st, "certificates/ca/n/n.crt", "new");
    (void)kit_sql("delete from certmagic_data where key = 'certificates/ca/n/n.key'");
    kit_expect(st, "certificates/ca/n/n.key", NULL);
    /* Nobody forces them to give one. */
    (void)kit_sql("insert into certmagic_data (key) values ('null')");
    kit_expect(st, "null", "");
}
END_TEST

/* Tables that a peer has made get what is ours beside them. */
START_TEST(tables_of_a_peer_are_used_as_they_are)
{
    (void)kit_super("create schema %s authorization cm", kit_schema());
    (void)kit_sql("create table certmagic_data (key text primary key, value bytea, "
                  "modified timestamptz default current_timestamp)");
    (void)kit_sql("create table certmagic_locks (key text primary key, "
                  "expires timestamptz default current_timestamp)");
    (void)kit_sql(PEER_STORE, "k", "theirs", "theirs");
    kit_expect(st, "k", "theirs");
    struct cm_grant g;
    must(cm_storage_try_lock(st, NULL, "l", CM_NS_PER_S, &g, NULL, &err));
    must(cm_storage_unlock(st, NULL, &g, &err));
    ck_assert_str_eq(kit_sql("select count(*) from pg_indexes where schemaname = '%s' and "
                             "indexname = 'certmesh_data_tree'",
                             kit_schema()),
                     "1");
    ck_assert_str_eq(kit_sql("select count(*) from certmagic_locks"), "0");
}
END_TEST

#define COLUMNS                                                                                    \
    "select string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod) || ' ' || "        \
    "a.attnotnull || ' ' || coalesce(pg_get_expr(d.adbin, d.adrelid), '') || ' ' || "              \
    "coalesce(i.indisprimary, false), ', ' order by a.attnum) from pg_attribute a "                \
    "left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum "                     \
    "left join pg_index i on i.indrelid = a.attrelid and a.attnum = any (i.indkey) "               \
    "and i.indisprimary where a.attrelid = '%s.%s'::regclass and a.attnum > 0"

/* Ours, and as the peer makes them by its own words. */
START_TEST(tables_are_those_that_a_peer_makes)
{
    static const char *const tables[] = { "certmagic_data", "certmagic_locks" };
    char ours[1024];
    struct cm_grant g;

    kit_put(st, "k", "x");
    must(cm_storage_try_lock(st, NULL, "l", CM_NS_PER_S, &g, NULL, &err));
    must(cm_storage_unlock(st, NULL, &g, &err));
    (void)kit_super("create schema peer_%s", kit_schema());
    (void)kit_super("set search_path = peer_%s; "
                    "create table certmagic_data (key text primary key, value bytea, "
                    "modified timestamptz default current_timestamp); "
                    "create table certmagic_locks (key text primary key, "
                    "expires timestamptz default current_timestamp)",
                    kit_schema());
    for (size_t i = 0; i < 2; i++) {
        char theirs[64];

        (void)snprintf(ours, sizeof ours, "%s", kit_super(COLUMNS, kit_schema(), tables[i]));
        (void)snprintf(theirs, sizeof theirs, "peer_%s", kit_schema());
        ck_assert_str_eq(kit_super(COLUMNS, theirs, tables[i]), ours);
        ck_assert_ptr_nonnull(strstr(ours, "key text true  true"));
    }
    (void)kit_super("drop schema peer_%s cascade", kit_schema());
}
END_TEST

/* All rows of both tables: "key=value" and "key (seconds that the lease has left)". */
static void rows(const char *data, const char *locks)
{
    ck_assert_str_eq(
        kit_sql("select coalesce(string_agg(key || '=' || convert_from(value, 'UTF8'), "
                "' ' order by key collate \"C\"), '') from certmagic_data"),
        data);
    ck_assert_str_eq(kit_sql("select coalesce(string_agg(key || ' (' || "
                             "round(extract(epoch from expires - clock_timestamp()) / 10) * 10 "
                             "|| ')', ' '), '') from certmagic_locks"),
                     locks);
}

/* What lies in the tables after each operation. */
START_TEST(each_operation_leaves_what_peers_expect)
{
    struct cm_commit_item items[3] = { { .key = "a/b/1", .value = cm_span_str("1") },
                                       { .key = "a/b/2", .value = cm_span_str("2") },
                                       { .key = "a/x", .remove = true } };
    static const char lock[] = "issue_cert_*.example.com";
    char before[64];
    struct cm_grant g;

    kit_put(st, "a/x", "x");
    kit_put(st, "ab", "y");
    rows("a/x=x ab=y", "");
    (void)snprintf(before, sizeof before, "%s",
                   kit_sql("select modified from certmagic_data where key = 'ab'"));
    kit_put(st, "ab", "z");
    ck_assert_str_eq(kit_sql("select modified > '%s' and modified <= clock_timestamp() from "
                             "certmagic_data where key = 'ab'",
                             before),
                     "t");
    must(cm_storage_try_lock(st, NULL, lock, 60 * CM_NS_PER_S, &g, NULL, &err));
    rows("a/x=x ab=z", "issue_cert_*.example.com (60)");
    must(cm_storage_refresh(st, NULL, &g, &err));
    must(cm_storage_commit(st, NULL, &g, items, 3, &err));
    rows("a/b/1=1 a/b/2=2 ab=z", "issue_cert_*.example.com (60)");
    ck_assert_str_eq(kit_sql("select count(*) from certmagic_data where key like 'a/b/%%' and "
                             "modified > '%s' and modified <= clock_timestamp()",
                             before),
                     "2");
    must(cm_storage_unlock(st, NULL, &g, &err));
    rows("a/b/1=1 a/b/2=2 ab=z", "");
    must(cm_storage_remove(st, NULL, "a/b/1", &err));
    rows("a/b/2=2 ab=z", "");
    must(cm_storage_remove(st, NULL, "a", &err));
    rows("ab=z", "");
    must(cm_storage_remove(st, NULL, "ab", &err));
    rows("", "");
}
END_TEST

START_TEST(a_value_that_is_too_large_is_not_fetched)
{
    struct cm_buf got = CM_BUF_INIT(8u * 1024 * 1024);

    kit_put(st, "k", "x");
    (void)kit_sql("update certmagic_data set value = convert_to(repeat('x', 1048577), 'UTF8')");
    must_fail(cm_storage_load(st, NULL, "k", &got, &err), CM_E_LIMIT);
    cm_buf_free(&got);
}
END_TEST

/* --------------------------------------------------------------- many keys */

struct tally {
    size_t n;
    size_t values;
    char last[CM_STORAGE_KEY_MAX + 1];
    bool disorder;
};

/* '/' before all others. */
static int compare(const char *a, const char *b)
{
    while (*a != '\0' && *a == *b) {
        a++;
        b++;
    }
    int x = *a == '/' ? 1 : *a == '\0' ? 0 : (unsigned char)*a + 1;
    int y = *b == '/' ? 1 : *b == '\0' ? 0 : (unsigned char)*b + 1;

    return x - y;
}

static cm_status tally(void *user, const struct cm_key_info *info, struct cm_err *e)
{
    struct tally *t = user;

    (void)e;
    t->n++;
    t->values += info->terminal;
    t->disorder = t->disorder || compare(t->last, info->key) >= 0;
    (void)snprintf(t->last, sizeof t->last, "%s", info->key);
    return CM_OK;
}

#define SITES 33334

START_TEST(a_hundred_thousand_keys_are_listed_in_order_and_soon)
{
    struct tally all = { .n = 0 };
    struct tally sites = { .n = 0 };
    struct tally top = { .n = 0 };
    int64_t began;

    kit_put(st, "first", "x");
    (void)kit_sql("insert into certmagic_data select 'certificates/ca/n' || i || '.test/n' || i || "
                  "'.test.' || e, 'x' from generate_series(1, %d) i, "
                  "unnest(array['key', 'crt', 'json']) e",
                  SITES);
    began = kit_now_ms();
    must(cm_storage_list(st, NULL, "", true, tally, &all, &err));
    printf("# %zu keys, recursive: %lld ms\n", all.n, (long long)(kit_now_ms() - began));
    ck_assert_uint_eq(all.n, 3 * SITES + 1);
    ck_assert_uint_eq(all.values, all.n);
    ck_assert(!all.disorder);
    began = kit_now_ms();
    must(cm_storage_list(st, NULL, "certificates/ca", false, tally, &sites, &err));
    printf("# %zu directories: %lld ms\n", sites.n, (long long)(kit_now_ms() - began));
    ck_assert_uint_eq(sites.n, SITES);
    ck_assert_uint_eq(sites.values, 0);
    ck_assert(!sites.disorder);
    began = kit_now_ms();
    must(cm_storage_list(st, NULL, "", false, tally, &top, &err));
    ck_assert_uint_eq(top.n, 2);
    /* It must not look at all that is below. */
    ck_assert_int_le(kit_now_ms() - began, 200);
    began = kit_now_ms();
    must(cm_storage_remove(st, NULL, "certificates", &err));
    printf("# removed: %lld ms\n", (long long)(kit_now_ms() - began));
    ck_assert_str_eq(kit_sql("select count(*) from certmagic_data"), "1");
}
END_TEST

/* ------------------------------------------------------------- many values */

#define MANY 2500

struct many {
    unsigned char seen[MANY];
    unsigned missing;
    unsigned wrong;
    unsigned failed;
    unsigned calls;
};

static cm_status one_of_many(void *user, size_t index, cm_status status, struct cm_span value,
                             const struct cm_err *why, struct cm_err *e)
{
    struct many *m = user;
    char want[32];
    struct cm_buf again = CM_BUF_INIT(64);

    (void)why;
    m->seen[index]++;
    m->missing += status == CM_E_NOTFOUND;
    m->failed += status != CM_E_NOTFOUND && status != CM_OK;
    (void)snprintf(want, sizeof want, "value %zu", index);
    if (status == CM_OK && (value.len != strlen(want) || memcmp(value.data, want, value.len) != 0))
        m->wrong++;
    /* The storage can be used from here, even with one connection. */
    if (m->calls++ == 0 && cm_storage_load(st, NULL, "many/0", &again, e) != CM_OK)
        m->failed++;
    cm_buf_free(&again);
    return CM_OK;
}

START_TEST(many_values_are_loaded_at_once)
{
    static char keys[MANY][24];
    static const char *list[MANY];
    struct many m = { .missing = 0 };

    cm_storage_close(st);
    st = kit_open("PG_URL", "pool=1");
    kit_put(st, "many/0", "value 0");
    (void)kit_sql(
        "insert into certmagic_data select 'many/' || i, convert_to('value ' || i, 'UTF8')"
        " from generate_series(1, %d) i where i %% 5 <> 0",
        MANY - 1);
    for (int i = 0; i < MANY; i++) {
        (void)snprintf(keys[i], sizeof keys[i], "many/%d", i);
        list[i] = keys[i];
    }
    must(cm_storage_load_many(st, NULL, list, MANY, one_of_many, &m, &err));
    for (int i = 0; i < MANY; i++)
        ck_assert_int_eq(m.seen[i], 1);
    ck_assert_uint_eq(m.missing, MANY / 5 - 1);
    ck_assert_uint_eq(m.wrong, 0);
    ck_assert_uint_eq(m.failed, 0);
}
END_TEST

static cm_status sum_sizes(void *user, size_t index, cm_status status, struct cm_span value,
                           const struct cm_err *why, struct cm_err *e)
{
    size_t *sum = user;

    (void)index;
    (void)why;
    (void)e;
    if (status == CM_OK)
        *sum += value.len;
    return CM_OK;
}

START_TEST(large_values_come_a_few_megabytes_at_a_time)
{
    static const char *const keys[] = { "b/1",  "b/2",  "b/3",  "b/4",  "b/5",  "b/none", "b/6",
                                        "b/7",  "b/8",  "b/9",  "b/10", "b/11", "b/12",   "b/13",
                                        "b/14", "b/15", "b/16", "b/17", "b/18", "b/19",   "b/20" };
    size_t sum = 0;

    kit_put(st, "b/1", "x");
    (void)kit_sql("insert into certmagic_data select 'b/' || i, "
                  "convert_to(repeat('x', 1048576), 'UTF8') from generate_series(1, 20) i "
                  "on conflict (key) do update set value = excluded.value");
    must(cm_storage_load_many(st, NULL, keys, 21, sum_sizes, &sum, &err));
    ck_assert_uint_eq(sum, 20u * 1048576);
}
END_TEST

int main(void)
{
    TCase *c = tcase_create("data");

    tcase_add_checked_fixture(c, kit_setup, NULL);
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, values_of_all_sizes_come_back);
    tcase_add_test(c, keys_are_data_never_patterns_nor_sql);
    tcase_add_test(c, peers_and_we_read_each_other);
    tcase_add_test(c, tables_of_a_peer_are_used_as_they_are);
    tcase_add_test(c, tables_are_those_that_a_peer_makes);
    tcase_add_test(c, each_operation_leaves_what_peers_expect);
    tcase_add_test(c, a_value_that_is_too_large_is_not_fetched);
    tcase_add_test(c, a_hundred_thousand_keys_are_listed_in_order_and_soon);
    tcase_add_test(c, many_values_are_loaded_at_once);
    tcase_add_test(c, large_values_come_a_few_megabytes_at_a_time);
    return kit_main("pg-data", &c, 1);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "kit.h"

#include "nodes.h"

/* Nodes that say in storage what they serve, and what others make of it, on a clock that moves when
 * told. */

#define MINUTE_S INT64_C(60)
#define HOUR_S   (60 * MINUTE_S)
#define DAY_S    (24 * HOUR_S)
#define MAX      8u

static struct kit k;
static struct cm_err err;
static const char *const ab[] = { "a.example", "b.example" };

struct peer {
    struct cm_cache *cache;
    struct cm_config *cfg;
    struct kit_issuer *issuer;
};

static struct peer peer_new(const char *name)
{
    const struct cm_cache_options co = { .size = (uint32_t)sizeof co, .no_thread = true };
    struct peer p = { NULL, NULL, NULL };

    ck_ok(cm_cache_new(&co, &p.cache, &err));
    k.opts.cache = p.cache;
    k.opts.announce = true;
    k.opts.node_name = name;
    p.cfg = kit_peer(&k, &p.issuer);
    return p;
}

static void peer_free(struct peer *p)
{
    cm_config_free(p->cfg);
    cm_cache_free(p->cache);
}

static void step(struct peer *p)
{
    ck_ok(cm_cache_maintain_now(p->cache, false, &err));
}

static void live(struct peer *p, size_t n, int64_t s)
{
    for (int64_t at = 0; at < s; at += 5) {
        kit_pass(&k.env, 5 * CM_NS_PER_S);
        for (size_t i = 0; i < n; i++)
            step(&p[i]);
    }
}

/* ---- what is seen ---- */

static struct {
    struct cm_fleet_node node[MAX];
    char names[MAX][1024]; /* "a.example=current ..." */
    size_t n;
} seen;

static cm_status note_node(void *user, const struct cm_fleet_node *node,
                           const struct cm_fleet_name *names, size_t n, struct cm_err *why)
{
    size_t at = 0;

    (void)user;
    (void)why;
    ck_assert_uint_lt(seen.n, MAX);
    seen.node[seen.n] = *node;
    seen.names[seen.n][0] = '\0';
    for (size_t i = 0; i < n && at < 900; i++) {
        ck_assert(i == 0 || strcmp(names[i - 1].name, names[i].name) < 0);
        at += (size_t)snprintf(seen.names[seen.n] + at, sizeof seen.names[0] - at, "%s%s=%s",
                               at > 0 ? " " : "", names[i].name,
                               cm_fleet_name_state_text(names[i].state));
    }
    seen.n++;
    return CM_OK;
}

static void look(struct cm_config *cfg)
{
    seen.n = 0;
    ck_ok(cm_fleet_each(cfg, NULL, note_node, NULL, &err));
}

static void expect(size_t i, const char *name, enum cm_node_state state, const char *names)
{
    ck_assert_uint_lt(i, seen.n);
    ck_assert_str_eq(seen.node[i].name, name);
    ck_assert_msg(seen.node[i].state == state, "%s is %s, with %s", name,
                  cm_node_state_text(seen.node[i].state), seen.names[i]);
    ck_assert_str_eq(seen.names[i], names);
}

#define BOTH "a.example=current b.example=current"

static void manage(struct peer *p, const char *const *names, size_t n)
{
    ck_ok(cm_manage(p->cfg, NULL, names, n, &err));
}

/* ---- the tests ---- */

START_TEST(who_serves_can_be_seen)
{
    struct peer p[3];

    kit_init(&k);
    p[0] = peer_new("one");
    p[1] = peer_new("two");
    p[2] = peer_new(NULL);
    for (size_t i = 0; i < 3; i++)
        manage(&p[i], ab, 2);
    live(p, 3, 30);
    look(p[0].cfg);
    ck_assert_uint_eq(seen.n, 3);
    for (size_t i = 0; i < 3; i++) {
        ck_assert_int_eq(seen.node[i].state, CM_NODE_CURRENT);
        ck_assert_str_eq(seen.names[i], BOTH);
        ck_assert_uint_eq(seen.node[i].n_names, 2);
        ck_assert_uint_eq(strlen(seen.node[i].id), 32);
        ck_assert_uint_gt(seen.node[i].pid, 1);
        ck_assert_int_ge(seen.node[i].started_s, START_S);
        ck_assert_int_gt(seen.node[i].seen_s, START_S);
        ck_assert(!seen.node[i].incomplete);
        ck_assert_str_eq(seen.node[i].version, cm_version());
    }
    unsigned orders = 0;
    for (size_t i = 0; i < 3; i++)
        orders += atomic_load(&p[i].issuer->orders);
    ck_assert_uint_eq(orders, 2);
    /* One that ends takes back what it said; two that look see the same. */
    cm_cache_stop(p[2].cache);
    look(p[1].cfg);
    ck_assert_uint_eq(seen.n, 2);
    expect(0, "one", CM_NODE_CURRENT, BOTH);
    expect(1, "two", CM_NODE_CURRENT, BOTH);
    peer_free(&p[2]);
    peer_free(&p[1]);
    look(p[0].cfg);
    ck_assert_uint_eq(seen.n, 1);
    peer_free(&p[0]);
    ck_assert_uint_eq(kit_count(&k.storage.base, CM_NODES_DIR), 0);
    kit_storage_free(&k.storage);
}
END_TEST

START_TEST(who_lags_can_be_seen)
{
    static const char *const more[] = { "c.example" };
    struct cm_obtain_result r = { .size = (uint32_t)sizeof r };
    struct peer p[2];

    kit_init(&k);
    p[0] = peer_new("one");
    p[1] = peer_new("two");
    manage(&p[0], ab, 2);
    manage(&p[1], ab, 2);
    live(p, 2, 30);
    kit_pass(&k.env, HOUR_S * CM_NS_PER_S);
    ck_ok(cm_renew(p[0].cfg, NULL, "b.example", true, &r, &err)); /* into storage, not the cache */
    live(p, 2, 30);
    look(p[0].cfg);
    expect(0, "one", CM_NODE_LAGS, "a.example=current b.example=behind");
    expect(1, "two", CM_NODE_LAGS, "a.example=current b.example=behind");
    ck_ok(cm_cache_maintain_now(p[0].cache, true, &err));
    live(p, 2, 30);
    look(p[0].cfg);
    expect(0, "one", CM_NODE_CURRENT, BOTH);
    expect(1, "two", CM_NODE_LAGS, "a.example=current b.example=behind");
    ck_assert_uint_eq(seen.node[1].n_behind, 1);
    ck_assert_uint_eq(seen.node[1].n_missing, 0);
    ck_ok(cm_cache_maintain_now(p[1].cache, true, &err));
    manage(&p[0], more, 1);
    live(p, 2, 30);
    look(p[1].cfg);
    expect(0, "one", CM_NODE_CURRENT, BOTH " c.example=current");
    expect(1, "two", CM_NODE_LAGS, BOTH " c.example=missing");
    ck_assert_uint_eq(seen.node[1].n_missing, 1);
    /* What nobody serves is missing nowhere. */
    p[1].issuer->refuse = "never";
    ck_ok(cm_manage_async(p[1].cfg, (const char *const[]){ "never.example" }, 1, &err));
    manage(&p[1], more, 1);
    live(p, 2, 30);
    look(p[1].cfg);
    expect(0, "one", CM_NODE_CURRENT, BOTH " c.example=current");
    expect(1, "two", CM_NODE_CURRENT, BOTH " c.example=current never.example=waiting");
    peer_free(&p[0]);
    peer_free(&p[1]);
    kit_storage_free(&k.storage);
}
END_TEST

START_TEST(who_is_silent_is_gone_and_then_cleaned_away)
{
    struct cm_clean_options co = { .size = (uint32_t)sizeof co };
    struct cm_clean_report report = { .size = (uint32_t)sizeof report };
    struct peer p[2];

    kit_init(&k);
    p[0] = peer_new("one");
    p[1] = peer_new("two");
    manage(&p[0], ab, 2);
    manage(&p[1], ab, 1);
    live(p, 2, 30);
    live(p, 1, 9 * MINUTE_S);
    look(p[0].cfg);
    expect(1, "two", CM_NODE_LAGS, "a.example=current b.example=missing");
    live(p, 1, 2 * MINUTE_S);
    look(p[0].cfg);
    expect(0, "one", CM_NODE_CURRENT, BOTH);
    expect(1, "two", CM_NODE_GONE, "a.example=current");
    ck_ok(cm_storage_clean(p[0].cfg, NULL, &co, &report, &err));
    look(p[0].cfg);
    ck_assert_uint_eq(seen.n, 2);
    for (int i = 0; i < 25 * 12; i++) { /* it lives, and nothing changes */
        kit_pass(&k.env, 5 * MINUTE_S * CM_NS_PER_S);
        step(&p[0]);
    }
    ck_ok(cm_storage_clean(p[0].cfg, NULL, &co, &report, &err));
    ck_assert_uint_eq(report.malformed, 0);
    look(p[0].cfg);
    ck_assert_uint_eq(seen.n, 1);
    expect(0, "one", CM_NODE_CURRENT, BOTH); /* whose page is older than a day */
    ck_assert_uint_eq(kit_count(&k.storage.base, CM_NODES_DIR), 2);
    live(p, 2, 30); /* it had only been asleep */
    look(p[0].cfg);
    ck_assert_uint_eq(seen.n, 2);
    expect(1, "two", CM_NODE_LAGS, "a.example=current b.example=missing");
    ck_assert(!seen.node[1].incomplete);
    /* A page without a note is what is left of one that was killed as it began. */
    kit_put(&k.storage.base, CM_NODES_DIR "/0123456789abcdef0123456789abcdef/names-0", "x");
    look(p[0].cfg);
    ck_assert_uint_eq(seen.n, 2);
    kit_pass(&k.env, 25 * HOUR_S * CM_NS_PER_S);
    live(p, 2, 30);
    ck_ok(cm_storage_clean(p[0].cfg, NULL, &co, &report, &err));
    ck_assert_uint_eq(kit_count(&k.storage.base, CM_NODES_DIR), 4);
    peer_free(&p[0]);
    peer_free(&p[1]);
    kit_storage_free(&k.storage);
}
END_TEST

START_TEST(little_is_written_when_nothing_changes)
{
    struct peer p[1];

    kit_init(&k);
    p[0] = peer_new("one");
    manage(&p[0], ab, 2);
    live(p, 1, 60);
    unsigned before = atomic_load(&k.storage.stores);
    unsigned loads = atomic_load(&k.storage.loads);
    live(p, 1, HOUR_S);
    ck_assert_uint_ge(atomic_load(&k.storage.stores) - before, 60);
    ck_assert_uint_le(atomic_load(&k.storage.stores) - before, 90);
    ck_assert_uint_le(atomic_load(&k.storage.loads) - loads, 10); /* and nothing read for it */
    peer_free(&p[0]);
    kit_storage_free(&k.storage);
}
END_TEST

START_TEST(storage_that_is_away_is_no_concern)
{
    struct peer p[1];

    kit_init(&k);
    p[0] = peer_new("one");
    manage(&p[0], ab, 2);
    atomic_store(&k.storage.fail_stores, -1);
    kit_log_reset();
    live(p, 1, HOUR_S);
    ck_assert_uint_eq(kit_logged("injected"), 0);
    ck_assert_uint_eq(kit_logged("not_stored"), 0);
    atomic_store(&k.storage.fail_stores, 0);
    live(p, 1, 30);
    look(p[0].cfg);
    ck_assert_uint_eq(seen.n, 1);
    expect(0, "one", CM_NODE_CURRENT, BOTH);
    peer_free(&p[0]);
    kit_storage_free(&k.storage);
}
END_TEST

START_TEST(who_does_not_announce_is_not_there)
{
    struct peer p[1];

    kit_init(&k);
    p[0] = peer_new("one");
    kit_start(&k); /* with the options of one ... */
    cm_config_free(k.cfg);
    k.opts.announce = false;
    struct cm_config *quiet = kit_peer(&k, NULL);
    ck_ok(cm_manage(quiet, NULL, ab, 2, &err));
    live(p, 1, 5 * MINUTE_S);
    look(quiet);
    ck_assert_uint_eq(seen.n, 1);
    cm_config_free(quiet);
    peer_free(&p[0]);
    kit_storage_free(&k.storage);
}
END_TEST

/* ---- many names ---- */

static size_t count_of(const char *text, char c)
{
    size_t n = 0;

    for (; *text != '\0'; text++)
        n += *text == c;
    return n;
}

START_TEST(many_names_are_paged_and_a_change_touches_one_page)
{
    enum { N = 1300 };
    static char text[N][32];
    const char *names[N];
    struct peer p[1];
    size_t lines = 0;
    unsigned pages = 0;

    kit_init(&k);
    p[0] = peer_new("one");
    p[0].issuer->refuse = "zz"; /* all but the two */
    for (size_t i = 0; i < N; i++) {
        (void)snprintf(text[i], sizeof text[i], "zz%zu.example", i);
        names[i] = text[i];
    }
    ck_ok(cm_manage_async(p[0].cfg, names, N, &err));
    manage(&p[0], ab, 1);
    live(p, 1, 30);
    look(p[0].cfg);
    ck_assert_uint_eq(seen.node[0].n_names, N + 1);
    ck_assert(!seen.node[0].incomplete);
    for (;; pages++) {
        char key[CM_KEY_BUF];

        ck_ok(cm_node_page_path(seen.node[0].id, pages, key, &err));
        if (!kit_has(&k.storage.base, key))
            break;
        char *page = kit_get(&k.storage.base, key);
        lines += count_of(page, '\n') - 1;
        ck_assert_uint_lt(strlen(page), CM_NODE_PAGE_BYTES);
        free(page);
    }
    ck_assert_uint_eq(lines, N + 1);
    ck_assert_uint_eq(pages, 4);
    unsigned before = atomic_load(&k.storage.stores);
    struct cm_obtain_result r = { .size = (uint32_t)sizeof r };
    kit_pass(&k.env, HOUR_S * CM_NS_PER_S);
    live(p, 1, 60);
    before = atomic_load(&k.storage.stores);
    ck_ok(cm_renew(p[0].cfg, NULL, "a.example", true, &r, &err));
    ck_ok(cm_cache_maintain_now(p[0].cache, true, &err));
    unsigned by_others = atomic_load(&k.storage.stores) - before;
    live(p, 1, 35);
    ck_assert_uint_le(atomic_load(&k.storage.stores) - before - by_others, 4); /* page, notes */
    look(p[0].cfg);
    ck_assert_int_eq(seen.node[0].state, CM_NODE_CURRENT);
    peer_free(&p[0]);
    ck_assert_uint_eq(kit_count(&k.storage.base, CM_NODES_DIR), 0);
    kit_storage_free(&k.storage);
}
END_TEST

START_TEST(pages_are_bounded)
{
    ck_assert_uint_eq(cm_node_pages_for(0), 0);
    ck_assert_uint_eq(cm_node_pages_for(1), 1);
    ck_assert_uint_eq(cm_node_pages_for(100000), 256);
    ck_assert_uint_eq(cm_node_pages_for(SIZE_MAX), CM_NODE_PAGES_MAX);
}
END_TEST

/* ---- what others may have written ---- */

#define ID  "00112233445566778899aabbccddeeff"
#define DIR CM_NODES_DIR "/" ID
#define NOTE                                                                                       \
    "{\"node\":\"evil\",\"seen\":\"2026-01-01T00:00:10Z\",\"names\":1,\"pages\":1,"                \
    "\"digest\":\"0000000000000000\"}"

START_TEST(damaged_notes_are_shown_as_such)
{
    static const char *const notes[] = {
        "",
        "x",
        "[]",
        "{}",
        "{\"seen\":\"2026-01-01T00:00:10Z\"}",
        "{\"node\":1,\"seen\":\"2026-01-01T00:00:10Z\",\"digest\":\"0000000000000000\"}",
        "{\"seen\":\"2026-01-01T00:00:10Z\",\"pages\":1000000,\"digest\":\"0000000000000000\"}",
        "{\"seen\":\"2026-01-01T00:00:10Z\",\"pages\":-1,\"digest\":\"0000000000000000\"}",
        "{\"seen\":\"2026-01-01T00:00:10Z\",\"digest\":\"00000000000000zz\"}",
    };
    struct peer p[1];

    kit_init(&k);
    p[0] = peer_new("one");
    manage(&p[0], ab, 2);
    live(p, 1, 30);
    for (size_t i = 0; i < CM_ARRAY_LEN(notes); i++) {
        kit_put(&k.storage.base, DIR "/node", notes[i]);
        look(p[0].cfg);
        ck_assert_uint_eq(seen.n, 2);
        expect(0, "", CM_NODE_GONE, "");
        ck_assert_str_eq(seen.node[0].id, ID);
        expect(1, "one", CM_NODE_CURRENT, BOTH);
    }
    kit_put(&k.storage.base, CM_NODES_DIR "/not-an-id/node", NOTE);
    kit_put(&k.storage.base, CM_NODES_DIR "/stray", NOTE);
    look(p[0].cfg);
    ck_assert_uint_eq(seen.n, 2);
    peer_free(&p[0]);
    kit_storage_free(&k.storage);
}
END_TEST

START_TEST(wicked_pages_are_left_out)
{
    static const char *const pages[] = {
        "",
        "x",
        "certmesh-names 1 1 2\na.example - 0 0\n",
        "certmesh-names 1 0 1\na.example",
        "certmesh-names 1 0 1\n\n",
        "certmesh-names 1 0 1\na.example aa 1\n",
        "certmesh-names 1 0 1\nA.example aa 1 2\n",
        "certmesh-names 1 0 1\n../x aa 1 2\n",
        "certmesh-names 1 0 1\na.example xx 1 2\n",
        "certmesh-names 1 0 1\na.example aa -1 2\n",
        "certmesh-names 1 0 1\na.example aa 1 99999999999\n",
        "certmesh-names 1 0 1\na.example aa 1 2 3\n",
        "certmesh-names 1 0 1\n\033[2J aa 1 2\n",
        "certmesh-names 1 0 1\na.example "
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
        " 1 2\n",
    };
    struct peer p[1];

    kit_init(&k);
    p[0] = peer_new("one");
    manage(&p[0], ab, 2);
    live(p, 1, 30);
    kit_put(&k.storage.base, DIR "/node", NOTE);
    look(p[0].cfg); /* there is no page at all */
    expect(0, "evil", CM_NODE_CURRENT, "");
    ck_assert(seen.node[0].incomplete);
    for (size_t i = 0; i < CM_ARRAY_LEN(pages); i++) {
        kit_put(&k.storage.base, DIR "/names-0", pages[i]);
        look(p[0].cfg);
        ck_assert_msg(strcmp(seen.names[0], "") == 0, "'%s': %s", pages[i], seen.names[0]);
        ck_assert(seen.node[0].incomplete);
        expect(1, "one", CM_NODE_CURRENT, BOTH);
    }
    /* What is well formed and not what the note tells of is shown, and nothing follows from it. */
    kit_put(&k.storage.base, DIR "/names-0", "certmesh-names 1 0 1\nother.example aa 1 2\n");
    look(p[0].cfg);
    ck_assert_str_eq(seen.names[0], "other.example=current");
    ck_assert(seen.node[0].incomplete);
    ck_assert_uint_eq(seen.node[0].n_missing, 0);
    peer_free(&p[0]);
    kit_storage_free(&k.storage);
}
END_TEST

START_TEST(errors_of_storage_and_of_the_caller_end_the_look)
{
    struct peer p[1];

    kit_init(&k);
    p[0] = peer_new("one");
    manage(&p[0], ab, 2);
    live(p, 1, 30);
    ck_refused(cm_fleet_each(NULL, NULL, note_node, NULL, &err), CM_E_INVAL);
    ck_refused(cm_fleet_each(p[0].cfg, NULL, NULL, NULL, &err), CM_E_INVAL);
    atomic_store(&k.storage.fail_loads, -1);
    seen.n = 0;
    ck_refused(cm_fleet_each(p[0].cfg, NULL, note_node, NULL, &err), CM_E_IO);
    ck_assert_uint_eq(seen.n, 0);
    atomic_store(&k.storage.fail_loads, 0);
    peer_free(&p[0]);
    kit_storage_free(&k.storage);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        who_serves_can_be_seen,
        who_lags_can_be_seen,
        who_is_silent_is_gone_and_then_cleaned_away,
        little_is_written_when_nothing_changes,
        storage_that_is_away_is_no_concern,
        who_does_not_announce_is_not_there,
        many_names_are_paged_and_a_change_touches_one_page,
        pages_are_bounded,
        damaged_notes_are_shown_as_such,
        wicked_pages_are_left_out,
        errors_of_storage_and_of_the_caller_end_the_look,
    };

    return kit_run("fleet", tests, CM_ARRAY_LEN(tests));
}

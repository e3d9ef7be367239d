/* SPDX-License-Identifier: Apache-2.0 */
#include "kit.h"

#include "life/tickets.h"

/* The keys of session tickets: the record in storage, and a fleet that shares them, on a clock that
 * moves when told. */

#define HOUR_S     INT64_C(3600)
#define DAY_S      (24 * HOUR_S)
#define INTERVAL_S CM_TICKET_INTERVAL_S

static struct kit k;
static struct cm_err err;

/* ---- nodes ---- */

struct node {
    struct cm_cache *cache;
    struct cm_config *cfg;
};

static struct node node_new(bool threads)
{
    const struct cm_cache_options co = { .size = (uint32_t)sizeof co, .no_thread = !threads };
    struct node n = { NULL, NULL };

    ck_ok(cm_cache_new(&co, &n.cache, &err));
    k.opts.cache = n.cache;
    n.cfg = kit_peer(&k, NULL);
    return n;
}

static void node_free(struct node *n)
{
    cm_config_free(n->cfg);
    cm_cache_free(n->cache);
}

/* What is due is done. */
static void step(struct node *n)
{
    ck_ok(cm_cache_maintain_now(n->cache, false, &err));
}

static void begin(struct node *n)
{
    cm_config_tickets_begin(n->cfg);
    step(n);
}

static void live(struct node *n, size_t count, int64_t s, int64_t at_a_time_s)
{
    for (int64_t at = 0; at < s; at += at_a_time_s) {
        kit_pass(&k.env, at_a_time_s * CM_NS_PER_S);
        for (size_t i = 0; i < count; i++)
            step(&n[i]);
    }
}

struct key {
    uint8_t bytes[CM_TICKET_KEY_LEN];
};

/* What a ticket would be made with now. */
static struct key maker(const struct node *n)
{
    struct cm_ticket_set *s = cm_config_ticket_set(n->cfg);
    struct key key;

    memcpy(key.bytes, s->key[0], sizeof key.bytes);
    cm_ticket_set_unref(s);
    return key;
}

static bool reads(const struct node *n, const struct key *key)
{
    struct cm_ticket_set *s = cm_config_ticket_set(n->cfg);
    bool found = false;

    for (size_t i = 0; i < s->n; i++)
        found = found || memcmp(s->key[i], key->bytes, sizeof key->bytes) == 0;
    cm_ticket_set_unref(s);
    return found;
}

static bool same(const struct key *a, const struct key *b)
{
    return memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

static bool read_each_other(const struct node *a, const struct node *b)
{
    struct key ka = maker(a), kb = maker(b);

    return reads(a, &kb) && reads(b, &ka);
}

static void stored(struct cm_ticket_record *ret)
{
    char *text = kit_get(&k.storage.base, CM_TICKETS_KEY);

    ck_assert_ptr_nonnull(text);
    ck_ok(cm_ticket_parse((struct cm_span){ (const uint8_t *)text, strlen(text) }, ret, &err));
    free(text);
}

static bool is_stored(const struct key *key)
{
    struct cm_ticket_record r;

    stored(&r);
    for (size_t i = 0; i < r.n; i++)
        if (memcmp(r.at[i].key, key->bytes, sizeof key->bytes) == 0)
            return true;
    return false;
}

static void storage_is_down(bool down)
{
    atomic_store(&k.storage.fail_loads, down ? -1 : 0);
    atomic_store(&k.storage.fail_locks, down ? -1 : 0);
    atomic_store(&k.storage.fail_commits, down ? -1 : 0);
}

/* ---- the record ---- */

START_TEST(what_is_written_is_read)
{
    CM_AUTO_BUF struct cm_buf text = CM_BUF_SECRET(CM_TICKET_RECORD_MAX);
    struct cm_ticket_record r, back;
    bool is_new = false;

    ck_ok(cm_ticket_plan(NULL, NULL, START_S, INTERVAL_S, &r, &is_new, &err));
    ck_assert(is_new);
    ck_assert_uint_eq(r.n, 2);
    ck_assert_int_eq(r.at[0].from_s, START_S);
    ck_assert_int_eq(r.at[1].from_s, START_S + INTERVAL_S);
    ck_ok(cm_ticket_format(&r, &text, &err));
    ck_ok(cm_ticket_parse(cm_buf_span(&text), &back, &err));
    ck_assert_mem_eq(&r, &back, sizeof r);
    ck_ok(cm_ticket_plan(NULL, &back, START_S + 1, INTERVAL_S, &r, &is_new, &err));
    ck_assert(!is_new);
}
END_TEST

START_TEST(wicked_records_are_refused)
{
    static const char good[] =
        "key 0123456789abcdef 2026-01-01T00:00:00Z 2026-01-01T12:00:00Z "
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB\n";
    static const struct {
        const char *text;
        const char *why;
    } cases[] = {
        { "", "begin" },
        { "{\"keys\":[]}", "begin" },
        { "certmesh-tickets 2\n", "begin" },
        { "certmesh-tickets 1", "begin" },
        { "certmesh-tickets 1\n", "no key" },
        { "certmesh-tickets 1\nkey", "cut short" },
        { "certmesh-tickets 1\n\n", "none that tells" },
        { "certmesh-tickets 1\nkey 0123456789abcdef\n", "none that tells" },
        { "certmesh-tickets 1\nkey 0123456789abcdef 2026-01-01T00:00:00Z 2026-01-01T12:00:00Z "
          "AAAA\n",
          "none that tells" },
        { "certmesh-tickets 1\nkey 0123456789ABCDEF 2026-01-01T00:00:00Z 2026-01-01T12:00:00Z "
          "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAQ"
          "\n",
          "none that tells" },
        /* of zeros */
        { "certmesh-tickets 1\nkey 0123456789abcdef 2026-01-01T00:00:00Z 2026-01-01T12:00:00Z "
          "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
          "\n",
          "none that tells" },
        /* used before it was made; a year later; at no time */
        { "certmesh-tickets 1\nkey 0123456789abcdef 2026-01-01T12:00:00Z 2026-01-01T00:00:00Z "
          "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAQ"
          "\n",
          "none that tells" },
        { "certmesh-tickets 1\nkey 0123456789abcdef 2026-01-01T12:00:00Z 2027-01-01T00:00:00Z "
          "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAQ"
          "\n",
          "none that tells" },
        { "certmesh-tickets 1\nkey 0123456789abcdef never 2026-01-01T00:00:00Z "
          "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAQ"
          "\n",
          "none that tells" },
    };
    struct cm_ticket_record r;

    for (size_t i = 0; i < CM_ARRAY_LEN(cases); i++) {
        struct cm_span text = { (const uint8_t *)cases[i].text, strlen(cases[i].text) };

        ck_assert_msg(cm_ticket_parse(text, &r, &err) == CM_E_PARSE, "%s", cases[i].text);
        ck_assert_msg(strstr(err.msg, cases[i].why) != NULL, "%s: %s", cases[i].text, err.msg);
        ck_assert_ptr_null(strstr(err.msg, "AAAA"));
    }
    CM_AUTO_BUF struct cm_buf text = CM_BUF_INIT(4096);
    ck_ok(cm_buf_printf(&text, &err, "certmesh-tickets 1\n%s%s", good, good));
    ck_refused(cm_ticket_parse(cm_buf_span(&text), &r, &err), CM_E_PARSE);
    text.data[text.len - 2] = 'x'; /* no base64 of a whole number of bytes */
    ck_refused(cm_ticket_parse(cm_buf_span(&text), &r, &err), CM_E_PARSE);
    cm_buf_reset(&text);
    ck_ok(cm_buf_puts(&text, "certmesh-tickets 1\n", &err));
    for (unsigned i = 0; i < 5; i++) /* each is good */
        ck_ok(
            cm_buf_printf(&text, &err,
                          "key 0123456789abcdef 2026-01-01T00:00:00Z 2026-01-01T1%u:00:00Z "
                          "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
                          "AAAAAAAAAAAA%cQ\n",
                          i, (char)('A' + i)));
    ck_refused(cm_ticket_parse(cm_buf_span(&text), &r, &err), CM_E_PARSE);
    ck_assert_ptr_nonnull(strstr(err.msg, "too many"));
    text.len = text.len / 5 * 4 + 12; /* amid the last line */
    ck_refused(cm_ticket_parse(cm_buf_span(&text), &r, &err), CM_E_PARSE);
    ck_assert_ptr_nonnull(strstr(err.msg, "cut short"));
}
END_TEST

/* ---- a fleet ---- */

START_TEST(two_nodes_share_for_a_month)
{
    struct node n[2];
    struct key last, before_last, now;
    unsigned rotated = 0;

    kit_init(&k);
    n[0] = node_new(false);
    n[1] = node_new(false);
    begin(&n[0]);
    begin(&n[1]);
    last = maker(&n[0]);
    now = maker(&n[1]);
    ck_assert(same(&last, &now));
    before_last = last;
    for (int64_t s = 0; s < 30 * DAY_S; s += 900) {
        struct cm_ticket_record r;

        live(n, 2, 900, 900);
        now = maker(&n[0]);
        ck_assert(read_each_other(&n[0], &n[1]));
        stored(&r);
        ck_assert_uint_le(r.n, 3);
        if (same(&now, &last))
            continue;
        rotated++;
        ck_assert(reads(&n[0], &last) && reads(&n[1], &last));
        if (rotated > 1) {
            ck_assert(!reads(&n[0], &before_last) && !reads(&n[1], &before_last));
            ck_assert(!is_stored(&before_last));
        }
        before_last = last;
        last = now;
    }
    ck_assert_uint_ge(rotated, 59);
    ck_assert_uint_le(rotated, 60);
    ck_assert_uint_eq(kit_logged("ticket_keys_replaced"), 0);
    /* Read now and then, and written once for each key. */
    ck_assert_uint_le(atomic_load(&k.storage.commits), 2 * 60 + 2);
    ck_assert_uint_le(atomic_load(&k.storage.loads), 2 * 30 * 24 * 10);
    node_free(&n[0]);
    node_free(&n[1]);
    kit_storage_free(&k.storage);
}
END_TEST

START_TEST(a_key_is_known_to_all_before_it_is_used)
{
    struct node n[2];
    struct cm_ticket_record r;
    struct key next;

    kit_init(&k);
    n[0] = node_new(false);
    n[1] = node_new(false);
    begin(&n[0]);
    begin(&n[1]);
    stored(&r);
    memcpy(next.bytes, r.at[1].key, sizeof next.bytes);
    ck_assert(reads(&n[0], &next) && reads(&n[1], &next));
    /* One node's clock is ahead by minutes: it changes first, the other reads what it makes. */
    live(n, 2, INTERVAL_S - 300, 300);
    kit_pass(&k.env, 299 * CM_NS_PER_S);
    step(&n[0]);
    atomic_store(&k.env.wrong_ns, 200 * CM_NS_PER_S);
    step(&n[0]);
    atomic_store(&k.env.wrong_ns, 0);
    struct key now = maker(&n[0]);
    ck_assert(same(&now, &next));
    now = maker(&n[1]);
    ck_assert(!same(&now, &next));
    ck_assert(read_each_other(&n[0], &n[1]));
    node_free(&n[0]);
    node_free(&n[1]);
    kit_storage_free(&k.storage);
}
END_TEST

START_TEST(many_that_start_at_once_agree)
{
    struct node n[6];
    size_t agree = 0;

    kit_init(&k);
    for (size_t i = 0; i < CM_ARRAY_LEN(n); i++)
        n[i] = node_new(true);
    for (size_t i = 0; i < CM_ARRAY_LEN(n); i++)
        cm_config_tickets_begin(n[i].cfg);
    for (int s = 0; s < 2000 && agree < CM_ARRAY_LEN(n); s++) {
        struct key first = maker(&n[0]);

        kit_nap();
        kit_pass(&k.env, CM_NS_PER_S / 10);
        agree = 0;
        for (size_t i = 0; i < CM_ARRAY_LEN(n); i++) {
            struct key own = maker(&n[i]);

            agree += same(&own, &first);
        }
    }
    ck_assert_uint_eq(agree, CM_ARRAY_LEN(n));
    ck_assert_uint_eq(kit_logged("ticket_keys_rotated"), 1);
    for (size_t i = 0; i < CM_ARRAY_LEN(n); i++)
        node_free(&n[i]);
    kit_storage_free(&k.storage);
}
END_TEST

START_TEST(without_storage_each_has_its_own_until_it_is_back)
{
    struct node n[2];
    struct key own[2];

    kit_init(&k);
    n[0] = node_new(false);
    n[1] = node_new(false);
    storage_is_down(true);
    begin(&n[0]);
    begin(&n[1]);
    live(n, 2, DAY_S, 60);
    ck_assert(!read_each_other(&n[0], &n[1]));
    ck_assert_uint_eq(kit_logged("ticket_keys_not_shared"), 2); /* once each */
    own[0] = maker(&n[0]);
    own[1] = maker(&n[1]);
    storage_is_down(false);
    live(n, 2, 120, 5);
    ck_assert(read_each_other(&n[0], &n[1]));
    ck_assert(!is_stored(&own[0]) && !is_stored(&own[1]));
    /* What clients got meanwhile is good for a while. */
    ck_assert(reads(&n[0], &own[0]) && reads(&n[1], &own[1]));
    ck_assert(!reads(&n[0], &own[1]));
    live(n, 2, INTERVAL_S + 120, 60);
    ck_assert(!reads(&n[0], &own[0]) && !reads(&n[1], &own[1]));
    node_free(&n[0]);
    node_free(&n[1]);
    kit_storage_free(&k.storage);
}
END_TEST

START_TEST(an_outage_changes_nothing_between_those_who_have_read)
{
    struct node n[2];
    struct key first, now;

    kit_init(&k);
    n[0] = node_new(false);
    n[1] = node_new(false);
    begin(&n[0]);
    begin(&n[1]);
    first = maker(&n[0]);
    storage_is_down(true);
    live(n, 2, INTERVAL_S + 60, 60);
    now = maker(&n[0]);
    ck_assert(!same(&now, &first)); /* the next one was known */
    ck_assert(read_each_other(&n[0], &n[1]));
    live(n, 2, 3 * DAY_S, 600);
    now = maker(&n[1]);
    ck_assert(read_each_other(&n[0], &n[1]));
    ck_assert(!reads(&n[0], &first));
    storage_is_down(false);
    live(n, 2, 900, 30);
    ck_assert(reads(&n[0], &now) && reads(&n[1], &now));
    ck_assert(read_each_other(&n[0], &n[1]));
    live(n, 2, DAY_S + HOUR_S, 60);
    ck_assert(!reads(&n[0], &now) && !reads(&n[1], &now));
    node_free(&n[0]);
    node_free(&n[1]);
    kit_storage_free(&k.storage);
}
END_TEST

START_TEST(a_damaged_record_is_mended_with_what_is_in_use)
{
    static const char *const damage[] = { "", "certmesh-tickets 2\nkey of tomorrow\n", "rubbish",
                                          "certmesh-tickets 1\nkey" };
    struct node n[2];

    kit_init(&k);
    n[0] = node_new(false);
    begin(&n[0]);
    for (size_t i = 0; i < CM_ARRAY_LEN(damage); i++) {
        struct key before = maker(&n[0]), after;

        kit_put(&k.storage.base, CM_TICKETS_KEY, damage[i]);
        live(n, 1, CM_TICKET_POLL_S, 60);
        after = maker(&n[0]);
        ck_assert(same(&before, &after));
        ck_assert(is_stored(&after));
        ck_assert_uint_eq(kit_logged("ticket_keys_replaced"), i + 1);
    }
    /* Who has nothing to mend it with makes another. */
    kit_put(&k.storage.base, CM_TICKETS_KEY, "rubbish");
    n[1] = node_new(false);
    begin(&n[1]);
    live(n, 2, CM_TICKET_POLL_S, 60);
    ck_assert(read_each_other(&n[0], &n[1]));
    node_free(&n[0]);
    node_free(&n[1]);
    kit_storage_free(&k.storage);
}
END_TEST

START_TEST(removing_the_record_takes_the_keys_out_of_use)
{
    struct node n[2];
    struct key before;

    kit_init(&k);
    n[0] = node_new(false);
    n[1] = node_new(false);
    begin(&n[0]);
    begin(&n[1]);
    before = maker(&n[0]);
    ck_ok(cm_storage_remove(&k.storage.base, NULL, CM_TICKETS_KEY, &err));
    live(n, 2, 2 * CM_TICKET_POLL_S, 30);
    ck_assert(!reads(&n[0], &before) && !reads(&n[1], &before));
    ck_assert(read_each_other(&n[0], &n[1]));
    node_free(&n[0]);
    node_free(&n[1]);
    kit_storage_free(&k.storage);
}
END_TEST

START_TEST(a_record_of_the_future_is_shared_and_replaced_after_a_day)
{
    struct node n[2];
    struct key future;

    kit_init(&k);
    n[0] = node_new(false);
    atomic_store(&k.env.wrong_ns, 400 * DAY_S * CM_NS_PER_S);
    begin(&n[0]);
    atomic_store(&k.env.wrong_ns, 0);
    future = maker(&n[0]);
    n[1] = node_new(false);
    begin(&n[1]);
    ck_assert(reads(&n[1], &future));
    live(n, 2, DAY_S - HOUR_S, 300);
    ck_assert(read_each_other(&n[0], &n[1]));
    ck_assert(reads(&n[1], &future));
    live(n, 2, 2 * HOUR_S, 60);
    ck_assert(read_each_other(&n[0], &n[1]));
    ck_assert_uint_eq(kit_logged("ticket_keys_replaced"), 1);
    ck_assert(!is_stored(&future));
    live(n, 2, 2 * DAY_S, 300); /* and on as usual */
    ck_assert(read_each_other(&n[0], &n[1]));
    ck_assert_uint_eq(kit_logged("ticket_keys_replaced"), 1);
    node_free(&n[0]);
    node_free(&n[1]);
    kit_storage_free(&k.storage);
}
END_TEST

START_TEST(a_clock_that_jumps_ahead_leaves_them_time)
{
    struct node n[2];

    kit_init(&k);
    n[0] = node_new(false);
    n[1] = node_new(false);
    begin(&n[0]);
    begin(&n[1]);
    struct key before = maker(&n[0]);
    kit_pass(&k.env, 40 * DAY_S * CM_NS_PER_S); /* or all were switched off */
    step(&n[0]);
    ck_assert(!reads(&n[0], &before));
    struct cm_ticket_record r;
    stored(&r);
    ck_assert_int_ge(r.at[r.n - 1].from_s, cm_env_wall_s(&k.env.base) + 2 * CM_TICKET_POLL_S);
    step(&n[1]);
    ck_assert(read_each_other(&n[0], &n[1]));
    for (int i = 0; i < 100; i++) {
        live(n, 2, 60, 60);
        ck_assert(read_each_other(&n[0], &n[1]));
    }
    node_free(&n[0]);
    node_free(&n[1]);
    kit_storage_free(&k.storage);
}
END_TEST

START_TEST(who_does_not_share_touches_no_storage)
{
    struct node n[3];

    kit_init(&k);
    k.opts.private_tickets = true;
    n[0] = node_new(false);
    k.opts.private_tickets = false;
    k.opts.disable_tickets = true;
    n[1] = node_new(false);
    k.opts.disable_tickets = false;
    n[2] = node_new(false); /* serves nobody */
    begin(&n[0]);
    begin(&n[1]);
    live(n, 3, DAY_S, HOUR_S);
    ck_assert(!kit_has(&k.storage.base, CM_TICKETS_KEY));
    ck_assert(!read_each_other(&n[0], &n[2]));
    for (size_t i = 0; i < CM_ARRAY_LEN(n); i++)
        node_free(&n[i]);
    kit_storage_free(&k.storage);
}
END_TEST

START_TEST(intervals_out_of_range_are_refused)
{
    static const int64_t wrong[] = { -1, 59, 7 * DAY_S + 1, INT64_MAX, INT64_MIN };
    struct cm_config *cfg = NULL;

    kit_init(&k);
    for (size_t i = 0; i < CM_ARRAY_LEN(wrong); i++) {
        k.opts.ticket_rotation_s = wrong[i];
        ck_refused(cm_config_new(&k.opts, &cfg, &err), CM_E_INVAL);
        ck_assert_ptr_nonnull(strstr(err.msg, "ticket_rotation_s"));
    }
    kit_storage_free(&k.storage);
}
END_TEST

START_TEST(no_key_is_ever_logged)
{
    struct node n[1];
    struct cm_ticket_record r;

    kit_init(&k);
    n[0] = node_new(false);
    begin(&n[0]);
    live(n, 1, 3 * DAY_S, HOUR_S);
    kit_put(&k.storage.base, CM_TICKETS_KEY, "rubbish");
    live(n, 1, HOUR_S, 60);
    stored(&r);
    ck_assert_uint_gt(kit_logged("ticket_keys_"), 2);
    char *text = kit_get(&k.storage.base, CM_TICKETS_KEY);
    const char *key =
        strchr(strchr(strchr(strchr(strchr(text, '\n'), ' ') + 1, ' ') + 1, ' ') + 1, ' ');
    char part[17];
    memcpy(part, key + 1, 16);
    part[16] = '\0';
    ck_assert_uint_eq(kit_logged(part), 0);
    free(text);
    node_free(&n[0]);
    kit_storage_free(&k.storage);
}
END_TEST

/* What is derived for another TLS library: the same on all nodes, for one purpose, and nothing of
 * what GnuTLS has. */
START_TEST(adapters_share_keys_of_their_own)
{
    struct node n[2];
    uint8_t a[CM_TICKET_KEYS][CM_TICKET_KEY_LEN], b[CM_TICKET_KEYS][CM_TICKET_KEY_LEN];
    size_t na = 0, nb = 0;
    char long_text[257];

    kit_init(&k);
    for (size_t i = 0; i < 2; i++) {
        n[i] = node_new(false);
        begin(&n[i]);
    }
    live(n, 2, HOUR_S, 60);
    ck_ok(cm_config_ticket_keys(n[0].cfg, "one", a, &na, &err));
    ck_ok(cm_config_ticket_keys(n[1].cfg, "one", b, &nb, &err));
    ck_assert_uint_ge(na, 1);
    ck_assert_mem_eq(a[0], b[0], sizeof a[0]);
    ck_ok(cm_config_ticket_keys(n[1].cfg, "two", b, &nb, &err));
    ck_assert_mem_ne(a[0], b[0], sizeof a[0]);
    struct key key;
    memcpy(key.bytes, a[0], sizeof key.bytes);
    ck_assert(!reads(&n[0], &key));
    memset(long_text, 'x', sizeof long_text - 1);
    long_text[sizeof long_text - 1] = '\0';
    ck_assert_int_eq(cm_config_ticket_keys(n[0].cfg, long_text, a, &na, &err), CM_E_INVAL);
    node_free(&n[0]);
    node_free(&n[1]);
    kit_storage_free(&k.storage);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        what_is_written_is_read,
        wicked_records_are_refused,
        two_nodes_share_for_a_month,
        a_key_is_known_to_all_before_it_is_used,
        many_that_start_at_once_agree,
        without_storage_each_has_its_own_until_it_is_back,
        an_outage_changes_nothing_between_those_who_have_read,
        a_damaged_record_is_mended_with_what_is_in_use,
        removing_the_record_takes_the_keys_out_of_use,
        a_record_of_the_future_is_shared_and_replaced_after_a_day,
        a_clock_that_jumps_ahead_leaves_them_time,
        who_does_not_share_touches_no_storage,
        intervals_out_of_range_are_refused,
        no_key_is_ever_logged,
        adapters_share_keys_of_their_own,
    };

    return kit_run("tickets", tests, CM_ARRAY_LEN(tests));
}

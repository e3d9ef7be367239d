/* SPDX-License-Identifier: Apache-2.0 */
#include "kit.h"
#include "life.h"
#include "run.h"

/* Renewal information: asked for once, kept with the certificate it is about, and never a burden.
 */

#define SITE "certificates/ca.test-dir/example.com/example.com"
#define DAY  86400

static struct kit k;
static struct cm_err err;
static struct cm_subject *subject;
static struct cm_cert *cert;
static struct cm_ari ari;
static char id[128];

static void get_cert(void)
{
    static const char *const names[] = { "example.com" };
    struct cm_leaf *leaf = NULL;

    k.issuer->issuer_data = "{\"url\":\"https://ca/c\",\"ca\":\"https://ca/dir\","
                            "\"account\":\"https://ca/acct/7\",\"x\":[1.50]}";
    ck_ok(cm_obtain(k.cfg, NULL, names, 1, NULL, &err));
    ck_ok(cm_load_stored(k.cfg, NULL, "example.com", &cert, &err));
    ck_ok(cm_leaf_parse(cm_cert_der(cert, 0), &leaf, &err));
    memcpy(id, leaf->ari_id, sizeof id);
    cm_leaf_free(leaf);
}

static void suggest(int64_t start_s, int64_t end_s)
{
    k.issuer->ari = (struct cm_renewal_info){
        .size = sizeof k.issuer->ari, .start_s = start_s, .end_s = end_s, .retry_after_s = 21600
    };
    atomic_store(&k.issuer->ari_status, CM_OK);
}

static void setup(void)
{
    static const char *const names[] = { "example.com" };

    memset(&ari, 0, sizeof ari);
    kit_init(&k);
    k.opts.log.min_level = CM_LOG_INFO;
    kit_start(&k);
    kit_issuer_suggests(k.issuer);
    ck_ok(cm_subject_new(names, 1, &subject, &err));
    get_cert();
    suggest(START_S + 60 * DAY, START_S + 62 * DAY);
}

static void teardown(void)
{
    cm_cert_unref(cert);
    cm_subject_free(subject);
    kit_stop(&k);
}

static cm_status tend(bool may_fetch, int64_t *again)
{
    return cm_ari_tend(k.cfg, NULL, subject, cert, may_fetch, &ari, again, &err);
}

static void pass(int64_t s)
{
    kit_pass(&k.env, s * CM_NS_PER_S);
}

static int64_t now_s(void)
{
    return cm_env_wall_s(&k.env.base);
}

static unsigned asked(void)
{
    return atomic_load(&k.issuer->ari_asked);
}

/* The metadata with this renewal_info. */
static void put_info(const char *info)
{
    CM_AUTO_FREE char *text = cm_asprintf(
        "{\"sans\":[\"example.com\"],\"issuer_data\":{\"url\":\"u\",\"renewal_info\":%s}}", info);

    kit_put(&k.storage.base, SITE ".json", text);
}

static void put_window(const char *whose, const char *again)
{
    CM_AUTO_FREE char *info = cm_asprintf("{\"suggestedWindow\":{\"start\":\"2026-03-02T00:00:"
                                          "00Z\",\"end\":\"2026-03-04T00:00:00Z\"},"
                                          "\"_uniqueIdentifier\":\"%s\",\"_retryAfter\":\"%s\","
                                          "\"_selectedTime\":\"2026-03-03T00:00:00Z\"}",
                                          whose, again);

    put_info(info);
}

START_TEST(ca_is_asked_once_and_its_window_kept_with_the_certificate)
{
    int64_t again = 0;

    ck_ok(tend(false, &again));
    ck_assert_int_le(again, now_s()); /* the network is wanted */
    ck_assert_uint_eq(asked(), 0);
    ck_ok(tend(true, &again));
    ck_assert_uint_eq(asked(), 1);
    ck_assert_int_eq(ari.start_s, START_S + 60 * DAY);
    ck_assert_int_eq(ari.end_s, START_S + 62 * DAY);
    ck_assert_int_gt(ari.selected_s, ari.start_s);
    ck_assert_int_lt(ari.selected_s, ari.end_s);
    ck_assert_int_ge(again, now_s() + 21600);
    ck_assert_int_le(again, now_s() + 21600 + 21600 / 16);
    ck_assert_int_eq(ari.again_s, again);
    unsigned loads = atomic_load(&k.storage.loads);
    ck_ok(tend(true, &again));
    ck_assert_uint_eq(asked(), 1);
    ck_assert_uint_eq(atomic_load(&k.storage.loads), loads); /* memory knows */
    ck_assert_uint_eq(kit_count(&k.storage.base, "certmesh"), 0);
}
END_TEST

START_TEST(metadata_is_as_certmagic_writes_it)
{
    char again_text[CM_TIME_TEXT];
    char selected_text[CM_TIME_TEXT];
    int64_t again = 0;

    (void)snprintf(k.issuer->ari.explanation_url, sizeof k.issuer->ari.explanation_url,
                   "https://ca/why?a&b");
    ck_ok(tend(true, &again));
    cm_time_format_rfc3339(again * CM_NS_PER_S, false, again_text);
    cm_time_format_rfc3339(ari.selected_s * CM_NS_PER_S, false, selected_text);
    CM_AUTO_FREE char *want = cm_asprintf(
        "{\n\t\"sans\": [\n\t\t\"example.com\"\n\t],\n\t\"issuer_data\": {\n"
        "\t\t\"url\": \"https://ca/c\",\n\t\t\"ca\": \"https://ca/dir\",\n"
        "\t\t\"account\": \"https://ca/acct/7\",\n\t\t\"x\": [\n\t\t\t1.50\n\t\t],\n"
        "\t\t\"renewal_info\": {\n\t\t\t\"suggestedWindow\": {\n"
        "\t\t\t\t\"start\": \"2026-03-02T00:00:00Z\",\n\t\t\t\t\"end\": \"2026-03-04T00:00:00Z\"\n"
        "\t\t\t},\n\t\t\t\"explanationURL\": \"https://ca/why?a\\u0026b\",\n"
        "\t\t\t\"_uniqueIdentifier\": \"%s\",\n\t\t\t\"_retryAfter\": \"%s\",\n"
        "\t\t\t\"_selectedTime\": \"%s\"\n\t\t}\n\t}\n}",
        id, again_text, selected_text);
    CM_AUTO_FREE char *got = kit_get(&k.storage.base, SITE ".json");
    ck_assert_str_eq(got, want);
}
END_TEST

START_TEST(peer_and_restart_take_what_is_stored)
{
    struct cm_ari mine;
    struct cm_meta m;
    int64_t again = 0;

    ck_ok(tend(true, &again));
    mine = ari;
    memset(&ari, 0, sizeof ari);
    ck_ok(tend(false, &again));
    ck_assert_uint_eq(asked(), 1);
    ck_assert_int_eq(ari.selected_s, mine.selected_s);
    ck_assert_int_eq(again, mine.again_s);
    memset(&ari, 0, sizeof ari);
    ck_ok(cm_meta_load(k.cfg, NULL, "ca.test-dir", subject->dir, &m, &err));
    ck_assert(cm_ari_from_meta(&m, cert, &ari));
    ck_assert_int_eq(ari.selected_s, mine.selected_s);
    cm_meta_free(&m);
}
END_TEST

START_TEST(moment_stays_while_the_window_does)
{
    int64_t again = 0;
    int64_t selected;

    ck_ok(tend(true, &again));
    selected = ari.selected_s;
    for (int i = 0; i < 5; i++) {
        pass(30000);
        ck_ok(tend(true, &again));
        ck_assert_int_eq(ari.selected_s, selected);
    }
    ck_assert_uint_eq(asked(), 6);
    pass(30000);
    suggest(START_S - 2 * DAY, START_S - DAY); /* at once */
    ck_ok(tend(true, &again));
    ck_assert_int_gt(ari.selected_s, START_S - 2 * DAY);
    ck_assert_int_lt(ari.selected_s, START_S - DAY);
    memset(&ari, 0, sizeof ari);
    ck_ok(tend(false, &again));
    ck_assert_int_lt(ari.selected_s, START_S - DAY); /* also for peers */
    ck_assert_uint_eq(kit_logged("suggests anew"), 1);
}
END_TEST

START_TEST(moment_is_a_whole_second_after_the_first_one)
{
    bool seen[4] = { false };
    int64_t again = 0;

    for (int i = 0; i < 200; i++) {
        suggest(START_S + 60 * DAY + 10 * (i % 2), START_S + 60 * DAY + 4 + 10 * (i % 2));
        pass(30000);
        ck_ok(tend(true, &again));
        ck_assert_int_gt(ari.selected_s, ari.start_s);
        ck_assert_int_lt(ari.selected_s, ari.end_s);
        seen[ari.selected_s - ari.start_s] = true;
    }
    ck_assert(seen[1] && seen[2] && seen[3]);
    suggest(START_S + 60 * DAY, START_S + 60 * DAY + 1);
    pass(30000);
    ck_ok(tend(true, &again));
    ck_assert_int_eq(ari.selected_s, START_S + 60 * DAY);
}
END_TEST

/* A peer has renewed it, and its metadata speaks of the successor: the CA has nothing to say of
 * ours that would be of use. */
START_TEST(certificate_that_a_peer_has_replaced_is_not_asked_about)
{
    int64_t again = 0;

    put_window("someone.else", "2026-01-01T06:00:00Z");
    ck_ok(tend(true, &again)); /* but here the file is somebody's slip: the chain is ours */
    ck_assert_uint_eq(asked(), 1);
    memset(&ari, 0, sizeof ari);
    kit_store_pair(&k.storage.base, "ca.test-dir", "example.com", START_S - 60, 90 * DAY);
    put_window("someone.else", "2026-01-01T06:00:00Z");
    ck_refused(tend(false, &again), CM_E_EXISTS);
    ck_refused(tend(true, &again), CM_E_EXISTS);
    ck_assert_uint_eq(asked(), 1);
    ck_assert_int_gt(again, now_s());
}
END_TEST

START_TEST(window_of_another_certificate_counts_for_nothing)
{
    static const char *const useless[] = {
        "null",
        "7",
        "{}",
        /* a failed first question of a peer */
        "{\"suggestedWindow\":{\"start\":\"0001-01-01T00:00:00Z\",\"end\":\"0001-01-01T00:00:00Z\"}"
        ","
        "\"_selectedTime\":\"0001-01-01T00:00:00Z\"}",
    };
    struct cm_meta m;
    int64_t again = 0;

    put_window("someone.else", "2026-01-01T06:00:00Z");
    ck_ok(tend(false, &again));
    ck_assert_int_eq(ari.selected_s, 0);
    ck_ok(cm_meta_load(k.cfg, NULL, "ca.test-dir", subject->dir, &m, &err));
    ck_assert(!cm_ari_from_meta(&m, cert, &ari));
    cm_meta_free(&m);
    put_window(id, "2026-01-01T06:00:00Z");
    ck_ok(tend(false, &again));
    ck_assert_int_eq(ari.selected_s, START_S + 61 * DAY);
    ck_assert_int_eq(again, START_S + 21600);
    for (size_t i = 0; i < CM_ARRAY_LEN(useless); i++) {
        memset(&ari, 0, sizeof ari);
        put_info(useless[i]);
        ck_ok(tend(false, &again));
        ck_assert_msg(ari.selected_s == 0 && again <= now_s(), "%s", useless[i]);
    }
    CM_AUTO_FREE char *no_start =
        cm_asprintf("{\"suggestedWindow\":{\"start\":\"0001-01-01T00:00:00Z\",\"end\":\"2026-03-"
                    "04T00:00:00Z\"},"
                    "\"_uniqueIdentifier\":\"%s\",\"_retryAfter\":\"2026-01-01T06:00:00Z\","
                    "\"_selectedTime\":\"2026-03-03T00:00:00Z\"}",
                    id);
    memset(&ari, 0, sizeof ari);
    put_info(no_start);
    ck_ok(tend(false, &again));
    ck_assert_int_eq(ari.selected_s, 0);
    ck_assert_uint_eq(asked(), 0);
}
END_TEST

START_TEST(window_without_a_moment_in_it_is_asked_for_anew)
{
    static const char *const moments[] = { "0001-01-01T00:00:00Z", "2026-03-01T23:59:59Z",
                                           "2026-03-04T00:00:00Z", "soon" };
    int64_t again = 0;

    for (size_t i = 0; i < CM_ARRAY_LEN(moments); i++) {
        CM_AUTO_FREE char *info =
            cm_asprintf("{\"suggestedWindow\":{\"start\":\"2026-03-02T00:00:00Z\","
                        "\"end\":\"2026-03-04T00:00:00Z\"},\"_uniqueIdentifier\":\"%s\","
                        "\"_retryAfter\":\"2026-01-01T06:00:00Z\",\"_selectedTime\":\"%s\"}",
                        id, moments[i]);

        memset(&ari, 0, sizeof ari);
        put_info(info);
        ck_ok(tend(true, &again));
        ck_assert_uint_eq(asked(), (unsigned)i + 1);
        ck_assert_int_gt(ari.selected_s, ari.start_s);
    }
}
END_TEST

START_TEST(stored_time_that_is_too_far_off_is_a_wrong_clocks)
{
    int64_t again = 0;

    put_window(id, "2027-01-01T00:00:00Z");
    ck_ok(tend(true, &again));
    ck_assert_uint_eq(asked(), 1);
    ck_assert_int_le(again, now_s() + 2 * 21600);
}
END_TEST

static void successor_comes(struct kit_issuer *is)
{
    (void)is;
    kit_store_pair(&k.storage.base, "ca.test-dir", "example.com", START_S, 90 * DAY);
    kit_put(&k.storage.base, SITE ".json", "{\"issuer_data\":{\"url\":\"u\"}}");
}

START_TEST(successor_does_not_get_the_window_of_its_predecessor)
{
    int64_t again = 0;

    k.issuer->on_ari = successor_comes;
    ck_ok(tend(true, &again));
    ck_assert_int_ne(ari.selected_s, 0);
    CM_AUTO_FREE char *json = kit_get(&k.storage.base, SITE ".json");
    ck_assert_ptr_null(strstr(json, "renewal_info"));
}
END_TEST

START_TEST(metadata_is_left_to_whoever_is_issuing)
{
    struct cm_lease *lease = NULL;
    char name[CM_LOCK_NAME_MAX + 1];
    int64_t again = 0;

    ck_ok(cm_lock_issue(subject->ident, name, &err));
    ck_ok(cm_lease_acquire(&k.storage.base, NULL, name, NULL, &lease, &err));
    ck_ok(tend(true, &again));
    cm_lease_release(lease);
    ck_assert_int_ne(ari.selected_s, 0); /* known here at least */
    ck_assert_uint_eq(kit_logged("ari_not_stored"), 0);
    CM_AUTO_FREE char *json = kit_get(&k.storage.base, SITE ".json");
    ck_assert_ptr_null(strstr(json, "renewal_info"));
}
END_TEST

START_TEST(one_node_asks_at_a_time)
{
    CM_AUTO_FREE char *name = cm_asprintf("ari_%s", id);
    struct cm_lease *lease = NULL;
    int64_t again = 0;

    ck_ok(cm_lease_acquire(&k.storage.base, NULL, name, NULL, &lease, &err));
    ck_ok(tend(true, &again));
    ck_assert_uint_eq(asked(), 0);
    ck_assert_int_ge(again, now_s() + 30);
    ck_assert_int_le(again, now_s() + 60);
    cm_lease_release(lease);
    pass(61);
    ck_ok(tend(true, &again));
    ck_assert_uint_eq(asked(), 1);
}
END_TEST

/* While we waited for the lock, the peer that had it was told. */
static void peer_was_told(struct kit_storage *s, const char *key)
{
    (void)key;
    if (atomic_load(&s->locks) > 0 && s->user != NULL) {
        s->user = NULL;
        put_window(id, "2026-01-01T06:00:00Z");
    }
}

START_TEST(what_a_peer_was_told_just_before_is_taken)
{
    int64_t again = 0;

    atomic_store(&k.storage.locks, 0);
    k.storage.user = &k;
    k.storage.on_load = peer_was_told;
    ck_ok(tend(true, &again));
    ck_assert_ptr_null(k.storage.user);
    ck_assert_uint_eq(asked(), 0);
    ck_assert_int_eq(ari.selected_s, START_S + 61 * DAY);
    k.storage.on_load = NULL;
}
END_TEST

START_TEST(metadata_that_has_no_place_for_it_stays_as_it_is)
{
    static const char *const odd[] = { "{\"sans\":[\"example.com\"],\"issuer_data\":null}",
                                       "{\"issuer_data\":", "[]" };
    int64_t again = 0;

    for (size_t i = 0; i < CM_ARRAY_LEN(odd); i++) {
        memset(&ari, 0, sizeof ari);
        kit_put(&k.storage.base, SITE ".json", odd[i]);
        ck_ok(tend(true, &again));
        ck_assert_int_ne(ari.selected_s, 0);
        CM_AUTO_FREE char *json = kit_get(&k.storage.base, SITE ".json");
        ck_assert_str_eq(json, odd[i]);
    }
    ck_assert_uint_eq(kit_logged("ari_not_stored"), 0);
}
END_TEST

START_TEST(failures_are_repeated_ever_later_and_forget_nothing)
{
    static const int64_t pauses[] = { 60, 600, 6000, DAY, DAY };
    int64_t again = 0;
    int64_t selected;

    ck_ok(tend(true, &again));
    selected = ari.selected_s;
    atomic_store(&k.issuer->ari_status, CM_E_ACME);
    pass(30000);
    for (size_t i = 0; i < CM_ARRAY_LEN(pauses); i++) {
        ck_refused(tend(true, &again), CM_E_ACME);
        ck_assert_uint_eq(asked(), (unsigned)i + 2);
        ck_assert_int_ge(again, now_s() + pauses[i]);
        ck_assert_int_le(again, now_s() + pauses[i] + pauses[i] / 8);
        ck_assert_int_eq(ari.selected_s, selected);
        pass(pauses[i] - 1);
        ck_ok(tend(true, &again)); /* not yet */
        pass(again - now_s());
    }
    suggest(START_S + 60 * DAY, START_S + 62 * DAY);
    ck_ok(tend(true, &again));
    ck_assert_int_eq(ari.selected_s, selected);
    ck_assert_uint_eq(ari.failures, 0);
    ck_assert_uint_eq(kit_logged("no renewal information"), 1); /* warned once */
    ck_assert_uint_eq(atomic_load(&k.cfg->counters->n[CM_COUNT_ARI_ASKED]), asked());
    ck_assert_uint_eq(atomic_load(&k.cfg->counters->n[CM_COUNT_ARI_FAILED]), CM_ARRAY_LEN(pauses));
}
END_TEST

START_TEST(failure_ends_when_a_peer_was_told)
{
    int64_t again = 0;

    atomic_store(&k.issuer->ari_status, CM_E_ACME);
    ck_refused(tend(true, &again), CM_E_ACME);
    ck_assert_uint_eq(ari.failures, 1);
    pass(again - now_s());
    put_window(id, "2026-01-01T06:00:00Z");
    ck_ok(tend(true, &again));
    ck_assert_uint_eq(asked(), 1);
    ck_assert_uint_eq(ari.failures, 0);
    ck_assert_int_eq(again, START_S + 21600);
}
END_TEST

START_TEST(retry_after_of_a_refusal_is_obeyed)
{
    int64_t again = 0;

    atomic_store(&k.issuer->ari_status, CM_E_RATELIMITED);
    k.issuer->ari_err.retry_after_s = 5000;
    ck_refused(tend(true, &again), CM_E_RATELIMITED);
    ck_assert_int_ge(again, now_s() + 5000);
    ck_assert_int_le(again, now_s() + 5000 + 5000 / 8);
}
END_TEST

START_TEST(ca_that_is_down_is_left_alone_for_a_minute_by_all_certificates)
{
    int64_t again = 0;

    atomic_store(&k.issuer->ari_status, CM_E_NET);
    k.issuer->ari_err.whole_ca = true;
    ck_refused(tend(true, &again), CM_E_NET);
    for (int i = 0; i < 5; i++) {
        memset(&ari, 0, sizeof ari);
        ck_ok(tend(true, &again));
        ck_assert_int_ge(again, now_s() + 60);
        ck_assert_int_le(again, now_s() + 90);
        ck_assert_uint_eq(ari.failures, 0);
    }
    ck_assert_uint_eq(asked(), 1);
}
END_TEST

START_TEST(ca_that_suggests_nothing_is_asked_once_a_day_for_all)
{
    int64_t again = 0;

    atomic_store(&k.issuer->ari_status, CM_E_UNSUPPORTED);
    ck_refused(tend(true, &again), CM_E_UNSUPPORTED);
    ck_assert_int_ge(again, now_s() + DAY);
    unsigned locks = atomic_load(&k.storage.locks);
    for (int i = 0; i < 20; i++) { /* other certificates */
        memset(&ari, 0, sizeof ari);
        ck_ok(tend(true, &again));
        ck_assert_int_ge(again, now_s() + DAY);
    }
    ck_assert_uint_eq(asked(), 1);
    ck_assert_uint_eq(atomic_load(&k.storage.locks), locks);
    ck_assert_uint_eq(kit_logged("no renewal information"), 0);
    pass(DAY + 601);
    memset(&ari, 0, sizeof ari);
    ck_refused(tend(true, &again), CM_E_UNSUPPORTED);
    ck_assert_uint_eq(asked(), 2);
}
END_TEST

START_TEST(questions_are_ten_a_second_and_the_others_told_when)
{
    unsigned at[40] = { 0 };
    int64_t again = 0;

    put_info("null");
    kit_put(&k.storage.base, SITE ".json", "{}"); /* so that nothing is ever known */
    for (int i = 0; i < 300; i++) {
        memset(&ari, 0, sizeof ari);
        ck_ok(tend(true, &again));
        if (ari.selected_s != 0)
            continue;
        ck_assert_int_gt(again, now_s());
        ck_assert_int_lt(again, now_s() + 40);
        at[again - now_s()]++;
    }
    ck_assert_uint_eq(asked(), 10);
    for (size_t i = 0; i < CM_ARRAY_LEN(at); i++)
        ck_assert_msg(at[i] <= 22, "%u come back in second %zu", at[i], i);
    for (unsigned s = 1; s <= 5; s++) {
        pass(1);
        for (int i = 0; i < 50; i++) {
            memset(&ari, 0, sizeof ari);
            ck_ok(tend(true, &again));
        }
        ck_assert_uint_eq(asked(), 10 + 10 * s);
    }
}
END_TEST

START_TEST(certificate_of_no_issuer_here_needs_nothing)
{
    CM_AUTO_BUF struct cm_buf chain = CM_BUF_INIT(CM_CHAIN_PEM_MAX);
    CM_AUTO_BUF struct cm_buf key = CM_BUF_SECRET(CM_KEY_PEM_MAX);
    const char *const names[] = { "example.com" };
    struct cm_cert *other = NULL;
    int64_t again = 0;

    kit_make_pair(CM_PK_P256, names, 1, START_S, 90 * DAY, &chain, &key);
    ck_ok(cm_cert_from_pem(cm_buf_span(&chain), cm_buf_span(&key), "another.ca", NULL,
                           CM_CERT_MANAGED, &other, &err));
    ck_ok(cm_ari_tend(k.cfg, NULL, subject, other, true, &ari, &again, &err));
    ck_assert(again == INT64_MAX);
    ck_assert_uint_eq(asked(), 0);
    cm_cert_unref(other);
}
END_TEST

START_TEST(issuer_that_cannot_be_asked_needs_nothing)
{
    struct kit_issuer *mute;
    struct cm_config *peer = kit_peer(&k, &mute);
    int64_t again = 0;

    unsigned loads = atomic_load(&k.storage.loads);
    ck_ok(cm_ari_tend(peer, NULL, subject, cert, false, &ari, &again, &err));
    ck_assert(again == INT64_MAX);
    ck_assert_uint_eq(atomic_load(&k.storage.loads), loads);
    cm_config_free(peer);
}
END_TEST

START_TEST(storage_that_is_down_is_a_failure_like_another)
{
    int64_t again = 0;

    atomic_store(&k.storage.fail_status, CM_E_IO);
    atomic_store(&k.storage.fail_locks, 1);
    ck_refused(tend(true, &again), CM_E_IO);
    ck_assert_int_ge(again, now_s() + 60);
    pass(100);
    atomic_store(&k.storage.fail_commits, 1);
    ck_ok(tend(true, &again)); /* told, but not written down */
    ck_assert_int_ne(ari.selected_s, 0);
    ck_assert_uint_eq(kit_logged("stays in this process"), 1);
}
END_TEST

START_TEST(what_was_canceled_is_not_held_against_the_ca)
{
    struct cm_cancel *cancel = NULL;
    const struct cm_op op = { .env = &k.env.base, .cancel = NULL };
    struct cm_op canceled = op;
    int64_t again = 0;

    ck_ok(cm_cancel_new(NULL, &cancel, &err));
    canceled.cancel = cancel;
    cm_cancel_fire(cancel);
    ck_refused(cm_ari_tend(k.cfg, &canceled, subject, cert, true, &ari, &again, &err),
               CM_E_CANCELED);
    ck_assert_uint_eq(ari.failures, 0);
    cm_cancel_free(cancel);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        ca_is_asked_once_and_its_window_kept_with_the_certificate,
        metadata_is_as_certmagic_writes_it,
        peer_and_restart_take_what_is_stored,
        moment_stays_while_the_window_does,
        moment_is_a_whole_second_after_the_first_one,
        certificate_that_a_peer_has_replaced_is_not_asked_about,
        window_of_another_certificate_counts_for_nothing,
        window_without_a_moment_in_it_is_asked_for_anew,
        stored_time_that_is_too_far_off_is_a_wrong_clocks,
        successor_does_not_get_the_window_of_its_predecessor,
        metadata_is_left_to_whoever_is_issuing,
        one_node_asks_at_a_time,
        what_a_peer_was_told_just_before_is_taken,
        metadata_that_has_no_place_for_it_stays_as_it_is,
        failures_are_repeated_ever_later_and_forget_nothing,
        failure_ends_when_a_peer_was_told,
        retry_after_of_a_refusal_is_obeyed,
        ca_that_is_down_is_left_alone_for_a_minute_by_all_certificates,
        ca_that_suggests_nothing_is_asked_once_a_day_for_all,
        questions_are_ten_a_second_and_the_others_told_when,
        certificate_of_no_issuer_here_needs_nothing,
        issuer_that_cannot_be_asked_needs_nothing,
        storage_that_is_down_is_a_failure_like_another,
        what_was_canceled_is_not_held_against_the_ca,
    };

    return run_tests_how("ari", tests, CM_ARRAY_LEN(tests),
                         (struct run_how){ .timeout_s = 60, .setup = setup, .teardown = teardown });
}

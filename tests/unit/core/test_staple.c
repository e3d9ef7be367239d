/* SPDX-License-Identifier: Apache-2.0 */
#include "kit.h"
#include "staple_kit.h"

/* What the tending of one certificate's staple decides: what it believes, keeps, stores and asks.
 */

static struct cm_err err;
static struct world w;

static void setup(void)
{
    world_start(&w);
}

static void teardown(void)
{
    world_stop(&w);
}

/* -------------------------------------------------------------- the usual course */

START_TEST(staple_is_fetched_used_and_stored)
{
    ck_ok(tend(&w, false));
    ck_assert_int_le(w.again_s, now_s(&w));
    ck_assert_uint_eq(atomic_load(&w.responder.calls), 0);

    ck_ok(tend(&w, true));
    ck_assert_uint_eq(atomic_load(&w.responder.calls), 1);
    ck_assert_str_eq(w.responder.last_url, "http://ocsp.test/");
    ck_assert_str_eq(w.responder.last_method, "POST");
    ck_assert(!w.revoked.revoked);
    check_stapled(&w, cm_buf_span(&w.responder.last));
    ck_assert_uint_eq(kit_count(&w.k.storage.base, "ocsp"), 1);
    check_stored(&w, w.key, cm_buf_span(&w.responder.last));
    /* Half of seven days, and up to a tenth of that. */
    ck_assert_int_ge(w.again_s, START_S + 7 * OK_DAY / 2);
    ck_assert_int_le(w.again_s, START_S + 7 * OK_DAY / 2 + 7 * OK_DAY / 20);
    /* Called early, it does nothing. */
    int64_t again = w.again_s;
    unsigned loads = atomic_load(&w.k.storage.loads);
    ck_ok(tend(&w, true));
    ck_assert_int_eq(w.again_s, again);
    ck_assert_uint_eq(atomic_load(&w.responder.calls), 1);
    ck_assert_uint_eq(atomic_load(&w.k.storage.loads), loads);
}
END_TEST

START_TEST(newer_one_takes_its_place_half_way)
{
    struct cm_staple *held;

    ck_ok(tend(&w, true));
    held = cm_cert_staple(w.cert);
    world_pass(&w, w.again_s - now_s(&w) - 1);
    ck_ok(tend(&w, true));
    ck_assert_uint_eq(atomic_load(&w.responder.calls), 1);
    world_pass(&w, 1);
    ck_ok(tend(&w, true));
    ck_assert_uint_eq(atomic_load(&w.responder.calls), 2);
    check_stapled(&w, cm_buf_span(&w.responder.last));
    check_stored(&w, w.key, cm_buf_span(&w.responder.last));
    ck_assert_int_eq(cm_staple_end_s(held), START_S + 7 * OK_DAY);
    cm_staple_unref(held);
}
END_TEST

START_TEST(fleet_asks_once)
{
    struct world other;

    world_join(&other, &w);
    ck_ok(tend(&w, true));
    ck_ok(tend(&other, false));
    ck_assert_int_gt(other.again_s, now_s(&w));
    check_stapled(&other, cm_buf_span(&w.responder.last));
    /* Half-way one of them asks; the other finds its answer when its time has come. */
    world_pass(&w, w.again_s - START_S);
    ck_ok(tend(&w, true));
    if (other.again_s > now_s(&w))
        world_pass(&w, other.again_s - now_s(&w));
    ck_ok(tend(&other, true));
    ck_assert_uint_eq(atomic_load(&w.responder.calls), 2);
    check_stapled(&other, cm_buf_span(&w.responder.last));
    world_leave(&other);
}
END_TEST

/* The storage tells of it. Nobody is asked, also when it is no news. */
START_TEST(staple_of_a_peer_is_taken_when_it_is_told_of)
{
    struct cm_revocation revoked = { .revoked = false };
    int64_t again = 4711;
    struct world other;

    world_join(&other, &w);
    cm_staple_news(other.cfg, NULL, other.cert, &again, &revoked); /* not looked after yet */
    ck_assert_int_eq(again, 4711);
    ck_ok(tend(&w, true));
    ck_ok(tend(&other, false));
    world_pass(&w, w.again_s - START_S);
    cm_staple_news(other.cfg, NULL, other.cert, &again, &revoked);
    ck_assert_int_eq(again, 4711);
    ck_ok(tend(&w, true));
    ck_assert_uint_eq(atomic_load(&w.responder.calls), 2);
    cm_staple_news(other.cfg, NULL, other.cert, &again, &revoked);
    ck_assert_int_ge(again, now_s(&w) + 7 * OK_DAY / 2);
    check_stapled(&other, cm_buf_span(&w.responder.last));
    ck_assert(!revoked.revoked);
    ck_assert_uint_eq(atomic_load(&w.responder.calls), 2);
    world_leave(&other);
}
END_TEST

START_TEST(who_comes_second_leaves_it_to_the_first)
{
    struct cm_lease_options lo = CM_LEASE_OPTIONS_INIT;
    CM_AUTO_FREE char *lock = cm_asprintf("ocsp_%s", w.key + strlen("ocsp/"));
    struct cm_lease *lease = NULL;

    ck_ok(cm_lease_acquire(&w.k.storage.base, NULL, lock, &lo, &lease, &err));
    ck_ok(tend(&w, true));
    ck_assert_uint_eq(atomic_load(&w.responder.calls), 0);
    ck_assert_int_gt(w.again_s, now_s(&w));
    ck_assert_int_le(w.again_s, now_s(&w) + 10);
    cm_lease_release(lease);
    world_pass(&w, 10);
    ck_ok(tend(&w, true));
    ck_assert_uint_eq(atomic_load(&w.responder.calls), 1);
}
END_TEST

/* A peer stores its answer after the first look, before the lock is taken. */
static void peer_is_faster(struct kit_storage *s, const char *key)
{
    unsigned *looks = s->user;

    if (strncmp(key, "ocsp/", 5) == 0 && ++*looks == 2)
        ck_ok(cm_storage_store(s->inner, NULL, key, cm_buf_span(&w.responder.last), &err));
}

START_TEST(answer_of_a_faster_peer_is_taken_under_the_lock)
{
    unsigned looks = 0;

    make_response(&w, &(struct ok_response){ .reason = 0 }, &w.responder.last);
    w.k.storage.user = &looks;
    w.k.storage.on_load = peer_is_faster;
    ck_ok(tend(&w, true));
    ck_assert_uint_eq(looks, 2);
    ck_assert_uint_eq(atomic_load(&w.responder.calls), 0);
    check_stapled(&w, cm_buf_span(&w.responder.last));
}
END_TEST

START_TEST(restart_needs_no_responder)
{
    struct world other;

    ck_ok(tend(&w, true));
    w.responder.mode = ANSWER_NET;
    world_join(&other, &w);
    ck_ok(tend(&other, false));
    check_stapled(&other, cm_buf_span(&w.responder.last));
    ck_assert_uint_eq(atomic_load(&w.responder.calls), 1);
    /* Past its half it is still in use while the network is wanted. */
    world_leave(&other);
    world_pass(&w, 6 * OK_DAY);
    world_join(&other, &w);
    ck_ok(tend(&other, false));
    ck_assert_int_le(other.again_s, now_s(&w));
    check_stapled(&other, cm_buf_span(&w.responder.last));
    world_leave(&other);
}
END_TEST

START_TEST(unmanaged_certificates_have_staples_too)
{
    world_replace_cert(&w, &(struct ok_cert){ .url = "http://ocsp.test/", .name = "other.test" }, 0,
                       true);
    ck_ok(tend(&w, true));
    check_stapled(&w, cm_buf_span(&w.responder.last));
    check_stored(&w, w.key, cm_buf_span(&w.responder.last));
}
END_TEST

/* ------------------------------------------------------------------------- keys */

START_TEST(both_keys_of_peers_are_written_and_read)
{
    char exact[CM_KEY_BUF];
    CM_AUTO_BUF struct cm_buf pem = CM_BUF_INIT(CM_CHAIN_PEM_MAX);

    /* A blank line between the blocks: the chain as a CA may send it. */
    ok_chain_pem(cm_cert_der(w.cert, 0), NULL, &pem);
    ck_ok(cm_buf_puts(&pem, "\n", &err));
    ok_chain_pem(cm_cert_der(w.cert, 1), NULL, &pem);
    kit_put(&w.k.storage.base, "certificates/ca.test-dir/ocsp.test/ocsp.test.crt",
            cm_buf_str(&pem));
    ck_ok(cm_path_staple("ocsp.test", cm_buf_span(&pem), exact, &err));
    ck_assert_str_ne(exact, w.key);
    ck_ok(tend(&w, true));
    check_stored(&w, w.key, cm_buf_span(&w.responder.last));
    check_stored(&w, exact, cm_buf_span(&w.responder.last));

    for (int gone = 0; gone < 2; gone++) {
        struct world other;

        ck_ok(cm_storage_remove(&w.k.storage.base, NULL, gone == 0 ? exact : w.key, &err));
        world_join(&other, &w);
        ck_ok(tend(&other, false));
        check_stapled(&other, cm_buf_span(&w.responder.last));
        world_leave(&other);
        put_span(&w, gone == 0 ? exact : w.key, cm_buf_span(&w.responder.last));
    }
    ck_assert_uint_eq(atomic_load(&w.responder.calls), 1);
}
END_TEST

START_TEST(newest_of_both_keys_counts)
{
    char exact[CM_KEY_BUF];
    CM_AUTO_BUF struct cm_buf pem = CM_BUF_INIT(CM_CHAIN_PEM_MAX);
    CM_AUTO_BUF struct cm_buf older = CM_BUF_INIT(CM_OCSP_MAX);
    CM_AUTO_BUF struct cm_buf newer = CM_BUF_INIT(CM_OCSP_MAX);

    ok_chain_pem(cm_cert_der(w.cert, 0), &w.ca, &pem);
    ck_ok(cm_buf_puts(&pem, "\n", &err));
    kit_put(&w.k.storage.base, "certificates/ca.test-dir/ocsp.test/ocsp.test.crt",
            cm_buf_str(&pem));
    ck_ok(cm_path_staple("ocsp.test", cm_buf_span(&pem), exact, &err));
    make_response(&w, &(struct ok_response){ .this_s = START_S - 200 }, &older);
    make_response(&w, &(struct ok_response){ .this_s = START_S - 100 }, &newer);
    for (int turn = 0; turn < 2; turn++) {
        struct world other;

        put_span(&w, exact, cm_buf_span(turn == 0 ? &older : &newer));
        put_span(&w, w.key, cm_buf_span(turn == 0 ? &newer : &older));
        world_join(&other, &w);
        ck_ok(tend(&other, false));
        check_stapled(&other, cm_buf_span(&newer));
        world_leave(&other);
    }
}
END_TEST

START_TEST(chain_of_another_certificate_makes_no_key)
{
    kit_store_pair(&w.k.storage.base, "ca.test-dir", "ocsp.test", START_S, 90 * OK_DAY);
    ck_ok(tend(&w, true));
    ck_assert_uint_eq(kit_count(&w.k.storage.base, "ocsp"), 1);
    check_stored(&w, w.key, cm_buf_span(&w.responder.last));
}
END_TEST

START_TEST(key_is_of_the_common_name_in_lower_case_or_of_the_first_name)
{
    struct cm_buf key = CM_BUF_INIT(64);

    world_replace_cert(
        &w,
        &(struct ok_cert){ .url = "http://ocsp.test/", .name = "upper.test", .cn = "Upper.TEST" },
        0, true);
    ck_ok(tend(&w, true));
    ck_ok(cm_buf_append(&key, w.key, strlen("ocsp/upper.test-"), &err));
    ck_assert_str_eq(cm_buf_str(&key), "ocsp/upper.test-");
    ck_assert(kit_has(&w.k.storage.base, w.key));
    cm_buf_free(&key);

    world_replace_cert(
        &w, &(struct ok_cert){ .url = "http://ocsp.test/", .name = "san.test", .san_only = true },
        0, true);
    ck_ok(tend(&w, true));
    ck_assert_ptr_nonnull(strstr(w.key, "ocsp/san.test-"));
    ck_assert(kit_has(&w.k.storage.base, w.key));
}
END_TEST

/* --------------------------------------------------------------------- failures */

START_TEST(nothing_but_a_good_answer_replaces_a_good_one)
{
    static const struct {
        enum answer mode;
        struct ok_response want;
    } rows[] = {
        { ANSWER_GARBAGE, { .reason = 0 } },
        { ANSWER_EMPTY, { .reason = 0 } },
        { ANSWER_LATER, { .reason = 0 } },
        { ANSWER_UNAUTHORIZED, { .reason = 0 } },
        { ANSWER_500, { .reason = 0 } },
        { ANSWER_NET, { .reason = 0 } },
        { ANSWER_TOO_LONG, { .reason = 0 } },
        { ANSWER_OCSP, { .status = OK_UNKNOWN } },
        { ANSWER_OCSP, { .wrong = OK_WRONG_SERIAL } },
        { ANSWER_OCSP, { .wrong = OK_WRONG_SIGNATURE } },
        { ANSWER_OCSP, { .wrong = OK_WRONG_CRITICAL } },
        { ANSWER_OCSP, { .this_s = START_S - OK_DAY, .next_s = START_S - 1 } },
        { ANSWER_OCSP, { .this_s = START_S - OK_DAY } }, /* older than what is there */
        { ANSWER_OCSP, { .padding = 17000 } },           /* too long to be stapled */
        { ANSWER_OCSP, { .others_before = 1 } },         /* clients look at the first only */
        { ANSWER_OCSP, { .twice = 1 } },
    };
    CM_AUTO_BUF struct cm_buf good = CM_BUF_INIT(CM_OCSP_MAX);

    ck_ok(tend(&w, true));
    ck_ok(cm_buf_append(&good, w.responder.last.data, w.responder.last.len, &err));
    world_pass(&w, w.again_s - now_s(&w));
    for (size_t i = 0; i < CM_ARRAY_LEN(rows); i++) {
        unsigned calls = atomic_load(&w.responder.calls);

        w.responder.mode = rows[i].mode;
        w.responder.want = rows[i].want;
        ck_assert_msg(tend(&w, true) != CM_OK, "row %zu", i);
        ck_assert_uint_eq(atomic_load(&w.responder.calls), calls + 1);
        ck_assert(!w.revoked.revoked);
        check_stapled(&w, cm_buf_span(&good));
        check_stored(&w, w.key, cm_buf_span(&good));
        ck_assert_int_ge(w.again_s, now_s(&w) + 60);
        ck_assert_int_le(w.again_s, now_s(&w) + 3600 + 360);
        world_pass(&w, w.again_s - now_s(&w));
        /* Between the failing ones, so that the responder is not spared. */
        w.responder.mode = ANSWER_OCSP;
        w.responder.want = (struct ok_response){ .status = OK_UNKNOWN };
        ck_assert(tend(&w, true) != CM_OK);
        world_pass(&w, w.again_s - now_s(&w));
    }
    ck_assert_int_lt(now_s(&w), START_S + 7 * OK_DAY);
}
END_TEST

START_TEST(old_staple_stays_to_its_end_and_no_longer)
{
    ck_ok(tend(&w, true));
    w.responder.want.status = OK_UNKNOWN;
    while (now_s(&w) < START_S + 7 * OK_DAY) {
        check_has_staple(&w, true);
        ck_assert_int_gt(w.again_s, now_s(&w));
        /* Not beyond the end of what there is. */
        ck_assert_int_le(w.again_s, START_S + 7 * OK_DAY);
        world_pass(&w, w.again_s - now_s(&w));
        (void)tend(&w, true);
    }
    check_has_staple(&w, false);
    ck_assert_uint_eq(kit_count(&w.k.storage.base, "ocsp"), 0);
    ck_assert_uint_eq(kit_logged("staple_expired"), 1);
    ck_assert_uint_eq(kit_logged("staple_failed"), atomic_load(&w.responder.calls) - 1);
}
END_TEST

START_TEST(tries_back_off_from_a_minute_to_an_hour)
{
    static const int64_t delays[] = { 60, 120, 240, 480, 960, 1920, 3600, 3600, 3600 };

    w.responder.want.wrong = OK_WRONG_SIGNATURE;
    for (size_t i = 0; i < CM_ARRAY_LEN(delays); i++) {
        ck_refused(tend(&w, true), CM_E_CERT);
        ck_assert_int_ge(w.again_s, now_s(&w) + delays[i]);
        ck_assert_int_le(w.again_s, now_s(&w) + delays[i] + delays[i] / 10);
        world_pass(&w, w.again_s - now_s(&w));
    }
    w.responder.want.wrong = OK_RIGHT;
    ck_ok(tend(&w, true));
    check_has_staple(&w, true);
}
END_TEST

START_TEST(answer_past_its_half_is_not_asked_for_all_the_time)
{
    /* Made four days ago for five: the responder has no newer one. */
    w.responder.want.this_s = START_S - 4 * OK_DAY;
    w.responder.want.next_s = START_S + OK_DAY;
    ck_ok(tend(&w, true));
    check_has_staple(&w, true);
    ck_assert_int_eq(w.again_s, now_s(&w) + 3600);
    for (unsigned n = 2; now_s(&w) < START_S + OK_DAY - 30; n++) {
        world_pass(&w, w.again_s - now_s(&w));
        ck_ok(tend(&w, true));
        ck_assert_uint_eq(atomic_load(&w.responder.calls), n);
        ck_assert_int_ge(w.again_s, now_s(&w) + 10);
    }
    ck_assert_uint_lt(atomic_load(&w.responder.calls), 45);
}
END_TEST

START_TEST(clock_that_was_put_back_ends_no_tending)
{
    /* Far ahead, everything that is true looks expired: the next try is as far ahead. */
    world_pass(&w, 60 * OK_DAY);
    w.responder.want = (struct ok_response){ .this_s = START_S, .next_s = START_S + 7 * OK_DAY };
    ck_refused(tend(&w, true), CM_E_CERT);
    kit_pass(&w.k.env, -60 * OK_DAY * CM_NS_PER_S);
    ck_assert_int_gt(w.again_s, now_s(&w) + 59 * OK_DAY);
    ck_ok(tend(&w, true));
    check_has_staple(&w, true);
    ck_assert_int_lt(w.again_s, now_s(&w) + 7 * OK_DAY);
}
END_TEST

/* ---------------------------------------------------------------------- storage */

START_TEST(storage_that_takes_nothing_leaves_it_in_memory)
{
    w.k.storage.fail_key = "ocsp/";
    atomic_store(&w.k.storage.fail_commits, -1);
    ck_ok(tend(&w, true));
    check_stapled(&w, cm_buf_span(&w.responder.last));
    ck_assert_uint_eq(kit_logged("staple_not_stored"), 1);
    ck_assert_uint_eq(kit_count(&w.k.storage.base, "ocsp"), 0);
    ck_assert_int_ge(w.again_s, START_S + 7 * OK_DAY / 2);
}
END_TEST

START_TEST(storage_that_is_down_keeps_nobody_from_stapling)
{
    atomic_store(&w.k.storage.fail_loads, -1);
    atomic_store(&w.k.storage.fail_locks, -1);
    atomic_store(&w.k.storage.fail_commits, -1);
    ck_ok(tend(&w, true));
    check_stapled(&w, cm_buf_span(&w.responder.last));
}
END_TEST

START_TEST(what_lies_in_storage_is_verified_and_removed_if_wrong)
{
    const struct {
        const char *what;
        struct ok_response want;
        bool removed;
    } rows[] = {
        { "expired", { .this_s = START_S - OK_DAY, .next_s = START_S - 1 }, true },
        { "another's", { .wrong = OK_WRONG_SERIAL }, true },
        { "forged", { .wrong = OK_WRONG_SIGNATURE }, true },
        { "unknown", { .status = OK_UNKNOWN }, true },
        { "too long", { .padding = 70000 }, true },
        /* Its clock or ours is wrong; whose, nobody can tell here. */
        { "of the future", { .this_s = START_S + 3600 }, false },
    };

    for (size_t i = 0; i < CM_ARRAY_LEN(rows); i++) {
        CM_AUTO_BUF struct cm_buf der = CM_BUF_INIT(1u << 20);

        make_response(&w, &rows[i].want, &der);
        put_span(&w, w.key, cm_buf_span(&der));
        ck_ok(tend(&w, false));
        check_has_staple(&w, false);
        ck_assert_msg(kit_has(&w.k.storage.base, w.key) != rows[i].removed, "%s", rows[i].what);
    }
    put_span(&w, w.key, cm_span_str("certainly not DER"));
    ck_ok(tend(&w, false));
    check_has_staple(&w, false);
    ck_assert(!kit_has(&w.k.storage.base, w.key));
    ck_assert_uint_eq(atomic_load(&w.responder.calls), 0);
}
END_TEST

/* ---------------------------------------------------------------------- revoked */

static void revoke(void)
{
    ck_ok(tend(&w, true));
    check_has_staple(&w, true);
    world_pass(&w, w.again_s - now_s(&w));
    w.responder.want = (struct ok_response){ .status = OK_REVOKED, .reason = 1 };
    w.responder.want.revoked_at_s = START_S + 100;
    ck_ok(tend(&w, true));
}

START_TEST(revoked_is_told_and_never_stapled)
{
    revoke();
    ck_assert(w.revoked.revoked);
    ck_assert_int_eq(w.revoked.reason, 1);
    ck_assert_int_eq(w.revoked.at_s, START_S + 100);
    ck_assert_str_eq(w.revoked.source, "ocsp");
    check_has_staple(&w, false);
    ck_assert_uint_eq(kit_count(&w.k.storage.base, "ocsp"), 0);
    /* It is told again to whoever asks early. */
    ck_ok(tend(&w, true));
    ck_assert(w.revoked.revoked);
    ck_assert_uint_eq(atomic_load(&w.responder.calls), 2);
}
END_TEST

START_TEST(older_good_after_revoked_is_a_replay)
{
    CM_AUTO_BUF struct cm_buf good = CM_BUF_INIT(CM_OCSP_MAX);

    make_response(
        &w, &(struct ok_response){ .this_s = START_S + 5, .next_s = START_S + 9 * OK_DAY }, &good);
    revoke();
    int64_t revoked_at = now_s(&w);
    put_span(&w, w.key, cm_buf_span(&good));
    world_pass(&w, w.again_s - now_s(&w));
    w.responder.want = (struct ok_response){ .this_s = revoked_at };
    ck_refused(tend(&w, true), CM_E_CERT);
    ck_assert(w.revoked.revoked);
    check_has_staple(&w, false);
    /* Taken back by the CA, which must say so later than it said the other. */
    world_pass(&w, w.again_s - now_s(&w));
    w.responder.want.this_s = revoked_at + 1;
    ck_ok(tend(&w, true));
    ck_assert(!w.revoked.revoked);
    check_has_staple(&w, true);
}
END_TEST

START_TEST(revoked_in_storage_counts_and_goes)
{
    CM_AUTO_BUF struct cm_buf der = CM_BUF_INIT(CM_OCSP_MAX);

    make_response(&w, &(struct ok_response){ .status = OK_REVOKED, .reason = 4 }, &der);
    put_span(&w, w.key, cm_buf_span(&der));
    ck_ok(tend(&w, false));
    ck_assert(w.revoked.revoked);
    ck_assert_int_eq(w.revoked.reason, 4);
    ck_assert(!kit_has(&w.k.storage.base, w.key));
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        staple_is_fetched_used_and_stored,
        newer_one_takes_its_place_half_way,
        fleet_asks_once,
        staple_of_a_peer_is_taken_when_it_is_told_of,
        who_comes_second_leaves_it_to_the_first,
        answer_of_a_faster_peer_is_taken_under_the_lock,
        restart_needs_no_responder,
        unmanaged_certificates_have_staples_too,
        both_keys_of_peers_are_written_and_read,
        newest_of_both_keys_counts,
        chain_of_another_certificate_makes_no_key,
        key_is_of_the_common_name_in_lower_case_or_of_the_first_name,
        nothing_but_a_good_answer_replaces_a_good_one,
        old_staple_stays_to_its_end_and_no_longer,
        tries_back_off_from_a_minute_to_an_hour,
        answer_past_its_half_is_not_asked_for_all_the_time,
        clock_that_was_put_back_ends_no_tending,
        storage_that_takes_nothing_leaves_it_in_memory,
        storage_that_is_down_keeps_nobody_from_stapling,
        what_lies_in_storage_is_verified_and_removed_if_wrong,
        revoked_is_told_and_never_stapled,
        older_good_after_revoked_is_a_replay,
        revoked_in_storage_counts_and_goes,
    };

    return kit_run_with("staple", tests, CM_ARRAY_LEN(tests), setup, teardown);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "kit.h"
#include "life.h"

/* What a program is told, and what is counted. */

#define DIR "certificates/ca.test-dir/example.com"

static struct kit k;
static struct cm_err err;
static const char *const example[] = { "example.com" };

/* ---- the program: writes down what it is told ---- */

struct told {
    enum cm_event_type type;
    struct cm_event ev; /* what is no pointer */
    char name[32];
    char identifier[64];
    char issuer[64];
    char issuers[128];
    char paths[512];
    char csr[40];
    char cert[64];
    char error[256];
};

static struct program {
    pthread_mutex_t lock;
    struct told told[64];
    size_t n;
    enum cm_event_type veto; /* refuse that */
    struct cm_err refusal;
    void (*also)(const struct cm_event *ev);
} program = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void copy(char *to, size_t size, const char *from)
{
    size_t len = from != NULL ? strnlen(from, size - 1) : 0;

    memcpy(to, from != NULL ? from : "", len);
    to[len] = '\0';
}

static cm_status on_event(void *user, const struct cm_event *ev, struct cm_err *e)
{
    struct program *p = user;
    struct told t = { .type = ev->type, .ev = *ev };

    copy(t.name, sizeof t.name, ev->name);
    copy(t.identifier, sizeof t.identifier, ev->identifier);
    copy(t.issuer, sizeof t.issuer, ev->issuer);
    for (size_t i = 0; ev->issuers != NULL && ev->issuers[i] != NULL; i++)
        (void)snprintf(t.issuers + strlen(t.issuers), sizeof t.issuers - strlen(t.issuers), "%s ",
                       ev->issuers[i]);
    if (ev->storage_path != NULL)
        (void)snprintf(t.paths, sizeof t.paths, "%s %s %s %s", ev->storage_path,
                       ev->private_key_path, ev->certificate_path, ev->metadata_path);
    copy(t.csr, sizeof t.csr, ev->csr_pem);
    if (ev->cert != NULL)
        copy(t.cert, sizeof t.cert, cm_cert_name(ev->cert, 0));
    if (ev->error != NULL)
        copy(t.error, sizeof t.error, ev->error->msg);
    cm_mutex_lock(&p->lock);
    if (p->n < CM_ARRAY_LEN(p->told))
        p->told[p->n++] = t;
    cm_mutex_unlock(&p->lock);
    if (p->also != NULL)
        p->also(ev);
    if (ev->type != p->veto)
        return CM_OK;
    *e = p->refusal;
    return p->refusal.status;
}

/* The @i-th of that type, or NULL. */
static const struct told *told(enum cm_event_type type, size_t i)
{
    const struct told *found = NULL;

    cm_mutex_lock(&program.lock);
    for (size_t at = 0; at < program.n && found == NULL; at++)
        if (program.told[at].type == type && i-- == 0)
            found = &program.told[at];
    cm_mutex_unlock(&program.lock);
    return found;
}

static size_t count_told(enum cm_event_type type)
{
    size_t n = 0;

    while (told(type, n) != NULL)
        n++;
    return n;
}

static void begin(void)
{
    program.n = 0;
    program.veto = 0;
    program.also = NULL;
    kit_init(&k);
    k.opts.on_event = on_event;
    k.opts.event_user = &program;
}

static uint64_t counted(enum cm_counter c)
{
    return atomic_load(&k.cfg->counters->n[c]);
}

START_TEST(every_event_has_a_name)
{
    ck_assert_str_eq(cm_event_name(CM_EVENT_TLS_GET_CERTIFICATE), "tls_get_certificate");
    ck_assert_str_eq(cm_event_name(CM_EVENT_STORAGE_UP), "storage_up");
    ck_assert_str_eq(cm_event_name(CM_EVENT_CERT_KEY_BACK), "cert_key_back");
    for (int t = CM_EVENT_TLS_GET_CERTIFICATE; t <= CM_EVENT_CERT_KEY_BACK; t++)
        ck_assert_ptr_nonnull(cm_event_name((enum cm_event_type)t));
    ck_assert_ptr_null(cm_event_name((enum cm_event_type)0));
    ck_assert_ptr_null(cm_event_name((enum cm_event_type) - 1));
    ck_assert_ptr_null(cm_event_name((enum cm_event_type)(CM_EVENT_CERT_KEY_BACK + 1)));
}
END_TEST

/* ---- issuance ---- */

START_TEST(obtaining_and_obtained_say_what_certmagic_says)
{
    begin();
    kit_start(&k);
    ck_ok(cm_obtain(k.cfg, NULL, example, 1, NULL, &err));
    ck_assert_uint_eq(program.n, 2);
    const struct told *t = told(CM_EVENT_CERT_OBTAINING, 0);
    ck_assert_uint_eq(t->ev.size, sizeof(struct cm_event));
    ck_assert_str_eq(t->name, "cert_obtaining");
    ck_assert_str_eq(t->identifier, "example.com");
    ck_assert(t->ev.can_veto && !t->ev.renewal && !t->ev.forced);
    ck_assert_str_eq(t->issuer, "");
    t = told(CM_EVENT_CERT_OBTAINED, 0);
    ck_assert(!t->ev.can_veto && !t->ev.renewal);
    ck_assert_str_eq(t->identifier, "example.com");
    ck_assert_str_eq(t->issuer, "ca.test-dir");
    ck_assert_str_eq(t->paths, DIR " " DIR "/example.com.key " DIR "/example.com.crt " DIR
                                   "/example.com.json");
    ck_assert_ptr_nonnull(strstr(t->csr, "-----BEGIN CERTIFICATE REQUEST-----\n"));
    ck_assert_str_eq(t->cert, "example.com");
    ck_assert_int_eq(t->ev.remaining_s, 0);
    ck_assert_uint_eq(counted(CM_COUNT_OBTAINED), 1);
    /* there already: nothing is ordered, nothing told */
    ck_ok(cm_obtain(k.cfg, NULL, example, 1, NULL, &err));
    ck_assert_uint_eq(program.n, 2);
    kit_stop(&k);
}
END_TEST

START_TEST(renewals_say_whose_and_how_long_the_old_one_lasts)
{
    begin();
    kit_start(&k);
    kit_store_pair(&k.storage.base, "ca.test-dir", "example.com", START_S - 75 * 86400, 90 * 86400);
    kit_pass(&k.env, 5 * 86400 * CM_NS_PER_S); /* or it was stored too lately to be due */
    ck_ok(cm_renew(k.cfg, NULL, "example.com", false, NULL, &err));
    const struct told *t = told(CM_EVENT_CERT_OBTAINING, 0);
    ck_assert(t->ev.renewal && !t->ev.forced);
    ck_assert_str_eq(t->issuer, "ca.test-dir");
    ck_assert_int_gt(t->ev.remaining_s, 10 * 86400 - 10);
    ck_assert_int_le(t->ev.remaining_s, 10 * 86400);
    t = told(CM_EVENT_CERT_OBTAINED, 0);
    ck_assert(t->ev.renewal);
    ck_assert_int_gt(t->ev.remaining_s, 10 * 86400 - 10);
    ck_assert_uint_eq(counted(CM_COUNT_RENEWED), 1);
    ck_assert_uint_eq(counted(CM_COUNT_OBTAINED), 0);
    ck_ok(cm_renew(k.cfg, NULL, "example.com", true, NULL, &err));
    ck_assert(told(CM_EVENT_CERT_OBTAINING, 1)->ev.forced);
    kit_stop(&k);
}
END_TEST

START_TEST(veto_ends_the_issuance_before_anything_is_ordered)
{
    begin();
    kit_start(&k);
    program.veto = CM_EVENT_CERT_OBTAINING;
    (void)cm_fail(&program.refusal, CM_E_POLICY, "not on a Friday");
    ck_refused(cm_obtain(k.cfg, NULL, example, 1, NULL, &err), CM_E_POLICY);
    ck_assert_ptr_nonnull(strstr(err.msg, "not on a Friday"));
    ck_assert_int_eq(err.status, CM_E_POLICY);
    ck_assert(!err.no_retry);
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 0);
    ck_assert_uint_eq(kit_count(&k.storage.base, ""), 0);
    ck_assert_uint_eq(program.n, 1); /* who vetoed it knows */
    /* one that says nothing but no */
    program.refusal = (struct cm_err)CM_ERR_INIT;
    program.refusal.status = CM_E_STATE;
    ck_refused(cm_obtain(k.cfg, NULL, example, 1, NULL, &err), CM_E_STATE);
    ck_assert_ptr_nonnull(strstr(err.msg, "cert_obtaining"));
    /* an error from an event that cannot be vetoed changes nothing */
    program.veto = CM_EVENT_CERT_OBTAINED;
    ck_ok(cm_obtain(k.cfg, NULL, example, 1, NULL, &err));
    kit_stop(&k);
}
END_TEST

START_TEST(failure_is_told_once_with_all_issuers_that_were_tried)
{
    struct cm_issuer *two[2];

    begin();
    two[0] = kit_issuer_new(&k.env, "first.test-dir");
    two[1] = kit_issuer_new(&k.env, "second.test-dir");
    struct kit_issuer *second = kit_issuer_of(two[1]);
    k.opts.issuers = two;
    k.opts.n_issuers = 2;
    kit_start(&k);
    atomic_store(&k.issuer->step, KIT_FAIL_BEFORE);
    atomic_store(&second->step, KIT_FAIL_BEFORE);
    second->fail_status = CM_E_RATELIMITED;
    ck_refused(cm_obtain(k.cfg, NULL, example, 1, NULL, &err), CM_E_RATELIMITED);
    ck_assert_uint_eq(count_told(CM_EVENT_CERT_FAILED), 1);
    const struct told *t = told(CM_EVENT_CERT_FAILED, 0);
    ck_assert_str_eq(t->issuers, "first.test-dir second.test-dir ");
    ck_assert_ptr_nonnull(strstr(t->error, "does not feel like it"));
    ck_assert_uint_eq(t->ev.attempts, 1);
    ck_assert(!t->ev.can_veto && !t->ev.renewal);
    ck_assert_uint_eq(counted(CM_COUNT_FAILED_RATE), 1);
    ck_assert_uint_eq(counted(CM_COUNT_FAILED_CA), 0);
    /* before any CA was asked: an attempt all the same */
    k.issuer->refuse = second->refuse = "example";
    ck_refused(cm_obtain(k.cfg, NULL, example, 1, NULL, &err), CM_E_POLICY);
    ck_assert_uint_eq(count_told(CM_EVENT_CERT_FAILED), 2);
    ck_assert_str_eq(told(CM_EVENT_CERT_FAILED, 1)->issuers, "");
    ck_assert_uint_eq(counted(CM_COUNT_FAILED_OTHER), 1);
    kit_stop(&k);
}
END_TEST

static void *obtain_in_thread(void *rc)
{
    struct cm_err why = CM_ERR_INIT;

    *(cm_status *)rc = cm_obtain(k.cfg, NULL, example, 1, NULL, &why);
    return NULL;
}

START_TEST(who_waits_for_anothers_attempt_tells_nothing)
{
    pthread_t threads[4];
    cm_status rc[4];
    unsigned loads = 0;

    begin();
    kit_start(&k);
    atomic_store(&k.issuer->step, KIT_FAIL_AFTER_CHECKPOINT);
    atomic_store(&k.issuer->hold, true);
    for (size_t i = 0; i < CM_ARRAY_LEN(threads); i++) {
        ck_ok(cm_thread_start(&threads[i], "obtain", obtain_in_thread, &rc[i], &err));
        /* the first leads; the others have looked for themselves before they wait */
        if (i == 0)
            kit_until(atomic_load(&k.issuer->inside) == 1);
        else
            kit_until(atomic_load(&k.storage.loads) > loads);
        loads = atomic_load(&k.storage.loads);
    }
    for (int i = 0; i < 50; i++)
        kit_nap();
    atomic_store(&k.issuer->hold, false);
    for (size_t i = 0; i < CM_ARRAY_LEN(threads); i++) {
        (void)pthread_join(threads[i], NULL);
        ck_assert_int_eq(rc[i], CM_E_ACME);
    }
    ck_assert_uint_eq(count_told(CM_EVENT_CERT_FAILED),
                      atomic_load(&k.issuer->orders) + atomic_load(&k.issuer->resumed));
    ck_assert_uint_lt(count_told(CM_EVENT_CERT_FAILED), 4);
    kit_stop(&k);
}
END_TEST

static void renew_at_once(const struct cm_event *ev)
{
    struct cm_err why = CM_ERR_INIT;

    if (ev->type != CM_EVENT_CERT_OBTAINED || ev->renewal)
        return;
    ck_assert_msg(cm_renew(k.cfg, NULL, ev->identifier, true, NULL, &why) == CM_OK, "%s", why.msg);
}

/* Neither flight nor lease is held when the end is told, or this would wait for itself. */
START_TEST(program_may_go_on_with_the_same_name_at_once)
{
    begin();
    kit_start(&k);
    program.also = renew_at_once;
    ck_ok(cm_obtain(k.cfg, NULL, example, 1, NULL, &err));
    ck_assert_uint_eq(count_told(CM_EVENT_CERT_OBTAINED), 2);
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 2);
    kit_stop(&k);
}
END_TEST

static void be_refused_next(const struct cm_event *ev)
{
    if (ev->type == CM_EVENT_CERT_OBTAINING)
        k.issuer->refuse = "example";
}

/* A program that says "not now" is waited for; what comes after that is another attempt. */
START_TEST(attempt_after_a_wait_is_told_for_itself)
{
    begin();
    kit_start(&k);
    program.veto = CM_EVENT_CERT_OBTAINING;
    program.also = be_refused_next;
    (void)cm_fail(&program.refusal, CM_E_AGAIN, "not now");
    program.refusal.retry_after_s = 1;
    ck_refused(cm_obtain(k.cfg, NULL, example, 1, NULL, &err), CM_E_POLICY);
    ck_assert_uint_eq(count_told(CM_EVENT_CERT_OBTAINING), 1);
    ck_assert_uint_eq(count_told(CM_EVENT_CERT_FAILED), 1);
    ck_assert_uint_eq(counted(CM_COUNT_FAILED_OTHER), 1);
    kit_stop(&k);
}
END_TEST

/* Whatever allocation fails: the attempt ends as it must, and is told as it ended. */
START_TEST(telling_survives_every_failed_allocation)
{
    unsigned ok = 0, failed = 0;
    uint64_t all;

    begin();
    kit_start(&k);
    (void)cm_alloc_fail_at(0);
    ck_ok(cm_obtain(k.cfg, NULL, example, 1, NULL, &err));
    all = cm_alloc_fail_at(0);
    for (uint64_t n = 1; n <= all; n++) {
        char name[32];
        const char *const names[] = { name };
        struct cm_err why = CM_ERR_INIT;

        program.n = 0;
        (void)snprintf(name, sizeof name, "n%u.example", (unsigned)n);
        (void)cm_alloc_fail_at(n);
        cm_status rc = cm_obtain(k.cfg, NULL, names, 1, NULL, &why);
        (void)cm_alloc_fail_at(0);
        ck_assert_msg(rc == CM_OK || rc == CM_E_NOMEM, "%u: %s", (unsigned)n, why.msg);
        ck_assert_uint_eq(count_told(CM_EVENT_CERT_OBTAINED), rc == CM_OK);
        ck_assert_uint_le(count_told(CM_EVENT_CERT_FAILED), rc != CM_OK);
        ok += rc == CM_OK;
        failed += rc != CM_OK;
    }
    ck_assert_uint_gt(failed, 20);
    ck_assert_uint_gt(ok, 0);
    kit_stop(&k);
}
END_TEST

START_TEST(cancelled_job_is_no_failure)
{
    struct cm_cancel *cancel = NULL;

    begin();
    kit_start(&k);
    ck_ok(cm_cancel_new(NULL, &cancel, &err));
    cm_cancel_fire(cancel);
    const struct cm_op op = { NULL, 0, cancel };
    ck_refused(cm_obtain(k.cfg, &op, example, 1, NULL, &err), CM_E_CANCELED);
    ck_assert_uint_eq(program.n, 0);
    for (int c = CM_COUNT_FAILED_NET; c <= CM_COUNT_FAILED_OTHER; c++)
        ck_assert_uint_eq(counted((enum cm_counter)c), 0);
    cm_cancel_free(cancel);
    kit_stop(&k);
}
END_TEST

static void lose_lease(struct kit_issuer *is)
{
    if (atomic_load(&is->orders) + atomic_load(&is->resumed) > 1)
        return;
    kit_pass(is->env, 60 * CM_NS_PER_S);
    for (int i = 0; i < 300; i++) /* the heartbeat sees it */
        kit_nap();
}

START_TEST(lost_lock_is_told_and_counted)
{
    begin();
    kit_start(&k);
    k.issuer->on_issue = lose_lease;
    ck_ok(cm_obtain(k.cfg, NULL, example, 1, NULL, &err));
    ck_assert_uint_eq(count_told(CM_EVENT_LOCK_LOST), 1);
    ck_assert_str_eq(told(CM_EVENT_LOCK_LOST, 0)->identifier, "issue_cert_example.com");
    ck_assert_str_ne(told(CM_EVENT_LOCK_LOST, 0)->error, "");
    ck_assert_uint_eq(counted(CM_COUNT_LOCK_LOST), 1);
    ck_assert_uint_eq(count_told(CM_EVENT_CERT_FAILED), 0); /* the second try went well */
    ck_assert_uint_eq(counted(CM_COUNT_OBTAINED), 1);
    kit_stop(&k);
}
END_TEST

/* ---- the cache ---- */

START_TEST(managed_certificate_is_told_when_it_comes_not_when_it_is_replaced)
{
    begin();
    kit_start(&k);
    ck_ok(cm_manage(k.cfg, NULL, example, 1, &err));
    ck_assert_uint_eq(count_told(CM_EVENT_CACHED_MANAGED_CERT), 1);
    ck_assert_str_eq(told(CM_EVENT_CACHED_MANAGED_CERT, 0)->cert, "example.com");

    struct cm_cert *newer = NULL;
    kit_pass(&k.env, 3600 * CM_NS_PER_S);
    ck_ok(cm_renew(k.cfg, NULL, "example.com", true, NULL, &err));
    ck_ok(cm_load_stored(k.cfg, NULL, "example.com", &newer, &err));
    ck_ok(cm_serve_managed(k.cfg, newer, &err));
    ck_ok(cm_serve_managed(k.cfg, newer, &err)); /* and it is there already */
    ck_assert_uint_eq(count_told(CM_EVENT_CACHED_MANAGED_CERT), 1);
    ck_assert_uint_eq(cm_cache_count(cm_config_cache(k.cfg)), 1);
    cm_cert_unref(newer);
    kit_stop(&k);
}
END_TEST

static _Atomic unsigned also_told;

static cm_status on_other_event(void *user, const struct cm_event *ev, struct cm_err *e)
{
    (void)user;
    (void)e;
    (void)atomic_fetch_add(&also_told, ev->type == CM_EVENT_CACHED_UNMANAGED_CERT);
    return CM_OK;
}

START_TEST(own_certificate_is_told_to_every_config_of_the_cache)
{
    CM_AUTO_BUF struct cm_buf chain = CM_BUF_INIT(CM_CHAIN_PEM_MAX);
    CM_AUTO_BUF struct cm_buf key = CM_BUF_SECRET(CM_KEY_PEM_MAX);
    struct cm_cache *cache = NULL;

    begin();
    atomic_store(&also_told, 0);
    kit_make_pair(CM_PK_P256, example, 1, START_S, 86400, &chain, &key);
    ck_ok(cm_cache_new(NULL, &cache, &err));
    k.opts.cache = cache;
    kit_start(&k);
    k.opts.on_event = on_other_event;
    struct cm_config *peer = kit_peer(&k, NULL);
    ck_ok(cm_cache_add_pem(cache, cm_buf_span(&chain), cm_buf_span(&key), NULL, NULL, &err));
    ck_assert_uint_eq(count_told(CM_EVENT_CACHED_UNMANAGED_CERT), 1);
    ck_assert(!told(CM_EVENT_CACHED_UNMANAGED_CERT, 0)->ev.replacement);
    ck_assert_str_eq(told(CM_EVENT_CACHED_UNMANAGED_CERT, 0)->cert, "example.com");
    ck_assert_uint_eq(atomic_load(&also_told), 1);
    /* who has gone is told nothing */
    cm_config_free(peer);
    cm_buf_reset(&chain);
    cm_buf_reset(&key);
    kit_make_pair(CM_PK_P256, example, 1, START_S, 86400, &chain, &key);
    ck_ok(cm_cache_add_pem(cache, cm_buf_span(&chain), cm_buf_span(&key), NULL, NULL, &err));
    ck_assert_uint_eq(atomic_load(&also_told), 1);
    ck_assert_uint_eq(count_told(CM_EVENT_CACHED_UNMANAGED_CERT), 2);
    kit_stop(&k);
    cm_cache_free(cache);
}
END_TEST

/* ---- handshakes ---- */

START_TEST(handshake_is_told_and_may_be_refused)
{
    struct cm_pending *pending = NULL;
    struct cm_cert *cert = NULL;
    struct cm_hello h;

    begin();
    kit_start(&k);
    ck_ok(cm_manage(k.cfg, NULL, example, 1, &err));
    kit_hello(&h, "example.com");
    ck_ok(cm_get_certificate(k.cfg, &h, &cert, &pending, &err));
    cm_cert_unref(cert);
    ck_assert_uint_eq(count_told(CM_EVENT_TLS_GET_CERTIFICATE), 1);
    ck_assert(told(CM_EVENT_TLS_GET_CERTIFICATE, 0)->ev.hello == &h);
    ck_assert(told(CM_EVENT_TLS_GET_CERTIFICATE, 0)->ev.can_veto);

    program.veto = CM_EVENT_TLS_GET_CERTIFICATE;
    (void)cm_fail(&program.refusal, CM_E_POLICY, "not from there");
    ck_refused(cm_get_certificate(k.cfg, &h, &cert, &pending, &err), CM_E_POLICY);
    ck_assert_int_eq(err.tls_alert, CM_ALERT_UNRECOGNIZED_NAME);
    ck_assert_str_eq(err.msg, "not from there");
    program.refusal.tls_alert = 49; /* access_denied */
    ck_refused(cm_get_certificate(k.cfg, &h, &cert, &pending, &err), CM_E_POLICY);
    ck_assert_int_eq(err.tls_alert, 49);
    ck_assert_ptr_null(pending);
    kit_stop(&k);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        every_event_has_a_name,
        obtaining_and_obtained_say_what_certmagic_says,
        renewals_say_whose_and_how_long_the_old_one_lasts,
        veto_ends_the_issuance_before_anything_is_ordered,
        failure_is_told_once_with_all_issuers_that_were_tried,
        who_waits_for_anothers_attempt_tells_nothing,
        program_may_go_on_with_the_same_name_at_once,
        attempt_after_a_wait_is_told_for_itself,
        telling_survives_every_failed_allocation,
        cancelled_job_is_no_failure,
        lost_lock_is_told_and_counted,
        managed_certificate_is_told_when_it_comes_not_when_it_is_replaced,
        own_certificate_is_told_to_every_config_of_the_cache,
        handshake_is_told_and_may_be_refused,
    };

    return kit_run("events", tests, CM_ARRAY_LEN(tests));
}

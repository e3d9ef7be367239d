/* SPDX-License-Identifier: Apache-2.0 */
#include "key_ext.h"
#include "key_session.h"

#include <gnutls/crypto.h>
#include <gnutls/pkcs11.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Keys in tokens, as they are signed with: one session for each key in the process, by its URL. A
 * signature that fails makes the key "away": from then on handshakes fail at once, and somebody who
 * has the time opens the session again (key_tend.c), or does so before he signs himself. */

#define ENTER_NS (2 * CM_NS_PER_S)
#define PARK_NS  (1 * CM_NS_PER_S)
#define OPEN_NS  (2 * CM_NS_PER_S) /* that another thread's attempt to open it is waited for */

struct cm__token_state cm__tokens = { .lock = PTHREAD_MUTEX_INITIALIZER };
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void init(void)
{
    cm_cond_init(&cm__tokens.calm);
}

void cm__tokens_lock(void)
{
    (void)pthread_once(&once, init);
    cm_mutex_lock(&cm__tokens.lock);
}

void cm__tokens_unlock(void)
{
    cm_mutex_unlock(&cm__tokens.lock);
}

int64_t cm__tokens_now_ns(void)
{
    const struct cm_env *env = cm_env_system();

    return env->mono_ns(env);
}

/* ------------------------------------------------------------------- the gate */

cm_status cm__token_enter(struct cm_err *err)
{
    int64_t until = cm__tokens_now_ns() + ENTER_NS;
    int64_t left = ENTER_NS;

    cm__tokens_lock();
    while (cm__tokens.closed && left > 0) {
        (void)cm_cond_wait_ns(&cm__tokens.calm, &cm__tokens.lock, left);
        left = until - cm__tokens_now_ns();
    }
    bool in = !cm__tokens.closed;
    if (in)
        cm__tokens.inside++;
    cm__tokens_unlock();
    return in ? CM_OK : cm_fail(err, CM_E_IO, "a PKCS#11 module is being initialized anew");
}

void cm__token_leave(void)
{
    cm__tokens_lock();
    CM_ASSERT(cm__tokens.inside > 0);
    cm__tokens.inside--;
    (void)pthread_cond_broadcast(&cm__tokens.calm);
    cm__tokens_unlock();
}

/* ------------------------------------------------------------------- sessions */

static struct cm_token_session *find_locked(struct cm_span url)
{
    struct cm_token_session *s = cm__tokens.first;

    while (s != NULL && (s->url_len != url.len || memcmp(s->url, url.data, url.len) != 0))
        s = s->next;
    return s;
}

static cm_status session_get(struct cm_span url, struct cm_token_session **ret, struct cm_err *err)
{
    struct cm_token_session *made = cm_calloc(1, sizeof *made + url.len + 1);
    struct cm_token_session *s;

    if (made == NULL)
        return cm_fail_nomem(err);
    memcpy(made->url, url.data, url.len);
    made->url_len = url.len;
    atomic_init(&made->pss, true);
    cm__tokens_lock();
    s = find_locked(url);
    if (s == NULL) {
        s = made;
        made = NULL;
        s->next = cm__tokens.first;
        cm__tokens.first = s;
    }
    s->refs++;
    cm__tokens_unlock();
    free(made);
    *ret = s;
    return CM_OK;
}

void cm__session_put(struct cm_token_session *s)
{
    struct cm_token_session **at = &cm__tokens.first;
    /* To close it without a module being initialized anew at that moment. */
    bool in = cm__token_enter(NULL) == CM_OK;

    cm__tokens_lock();
    bool last = --s->refs == 0;
    if (last) {
        while (*at != s)
            at = &(*at)->next;
        *at = s->next;
        if (s->away)
            atomic_fetch_sub(&cm__tokens.away, 1);
    }
    cm__tokens_unlock();
    /* Where a module hangs, what GnuTLS has of the session is left to it. */
    if (last && in && s->live != NULL)
        gnutls_privkey_deinit(s->live);
    if (last && in && s->stale != NULL)
        gnutls_privkey_deinit(s->stale);
    if (last)
        free(s);
    if (in)
        cm__token_leave();
}

/* True if that is news. */
static bool set_away_locked(struct cm_token_session *s, bool away)
{
    if (s->away == away)
        return false;
    s->away = away;
    s->since_ns = away ? cm__tokens_now_ns() : s->since_ns;
    s->pause_ns = 0;
    s->next_ns = 0;
    s->changed = ++cm__tokens.changes;
    if (away)
        atomic_fetch_add(&cm__tokens.away, 1);
    else
        atomic_fetch_sub(&cm__tokens.away, 1);
    return true;
}

/* ------------------------------------------------------------ opening a session */

static struct cm_span url_of(const struct cm_token_session *s)
{
    return (struct cm_span){ (const uint8_t *)s->url, s->url_len };
}

struct opened {
    gnutls_privkey_t key;
    bool pss;
    char module[CM_MODULE_MAX];
};

static cm_status open_it(const struct cm_token_session *s, gnutls_privkey_t *io_stale,
                         struct opened *ret, struct cm_err *err)
{
    cm_status rc = cm__token_enter(err);

    if (rc != CM_OK)
        return rc;
    if (*io_stale != NULL)
        gnutls_privkey_deinit(*io_stale);
    *io_stale = NULL;
    rc = cm__token_open(url_of(s), &ret->key, err);
    ret->pss = true;
    if (rc == CM_OK) {
        cm__module_of(url_of(s), ret->module);
        if (gnutls_privkey_get_pk_algorithm(ret->key, NULL) == GNUTLS_PK_RSA)
            ret->pss =
                gnutls_pkcs11_token_check_mechanism(s->url, CM_CKM_RSA_PKCS_PSS, NULL, 0, 0) != 0;
    }
    cm__token_leave();
    return rc;
}

static void set_why_locked(struct cm_token_session *s, cm_status rc, const struct cm_err *why)
{
    s->why_rc = rc;
    (void)snprintf(s->why, sizeof s->why, "%.399s", why->msg);
}

static void note_failure_locked(struct cm_token_session *s, cm_status rc, const struct cm_err *why)
{
    s->pause_ns = s->pause_ns == 0 ? CM_NS_PER_S : 2 * s->pause_ns;
    if (s->pause_ns > CM_TOKEN_PAUSE_NS)
        s->pause_ns = CM_TOKEN_PAUSE_NS;
    s->tried_ns = cm__tokens_now_ns();
    s->next_ns = s->tried_ns + s->pause_ns;
    set_why_locked(s, rc, why);
}

/* A PIN that was refused is not tried again: tokens lock themselves. */
static bool pin_was_refused(const struct cm_token_session *s, const struct cm_pin_mark *now)
{
    return s->away && s->why_rc == CM_E_PERM && now->ino == s->pin.ino && now->s == s->pin.s &&
           now->ns == s->pin.ns;
}

/* May it be opened by this thread? Waits for one that is at it; then see whether it is. */
static cm_status begin_open_locked(struct cm_token_session *s, const struct cm_pin_mark *now,
                                   struct cm_err *err)
{
    int64_t until = cm__tokens_now_ns() + OPEN_NS;

    while (s->live == NULL && (s->opening || (s->stale != NULL && s->users > 0))) {
        int64_t left = until - cm__tokens_now_ns();

        if (left <= 0)
            return cm_fail(err, CM_E_IO, "the token with the key (%.200s) does not answer", s->url);
        (void)cm_cond_wait_ns(&cm__tokens.calm, &cm__tokens.lock, left);
    }
    if (s->live == NULL && pin_was_refused(s, now))
        return cm_fail(err, s->why_rc, "%s", s->why); /* until that file has changed */
    return CM_OK;
}

cm_status cm__session_open(struct cm_token_session *s, struct cm_err *err)
{
    struct opened made = { .key = NULL };
    gnutls_privkey_t stale = NULL;
    struct cm_err why = CM_ERR_INIT;
    struct cm_pin_mark pin;

    cm__token_pin_mark(url_of(s), &pin);
    cm__tokens_lock();
    cm_status rc = begin_open_locked(s, &pin, &why);
    bool open = s->live != NULL;
    if (rc != CM_OK || open) {
        bool lost = rc != CM_OK && s->parked && set_away_locked(s, true);
        if (rc != CM_OK)
            note_failure_locked(s, rc, &why);
        s->parked = false;
        cm__tokens_unlock();
        if (lost)
            cm__tokens_tell();
        if (rc != CM_OK && err != NULL)
            *err = why;
        return rc;
    }
    s->opening = true;
    s->pin = pin;
    stale = s->stale;
    s->stale = NULL;
    cm__tokens_unlock();

    rc = open_it(s, &stale, &made, &why);

    cm__tokens_lock();
    s->opening = false;
    s->parked = false;
    s->tried = true;
    s->live = made.key;
    s->stale = stale;
    if (rc == CM_OK) {
        memcpy(s->module, made.module, sizeof s->module);
        atomic_store(&s->pss, made.pss);
    }
    bool news = set_away_locked(s, rc != CM_OK);
    if (rc != CM_OK)
        note_failure_locked(s, rc, &why);
    (void)pthread_cond_broadcast(&cm__tokens.calm);
    cm__tokens_unlock();
    if (news)
        cm__tokens_tell();
    if (rc != CM_OK && err != NULL)
        *err = why;
    return rc;
}

/* -------------------------------------------------------------------- signing */

/* What is wrong with the question, and not with the token. */
static bool is_about_the_input(int rc)
{
    return rc == GNUTLS_E_UNSUPPORTED_SIGNATURE_ALGORITHM || rc == GNUTLS_E_INVALID_REQUEST ||
           rc == GNUTLS_E_PKCS11_UNSUPPORTED_FEATURE_ERROR || rc == GNUTLS_E_MEMORY_ERROR ||
           rc == GNUTLS_E_CONSTRAINT_ERROR || rc == GNUTLS_E_INSUFFICIENT_SECURITY;
}

static int ask(gnutls_privkey_t key, gnutls_sign_algorithm_t algo, bool hashed, struct cm_span in,
               gnutls_datum_t *ret)
{
    gnutls_datum_t d = { (unsigned char *)(uintptr_t)in.data, (unsigned)in.len };

    return hashed ? gnutls_privkey_sign_hash2(key, algo, 0, &d, ret)
                  : gnutls_privkey_sign_data2(key, algo, 0, &d, ret);
}

/* The session is not to be used any more; who opens it closes it first. */
static bool lose_locked(struct cm_token_session *s, gnutls_privkey_t lost, const struct cm_err *why)
{
    if (s->live != lost)
        return false;
    s->stale = lost;
    s->live = NULL;
    bool news = set_away_locked(s, true);
    set_why_locked(s, why->status, why);
    return news;
}

/* That takes moments. */
static void wait_while_parked_locked(struct cm_token_session *s)
{
    int64_t until = s->parked ? cm__tokens_now_ns() + PARK_NS : 0;
    int64_t left = PARK_NS;

    while (s->parked && left > 0) {
        (void)cm_cond_wait_ns(&cm__tokens.calm, &cm__tokens.lock, left);
        left = until - cm__tokens_now_ns();
    }
}

cm_status cm__session_sign(struct cm_token_session *s, gnutls_sign_algorithm_t algo, bool hashed,
                           struct cm_span input, struct cm_buf *ret, struct cm_err *err)
{
    struct cm_err why = CM_ERR_INIT;
    gnutls_datum_t sig = { NULL, 0 };
    bool news = false;
    cm_status rc = CM_OK;

    cm__tokens_lock();
    wait_while_parked_locked(s);
    gnutls_privkey_t live = s->live;
    if (live != NULL)
        s->users++;
    else
        rc = cm_fail(err, s->away ? s->why_rc : CM_E_IO, "%s",
                     s->away ? s->why : "the module of a token is being initialized anew");
    cm__tokens_unlock();
    if (rc != CM_OK)
        return rc;

    int grc = ask(live, algo, hashed, input, &sig);
    if (grc < 0)
        rc = cm__key_url_fail(url_of(s), grc, "sign with the key in a token", &why);

    cm__tokens_lock();
    s->users--;
    if (grc < 0 && !is_about_the_input(grc))
        news = lose_locked(s, live, &why);
    if (s->users == 0)
        (void)pthread_cond_broadcast(&cm__tokens.calm);
    cm__tokens_unlock();
    if (news)
        cm__tokens_tell();
    if (rc != CM_OK) {
        if (err != NULL)
            *err = why;
        return rc;
    }
    rc = cm_buf_append(ret, sig.data, sig.size, err);
    gnutls_free(sig.data);
    return rc;
}

/* ------------------------------------------------------------- as GnuTLS has it */

struct handle {
    struct cm_ext ext;
    struct cm_token_session *session;
};

static cm_status give(const struct cm_ext *ext, enum cm_sign_alg alg, struct cm_span input,
                      struct cm_buf *ret)
{
    const struct handle *h = CM_CONTAINER_OF(ext, struct handle, ext);

    return cm__session_sign(h->session, cm__ext_algo(alg), alg != CM_SIGN_ED25519, input, ret,
                            NULL);
}

static bool can(const struct cm_ext *ext, enum cm_sign_alg alg)
{
    const struct handle *h = CM_CONTAINER_OF(ext, struct handle, ext);

    return (alg != CM_SIGN_RSA_PSS_SHA256 && alg != CM_SIGN_RSA_PSS_SHA384 &&
            alg != CM_SIGN_RSA_PSS_SHA512) ||
           atomic_load(&h->session->pss);
}

static void drop(struct cm_ext *ext)
{
    struct handle *h = CM_CONTAINER_OF(ext, struct handle, ext);

    cm__session_put(h->session);
    free(h);
}

cm_status cm__token_handle(const struct cm_key *key, gnutls_privkey_t *ret, struct cm_err *err)
{
    struct handle *h = cm_calloc(1, sizeof *h);
    cm_status rc = h != NULL ? session_get(cm__key_url(key), &h->session, err) : cm_fail_nomem(err);

    if (rc != CM_OK) {
        free(h);
        return rc;
    }
    h->ext.give = give;
    h->ext.drop = drop;
    h->ext.can = can;
    cm__tokens_lock();
    bool first = !h->session->tried;
    cm__tokens_unlock();
    /* Where this fails the key is away, and comes back: the handle is of use then. But who has no
     * memory is to be told. */
    rc = first ? cm__session_open(h->session, err) : CM_OK;
    if (rc == CM_E_NOMEM || rc == CM_E_INVAL) {
        drop(&h->ext);
        return rc;
    }
    return cm__ext_handle(key, &h->ext, ret, err);
}

cm_status cm__token_sign(const struct cm_key *key, gnutls_sign_algorithm_t algo,
                         struct cm_span input, struct cm_buf *out, struct cm_err *err)
{
    struct cm_token_session *s = NULL;
    gnutls_privkey_t kept = NULL; /* an account's key signs again and again */
    int64_t begin_ns = cm__tokens_now_ns();
    cm_status rc = cm__key_handle(key, &kept, err);

    if (rc == CM_OK)
        rc = session_get(cm__key_url(key), &s, err);
    if (rc != CM_OK)
        return rc;
    rc = cm__session_sign(s, algo, false, input, out, err);
    cm__tokens_lock();
    bool again = s->live == NULL && s->tried_ns < begin_ns;
    cm__tokens_unlock();
    if (rc != CM_OK && again) {
        rc = cm__session_open(s, err);
        if (rc == CM_OK)
            rc = cm__session_sign(s, algo, false, input, out, err);
    }
    cm__session_put(s);
    return rc;
}

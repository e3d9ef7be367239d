/* SPDX-License-Identifier: Apache-2.0 */
#include "key_session.h"

#include <certmesh/cm_keys.h>

#include <stdio.h>
#include <string.h>

/* Tokens that have gone away: looked for until they are back, by whoever has the time, and told of.
 * Not by handshakes. */

#define MANY        32u                /* sessions that are looked at in one round */
#define EMPTY_NS    (1 * CM_NS_PER_S)  /* that calls under way are waited for */
#define LONG_NS     (3 * CM_NS_PER_S)  /* away so long, others may be disturbed for it, ... */
#define DISTURB_NS  (60 * CM_NS_PER_S) /* but no oftener than this */
#define BUSY_NS     (1 * CM_NS_PER_S)  /* somebody else is at it */
#define SHORTEST_NS (CM_NS_PER_S / 10)

/* Above the clockwork's lock in the order of core, which is taken by those who are told. */
static pthread_mutex_t watch_lock = PTHREAD_MUTEX_INITIALIZER;
static struct cm_token_watch *watches;

void cm_pkcs11_alone(bool alone)
{
#ifndef CM_HAVE_P11KIT
    alone = false; /* it cannot be done */
#endif
    cm__tokens_lock();
    cm__tokens.alone = alone;
    cm__tokens_unlock();
}

/* ------------------------------------------------------------------- watching */

void cm_token_watch_begin(struct cm_token_watch *w)
{
    cm_mutex_lock(&watch_lock);
    w->next = watches;
    watches = w;
    cm_mutex_unlock(&watch_lock);
}

void cm_token_watch_end(struct cm_token_watch *w)
{
    struct cm_token_watch **at = &watches;

    cm_mutex_lock(&watch_lock);
    while (*at != NULL && *at != w)
        at = &(*at)->next;
    if (*at == w)
        *at = w->next;
    cm_mutex_unlock(&watch_lock);
}

void cm__tokens_tell(void)
{
    cm_mutex_lock(&watch_lock);
    for (struct cm_token_watch *w = watches; w != NULL; w = w->next)
        w->changed(w);
    cm_mutex_unlock(&watch_lock);
}

void cm__token_missed(void)
{
    cm__tokens_lock();
    bool news = !cm__tokens.missed && cm__tokens.alone;
    cm__tokens.missed = true;
    cm__tokens_unlock();
    if (news)
        cm__tokens_tell();
}

bool cm_key_is_away(struct cm_span der, struct cm_err *err)
{
    const uint8_t *end;
    bool away = false;

    if (atomic_load_explicit(&cm__tokens.away, memory_order_relaxed) == 0 || !cm__key_is_url(der) ||
        (end = memchr(der.data, '\n', der.len)) == NULL)
        return false;
    size_t len = (size_t)(end - der.data);
    cm__tokens_lock();
    for (struct cm_token_session *s = cm__tokens.first; s != NULL && !away; s = s->next) {
        away = s->away && s->url_len == len && memcmp(s->url, der.data, len) == 0;
        if (away)
            (void)cm_fail(err, s->why_rc, "%s", s->why);
    }
    cm__tokens_unlock();
    return away;
}

static struct cm_token_session *next_news_locked(uint64_t after)
{
    struct cm_token_session *found = NULL;

    for (struct cm_token_session *s = cm__tokens.first; s != NULL; s = s->next)
        if (s->changed > after && (found == NULL || s->changed < found->changed))
            found = s;
    return found;
}

uint64_t cm_tokens_news(uint64_t after, void (*tell)(void *user, const struct cm_token_news *n),
                        void *user)
{
    for (;;) {
        char url[CM_KEY_URL_MAX], why[sizeof cm__tokens.first->why];
        struct cm_token_news n;

        cm__tokens_lock();
        struct cm_token_session *s = next_news_locked(after);
        if (s != NULL) {
            after = s->changed;
            memcpy(url, s->url, s->url_len);
            memcpy(why, s->why, sizeof why);
            n = (struct cm_token_news){ .url = { (const uint8_t *)url, s->url_len },
                                        .away = s->away,
                                        .for_ns = cm__tokens_now_ns() - s->since_ns,
                                        .why = why };
        }
        cm__tokens_unlock();
        if (s == NULL)
            return after;
        tell(user, &n);
    }
}

/* -------------------------------------------------------------------- tending */

/* References to up to MANY that are @of_interest. */
static size_t collect(bool (*of_interest)(const struct cm_token_session *s, int64_t now_ns),
                      struct cm_token_session *ret[MANY])
{
    int64_t now_ns = cm__tokens_now_ns();
    size_t n = 0;

    cm__tokens_lock();
    for (struct cm_token_session *s = cm__tokens.first; s != NULL && n < MANY; s = s->next)
        if (of_interest(s, now_ns)) {
            s->refs++;
            ret[n++] = s;
        }
    cm__tokens_unlock();
    return n;
}

static bool is_due(const struct cm_token_session *s, int64_t now_ns)
{
    return s->away && !s->opening && s->next_ns <= now_ns;
}

static bool is_away(const struct cm_token_session *s, int64_t now_ns)
{
    (void)now_ns;
    return s->away && s->why_rc != CM_E_PERM;
}

/* One whose module somebody who is away may need to be initialized anew. */
static bool is_in_the_way(const struct cm_token_session *s, int64_t now_ns)
{
    (void)now_ns;
    if (s->live == NULL)
        return false;
    for (const struct cm_token_session *a = cm__tokens.first; a != NULL; a = a->next)
        if (a->away &&
            (a->module[0] == '\0' || s->module[0] == '\0' || strcmp(a->module, s->module) == 0))
            return true;
    return cm__tokens.missed;
}

static void open_all(struct cm_token_session *const *all, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        (void)!cm__session_open(all[i], NULL);
        cm__session_put(all[i]);
    }
}

/* Does a key that nobody has missed yet still sign? A hash of nothing in particular tells. */
static void probe_all(struct cm_token_session *const *all, size_t n)
{
    static const uint8_t hash[32] = "certmesh: is this token there?";

    for (size_t i = 0; i < n; i++) {
        struct cm_buf sig = CM_BUF_INIT(2048);

        cm__tokens_lock();
        bool rsa = all[i]->live != NULL &&
                   gnutls_privkey_get_pk_algorithm(all[i]->live, NULL) == GNUTLS_PK_RSA;
        cm__tokens_unlock();
        (void)!cm__session_sign(all[i], rsa ? GNUTLS_SIGN_RSA_SHA256 : GNUTLS_SIGN_ECDSA_SHA256,
                                true, CM_SPAN_OF(hash), &sig, NULL);
        cm_buf_free(&sig);
        cm__session_put(all[i]);
    }
}

/* Called while the gate is closed, so that what is said stays so. */
static bool may_begin_anew(const char *file)
{
    bool wanted, used = false;

    cm__tokens_lock();
    wanted = cm__tokens.missed;
    for (const struct cm_token_session *s = cm__tokens.first; s != NULL; s = s->next) {
        bool here = s->module[0] == '\0' || strcmp(s->module, file) == 0;

        used =
            used || (here && (s->live != NULL || s->users > 0 || s->stale != NULL || s->opening));
        wanted = wanted || (here && s->away && s->why_rc != CM_E_PERM);
    }
    cm__tokens_unlock();
    return wanted && !used;
}

/* Sessions that are lost are closed first: afterwards another one may have their number. */
static void close_stale(void)
{
    gnutls_privkey_t found;

    do {
        found = NULL;
        cm__tokens_lock();
        for (struct cm_token_session *s = cm__tokens.first; s != NULL && found == NULL; s = s->next)
            if (s->stale != NULL && s->users == 0) {
                found = s->stale;
                s->stale = NULL;
            }
        cm__tokens_unlock();
        if (found != NULL)
            gnutls_privkey_deinit(found);
    } while (found != NULL);
}

/* A key can be lost while others in the same token sign on: the module has noticed for one alone
 * that the token was away for a moment. */
static bool may_disturb_locked(int64_t now_ns)
{
    if (now_ns < cm__tokens.disturb_ns)
        return false;
    for (const struct cm_token_session *s = cm__tokens.first; s != NULL; s = s->next)
        if (is_away(s, now_ns) && now_ns - s->since_ns >= LONG_NS)
            return true;
    return false;
}

/* Who signs with one of these waits from now on. */
static void park_locked(int64_t now_ns)
{
    for (struct cm_token_session *s = cm__tokens.first; s != NULL; s = s->next) {
        bool wanted = false;

        for (const struct cm_token_session *a = cm__tokens.first; a != NULL; a = a->next)
            wanted = wanted || (is_away(a, now_ns) && strcmp(a->module, s->module) == 0);
        if (!wanted || s->live == NULL || s->stale != NULL || s->module[0] == '\0')
            continue;
        s->stale = s->live;
        s->live = NULL;
        s->parked = true;
        cm__tokens.disturb_ns = now_ns + DISTURB_NS;
    }
}

static void unpark_locked(void)
{
    for (struct cm_token_session *s = cm__tokens.first; s != NULL; s = s->next)
        if (s->parked) {
            s->live = s->stale;
            s->stale = NULL;
            s->parked = false;
        }
}

static bool is_calm_locked(void)
{
    bool calm = cm__tokens.inside == 0;

    for (const struct cm_token_session *s = cm__tokens.first; s != NULL && calm; s = s->next)
        calm = !s->parked || s->users == 0;
    return calm;
}

/* Nobody is inside of a module, and nobody enters. */
static bool close_gate(void)
{
    int64_t now_ns = cm__tokens_now_ns();
    int64_t left = EMPTY_NS;

    cm__tokens_lock();
    cm__tokens.closed = true;
    if (may_disturb_locked(now_ns))
        park_locked(now_ns);
    while (!is_calm_locked() && left > 0) {
        (void)cm_cond_wait_ns(&cm__tokens.calm, &cm__tokens.lock, left);
        left = now_ns + EMPTY_NS - cm__tokens_now_ns();
    }
    bool calm = is_calm_locked();
    cm__tokens.closed = calm;
    if (!calm)
        unpark_locked();
    (void)pthread_cond_broadcast(&cm__tokens.calm);
    cm__tokens_unlock();
    return calm;
}

static void open_gate(void)
{
    cm__tokens_lock();
    cm__tokens.closed = false;
    cm__tokens.missed = false;
    (void)pthread_cond_broadcast(&cm__tokens.calm);
    cm__tokens_unlock();
}

static bool is_parked(const struct cm_token_session *s, int64_t now_ns)
{
    (void)now_ns;
    return s->parked;
}

/* What opening a session does not bring back. */
static void begin_modules_anew(void)
{
    struct cm_token_session *some[MANY];
    size_t n;

    probe_all(some, collect(is_in_the_way, some));
    if (!close_gate())
        return;
    close_stale();
    cm__modules_again(may_begin_anew);
    open_gate();
    while ((n = collect(is_parked, some)) > 0)
        open_all(some, n); /* whatever comes of it, they are not parked any more */
    open_all(some, collect(is_away, some));
}

static int64_t wait_ns(void)
{
    int64_t now_ns = cm__tokens_now_ns();
    int64_t at_ns = INT64_MAX;

    cm__tokens_lock();
    for (const struct cm_token_session *s = cm__tokens.first; s != NULL; s = s->next)
        if (s->away && s->next_ns < at_ns)
            at_ns = s->next_ns;
    if (cm__tokens.missed && cm__tokens.alone && cm__tokens.again_ns < at_ns)
        at_ns = cm__tokens.again_ns;
    cm__tokens_unlock();
    if (at_ns == INT64_MAX)
        return at_ns;
    return at_ns - now_ns > SHORTEST_NS ? at_ns - now_ns : SHORTEST_NS;
}

static bool takes_more_locked(int64_t now_ns)
{
    bool any = cm__tokens.missed;

    for (const struct cm_token_session *s = cm__tokens.first; s != NULL && !any; s = s->next)
        any = is_away(s, 0);
    return any && cm__tokens.alone && cm__tokens.again_ns <= now_ns;
}

int64_t cm_tokens_tend(void)
{
    struct cm_token_session *some[MANY];

    cm__tokens_lock();
    bool busy = cm__tokens.tending;
    cm__tokens.tending = true;
    cm__tokens_unlock();
    if (busy)
        return BUSY_NS;
    open_all(some, collect(is_due, some));
    int64_t now_ns = cm__tokens_now_ns();
    cm__tokens_lock();
    bool more = takes_more_locked(now_ns);
    if (more)
        cm__tokens.again_ns = now_ns + CM_NS_PER_S; /* and no oftener than sessions are tried */
    cm__tokens_unlock();
    if (more)
        begin_modules_anew();
    cm__tokens_lock();
    cm__tokens.tending = false;
    cm__tokens_unlock();
    return wait_ns();
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "life.h"

#include <string.h>

/* A hash table of what is known of revocations: leaves that were found revoked, until they have
 * expired, and subjects that were given another one
 * for that, for a day. There is mostly nothing in it, and at
 * worst all that a CA has ever issued to us. */

#define BUCKETS     1024u
#define ENTRIES_MAX 200000u
#define KEEP_S      (24 * 3600)

struct entry {
    struct entry *next;
    uint8_t id[CM_SHA256_LEN];
    int64_t until_s; /* of no use after that */
    int64_t at_s;
    int reason;
};

struct cm_revoked {
    pthread_mutex_t lock;
    _Atomic size_t n; /* read without the lock, to be quick when there is nothing */
    struct entry *buckets[BUCKETS];
};

cm_status cm_revoked_new(struct cm_revoked **ret, struct cm_err *err)
{
    struct cm_revoked *r = cm_calloc(1, sizeof *r);

    if (r == NULL)
        return cm_fail_nomem(err);
    cm_mutex_init(&r->lock);
    *ret = r;
    return CM_OK;
}

void cm_revoked_free(struct cm_revoked *r)
{
    if (r == NULL)
        return;
    for (size_t i = 0; i < BUCKETS; i++) {
        while (r->buckets[i] != NULL) {
            struct entry *e = r->buckets[i];

            r->buckets[i] = e->next;
            free(e);
        }
    }
    (void)pthread_mutex_destroy(&r->lock);
    free(r);
}

static struct entry **bucket_of(struct cm_revoked *r, const uint8_t id[CM_SHA256_LEN])
{
    return &r->buckets[((size_t)id[0] << 8 | id[1]) % BUCKETS];
}

static struct entry *find_locked(struct cm_revoked *r, const uint8_t id[CM_SHA256_LEN])
{
    struct entry *e = *bucket_of(r, id);

    while (e != NULL && memcmp(e->id, id, CM_SHA256_LEN) != 0)
        e = e->next;
    return e;
}

static void sweep_locked(struct cm_revoked *r, int64_t now_s)
{
    for (size_t i = 0; i < BUCKETS; i++) {
        struct entry **at = &r->buckets[i];

        while (*at != NULL) {
            struct entry *e = *at;

            if (e->until_s >= now_s) {
                at = &e->next;
                continue;
            }
            *at = e->next;
            free(e);
            (void)atomic_fetch_sub(&r->n, 1);
        }
    }
}

/* NULL without memory or place. *@ret_first: it was not there before. */
static struct entry *entry_locked(struct cm_revoked *r, const uint8_t id[CM_SHA256_LEN],
                                  int64_t now_s, bool *ret_first)
{
    struct entry *e = find_locked(r, id);

    *ret_first = e == NULL;
    if (e != NULL)
        return e;
    if (atomic_load(&r->n) >= ENTRIES_MAX)
        sweep_locked(r, now_s);
    if (atomic_load(&r->n) >= ENTRIES_MAX)
        return NULL;
    e = cm_calloc(1, sizeof *e);
    if (e == NULL)
        return NULL;
    memcpy(e->id, id, CM_SHA256_LEN);
    e->next = *bucket_of(r, id);
    *bucket_of(r, id) = e;
    (void)atomic_fetch_add(&r->n, 1);
    return e;
}

/* ---- leaves ---- */

bool cm_revoked_is(const struct cm_config *cfg, const struct cm_cert *cert, int *ret_reason)
{
    struct cm_revoked *r = cfg->revoked;
    uint8_t id[CM_SHA256_LEN];
    struct entry *e;

    if (atomic_load(&r->n) == 0)
        return false;
    cm_sha256(cm_cert_der(cert, 0), id);
    cm_mutex_lock(&r->lock);
    e = find_locked(r, id);
    if (e != NULL && ret_reason != NULL)
        *ret_reason = e->reason;
    cm_mutex_unlock(&r->lock);
    return e != NULL;
}

cm_status cm_revoked_note(struct cm_config *cfg, const struct cm_cert *cert, int reason,
                          bool *ret_first, struct cm_err *err)
{
    struct cm_revoked *r = cfg->revoked;
    int64_t now = cm_env_wall_s(cfg->env);
    uint8_t id[CM_SHA256_LEN];
    struct entry *e;

    cm_sha256(cm_cert_der(cert, 0), id);
    cm_mutex_lock(&r->lock);
    e = entry_locked(r, id, now, ret_first);
    if (e != NULL) {
        e->reason = reason;
        e->at_s = now;
        e->until_s = cert->not_after_s;
    }
    cm_mutex_unlock(&r->lock);
    if (e == NULL)
        return cm_fail(err, CM_E_LIMIT, "no memory, or more than %u revocations to remember",
                       ENTRIES_MAX);
    return CM_OK;
}

/* ---- subjects ---- */

/* As no certificate is plain text, none has this for its own. */
static void id_of(const struct cm_subject *s, uint8_t ret[CM_SHA256_LEN])
{
    cm_sha256(cm_span_str(s->dir), ret);
}

/* That a CA revokes what it has issued a moment ago may be its own fault, and go on and on. What a
 * peer stored does not count: that may have been there before. */
cm_status cm_revoked_may_order(const struct cm_config *cfg, const struct cm_subject *s,
                               struct cm_err *err)
{
    struct cm_revoked *r = cfg->revoked;
    int64_t now = cm_env_wall_s(cfg->env);
    uint8_t id[CM_SHA256_LEN];
    struct entry *e;
    int64_t wait_s;

    id_of(s, id);
    cm_mutex_lock(&r->lock);
    e = find_locked(r, id);
    wait_s = e != NULL && e->at_s <= now ? e->until_s - now : 0;
    cm_mutex_unlock(&r->lock);
    if (wait_s <= 0)
        return CM_OK;
    (void)cm_fail(
        err, CM_E_RATELIMITED,
        "a certificate of '%s' was replaced because it was revoked, and now its successor "
        "is: the next order for that may be placed in %lld s",
        s->ident, (long long)wait_s);
    if (err != NULL)
        err->retry_after_s = wait_s;
    return CM_E_RATELIMITED;
}

void cm_revoked_note_order(struct cm_config *cfg, const struct cm_subject *s)
{
    struct cm_revoked *r = cfg->revoked;
    int64_t now = cm_env_wall_s(cfg->env);
    uint8_t id[CM_SHA256_LEN];
    struct entry *e;
    bool first;

    id_of(s, id);
    cm_mutex_lock(&r->lock);
    e = entry_locked(r, id, now, &first);
    if (e != NULL) { /* else the next one may come sooner than it should */
        e->at_s = now;
        e->until_s = now + KEEP_S;
    }
    cm_mutex_unlock(&r->lock);
}

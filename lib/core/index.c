/* SPDX-License-Identifier: Apache-2.0 */
#include "index.h"

#include <string.h>

/* SHARDS open-addressing tables. A reader takes one of STRIPES locks, the one of its thread, a
 * writer all of them: so readers on different threads share no cache line that is written, which a
 * plain rwlock or its count would be. Writers allocate and rehash before they take the stripes;
 * inside they only move pointers.
 *
 * The table holds no names: a slot says at which text of which certificate its name stands. So an
 * entry costs nothing but its slot, and a look-up among very many waits for memory twice, for the
 * slot and for the certificate. */

#define SHARDS      64u
#define STRIPES     16u
#define FIRST_SLOTS 16u

/* The certificates of a name that has several. */
struct several {
    uint32_t n;
    uint32_t room;
    struct cm_cert *at[];
};

struct slot {
    uintptr_t what; /* 0 = free; a certificate; or SEVERAL with the list's address */
    uint32_t hash;  /* so that probing does not touch certificates of other names */
    uint32_t off;   /* of the name in the bytes of the first certificate */
};
#define SEVERAL ((uintptr_t)1)

struct shard {
    struct slot *slots;
    size_t mask; /* number of slots - 1 */
    size_t used;
};

struct stripe {
    _Alignas(64) pthread_mutex_t lock;
};

struct cm_index {
    struct stripe stripes[STRIPES];
    struct shard shards[SHARDS];
};

static void lock_all(struct cm_index *x)
{
    for (size_t i = 0; i < STRIPES; i++)
        cm_mutex_lock(&x->stripes[i].lock);
}

static void unlock_all(struct cm_index *x)
{
    for (size_t i = STRIPES; i-- > 0;)
        cm_mutex_unlock(&x->stripes[i].lock);
}

static struct several *list_of(const struct slot *s)
{
    return (s->what & SEVERAL) != 0 ? (struct several *)(s->what & ~SEVERAL) : NULL;
}

/* The certificates of a slot that is not free. */
static struct cm_cert *const *certs_of(const struct slot *s, size_t *ret_n)
{
    struct several *l = list_of(s);

    if (l == NULL) {
        *ret_n = 1;
        return (struct cm_cert *const *)&s->what;
    }
    *ret_n = l->n;
    return l->at;
}

static const char *name_of(const struct slot *s)
{
    const struct several *l = list_of(s);
    const struct cm_cert *first = l != NULL ? l->at[0] : (const struct cm_cert *)s->what;

    return (const char *)first->bytes + s->off;
}

/* Where @key stands among the names of @cert, which has it. */
static uint32_t offset_of(const struct cm_cert *cert, const char *key, size_t len)
{
    const char *at = (const char *)cert->bytes;

    while (strncmp(at, key, len) != 0 || at[len] != '\0')
        at += strlen(at) + 1;
    return (uint32_t)(at - (const char *)cert->bytes);
}

/* Eight bytes at a time. The names in the table are our own certificates', so nobody outside
 * chooses what collides. */
static uint32_t hash_name(const char *s, size_t len)
{
    uint64_t h = UINT64_C(0x9E3779B97F4A7C15) ^ len;
    uint64_t w;

    for (; len >= sizeof w; len -= sizeof w, s += sizeof w) {
        memcpy(&w, s, sizeof w);
        h = (h ^ w) * UINT64_C(0xFF51AFD7ED558CCD);
        h ^= h >> 32;
    }
    w = 0;
    memcpy(&w, s, len);
    h = (h ^ w) * UINT64_C(0xC4CEB9FE1A85EC53);
    return (uint32_t)(h ^ h >> 29);
}

static struct shard *shard_of(struct cm_index *x, uint32_t hash)
{
    return &x->shards[hash % SHARDS];
}

/* The slot of @key, or the empty one where it belongs. A key holds no NUL: it is compared with a
 * text, and must not run past its end. */
static size_t slot_of(const struct shard *s, uint32_t hash, const char *key, size_t len)
{
    size_t i = hash / SHARDS & s->mask;

    for (; s->slots[i].what != 0; i = (i + 1) & s->mask) {
        if (s->slots[i].hash != hash)
            continue;
        const char *name = name_of(&s->slots[i]);
        if (strncmp(name, key, len) == 0 && name[len] == '\0')
            break;
    }
    return i;
}

static size_t free_slot(const struct shard *s, uint32_t hash)
{
    size_t i = hash / SHARDS & s->mask;

    while (s->slots[i].what != 0)
        i = (i + 1) & s->mask;
    return i;
}

cm_status cm_index_new(struct cm_index **ret, struct cm_err *err)
{
    struct cm_index *x = cm_calloc_aligned(_Alignof(struct cm_index), sizeof *x);

    if (x == NULL)
        return cm_fail_nomem(err);
    for (size_t i = 0; i < STRIPES; i++)
        cm_mutex_init(&x->stripes[i].lock);
    for (size_t i = 0; i < SHARDS; i++) {
        x->shards[i].slots = cm_calloc(FIRST_SLOTS, sizeof x->shards[i].slots[0]);
        x->shards[i].mask = FIRST_SLOTS - 1;
        if (x->shards[i].slots == NULL) {
            cm_index_free(x);
            return cm_fail_nomem(err);
        }
    }
    *ret = x;
    return CM_OK;
}

void cm_index_free(struct cm_index *x)
{
    if (x == NULL)
        return;
    for (size_t i = 0; i < SHARDS; i++) {
        struct shard *s = &x->shards[i];

        for (size_t k = 0; s->slots != NULL && k <= s->mask; k++)
            free(list_of(&s->slots[k]));
        free(s->slots);
    }
    for (size_t i = 0; i < STRIPES; i++)
        (void)pthread_mutex_destroy(&x->stripes[i].lock);
    free(x);
}

/* ---- reading ---- */

size_t cm_index_find(struct cm_index *x, const char *key, size_t len,
                     struct cm_cert *out[CM_CANDIDATES_MAX])
{
    uint32_t hash = hash_name(key, len);
    pthread_mutex_t *lock = &x->stripes[cm_thread_number() % STRIPES].lock;
    size_t found = 0;

    cm_mutex_lock(lock);
    const struct shard *s = shard_of(x, hash);
    const struct slot *slot = &s->slots[slot_of(s, hash, key, len)];
    if (slot->what != 0) {
        size_t n;
        struct cm_cert *const *certs = certs_of(slot, &n);

        for (; found < n && found < CM_CANDIDATES_MAX; found++)
            out[found] = cm_cert_ref_found(certs[found]);
    }
    cm_mutex_unlock(lock);
    return found;
}

/* ---- writing ---- */

/* Make sure that one more entry fits. */
static cm_status grow(struct cm_index *x, struct shard *s, struct cm_err *err)
{
    size_t size = s->mask + 1;

    if ((s->used + 1) * 4 <= size * 3)
        return CM_OK;
    struct shard bigger = { cm_calloc(size * 2, sizeof s->slots[0]), size * 2 - 1, s->used };
    if (bigger.slots == NULL)
        return cm_fail_nomem(err);
    for (size_t i = 0; i < size; i++) {
        const struct slot *from = &s->slots[i];

        if (from->what != 0)
            bigger.slots[free_slot(&bigger, from->hash)] = *from;
    }
    struct slot *old = s->slots;
    lock_all(x);
    *s = bigger;
    unlock_all(x);
    free(old);
    return CM_OK;
}

static cm_status add_first(struct cm_index *x, uint32_t hash, const char *key, size_t len,
                           struct cm_cert *cert, struct cm_err *err)
{
    struct shard *s = shard_of(x, hash);

    cm_status rc = grow(x, s, err);
    if (rc != CM_OK)
        return rc;
    size_t at = slot_of(s, hash, key, len);
    lock_all(x);
    s->slots[at] = (struct slot){ (uintptr_t)cert, hash, offset_of(cert, key, len) };
    s->used++;
    unlock_all(x);
    return CM_OK;
}

/* A list with room for one more than @slot has, with what it has. */
static cm_status roomier(const struct slot *slot, struct several **ret, struct cm_err *err)
{
    size_t n;
    struct cm_cert *const *have = certs_of(slot, &n);
    struct several *l;

    if (n == UINT16_MAX)
        return cm_fail(err, CM_E_LIMIT, "more than %zu certificates for '%s'", n - 1,
                       name_of(slot));
    l = cm_calloc(1, sizeof *l + 2 * n * sizeof(struct cm_cert *));
    if (l == NULL)
        return cm_fail_nomem(err);
    l->n = (uint32_t)n;
    l->room = (uint32_t)(2 * n);
    memcpy(l->at, have, n * sizeof(struct cm_cert *));
    *ret = l;
    return CM_OK;
}

/* Insert into the list of @slot, behind those that are newer. */
static cm_status add_further(struct cm_index *x, struct slot *slot, const char *key, size_t len,
                             struct cm_cert *cert, struct cm_err *err)
{
    struct several *old = list_of(slot);
    struct several *l = old;
    cm_status rc = CM_OK;
    size_t at = 0;

    if (old == NULL || old->n == old->room)
        rc = roomier(slot, &l, err);
    if (rc != CM_OK)
        return rc;
    while (at < l->n && l->at[at]->not_before_s > cert->not_before_s)
        at++;
    uint32_t off = at == 0 ? offset_of(cert, key, len) : slot->off;
    lock_all(x);
    memmove(l->at + at + 1, l->at + at, (l->n - at) * sizeof(struct cm_cert *));
    l->at[at] = cert;
    l->n++;
    slot->what = (uintptr_t)l | SEVERAL;
    slot->off = off;
    unlock_all(x);
    if (l != old)
        free(old);
    return CM_OK;
}

/* Close the gap behind a removed slot, or what was pushed past it is not found any more. */
static void close_gap(struct shard *s, size_t hole)
{
    size_t i = hole;

    for (;;) {
        i = (i + 1) & s->mask;
        if (s->slots[i].what == 0)
            break;
        size_t home = s->slots[i].hash / SHARDS & s->mask;
        /* May it move? Only if the hole lies between its home and where it is, cyclically. */
        if (((i - home) & s->mask) < ((i - hole) & s->mask))
            continue;
        s->slots[hole] = s->slots[i];
        s->slots[i].what = 0;
        hole = i;
    }
}

static bool holds(const struct slot *slot, const struct cm_cert *cert, size_t *ret_at)
{
    size_t n;
    struct cm_cert *const *certs = certs_of(slot, &n);

    for (size_t i = 0; i < n; i++) {
        if (certs[i] == cert) {
            *ret_at = i;
            return true;
        }
    }
    return false;
}

static void remove_name(struct cm_index *x, const char *key, size_t len, struct cm_cert *cert)
{
    uint32_t hash = hash_name(key, len);
    struct shard *s = shard_of(x, hash);
    size_t i = slot_of(s, hash, key, len);
    struct slot *slot = &s->slots[i];
    struct several *l = list_of(slot);
    struct several *gone = NULL;
    size_t at;

    if (slot->what == 0 || !holds(slot, cert, &at))
        return;
    lock_all(x);
    if (l == NULL) {
        slot->what = 0;
        s->used--;
        close_gap(s, i);
    } else {
        memmove(l->at + at, l->at + at + 1, (l->n - at - 1u) * sizeof(struct cm_cert *));
        l->n--;
        if (at == 0)
            slot->off = offset_of(l->at[0], key, len);
        if (l->n == 1) {
            slot->what = (uintptr_t)l->at[0];
            gone = l;
        }
    }
    unlock_all(x);
    free(gone);
}

static void remove_names(struct cm_index *x, struct cm_cert *cert, size_t n)
{
    const char *key = cm_cert_name(cert, 0);

    for (size_t i = 0; i < n; i++, key += strlen(key) + 1)
        remove_name(x, key, strlen(key), cert);
}

cm_status cm_index_add(struct cm_index *x, struct cm_cert *cert, struct cm_err *err)
{
    const char *key = cm_cert_name(cert, 0);

    for (size_t i = 0; i < cm_cert_name_count(cert); i++, key += strlen(key) + 1) {
        size_t len = strlen(key);
        uint32_t hash = hash_name(key, len);
        struct shard *s = shard_of(x, hash);
        struct slot *slot = &s->slots[slot_of(s, hash, key, len)];
        size_t at;
        cm_status rc = CM_OK;

        if (slot->what == 0)
            rc = add_first(x, hash, key, len, cert, err);
        else if (!holds(slot, cert, &at)) /* a certificate may name something twice */
            rc = add_further(x, slot, key, len, cert, err);
        if (rc != CM_OK) {
            remove_names(x, cert, i);
            return rc;
        }
    }
    return CM_OK;
}

void cm_index_remove(struct cm_index *x, struct cm_cert *cert)
{
    remove_names(x, cert, cm_cert_name_count(cert));
}

struct cm_cert *const *cm_index_peek(struct cm_index *x, const char *key, size_t len, size_t *ret_n)
{
    uint32_t hash = hash_name(key, len);
    const struct shard *s = shard_of(x, hash);
    const struct slot *slot = &s->slots[slot_of(s, hash, key, len)];

    if (slot->what != 0)
        return certs_of(slot, ret_n);
    *ret_n = 0;
    return NULL;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "index.h"

#include <string.h>

/* SHARDS open-addressing tables of pointers to entries. A reader takes one of STRIPES locks, the
 * one of its thread, a writer all of them: so readers on different threads share no cache line
 * that is written, which a plain rwlock or its count would be. Writers allocate and rehash before
 * they take the stripes; inside they only move pointers. */

#define SHARDS      64u
#define STRIPES     16u
#define FIRST_SLOTS 16u

struct entry {
    uint16_t len;
    uint16_t n;
    union {
        struct cm_cert *one; /* n == 1 */
        struct cm_cert **many;
    } certs;
    char name[];
};

/* The hash stands beside the pointer, so that probing does not touch entries of other names. */
struct slot {
    struct entry *entry; /* NULL = free */
    uint32_t hash;
};

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

static unsigned my_stripe(void)
{
    static _Atomic unsigned next;
    static _Thread_local unsigned mine; /* + 1; 0 = not yet chosen */

    if (mine == 0)
        mine = atomic_fetch_add_explicit(&next, 1, memory_order_relaxed) % STRIPES + 1;
    return mine - 1;
}

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

/* The slot of @key, or the empty one where it belongs. */
static size_t slot_of(const struct shard *s, uint32_t hash, const char *key, size_t len)
{
    size_t i = hash / SHARDS & s->mask;

    for (; s->slots[i].entry != NULL; i = (i + 1) & s->mask) {
        const struct entry *e = s->slots[i].entry;

        if (s->slots[i].hash == hash && e->len == len && memcmp(e->name, key, len) == 0)
            break;
    }
    return i;
}

static size_t free_slot(const struct shard *s, uint32_t hash)
{
    size_t i = hash / SHARDS & s->mask;

    while (s->slots[i].entry != NULL)
        i = (i + 1) & s->mask;
    return i;
}

static struct cm_cert *const *certs_of(const struct entry *e)
{
    return e->n == 1 ? &e->certs.one : e->certs.many;
}

static void entry_free(struct entry *e)
{
    if (e != NULL && e->n != 1)
        free(e->certs.many);
    free(e);
}

cm_status cm_index_new(struct cm_index **ret, struct cm_err *err)
{
    struct cm_index *x = NULL;

    if (posix_memalign((void **)&x, _Alignof(struct cm_index), sizeof *x) != 0)
        return cm_fail_nomem(err);
    memset(x, 0, sizeof *x);
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
            entry_free(s->slots[k].entry);
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
    pthread_mutex_t *lock = &x->stripes[my_stripe()].lock;
    size_t n = 0;

    cm_mutex_lock(lock);
    const struct shard *s = shard_of(x, hash);
    const struct entry *e = s->slots[slot_of(s, hash, key, len)].entry;
    if (e != NULL) {
        struct cm_cert *const *certs = certs_of(e);

        for (; n < e->n && n < CM_CANDIDATES_MAX; n++)
            out[n] = cm_cert_ref(certs[n]);
    }
    cm_mutex_unlock(lock);
    return n;
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

        if (from->entry != NULL)
            bigger.slots[free_slot(&bigger, from->hash)] = *from;
    }
    struct slot *old = s->slots;
    lock_all(x);
    *s = bigger;
    unlock_all(x);
    free(old);
    return CM_OK;
}

static cm_status add_entry(struct cm_index *x, uint32_t hash, const char *key, size_t len,
                           struct cm_cert *cert, struct cm_err *err)
{
    struct shard *s = shard_of(x, hash);

    cm_status rc = grow(x, s, err);
    if (rc != CM_OK)
        return rc;
    struct entry *e = cm_calloc(1, sizeof *e + len + 1);
    if (e == NULL)
        return cm_fail_nomem(err);
    e->len = (uint16_t)len;
    e->n = 1;
    e->certs.one = cert;
    memcpy(e->name, key, len);
    size_t at = slot_of(s, hash, key, len);
    lock_all(x);
    s->slots[at] = (struct slot){ e, hash };
    s->used++;
    unlock_all(x);
    return CM_OK;
}

/* Insert into the list of @e, behind those that are newer. */
static cm_status add_to_entry(struct cm_index *x, struct entry *e, struct cm_cert *cert,
                              struct cm_err *err)
{
    struct cm_cert *const *have = certs_of(e);
    size_t at = 0;

    if (e->n == UINT16_MAX)
        return cm_fail(err, CM_E_LIMIT, "more than %u certificates for '%s'", e->n - 1u, e->name);
    struct cm_cert **list = cm_calloc(e->n + 1u, sizeof(struct cm_cert *));
    if (list == NULL)
        return cm_fail_nomem(err);
    while (at < e->n && have[at]->not_before_s > cert->not_before_s)
        at++;
    memcpy(list, have, at * sizeof(struct cm_cert *));
    list[at] = cert;
    memcpy(list + at + 1, have + at, (e->n - at) * sizeof(struct cm_cert *));
    struct cm_cert **old = e->n == 1 ? NULL : e->certs.many;
    lock_all(x);
    e->certs.many = list;
    e->n++;
    unlock_all(x);
    free(old);
    return CM_OK;
}

/* Close the gap behind a removed slot, or what was pushed past it is not found any more. */
static void close_gap(struct shard *s, size_t hole)
{
    size_t i = hole;

    for (;;) {
        i = (i + 1) & s->mask;
        if (s->slots[i].entry == NULL)
            break;
        size_t home = s->slots[i].hash / SHARDS & s->mask;
        /* May it move? Only if the hole lies between its home and where it is, cyclically. */
        if (((i - home) & s->mask) < ((i - hole) & s->mask))
            continue;
        s->slots[hole] = s->slots[i];
        s->slots[i].entry = NULL;
        hole = i;
    }
}

static void remove_name(struct cm_index *x, const char *key, size_t len, struct cm_cert *cert)
{
    uint32_t hash = hash_name(key, len);
    struct shard *s = shard_of(x, hash);
    size_t slot = slot_of(s, hash, key, len);
    struct entry *e = s->slots[slot].entry;
    struct cm_cert **old = NULL;
    size_t at = 0;

    if (e == NULL)
        return;
    while (at < e->n && certs_of(e)[at] != cert)
        at++;
    if (at == e->n)
        return;
    lock_all(x);
    if (e->n == 1) {
        s->slots[slot].entry = NULL;
        s->used--;
        close_gap(s, slot);
    } else if (e->n == 2) {
        old = e->certs.many;
        e->certs.one = old[1 - at];
        e->n = 1;
        e = NULL;
    } else {
        memmove(e->certs.many + at, e->certs.many + at + 1,
                (e->n - at - 1u) * sizeof(struct cm_cert *));
        e->n--;
        e = NULL;
    }
    unlock_all(x);
    free(old);
    entry_free(e);
}

static bool has(const struct entry *e, const struct cm_cert *cert)
{
    for (size_t i = 0; i < e->n; i++)
        if (certs_of(e)[i] == cert)
            return true;
    return false;
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
        struct entry *e = s->slots[slot_of(s, hash, key, len)].entry;
        cm_status rc = CM_OK;

        if (e == NULL)
            rc = add_entry(x, hash, key, len, cert, err);
        else if (!has(e, cert)) /* a certificate may name something twice */
            rc = add_to_entry(x, e, cert, err);
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
    const struct entry *e = s->slots[slot_of(s, hash, key, len)].entry;

    *ret_n = e != NULL ? e->n : 0;
    return e != NULL ? certs_of(e) : NULL;
}

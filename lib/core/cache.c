/* SPDX-License-Identifier: Apache-2.0 */
#include "index.h"
#include "maintain.h"

#include <string.h>

/* What is served. Handshakes read the index only; everything else happens under the writer lock,
 * and references are dropped after it. */

#define STEPS_MAX 64u

struct list {
    struct cm_cert **at;
    size_t n;
    size_t cap;
    size_t hand; /* of the clock */
};

struct cm_cache {
    pthread_mutex_t writer;
    struct cm_index *index;
    struct list managed;
    struct list passing; /* of names that clients asked for: the first to be evicted */
    struct list own;     /* the program's own: never evicted */
    size_t capacity;     /* 0 = unlimited */
    struct cm_maint *maint;
    struct cm_owns *owns;
    struct cm_tokens *tokens;
    struct cm_audience audience;
    struct cm_hotfiles *hotfiles;
};

cm_status cm_cache_new(const struct cm_cache_options *opts, struct cm_cache **ret,
                       struct cm_err *err)
{
    struct cm_cache *c = cm_calloc(1, sizeof *c);
    struct cm_cache_options o = { .size = 0 };

    if (c == NULL)
        return cm_fail_nomem(err);
    cm_audience_init(&c->audience);
    if (opts != NULL)
        memcpy(&o, opts, opts->size < sizeof o ? opts->size : sizeof o);
    cm_mutex_init(&c->writer);
    c->capacity = o.capacity;
    cm_status rc = cm_index_new(&c->index, err);
    if (rc == CM_OK)
        rc = cm_maint_new(c, &o, &c->maint, err);
    if (rc == CM_OK)
        rc = cm_owns_new(c, &c->owns, err);
    if (rc == CM_OK)
        rc = cm_tokens_new(c, &c->tokens, err);
    if (rc == CM_OK)
        rc = cm_hotfiles_new(&c->hotfiles, err);
    if (rc != CM_OK) {
        cm_cache_free(c);
        return rc;
    }
    *ret = c;
    return CM_OK;
}

struct cm_maint *cm_cache_maint(struct cm_cache *c)
{
    return c->maint;
}

static void list_free(struct list *l)
{
    for (size_t i = 0; i < l->n; i++)
        cm_cert_retire(l->at[i]);
    free(l->at);
}

void cm_cache_free(struct cm_cache *c)
{
    if (c == NULL)
        return;
    cm_cache_stop(c);
    cm_tokens_free(c->tokens);
    cm_maint_free(c->maint);
    cm_owns_free(c->owns);
    cm_hotfiles_free(c->hotfiles);
    cm_index_free(c->index);
    list_free(&c->managed);
    list_free(&c->passing);
    list_free(&c->own);
    cm_audience_end(&c->audience);
    (void)pthread_mutex_destroy(&c->writer);
    free(c);
}

struct cm_hotfiles *cm_cache_hotfiles(struct cm_cache *c)
{
    return c->hotfiles;
}

struct cm_audience *cm_cache_audience(struct cm_cache *c)
{
    return &c->audience;
}

static struct list *list_for(struct cm_cache *c, const struct cm_cert *cert)
{
    if (!cm_cert_is_managed(cert))
        return &c->own;
    return cert->passing ? &c->passing : &c->managed;
}

static bool is_in_locked(struct cm_cache *c, const struct cm_cert *cert)
{
    const struct list *l = list_for(c, cert);

    return cert->slot < l->n && l->at[cert->slot] == cert;
}

/* The caller drops the cache's reference once the lock is open. */
static void take_out_locked(struct cm_cache *c, struct cm_cert *cert)
{
    struct list *l = list_for(c, cert);

    cm_index_remove(c->index, cert);
    l->at[cert->slot] = l->at[--l->n];
    l->at[cert->slot]->slot = cert->slot;
    cert->slot = CM_NO_SLOT;
}

static cm_status put_in_locked(struct cm_cache *c, struct cm_cert *cert, struct cm_err *err)
{
    struct list *l = list_for(c, cert);

    if (l->n >= CM_NO_SLOT - 1)
        return cm_fail(err, CM_E_LIMIT, "the cache holds %zu certificates already", l->n);
    if (l->n == l->cap) {
        size_t cap = l->cap > 0 ? l->cap * 2 : 16;
        struct cm_cert **bigger = cm_realloc_array(l->at, cap, sizeof(struct cm_cert *));

        if (bigger == NULL)
            return cm_fail_nomem(err);
        l->at = bigger;
        l->cap = cap;
    }
    cm_status rc = cm_index_add(c->index, cert, err);
    if (rc != CM_OK)
        return rc;
    cert->slot = (uint32_t)l->n;
    l->at[l->n++] = cm_cert_ref(cert);
    return CM_OK;
}

/* One of @l to give up, as the clock algorithm chooses it: the hand goes round and takes the first
 * that nobody has asked for since it last came by. So a flood of rare names does not push out the
 * busy ones, and the cost does not grow with the cache. NULL if there is none. */
static struct cm_cert *pick_victim_locked(struct list *l)
{
    struct cm_cert *victim = NULL;

    for (unsigned i = 0; i < STEPS_MAX && l->n > 0; i++) {
        if (l->hand >= l->n)
            l->hand = 0;
        victim = l->at[l->hand];
        if (!atomic_exchange_explicit(&victim->used, 0, memory_order_relaxed))
            break;
        l->hand++;
    }
    return victim;
}

static size_t count_locked(const struct cm_cache *c)
{
    return c->managed.n + c->passing.n + c->own.n;
}

/* What a client can bring about takes no place from what the program wants: with nothing else to
 * give up, the cache holds one more. */
static struct cm_cert *make_room_locked(struct cm_cache *c, bool passing)
{
    struct cm_cert *victim = NULL;

    if (c->capacity > 0 && count_locked(c) >= c->capacity)
        victim = pick_victim_locked(c->passing.n > 0 || passing ? &c->passing : &c->managed);
    if (victim != NULL)
        take_out_locked(c, victim);
    return victim;
}

void cm_cache_mark_passing(struct cm_cache *c, struct cm_cert *cert)
{
    cm_mutex_lock(&c->writer);
    if (!is_in_locked(c, cert))
        cert->passing = true;
    cm_mutex_unlock(&c->writer);
}

static bool same_names(const struct cm_cert *a, const struct cm_cert *b)
{
    if (a->n_names != b->n_names)
        return false;
    for (size_t i = 0; i < a->n_names; i++)
        if (strcmp(cm_cert_name(a, i), cm_cert_name(b, i)) != 0)
            return false;
    return true;
}

/* Is @have superseded by @cert? Another kind of key is another offer to clients, not the same. */
static bool is_replaced_by(const struct cm_cert *have, const struct cm_cert *cert)
{
    return have != cert && cm_cert_is_managed(have) && have->key_type == cert->key_type &&
           have->not_before_s <= cert->not_before_s && same_names(have, cert);
}

/* One that goes because of @cert, NULL if there is none (any more). */
static struct cm_cert *replaced_locked(struct cm_cache *c, const struct cm_cert *cert)
{
    const char *key = cm_cert_name(cert, 0);
    size_t n;
    struct cm_cert *const *have = cm_index_peek(c->index, key, strlen(key), &n);

    for (size_t i = 0; i < n; i++)
        if (is_replaced_by(have[i], cert))
            return have[i];
    return NULL;
}

static bool holds_leaf_locked(struct cm_cache *c, const struct cm_cert *cert, struct cm_cert **ret)
{
    const char *key = cm_cert_name(cert, 0);
    size_t n;
    struct cm_cert *const *have = cm_index_peek(c->index, key, strlen(key), &n);

    for (size_t i = 0; i < n; i++) {
        if (cm_cert_is_managed(have[i]) && cm_cert_same_leaf(have[i], cert)) {
            *ret = have[i];
            return true;
        }
    }
    return false;
}

static cm_status check_cert(const struct cm_cert *cert, struct cm_err *err)
{
    if (cm_cert_name_count(cert) == 0)
        return cm_fail(err, CM_E_CERT, "the certificate (serial %s) names no host",
                       cm_cert_serial(cert));
    return CM_OK;
}

/* @now: may it take the place of older ones? *@ret_gone is for the caller to drop. */
static cm_status put_one_locked(struct cm_cache *c, struct cm_cert *cert, bool now,
                                struct cm_cert **ret_gone, bool *ret_added, struct cm_err *err)
{
    struct cm_cert *old = now ? replaced_locked(c, cert) : NULL;

    if (old != NULL && old->passing)
        cert->passing = true;
    *ret_gone = old == NULL ? make_room_locked(c, cert->passing) : NULL;
    cm_status rc = put_in_locked(c, cert, err);
    if (rc == CM_OK && old != NULL) {
        take_out_locked(c, old);
        *ret_gone = old;
    }
    *ret_added = rc == CM_OK && old == NULL;
    return rc;
}

cm_status cm_cache_put_new(struct cm_cache *c, struct cm_cert *cert, int64_t now_s, bool *ret_added,
                           struct cm_err *err)
{
    /* One from the future takes nothing's place: the old one is served until its time has come. */
    bool now = now_s >= cert->not_before_s;
    struct cm_cert *gone = NULL;
    bool added = false;
    bool known;

    cm_status rc = check_cert(cert, err);
    if (rc != CM_OK)
        return rc;
    cm_mutex_lock(&c->writer);
    known = holds_leaf_locked(c, cert, &gone);
    gone = NULL;
    if (!known)
        rc = put_one_locked(c, cert, now, &gone, &added, err);
    cm_mutex_unlock(&c->writer);
    cm_cert_retire(gone);
    while (rc == CM_OK && now && gone != NULL) { /* usually there was only one */
        cm_mutex_lock(&c->writer);
        gone = replaced_locked(c, cert);
        if (gone != NULL)
            take_out_locked(c, gone);
        cm_mutex_unlock(&c->writer);
        cm_cert_retire(gone);
    }
    if (rc == CM_OK)
        *ret_added = added;
    return rc;
}

cm_status cm_cache_put(struct cm_cache *c, struct cm_cert *cert, int64_t now_s, struct cm_err *err)
{
    bool added;

    return cm_cache_put_new(c, cert, now_s, &added, err);
}

/* ---- the program's own ---- */

/* The entry that is the same certificate: leaf, chain and key, to the last byte. */
static struct cm_cert *same_own_locked(struct cm_cache *c, const struct cm_cert *cert)
{
    const char *key = cm_cert_name(cert, 0);
    size_t n;
    struct cm_cert *const *have = cm_index_peek(c->index, key, strlen(key), &n);

    for (size_t i = 0; i < n; i++)
        if (!cm_cert_is_managed(have[i]) && cm_cert_same_all(have[i], cert))
            return have[i];
    return NULL;
}

/* @cert, or what has taken its place since because it was given other tags, too. */
static struct cm_cert *own_entry_locked(struct cm_cache *c, struct cm_cert *cert)
{
    if (cert == NULL || cm_cert_name_count(cert) == 0 || is_in_locked(c, cert))
        return cert != NULL && is_in_locked(c, cert) ? cert : NULL;
    return cm_cert_is_managed(cert) ? NULL : same_own_locked(c, cert);
}

/* One who brought @entry wants it no more; returns it if it was the last. */
static struct cm_cert *let_go_locked(struct cm_cache *c, struct cm_cert *entry)
{
    if (entry == NULL || --entry->keeps > 0)
        return NULL;
    take_out_locked(c, entry);
    return entry;
}

/* What comes: @cert itself, or, where @same is in already, that or another with the tags of both.
 * A reference of its own. */
static cm_status make_entry(struct cm_cert *cert, struct cm_cert *same, struct cm_cert **ret,
                            struct cm_err *err)
{
    if (same != NULL && !cm_cert_has_tags_of(same, cert))
        return cm_cert_with_tags_of(same, cert, ret, err);
    *ret = cm_cert_ref(same != NULL ? same : cert);
    return CM_OK;
}

struct own_swap {
    struct cm_cert *same;    /* what was in before, a reference */
    struct cm_cert *entry;   /* what comes; @same if nothing does */
    struct cm_cert *old;     /* to be let go; borrowed */
    struct cm_cert *gone[2]; /* the cache's references */
    bool had;                /* @old was in */
};

/* CM_E_AGAIN: somebody was faster. */
static cm_status swap_own_locked(struct cm_cache *c, const struct cm_cert *cert, struct own_swap *w,
                                 struct cm_err *err)
{
    struct cm_cert *old = own_entry_locked(c, w->old);
    cm_status rc = CM_OK;

    if (same_own_locked(c, cert) != w->same)
        return CM_E_AGAIN;
    w->had = old != NULL;
    if (w->entry != w->same) {
        w->gone[0] = w->had || w->same != NULL ? NULL : make_room_locked(c, false);
        rc = put_in_locked(c, w->entry, err);
        if (rc != CM_OK)
            return rc;
        w->entry->keeps = w->same != NULL ? w->same->keeps : 0;
        if (w->same != NULL) {
            take_out_locked(c, w->same);
            w->gone[0] = w->same;
        }
    }
    w->entry->keeps++;
    w->gone[1] = let_go_locked(c, old == w->same && old != NULL ? w->entry : old);
    return CM_OK;
}

static cm_status swap_own(struct cm_cache *c, struct cm_cert *cert, struct own_swap *w,
                          struct cm_err *err)
{
    cm_mutex_lock(&c->writer);
    w->same = cm_cert_ref(same_own_locked(c, cert));
    cm_mutex_unlock(&c->writer);
    cm_status rc = make_entry(cert, w->same, &w->entry, err);
    if (rc != CM_OK)
        return rc;
    bool comes = w->entry != w->same;
    if (comes) /* looked after from now on, which does not need the cache to hold it yet */
        rc = cm_owns_add(c->owns, w->entry, err);
    if (rc != CM_OK)
        return rc;
    cm_mutex_lock(&c->writer);
    rc = swap_own_locked(c, cert, w, err);
    cm_mutex_unlock(&c->writer);
    if (rc != CM_OK && comes)
        cm_owns_remove(c->owns, w->entry);
    for (size_t i = 0; i < CM_ARRAY_LEN(w->gone); i++) {
        if (w->gone[i] != NULL && !cm_cert_is_managed(w->gone[i]))
            cm_owns_remove(c->owns, w->gone[i]);
        cm_cert_retire(w->gone[i]);
    }
    if (rc == CM_OK && w->same == NULL)
        cm_emit_unmanaged(c, w->entry, w->had);
    return rc;
}

cm_status cm_cache_replace_own(struct cm_cache *c, struct cm_cert *old, struct cm_cert *cert,
                               struct cm_cert **ret, struct cm_err *err)
{
    cm_status rc = check_cert(cert, err);

    if (rc != CM_OK)
        return rc;
    do {
        struct own_swap w = { .old = old };

        rc = swap_own(c, cert, &w, err);
        if (rc == CM_OK && ret != NULL)
            *ret = cm_cert_ref(w.entry);
        cm_cert_unref(w.entry);
        cm_cert_unref(w.same);
    } while (rc == CM_E_AGAIN);
    return rc;
}

/* @all: whoever else brought it, too. */
static bool remove_cert(struct cm_cache *c, struct cm_cert *cert, bool all)
{
    struct cm_cert *entry, *gone;

    if (c == NULL || cert == NULL)
        return false;
    cm_mutex_lock(&c->writer);
    entry = own_entry_locked(c, cert);
    if (entry != NULL && (all || cm_cert_is_managed(entry)))
        take_out_locked(c, gone = entry);
    else
        gone = let_go_locked(c, entry);
    cm_mutex_unlock(&c->writer);
    if (gone != NULL && !cm_cert_is_managed(gone))
        cm_owns_remove(c->owns, gone);
    cm_cert_retire(gone);
    return entry != NULL;
}

bool cm_cache_remove(struct cm_cache *c, struct cm_cert *cert)
{
    return remove_cert(c, cert, true);
}

void cm_cache_let_go(struct cm_cache *c, struct cm_cert *cert)
{
    (void)remove_cert(c, cert, false);
}

void cm_cache_drop_leaf(struct cm_cache *c, const struct cm_cert *cert)
{
    struct cm_cert *gone = NULL;

    if (cm_cert_name_count(cert) == 0)
        return;
    cm_mutex_lock(&c->writer);
    if (holds_leaf_locked(c, cert, &gone))
        take_out_locked(c, gone);
    cm_mutex_unlock(&c->writer);
    cm_cert_retire(gone);
}

size_t cm_cache_count(struct cm_cache *c)
{
    size_t n;

    if (c == NULL)
        return 0;
    cm_mutex_lock(&c->writer);
    n = count_locked(c);
    cm_mutex_unlock(&c->writer);
    return n;
}

/* Once in the life of a certificate that several want at the same time. Not while a writer is at
 * work: a handshake does not wait for one, and the next look-up may do it as well. */
static void spread_out(struct cm_cache *c, struct cm_cert *cert)
{
    if (!cm_mutex_try_lock(&c->writer))
        return;
    atomic_store_explicit(&cert->crowded, 0, memory_order_relaxed);
    if (is_in_locked(c, cert))
        cm_cert_open_tallies(cert);
    cm_mutex_unlock(&c->writer);
}

size_t cm_cache_find(struct cm_cache *c, const char *key, size_t len,
                     struct cm_cert *out[CM_CANDIDATES_MAX])
{
    size_t n = cm_index_find(c->index, key, len, out);

    for (size_t i = 0; i < n; i++)
        if (atomic_load_explicit(&out[i]->crowded, memory_order_relaxed))
            spread_out(c, out[i]);
    if (c->capacity > 0)
        for (size_t i = 0; i < n; i++)
            if (!atomic_load_explicit(&out[i]->used, memory_order_relaxed))
                atomic_store_explicit(&out[i]->used, 1, memory_order_relaxed);
    return n;
}

/* ---- listing ---- */

static int newest_first(const void *a, const void *b)
{
    struct cm_cert *const *x = a;
    struct cm_cert *const *y = b;

    return ((*x)->not_before_s < (*y)->not_before_s) - ((*x)->not_before_s > (*y)->not_before_s);
}

static size_t copy_refs(struct cm_cert **to, struct cm_cert *const *from, size_t n)
{
    for (size_t i = 0; i < n; i++)
        to[i] = cm_cert_ref(from[i]);
    return n;
}

static size_t copy_some(struct cm_cert **to, const struct list *l, size_t *from, size_t max)
{
    size_t left = *from < l->n ? l->n - *from : 0;
    size_t n = left < max ? left : max;

    if (n > 0)
        (void)copy_refs(to, l->at + *from, n);
    *from += n;
    return n;
}

size_t cm_cache_some(struct cm_cache *c, struct cm_cache_walk *io, struct cm_cert **out, size_t max)
{
    size_t n;

    cm_mutex_lock(&c->writer);
    n = copy_some(out, &c->managed, &io->managed, max);
    n += copy_some(out + n, &c->passing, &io->passing, max - n);
    n += copy_some(out + n, &c->own, &io->own, max - n);
    cm_mutex_unlock(&c->writer);
    return n;
}

/* References to all that match; NULL and 0 when there are none or no memory. */
static struct cm_cert **snapshot_locked(struct cm_cache *c, const char *name, size_t *ret_n)
{
    struct cm_cert *const *from[3] = { c->managed.at, c->passing.at, c->own.at };
    size_t n[3] = { c->managed.n, c->passing.n, c->own.n };

    if (name != NULL) {
        const char *dot = strchr(name, '.');
        char wild[CM_NAME_BUF + 1];
        size_t rest = dot != NULL ? strlen(dot) : 0;

        from[0] = cm_index_peek(c->index, name, strlen(name), &n[0]);
        n[1] = n[2] = 0;
        if (dot != NULL && !cm_name_is_ip(name) && name[0] != '*') {
            wild[0] = '*';
            memcpy(wild + 1, dot, rest);
            from[1] = cm_index_peek(c->index, wild, rest + 1, &n[1]);
        }
    }
    struct cm_cert **all = cm_calloc(n[0] + n[1] + n[2], sizeof(struct cm_cert *));
    *ret_n = 0;
    for (size_t i = 0; all != NULL && i < CM_ARRAY_LEN(from); i++)
        *ret_n += copy_refs(all + *ret_n, from[i], n[i]);
    return all;
}

void cm_cache_match(struct cm_cache *c, const char *name,
                    bool (*visit)(void *user, struct cm_cert *cert), void *user)
{
    char normal[CM_NAME_BUF];
    bool go_on = true;
    size_t n;

    if (c == NULL || visit == NULL ||
        (name != NULL && cm_name_normalize(name, CM_NAME_FLAGS, normal, NULL) != CM_OK))
        return;
    cm_mutex_lock(&c->writer);
    struct cm_cert **all = snapshot_locked(c, name != NULL ? normal : NULL, &n);
    cm_mutex_unlock(&c->writer);
    if (n > 1)
        qsort(all, n, sizeof(struct cm_cert *), newest_first);
    for (size_t i = 0; i < n; i++) {
        go_on = go_on && visit(user, all[i]);
        cm_cert_unref(all[i]);
    }
    free(all);
}

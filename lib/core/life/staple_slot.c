/* SPDX-License-Identifier: Apache-2.0 */
#include "staple.h"

#include <string.h>

/* Where handshakes find the staple of their certificate while it may be replaced any moment. The
 * lock is held for as long as it takes to count a reference: a counter inside of what a pointer
 * points to cannot be raised safely without one, as the pointer may be old. */

cm_status cm_staple_new(struct cm_span der, const struct cm_ocsp *o, struct cm_staple **ret,
                        struct cm_err *err)
{
    struct cm_staple *s = cm_calloc(1, sizeof *s + der.len);

    if (s == NULL)
        return cm_fail_nomem(err);
    atomic_init(&s->refs, 1);
    s->this_update_s = o->this_update_s;
    s->end_s = o->end_s;
    s->len = der.len;
    memcpy(s->der, der.data, der.len);
    *ret = s;
    return CM_OK;
}

void cm_staple_unref(struct cm_staple *s)
{
    if (s != NULL && atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) == 1)
        free(s);
}

struct cm_span cm_staple_der(const struct cm_staple *s)
{
    return (struct cm_span){ s->der, s->len };
}

int64_t cm_staple_end_s(const struct cm_staple *s)
{
    return s->end_s;
}

struct cm_stapling *cm_stapling_look(const struct cm_cert *c)
{
    return atomic_load_explicit(&c->stapling, memory_order_acquire);
}

cm_status cm_stapling_get(struct cm_cert *c, struct cm_stapling **ret, struct cm_err *err)
{
    struct cm_stapling *kept = cm_stapling_look(c);
    struct cm_stapling *made;

    if (kept == NULL) {
        made = cm_calloc(1, sizeof *made);
        if (made == NULL)
            return cm_fail_nomem(err);
        cm_mutex_init(&made->lock);
        made->floor_s = INT64_MIN;
        made->issuer.max = CM_CERT_DER_MAX;
        if (atomic_compare_exchange_strong(&c->stapling, &kept, made))
            kept = made;
        else
            cm_stapling_free(made);
    }
    *ret = kept;
    return CM_OK;
}

void cm_stapling_free(struct cm_stapling *s)
{
    if (s == NULL)
        return;
    cm_staple_unref(s->now);
    cm_buf_free(&s->issuer);
    free(s->keys[0]);
    free(s->keys[1]);
    (void)pthread_mutex_destroy(&s->lock);
    free(s);
}

void cm_stapling_swap(struct cm_stapling *s, struct cm_staple *staple)
{
    struct cm_staple *old;

    cm_mutex_lock(&s->lock);
    old = s->now;
    s->now = staple;
    cm_mutex_unlock(&s->lock);
    cm_staple_unref(old);
}

struct cm_staple *cm_cert_staple(const struct cm_cert *c)
{
    struct cm_stapling *s = cm_stapling_look(c);
    struct cm_staple *staple;

    if (s == NULL)
        return NULL;
    cm_mutex_lock(&s->lock);
    staple = s->now;
    if (staple != NULL)
        atomic_fetch_add_explicit(&staple->refs, 1, memory_order_relaxed);
    cm_mutex_unlock(&s->lock);
    return staple;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "crl_private.h"

#include <string.h>

/* The lists that this process watches. */

pthread_mutex_t cm_crl_table_lock = PTHREAD_MUTEX_INITIALIZER;
static struct cm_crl_list *table;
static size_t table_lists;
static size_t table_bytes;

void cm_crl_drop_set_locked(struct cm_crl_list *l)
{
    if (l->got.set == NULL)
        return;
    table_bytes -= cm_crl_set_bytes(l->got.set);
    cm_crl_set_free(l->got.set);
    l->got.set = NULL;
    l->refresh_s = 0;
    l->storage_s = 0;
}

/* The one that has not been asked for longest, among those that hold something. */
static struct cm_crl_list **oldest_locked(const struct cm_crl_list *but, bool with_set)
{
    struct cm_crl_list **best = NULL;

    for (struct cm_crl_list **at = &table; *at != NULL; at = &(*at)->next) {
        if (*at == but || (*at)->busy || (with_set && (*at)->got.set == NULL))
            continue;
        if (best == NULL || (*at)->used_s < (*best)->used_s)
            best = at;
    }
    return best;
}

static void remove_locked(struct cm_crl_list **at)
{
    struct cm_crl_list *l = *at;

    cm_crl_drop_set_locked(l);
    *at = l->next;
    table_lists--;
    free(l->url);
    cm_buf_free(&l->issuer_der);
    free(l);
}

struct cm_crl_list *cm_crl_find_locked(const uint8_t id[CM_CRL_ID_LEN])
{
    struct cm_crl_list *l = table;

    while (l != NULL && memcmp(l->id, id, CM_CRL_ID_LEN) != 0)
        l = l->next;
    return l;
}

/* NULL when there is no memory, or no place. */
struct cm_crl_list *cm_crl_list_of_locked(const struct cm_crl_watch *w)
{
    struct cm_crl_list *l = cm_crl_find_locked(w->id);

    if (l != NULL)
        return l;
    if (table_lists >= CM_CRL_TABLE_LISTS) {
        struct cm_crl_list **at = oldest_locked(NULL, false);

        if (at == NULL)
            return NULL;
        remove_locked(at);
    }
    l = cm_calloc(1, sizeof *l);
    if (l == NULL)
        return NULL;
    memcpy(l->id, w->id, CM_CRL_ID_LEN);
    l->url = cm_strdup(w->url);
    l->issuer_der.max = CM_CERT_DER_MAX;
    if (l->url == NULL ||
        cm_buf_append(&l->issuer_der, w->issuer_der.data, w->issuer_der.len, NULL) != CM_OK) {
        free(l->url);
        cm_buf_free(&l->issuer_der);
        free(l);
        return NULL;
    }
    l->next = table;
    table = l;
    table_lists++;
    return l;
}

/* Make room by forgetting what others have: it is loaded again when it is asked for. */
bool cm_crl_make_room_locked(const struct cm_crl_list *l, size_t bytes)
{
    while (table_bytes + bytes > CM_CRL_TABLE_BYTES) {
        struct cm_crl_list **at = oldest_locked(l, true);

        if (at == NULL)
            return false;
        cm_crl_drop_set_locked(*at);
    }
    return true;
}

void cm_crl_put_set_locked(struct cm_crl_list *l, const struct cm_crl_found *f)
{
    l->got = *f;
    table_bytes += cm_crl_set_bytes(f->set);
}

size_t cm_crl_table_lists(void)
{
    cm_mutex_lock(&cm_crl_table_lock);
    size_t n = table_lists;
    cm_mutex_unlock(&cm_crl_table_lock);
    return n;
}

size_t cm_crl_table_bytes(void)
{
    cm_mutex_lock(&cm_crl_table_lock);
    size_t n = table_bytes;
    cm_mutex_unlock(&cm_crl_table_lock);
    return n;
}

void cm_crl_table_clear(void)
{
    cm_mutex_lock(&cm_crl_table_lock);
    while (table != NULL)
        remove_locked(&table);
    cm_mutex_unlock(&cm_crl_table_lock);
}

bool cm_crl_has(const uint8_t id[CM_CRL_ID_LEN], struct cm_span serial)
{
    int64_t at_s;
    int reason;

    cm_mutex_lock(&cm_crl_table_lock);
    const struct cm_crl_list *l = cm_crl_find_locked(id);
    bool has =
        l != NULL && l->got.set != NULL && cm_crl_set_find(l->got.set, serial, &reason, &at_s);
    cm_mutex_unlock(&cm_crl_table_lock);
    return has;
}

size_t cm_crl_ids(struct cm_crl_known *ret, size_t max)
{
    size_t n = 0;

    cm_mutex_lock(&cm_crl_table_lock);
    for (const struct cm_crl_list *l = table; l != NULL && n < max; l = l->next) {
        memcpy(ret[n].id, l->id, CM_CRL_ID_LEN);
        ret[n++].fetched_s = l->got.set != NULL ? l->got.fetched_s : 0;
    }
    cm_mutex_unlock(&cm_crl_table_lock);
    return n;
}

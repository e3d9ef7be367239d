/* SPDX-License-Identifier: Apache-2.0 */
#include "core_private.h"

#include <string.h>

/* A fleet's hundred thousand certificates come from a handful of intermediates. Each distinct
 * chain is kept once in the process, so that an idle certificate costs its own leaf and key. The
 * number of buckets is fixed: there are few chains, and with many of them (every one of a program's
 * own certificates from another CA) the lists only get longer. */

#define BUCKETS 1024u

static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;
static struct cm_uplink *table[BUCKETS];

static uint64_t hash_of(const struct cm_chain *chain, const char *key, const char *cn)
{
    uint64_t h = CM_FNV1A64;

    for (size_t i = 1; i < chain->n; i++) {
        /* The end of a certificate is its signature: as good as the whole. */
        size_t take = chain->der[i].len < 64 ? chain->der[i].len : 64;

        h = cm_fnv1a64(h, chain->der[i].data + chain->der[i].len - take, take);
    }
    h = cm_fnv1a64(h, key, strlen(key) + 1);
    return cm_fnv1a64(h, cn, strlen(cn) + 1);
}

static bool equals(const struct cm_uplink *u, const struct cm_chain *chain, const char *key,
                   const char *cn)
{
    if (u->n != chain->n - 1 || strcmp(u->issuer_key, key) != 0 || strcmp(u->issuer_cn, cn) != 0)
        return false;
    for (size_t i = 0; i < u->n; i++)
        if (u->der[i].len != chain->der[i + 1].len ||
            memcmp(u->der[i].data, chain->der[i + 1].data, u->der[i].len) != 0)
            return false;
    return true;
}

static struct cm_uplink *make(const struct cm_chain *chain, const char *key, const char *cn)
{
    size_t len = strlen(key) + strlen(cn) + 2;
    uint8_t *at;

    for (size_t i = 1; i < chain->n; i++)
        len += chain->der[i].len;
    struct cm_uplink *u = cm_calloc(1, sizeof *u + len);
    if (u == NULL)
        return NULL;
    u->len = len;
    u->n = chain->n - 1;
    u->refs = 1;
    at = u->bytes;
    for (size_t i = 0; i < u->n; i++) {
        u->der[i].data = at;
        u->der[i].len = chain->der[i + 1].len;
        memcpy(at, chain->der[i + 1].data, u->der[i].len);
        at += u->der[i].len;
    }
    memcpy(at, key, strlen(key) + 1);
    u->issuer_key = (const char *)at;
    at += strlen(key) + 1;
    memcpy(at, cn, strlen(cn) + 1);
    u->issuer_cn = (const char *)at;
    return u;
}

cm_status cm_uplink_get(const struct cm_chain *chain, const char *issuer_key, const char *issuer_cn,
                        struct cm_uplink **ret, struct cm_err *err)
{
    uint64_t hash = hash_of(chain, issuer_key, issuer_cn);
    struct cm_uplink **bucket = &table[hash % BUCKETS];
    struct cm_uplink *u;

    cm_mutex_lock(&table_lock);
    for (u = *bucket; u != NULL; u = u->next)
        if (u->hash == hash && equals(u, chain, issuer_key, issuer_cn))
            break;
    if (u != NULL) {
        u->refs++;
    } else {
        u = make(chain, issuer_key, issuer_cn);
        if (u != NULL) {
            u->hash = hash;
            u->next = *bucket;
            *bucket = u;
        }
    }
    cm_mutex_unlock(&table_lock);
    if (u == NULL)
        return cm_fail_nomem(err);
    *ret = u;
    return CM_OK;
}

void cm_uplink_put(struct cm_uplink *u)
{
    if (u == NULL)
        return;
    cm_mutex_lock(&table_lock);
    if (--u->refs > 0) {
        u = NULL;
    } else {
        struct cm_uplink **at = &table[u->hash % BUCKETS];

        while (*at != u)
            at = &(*at)->next;
        *at = u->next;
    }
    cm_mutex_unlock(&table_lock);
    free(u);
}

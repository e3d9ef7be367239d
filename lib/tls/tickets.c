/* SPDX-License-Identifier: Apache-2.0 */
#include "tls.h"

#include <gnutls/crypto.h>
#include <string.h>

/* GnuTLS resumes a TLS 1.3 ticket whatever server name the hello asks for: a ticket made for one
 * site would skip the choice of certificate for another. So the ticket key is derived from the
 * config's and the name. A ticket of another name then does not decrypt, and the handshake is a
 * full one, as it has to be.
 *
 * GnuTLS takes one key per session, but there are several: tickets of the last key are to be
 * accepted while new ones are made with the next. A ticket begins with a name that GnuTLS derives
 * from its key, so the hello tells which key it is for. Should a version of GnuTLS name its tickets
 * in another way, none is found, and those of the last key come to full handshakes.
 *
 * Deriving is more than half of what certmesh adds to a handshake. So the keys that were derived
 * are kept with the set that they are derived from, and are wiped with it. They come and never
 * change, so they are read without a lock; what finds no place is derived each time. */

#define SLOTS    1024u
#define PROBES   4u
#define OFFERED  3u           /* tickets in one hello that are looked at */
#define LIFE_S   (6 * 3600)   /* of a ticket: GnuTLS's own measure, the same on all nodes */
#define PERIOD_S (3 * LIFE_S) /* it derives another key after that, and keeps the last */
#define TIME_LEN 8u

struct key {
    uint8_t key[CM_TICKET_KEY_LEN];
    size_t which; /* of the set */
    size_t len;
    char info[]; /* what it was derived for */
};

struct keys {
    struct cm_ticket_derived base;
    _Atomic(struct key *) at[SLOTS];
};

static void key_free(struct key *k)
{
    if (k != NULL)
        cm_wipe(k->key, sizeof k->key);
    free(k);
}

static void keys_destroy(struct cm_ticket_derived *base)
{
    struct keys *keys = CM_CONTAINER_OF(base, struct keys, base);

    for (size_t i = 0; i < SLOTS; i++)
        key_free(atomic_load(&keys->at[i]));
    free(keys);
}

/* NULL without memory: then nothing is kept. */
static struct keys *keys_of(struct cm_ticket_set *set)
{
    struct cm_ticket_derived *kept = atomic_load_explicit(&set->derived, memory_order_acquire);
    struct keys *made;

    if (kept != NULL)
        return CM_CONTAINER_OF(kept, struct keys, base);
    made = cm_calloc(1, sizeof *made);
    if (made == NULL)
        return NULL;
    made->base.destroy = keys_destroy;
    if (atomic_compare_exchange_strong(&set->derived, &kept, &made->base))
        return made;
    free(made);
    return CM_CONTAINER_OF(kept, struct keys, base);
}

static size_t slot_of(size_t which, struct cm_span info, size_t i)
{
    return (size_t)(cm_fnv1a64(CM_FNV1A64 + which, info.data, info.len) + i) % SLOTS;
}

static const struct key *find(struct keys *keys, size_t which, struct cm_span info)
{
    for (size_t i = 0; i < PROBES; i++) {
        const struct key *k =
            atomic_load_explicit(&keys->at[slot_of(which, info, i)], memory_order_acquire);

        if (k == NULL)
            break;
        if (k->which == which && k->len == info.len && memcmp(k->info, info.data, info.len) == 0)
            return k;
    }
    return NULL;
}

/* Without room or memory it is derived again next time. */
static void keep(struct keys *keys, size_t which, struct cm_span info,
                 const uint8_t key[CM_TICKET_KEY_LEN])
{
    struct key *k = cm_calloc(1, sizeof *k + info.len);

    if (k == NULL)
        return;
    memcpy(k->key, key, sizeof k->key);
    memcpy(k->info, info.data, info.len);
    k->which = which;
    k->len = info.len;
    /* Two threads may keep the same one at once: then it is there twice, which harms nobody. */
    for (size_t i = 0; i < PROBES; i++) {
        struct key *expected = NULL;

        if (atomic_compare_exchange_strong(&keys->at[slot_of(which, info, i)], &expected, k))
            return;
    }
    key_free(k);
}

static cm_status derive(struct cm_ticket_set *set, size_t which, struct cm_span info,
                        uint8_t ret[CM_TICKET_KEY_LEN], struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf key = CM_BUF_SECRET(CM_TICKET_KEY_LEN);
    struct keys *keys = keys_of(set);
    const struct key *kept = keys != NULL ? find(keys, which, info) : NULL;

    if (kept != NULL) {
        memcpy(ret, kept->key, sizeof kept->key);
        return CM_OK;
    }
    cm_status rc = cm_hmac(CM_HMAC_SHA512, (struct cm_span){ set->key[which], CM_TICKET_KEY_LEN },
                           info, &key, err);
    if (rc != CM_OK)
        return rc;
    CM_ASSERT(key.len == CM_TICKET_KEY_LEN);
    memcpy(ret, key.data, key.len);
    if (keys != NULL)
        keep(keys, which, info, ret);
    return CM_OK;
}

/* ---- which key a ticket is for ---- */

/* GnuTLS: SHA3-512 of the number of the period and the key begins with the name of the tickets. */
static bool names(const uint8_t key[CM_TICKET_KEY_LEN], uint64_t period,
                  uint8_t ret[CM_TLS_TICKET_NAME])
{
    uint8_t in[TIME_LEN + CM_TICKET_KEY_LEN], out[64];

    for (size_t i = 0; i < TIME_LEN; i++)
        in[i] = (uint8_t)(period >> (8 * (TIME_LEN - 1 - i)));
    memcpy(in + TIME_LEN, key, CM_TICKET_KEY_LEN);
    int rc = gnutls_hash_fast(GNUTLS_DIG_SHA3_512, in, sizeof in, out);
    if (rc >= 0)
        memcpy(ret, out, CM_TLS_TICKET_NAME);
    cm_wipe(in, sizeof in);
    cm_wipe(out, sizeof out); /* the rest of it is what tickets are encrypted with */
    return rc >= 0;
}

struct offer {
    size_t n;
    uint8_t name[OFFERED][CM_TLS_TICKET_NAME];
};

static bool is_offered(const struct offer *o, const uint8_t key[CM_TICKET_KEY_LEN])
{
    /* The clock that GnuTLS looks at, whatever certmesh is told of the time. */
    uint64_t now = (uint64_t)cm_env_wall_s(cm_env_system()) / PERIOD_S;
    uint8_t name[CM_TLS_TICKET_NAME];

    for (uint64_t back = 0; back < 2 && back <= now; back++) {
        if (!names(key, now - back, name))
            return false;
        for (size_t i = 0; i < o->n; i++)
            if (memcmp(o->name[i], name, sizeof name) == 0)
                return true;
    }
    return false;
}

/* The key that the hello has a ticket for; else the one that tickets are made with. */
static cm_status choose(struct cm_ticket_set *set, struct cm_span info, struct cm_span body,
                        uint8_t ret[CM_TICKET_KEY_LEN], struct cm_err *err)
{
    uint8_t key[CM_TICKET_KEY_LEN];
    struct offer o;
    cm_status rc = derive(set, 0, info, ret, err);

    o.n = set->n > 1 ? cm_tls_hello_tickets(body, o.name, OFFERED) : 0;
    if (rc != CM_OK || o.n == 0 || is_offered(&o, ret))
        return rc;
    for (size_t i = 1; i < set->n && rc == CM_OK; i++) {
        rc = derive(set, i, info, key, err);
        if (rc == CM_OK && is_offered(&o, key)) {
            memcpy(ret, key, sizeof key);
            break;
        }
    }
    cm_wipe(key, sizeof key);
    return rc;
}

static const char label[] = "certmesh ticket key v1";

/* label NUL name NUL address: no two can be mistaken for each other. */
static size_t put_info(const struct cm_tls_session *st, char *info)
{
    size_t name_len = strlen(st->server_name) + 1;
    size_t ip_len = strlen(st->local_ip);

    memcpy(info, label, sizeof label);
    memcpy(info + sizeof label, st->server_name, name_len);
    memcpy(info + sizeof label + name_len, st->local_ip, ip_len);
    return sizeof label + name_len + ip_len;
}

cm_status cm_tls_tickets_enable(struct cm_tls_session *st, struct cm_span body, struct cm_err *err)
{
    char text[sizeof label + sizeof st->server_name + sizeof st->local_ip];
    uint8_t key[CM_TICKET_KEY_LEN];
    gnutls_datum_t datum = { key, sizeof key };

    if (st->keyed)
        return CM_OK;
    struct cm_span info = { (const uint8_t *)text, put_info(st, text) };
    struct cm_ticket_set *set = cm_config_ticket_set(st->cfg);
    cm_status rc = choose(set, info, body, key, err);
    cm_ticket_set_unref(set);
    if (rc == CM_OK) {
        /* It goes into the key: nodes that differ would not read each other's tickets. */
        gnutls_db_set_cache_expiration(st->session, LIFE_S);
        int grc = gnutls_session_ticket_enable_server(st->session, &datum);
        if (grc < 0)
            rc = cm_fail(err, CM_E_TLS, "enable session tickets: %s", gnutls_strerror(grc));
    }
    cm_wipe(key, sizeof key);
    st->keyed = rc == CM_OK;
    return rc;
}

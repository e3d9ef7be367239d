/* SPDX-License-Identifier: Apache-2.0 */
#include "tls.h"

#include <string.h>

/* GnuTLS resumes a TLS 1.3 ticket whatever server name the hello asks for: a ticket made for one
 * site would skip the choice of certificate for another. So the ticket key is derived from the
 * config's and the name. A ticket of another name then does not decrypt, and the handshake is a
 * full one, as it has to be.
 *
 * Deriving is more than half of what certmesh adds to a handshake, and most certificates are asked
 * for by one name or two: the first few keys are kept with the certificate. They come and never
 * change, so they are read without a lock; further names derive theirs each time. */

#define MASTER_LEN    64u /* what GnuTLS asks for */
#define MASTER_ID_LEN 16u /* of its random bytes: enough to tell one master from another */

struct cm_tls_ticket_key {
    uint8_t master_id[MASTER_ID_LEN]; /* configs may share a certificate */
    uint8_t key[MASTER_LEN];
    size_t len;
    char info[]; /* what it was derived for */
};

void cm_tls_ticket_keys_free(struct cm_tls_ticket_keys *keys)
{
    for (size_t i = 0; i < CM_TLS_TICKET_KEYS; i++) {
        struct cm_tls_ticket_key *k = atomic_load(&keys->at[i]);

        if (k != NULL)
            cm_wipe(k->key, sizeof k->key);
        free(k);
    }
}

static const struct cm_tls_ticket_key *find(struct cm_tls_ticket_keys *keys, struct cm_span master,
                                            struct cm_span info)
{
    for (size_t i = 0; i < CM_TLS_TICKET_KEYS; i++) {
        const struct cm_tls_ticket_key *k =
            atomic_load_explicit(&keys->at[i], memory_order_acquire);

        if (k == NULL)
            break;
        if (k->len == info.len && memcmp(k->info, info.data, info.len) == 0 &&
            memcmp(k->master_id, master.data, sizeof k->master_id) == 0)
            return k;
    }
    return NULL;
}

/* Without room or memory it is derived again next time. */
static void keep(struct cm_tls_ticket_keys *keys, struct cm_span master, struct cm_span info,
                 const struct cm_buf *key)
{
    struct cm_tls_ticket_key *k;

    if (atomic_load_explicit(&keys->at[CM_TLS_TICKET_KEYS - 1], memory_order_relaxed) != NULL)
        return;
    k = cm_calloc(1, sizeof *k + info.len);
    if (k == NULL)
        return;
    memcpy(k->master_id, master.data, sizeof k->master_id);
    memcpy(k->key, key->data, sizeof k->key);
    memcpy(k->info, info.data, info.len);
    k->len = info.len;
    /* Two threads may keep the same one at once: then it is there twice, which harms nobody. */
    for (size_t i = 0; i < CM_TLS_TICKET_KEYS; i++) {
        struct cm_tls_ticket_key *expected = NULL;

        if (atomic_compare_exchange_strong(&keys->at[i], &expected, k))
            return;
    }
    cm_wipe(k->key, sizeof k->key);
    free(k);
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

cm_status cm_tls_tickets_enable(struct cm_tls_session *st, struct cm_err *err)
{
    struct cm_span master = { cm_config_ticket_key(st->cfg), MASTER_LEN };
    CM_AUTO_BUF struct cm_buf key = CM_BUF_SECRET(MASTER_LEN);
    struct cm_tls_ticket_keys *keys = cm_tls_ticket_keys_of(st->cert);
    const struct cm_tls_ticket_key *kept = NULL;
    char text[sizeof label + sizeof st->server_name + sizeof st->local_ip];
    struct cm_span info = { (const uint8_t *)text, put_info(st, text) };
    gnutls_datum_t datum;
    cm_status rc;
    int grc;

    if (st->keyed || master.data == NULL)
        return CM_OK;
    if (keys != NULL)
        kept = find(keys, master, info);
    if (kept != NULL) {
        datum = (gnutls_datum_t){ (unsigned char *)(uintptr_t)kept->key, MASTER_LEN };
    } else {
        rc = cm_hmac(CM_HMAC_SHA512, master, info, &key, err);
        if (rc != CM_OK)
            return rc;
        CM_ASSERT(key.len == MASTER_LEN);
        if (keys != NULL)
            keep(keys, master, info, &key);
        datum = (gnutls_datum_t){ key.data, (unsigned)key.len };
    }
    grc = gnutls_session_ticket_enable_server(st->session, &datum);
    if (grc < 0)
        return cm_fail(err, CM_E_TLS, "enable session tickets: %s", gnutls_strerror(grc));
    st->keyed = true;
    return CM_OK;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "core_private.h"

#include <string.h>

/* cm_adapter.h, as far as it is not told where the things themselves are (cert.c, config.c,
 * life/staple_slot.c, life/tickets.c). */

#define PURPOSE_MAX 255u

/* One for all certificates: it is taken when something is made, never by a handshake that finds
 * what it needs. */
static pthread_mutex_t attach_lock = PTHREAD_MUTEX_INITIALIZER;

struct cm_attachment *cm_cert_attached(const struct cm_cert *c, const void *owner)
{
    struct cm_attachment *a = atomic_load_explicit(&c->attached, memory_order_acquire);

    while (a != NULL && a->owner != owner)
        a = a->next; /* never changed once it can be seen */
    return a;
}

struct cm_attachment *cm_cert_attach(struct cm_cert *c, struct cm_attachment *a)
{
    struct cm_attachment *kept;

    cm_mutex_lock(&attach_lock);
    kept = cm_cert_attached(c, a->owner);
    if (kept == NULL) {
        a->next = atomic_load(&c->attached);
        atomic_store_explicit(&c->attached, a, memory_order_release);
        kept = a;
    }
    cm_mutex_unlock(&attach_lock);
    return kept;
}

void cm_cert_detach_all(struct cm_cert *c)
{
    struct cm_attachment *a = atomic_load(&c->attached);

    while (a != NULL) {
        struct cm_attachment *next = a->next;

        a->destroy(a);
        a = next;
    }
}

cm_status cm_cert_key_der(const struct cm_cert *c, struct cm_buf *ret, struct cm_err *err)
{
    struct cm_key *key = NULL;

    if (c == NULL || ret == NULL || !ret->secret)
        return cm_fail(err, CM_E_INVAL, "no certificate, or no secret buffer for its key");
    cm_status rc = cm_cert_key(c, &key, err);
    if (rc == CM_OK && cm_key_is_elsewhere(key))
        rc = cm_fail(err, CM_E_UNSUPPORTED,
                     "the key of the certificate for '%s' is in a PKCS#11 token, and cannot be "
                     "used with this TLS library",
                     c->n_names > 0 ? cm_cert_name(c, 0) : "?");
    if (rc == CM_OK)
        rc = cm_key_to_der(key, ret, err);
    cm_key_unref(key);
    return rc;
}

cm_status cm_config_ticket_keys(struct cm_config *cfg, const char *purpose,
                                uint8_t ret[CM_TICKET_KEYS][CM_TICKET_KEY_LEN], size_t *ret_n,
                                struct cm_err *err)
{
    /* With its NUL: nothing that lib/tls derives begins like this. */
    static const char label[] = "certmesh adapter ticket key v1";
    uint8_t info[sizeof label + PURPOSE_MAX];
    CM_AUTO_BUF struct cm_buf key = CM_BUF_SECRET(CM_TICKET_KEY_LEN);
    cm_status rc = CM_OK;

    if (cfg == NULL || purpose == NULL || strlen(purpose) > PURPOSE_MAX)
        return cm_fail(err, CM_E_INVAL,
                       "ticket keys: no configuration, or a purpose of more than "
                       "255 bytes");
    size_t len = strlen(purpose);
    memcpy(info, label, sizeof label);
    memcpy(info + sizeof label, purpose, len);
    struct cm_ticket_set *set = cm_config_ticket_set(cfg);
    for (size_t i = 0; i < set->n && rc == CM_OK; i++) {
        cm_buf_reset(&key);
        rc = cm_hmac(CM_HMAC_SHA512, (struct cm_span){ set->key[i], CM_TICKET_KEY_LEN },
                     (struct cm_span){ info, sizeof label + len }, &key, err);
        if (rc == CM_OK)
            memcpy(ret[i], key.data, CM_TICKET_KEY_LEN);
    }
    *ret_n = set->n;
    cm_ticket_set_unref(set);
    return rc;
}

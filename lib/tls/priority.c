/* SPDX-License-Identifier: Apache-2.0 */
#include "tls.h"

#include <stdatomic.h>
#include <string.h>

/* Parsing a priority string costs more than choosing a certificate, and there are as many strings
 * as configs: one or two. Parsed ones are kept for the life of the process, in a list that only
 * grows at its head and is read without a lock. */

#define KEPT_MAX 64u

static const char default_text[] = "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:%SERVER_PRECEDENCE";

struct kept {
    struct kept *next;
    gnutls_priority_t priority;
    char text[];
};

static _Atomic(struct kept *) kept_head;
static atomic_uint kept_count;

static struct kept *find(const char *text)
{
    struct kept *k = atomic_load_explicit(&kept_head, memory_order_acquire);

    while (k != NULL && strcmp(k->text, text) != 0)
        k = k->next;
    return k;
}

static struct kept *keep(const char *text, const char **ret_bad_at, int *ret_rc)
{
    size_t len = strlen(text);
    struct kept *k = cm_calloc(1, sizeof *k + len + 1);

    if (k == NULL) {
        *ret_rc = GNUTLS_E_MEMORY_ERROR;
        return NULL;
    }
    memcpy(k->text, text, len + 1);
    *ret_rc = gnutls_priority_init2(&k->priority, text, ret_bad_at, 0);
    if (*ret_rc < 0) {
        free(k);
        return NULL;
    }
    /* Two threads may add the same text at once: then it is there twice, which harms nobody. */
    k->next = atomic_load(&kept_head);
    while (!atomic_compare_exchange_weak(&kept_head, &k->next, k)) {
    }
    atomic_fetch_add(&kept_count, 1);
    return k;
}

cm_status cm_tls_set_priority(gnutls_session_t session, const char *text, struct cm_err *err)
{
    const char *bad_at = "";
    struct kept *k;
    int rc = 0;

    if (text == NULL || text[0] == '\0')
        text = default_text;
    k = find(text);
    if (k == NULL && atomic_load(&kept_count) < KEPT_MAX)
        k = keep(text, &bad_at, &rc);
    if (k != NULL)
        rc = gnutls_priority_set(session, k->priority);
    else if (rc == 0)
        rc = gnutls_priority_set_direct(session, text, &bad_at);
    if (rc == GNUTLS_E_MEMORY_ERROR)
        return cm_fail_nomem(err);
    if (rc < 0)
        return cm_fail(err, CM_E_INVAL, "TLS priority string, near '%.40s': %s", bad_at,
                       gnutls_strerror(rc));
    return CM_OK;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "tls.h"

#include <string.h>

/* GnuTLS resumes a TLS 1.3 ticket whatever server name the hello asks for: a ticket made for one
 * site would skip the choice of certificate for another. So the ticket key is derived from the
 * config's and the name. A ticket of another name then does not decrypt, and the handshake is a
 * full one, as it has to be. */

#define MASTER_LEN 64u /* what GnuTLS asks for */

cm_status cm_tls_tickets_enable(struct cm_tls_session *st, struct cm_err *err)
{
    static const char label[] = "certmesh ticket key v1";
    struct cm_span master = { cm_config_ticket_key(st->cfg), MASTER_LEN };
    CM_AUTO_BUF struct cm_buf key = CM_BUF_SECRET(MASTER_LEN);
    /* label NUL name NUL address: no two can be mistaken for each other */
    char info[sizeof label + sizeof st->server_name + sizeof st->local_ip];
    gnutls_datum_t datum;
    size_t n = sizeof label;
    cm_status rc;
    int grc;

    if (st->keyed || master.data == NULL)
        return CM_OK;
    memcpy(info, label, sizeof label);
    memcpy(info + n, st->server_name, strlen(st->server_name) + 1);
    n += strlen(st->server_name) + 1;
    memcpy(info + n, st->local_ip, strlen(st->local_ip));
    n += strlen(st->local_ip);

    rc = cm_hmac(CM_HMAC_SHA512, master, (struct cm_span){ (const uint8_t *)info, n }, &key, err);
    if (rc != CM_OK)
        return rc;
    CM_ASSERT(key.len == MASTER_LEN);
    datum = (gnutls_datum_t){ key.data, (unsigned)key.len };
    grc = gnutls_session_ticket_enable_server(st->session, &datum);
    if (grc < 0)
        return cm_fail(err, CM_E_TLS, "enable session tickets: %s", gnutls_strerror(grc));
    st->keyed = true;
    return CM_OK;
}

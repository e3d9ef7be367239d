/* SPDX-License-Identifier: Apache-2.0 */
#include "tls.h"

#include <string.h>

/* The hook on the ClientHello, called by GnuTLS before it looks at the message itself. Here a
 * refusal becomes the right alert: later, in the certificate callback, GnuTLS would call again for
 * every cipher suite (up to 25 times) and answer handshake_failure whatever we say. */

/* After HelloRetryRequest, and in a renegotiation, there is a second hello. It may differ in key
 * shares, never in who is meant: the decision stands (RFC 8446 4.1.2). */
static bool is_same(const struct cm_tls_session *st, struct cm_span body)
{
    struct cm_hello hello;

    return cm_tls_hello_parse_body(body, &hello, NULL) == CM_OK && !hello.sni_invalid &&
           strcmp(hello.server_name, st->server_name) == 0 && hello.acme_tls == st->challenge;
}

/* The alert goes out here, not when the application sees the error: not every application sends
 * one (libmicrohttpd does not). If it does as well, the gate swallows the second; behind the hook
 * door the peer has long stopped listening. */
static int refuse_now(struct cm_tls_session *st, int alert)
{
    if (!st->alert_sent)
        (void)gnutls_alert_send(st->session, GNUTLS_AL_FATAL, (gnutls_alert_description_t)alert);
    st->alert_sent = true;
    return cm_tls_alert_to_gnutls(alert);
}

static int prepare(struct cm_tls_session *st, struct cm_span body)
{
    static unsigned char name[] = "acme-tls/1";
    const gnutls_datum_t acme = { name, sizeof name - 1 };
    int rc;

    /* The sole protocol for a CA's validation, never one among others for anybody else, and no
     * ticket: there is nothing to resume (RFC 8737 3). */
    if (st->challenge) {
        rc = gnutls_alpn_set_protocols(st->session, &acme, 1, GNUTLS_ALPN_MANDATORY);
        return rc < 0 ? rc : 0;
    }
    if (cm_config_tickets(st->cfg) && cm_tls_tickets_enable(st, body, NULL) != CM_OK)
        return GNUTLS_E_INTERNAL_ERROR;
    return 0;
}

int cm_tls_hook(gnutls_session_t session, unsigned int htype, unsigned when, unsigned int incoming,
                const gnutls_datum_t *msg)
{
    struct cm_tls_session *st = cm_tls_session_of(session);
    struct cm_span body;

    if (htype != GNUTLS_HANDSHAKE_CLIENT_HELLO || when != GNUTLS_HOOK_PRE || incoming == 0)
        return 0;
    if (st == NULL || msg == NULL)
        return GNUTLS_E_INTERNAL_ERROR;
    body = (struct cm_span){ msg->data, msg->size };

    if (st->refused)
        return refuse_now(st, st->refusal_alert);
    if (st->hooked)
        return is_same(st, body) ? 0 : refuse_now(st, CM_ALERT_ILLEGAL_PARAMETER);
    st->hooked = true;
    if (st->gate == CM_GATE_OFF) {
        cm_tls_decide(st, body);
        cm_tls_await(st);
    } else if (!st->decided) {
        /* Something came before the hello, the gate let it pass and GnuTLS went over it. Deciding
         * now could block an event loop. */
        cm_tls_refuse(st, CM_E_PARSE, CM_ALERT_UNEXPECTED_MESSAGE, NULL);
    }
    if (!st->refused)
        cm_tls_make_ready(st, body);
    if (st->refused)
        return refuse_now(st, st->refusal_alert);
    return prepare(st, body);
}

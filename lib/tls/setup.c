/* SPDX-License-Identifier: Apache-2.0 */
#include "tls.h"

#include <string.h>

static cm_status set_alpn(gnutls_session_t session, const char *const *alpn, struct cm_err *err)
{
    static const char *const usual[] = { "http/1.1", NULL };
    gnutls_datum_t list[CM_TLS_ALPN_MAX];
    unsigned n = 0;
    int rc;

    if (alpn == NULL)
        alpn = usual;
    for (; alpn[n] != NULL; n++) {
        size_t len = strlen(alpn[n]);

        if (n >= CM_TLS_ALPN_MAX || len == 0 || len > 32)
            return cm_fail(err, CM_E_INVAL, "ALPN: at most %d protocols of 1..32 bytes",
                           CM_TLS_ALPN_MAX);
        if (strcmp(alpn[n], "acme-tls/1") == 0)
            return cm_fail(err, CM_E_INVAL, "ALPN: acme-tls/1 is added when it is due");
        list[n] = (gnutls_datum_t){ (unsigned char *)(uintptr_t)alpn[n], (unsigned)len };
    }
    if (n == 0)
        return CM_OK;
    /* MANDATORY: a client that offers only protocols we do not have is told so
     * (no_application_protocol, RFC 7301 3.2); one that offers none goes on without. */
    rc = gnutls_alpn_set_protocols(session, list, n,
                                   GNUTLS_ALPN_MANDATORY | GNUTLS_ALPN_SERVER_PRECEDENCE);
    if (rc < 0)
        return cm_fail(err, CM_E_TLS, "set ALPN: %s", gnutls_strerror(rc));
    return CM_OK;
}

cm_status cm_config_tls_setup_alpn(struct cm_config *cfg, gnutls_session_t session, int fd,
                                   const char *const *alpn, struct cm_err *err)
{
    gnutls_certificate_credentials_t cred = NULL;
    struct cm_tls_session *st = NULL;
    cm_status rc;
    int grc;

    if (cfg == NULL || session == NULL)
        return cm_fail(err, CM_E_INVAL, "cm_config_tls_setup: no config or no session");
    rc = cm_tls_credentials(&cred, err);
    if (rc == CM_OK)
        rc = cm_tls_set_priority(session, cm_config_priority(cfg), err);
    if (rc == CM_OK)
        rc = set_alpn(session, alpn, err);
    if (rc != CM_OK)
        return rc;
    grc = gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, cred);
    if (grc < 0)
        return cm_fail(err, CM_E_TLS, "set credentials: %s", gnutls_strerror(grc));
    rc = cm_tls_session_new(session, cfg, fd, &st, err);
    if (rc != CM_OK)
        return rc;
    gnutls_handshake_set_hook_function(session, GNUTLS_HANDSHAKE_CLIENT_HELLO, GNUTLS_HOOK_PRE,
                                       cm_tls_hook);
    if (fd >= 0)
        cm_tls_gate_install(st);
    cm_config_tickets_begin(cfg);
    return CM_OK;
}

cm_status cm_tls_setup_choosing(struct cm_config *cfg, gnutls_session_t session,
                                const char *const *alpn, cm_tls_choose_fn choose, void *user,
                                struct cm_err *err)
{
    cm_status rc = cm_config_tls_setup_alpn(cfg, session, -1, alpn, err);

    if (rc == CM_OK) {
        struct cm_tls_session *st = cm_tls_session_of(session);

        st->choose = choose;
        st->choose_user = user;
    }
    return rc;
}

cm_status cm_config_tls_setup(struct cm_config *cfg, gnutls_session_t session, int fd,
                              struct cm_err *err)
{
    return cm_config_tls_setup_alpn(cfg, session, fd, NULL, err);
}

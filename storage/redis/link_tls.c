/* SPDX-License-Identifier: Apache-2.0 */
#include "link.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <string.h>

#define PRIORITY "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"

static cm_status load_trust(gnutls_certificate_credentials_t cred, const char *ca,
                            struct cm_err *err)
{
    int n;

    if (ca == NULL) {
        n = gnutls_certificate_set_x509_system_trust(cred);
        if (n <= 0)
            return cm_fail(err, CM_E_TLS,
                           "no CA is trusted on this system: install ca-certificates or name "
                           "the CA of Redis with the parameter 'ca'");
        return CM_OK;
    }
    n = gnutls_certificate_set_x509_trust_file(cred, ca, GNUTLS_X509_FMT_PEM);
    if (n <= 0)
        return cm_fail(err, CM_E_TLS, "read '%s', the CA of Redis: %s", ca,
                       n < 0 ? gnutls_strerror(n) : "there is no certificate in it");
    return CM_OK;
}

cm_status redis_tls_new(const struct redis_options *o, gnutls_certificate_credentials_t *ret,
                        struct cm_err *err)
{
    gnutls_certificate_credentials_t cred = NULL;
    cm_status rc = CM_OK;
    int n = gnutls_certificate_allocate_credentials(&cred);

    if (n < 0)
        return cm_fail_nomem(err);
    if (!o->tls_insecure)
        rc = load_trust(cred, o->tls_ca_file, err);
    if (rc == CM_OK && o->tls_cert_file != NULL) {
        n = gnutls_certificate_set_x509_key_file(cred, o->tls_cert_file, o->tls_key_file,
                                                 GNUTLS_X509_FMT_PEM);
        if (n < 0)
            rc = cm_fail(err, CM_E_TLS, "read '%s' and '%s', certificate and key for Redis: %s",
                         o->tls_cert_file, o->tls_key_file, gnutls_strerror(n));
    }
    if (rc != CM_OK) {
        gnutls_certificate_free_credentials(cred);
        return rc;
    }
    *ret = cred;
    return CM_OK;
}

static bool is_ip(const char *name)
{
    unsigned char bytes[16];

    return inet_pton(AF_INET, name, bytes) == 1 || inet_pton(AF_INET6, name, bytes) == 1;
}

static cm_status not_verified(gnutls_session_t tls, struct cm_err *err)
{
    gnutls_datum_t why = { NULL, 0 };
    unsigned status = gnutls_session_get_verify_cert_status(tls);
    char shown[300] = "";

    if (gnutls_certificate_verification_status_print(status, GNUTLS_CRT_X509, &why, 0) == 0)
        cm_escape((const char *)why.data, why.size, shown, sizeof shown);
    gnutls_free(why.data);
    return cm_fail(err, CM_E_TLS,
                   "TLS: %s(the parameters 'ca' and 'server_name' say which CA and name to "
                   "expect)",
                   shown);
}

cm_status redis_tls_fail(gnutls_session_t tls, int rc, struct cm_err *err)
{
    const char *alert;

    switch (rc) {
    case GNUTLS_E_PREMATURE_TERMINATION:
        return cm_fail(err, CM_E_NET, "the server closed the connection");
    case GNUTLS_E_PULL_ERROR:
    case GNUTLS_E_PUSH_ERROR:
        return cm_fail(err, CM_E_NET, "the connection broke");
    case GNUTLS_E_MEMORY_ERROR:
        return cm_fail_nomem(err);
    case GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR:
        return not_verified(tls, err);
    case GNUTLS_E_FATAL_ALERT_RECEIVED:
        alert = gnutls_alert_get_name(gnutls_alert_get(tls));
        return cm_fail(err, CM_E_TLS, "TLS: the server refuses: %s",
                       alert != NULL ? alert : "unknown alert");
    default:
        return cm_fail(err, CM_E_TLS, "TLS: %s", gnutls_strerror(rc));
    }
}

static cm_status handshake(gnutls_session_t tls, int fd, const struct cm_op *op, struct cm_err *err)
{
    for (;;) {
        int n = gnutls_handshake(tls);
        cm_status rc;

        if (n == 0)
            return CM_OK;
        if (n == GNUTLS_E_INTERRUPTED || n == GNUTLS_E_WARNING_ALERT_RECEIVED)
            continue;
        if (n != GNUTLS_E_AGAIN)
            return redis_tls_fail(tls, n, err);
        rc = redis_poll(fd, gnutls_record_get_direction(tls) != 0 ? POLLOUT : POLLIN, op, err);
        if (rc != CM_OK)
            return cm_wrap(err, rc, "TLS handshake");
    }
}

cm_status redis_tls_open(gnutls_certificate_credentials_t cred, const struct redis_options *o,
                         int fd, const char *name, const struct cm_op *op, gnutls_session_t *ret,
                         struct cm_err *err)
{
    gnutls_session_t tls = NULL;
    cm_status rc;
    int n = gnutls_init(&tls, GNUTLS_CLIENT | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL);

    if (n < 0)
        return cm_fail_nomem(err);
    if (o->tls_server_name != NULL)
        name = o->tls_server_name;
    n = gnutls_priority_set_direct(tls, PRIORITY, NULL);
    if (n == 0)
        n = gnutls_credentials_set(tls, GNUTLS_CRD_CERTIFICATE, cred);
    if (n == 0 && !is_ip(name))
        n = gnutls_server_name_set(tls, GNUTLS_NAME_DNS, name, strlen(name));
    if (n < 0) {
        gnutls_deinit(tls);
        return cm_fail(err, CM_E_TLS, "TLS: %s", gnutls_strerror(n));
    }
    if (!o->tls_insecure)
        gnutls_session_set_verify_cert(tls, name, 0);
    gnutls_transport_set_int(tls, fd);
    gnutls_handshake_set_timeout(tls, GNUTLS_INDEFINITE_TIMEOUT); /* the deadline is ours */
    rc = handshake(tls, fd, op, err);
    if (rc != CM_OK) {
        gnutls_deinit(tls);
        return rc;
    }
    *ret = tls;
    return CM_OK;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "pki_gnutls.h"
#include "tls.h"

#include <pthread.h>

/* What GnuTLS asks for when it needs a certificate. It gets pointers to what belongs to the
 * certificate (flags 0), and uses them until gnutls_deinit(): the session holds a reference until
 * then. Nothing is made per handshake. */

struct serving {
    struct cm_attachment base;
    gnutls_privkey_t key;
    size_t n;
    gnutls_pcert_st pcert[];
};

static const char owner[] = "GnuTLS"; /* its address */

static void serving_destroy(struct cm_attachment *base)
{
    struct serving *sv = CM_CONTAINER_OF(base, struct serving, base);

    for (size_t i = 0; i < sv->n; i++)
        gnutls_pcert_deinit(&sv->pcert[i]);
    if (sv->key != NULL)
        gnutls_privkey_deinit(sv->key);
    free(sv);
}

static cm_status serving_make(const struct cm_cert *cert, struct serving **ret, struct cm_err *err)
{
    size_t n = cm_cert_chain_len(cert);
    struct serving *sv = cm_calloc(1, sizeof *sv + n * sizeof sv->pcert[0]);
    struct cm_key *key = NULL;
    cm_status rc = CM_OK;

    if (sv == NULL)
        return cm_fail_nomem(err);
    sv->base = (struct cm_attachment){ .owner = owner, .destroy = serving_destroy };
    for (size_t i = 0; i < n && rc == CM_OK; i++) {
        struct cm_span der = cm_cert_der(cert, i);
        /* GnuTLS takes a pointer to non-const and only reads. */
        gnutls_datum_t d = { (unsigned char *)(uintptr_t)der.data, (unsigned)der.len };
        int grc = gnutls_pcert_import_x509_raw(&sv->pcert[i], &d, GNUTLS_X509_FMT_DER, 0);

        if (grc < 0)
            rc = cm_fail_gnutls(err, CM_E_CERT, grc, "import certificate");
        else
            sv->n++;
    }
    if (rc == CM_OK)
        rc = cm_cert_key(cert, &key, err);
    if (rc == CM_OK)
        rc = cm_key_to_serve(key, &sv->key, err);
    cm_key_unref(key);
    if (rc != CM_OK) {
        serving_destroy(&sv->base);
        return rc;
    }
    *ret = sv;
    return CM_OK;
}

static struct serving *serving_of(struct cm_cert *cert, struct cm_err *err)
{
    struct cm_attachment *kept = cm_cert_attached(cert, owner);
    struct serving *made = NULL;

    if (kept == NULL) {
        if (serving_make(cert, &made, err) != CM_OK)
            return NULL;
        kept = cm_cert_attach(cert, &made->base);
        if (kept != &made->base)
            serving_destroy(&made->base);
    }
    return CM_CONTAINER_OF(kept, struct serving, base);
}

/* The staple as it is now, once per session: the callback may come again, and what it handed out
 * must stay. GnuTLS leaves it out by itself once it has ended. */
static void put_staple(struct cm_tls_session *st, gnutls_ocsp_data_st **ocsp, unsigned int *n_ocsp)
{
    *ocsp = NULL;
    *n_ocsp = 0;
    if (st->wants_staple && st->staple == NULL)
        st->staple = cm_cert_staple(st->cert);
    if (st->staple == NULL)
        return;
    struct cm_span der = cm_staple_der(st->staple);
    st->ocsp.response = (gnutls_datum_t){ (unsigned char *)(uintptr_t)der.data, (unsigned)der.len };
    st->ocsp.exptime = (time_t)cm_staple_end_s(st->staple);
    *ocsp = &st->ocsp;
    *n_ocsp = 1;
}

int cm_tls_retrieve(gnutls_session_t session, const struct gnutls_cert_retr_st *info,
                    gnutls_pcert_st **certs, unsigned int *n_certs, gnutls_ocsp_data_st **ocsp,
                    unsigned int *n_ocsp, gnutls_privkey_t *key, unsigned int *flags)
{
    struct cm_tls_session *st = cm_tls_session_of(session);
    struct serving *sv;

    (void)info;
    /* Undecided: the hook did not run, because the application has put its own in its place. */
    if (st == NULL || st->refused || st->cert == NULL)
        return GNUTLS_E_INSUFFICIENT_CREDENTIALS;
    sv = serving_of(st->cert, NULL);
    /* Of those with a ticket, for which nothing is signed, GnuTLS asks for a certificate only when
     * it does not take it. Here it is still before the ServerHello, behind which it sends alerts
     * that clients cannot read. */
    if (sv == NULL || cm_cert_key_is_away(st->cert, NULL))
        return GNUTLS_E_INTERNAL_ERROR;
    *certs = sv->pcert;
    *n_certs = (unsigned)sv->n;
    put_staple(st, ocsp, n_ocsp);
    *key = sv->key;
    *flags = 0;
    return 0;
}

#define WARN_EVERY_NS (60 * CM_NS_PER_S)

/* A refusal that is no stranger's fault; but strangers choose how often it happens. */
static void warn(struct cm_config *cfg, const struct cm_err *why)
{
    static _Atomic int64_t next_ns;
    const struct cm_env *env = cm_config_env(cfg);
    int64_t now = env->mono_ns(env);
    int64_t next = atomic_load(&next_ns);

    if (now < next || !atomic_compare_exchange_strong(&next_ns, &next, now + WARN_EVERY_NS))
        return;
    cm_logf(cm_config_log(cfg), CM_LOG_WARN, "key_unusable", NULL, 0,
            "a handshake failed: its certificate's key cannot be used: %s", why->msg);
}

void cm_tls_make_ready(struct cm_tls_session *st, struct cm_span body)
{
    uint8_t ticket[1][CM_TLS_TICKET_NAME];
    struct cm_err err = CM_ERR_INIT;

    if (st->cert == NULL)
        return;
    if (serving_of(st->cert, &err) == NULL) {
        cm_tls_give_up(st, err.status, &err);
        warn(st->cfg, &err);
    } else if (cm_cert_key_is_away(st->cert, &err) && cm_tls_hello_tickets(body, ticket, 1) == 0) {
        cm_tls_give_up(st, err.status, &err); /* this is told of elsewhere */
    }
}

static gnutls_certificate_credentials_t shared_credentials;
static pthread_once_t shared_once = PTHREAD_ONCE_INIT;

static void shared_make(void)
{
    if (gnutls_certificate_allocate_credentials(&shared_credentials) < 0) {
        shared_credentials = NULL;
        return;
    }
    gnutls_certificate_set_retrieve_function3(shared_credentials, cm_tls_retrieve);
}

cm_status cm_tls_credentials(gnutls_certificate_credentials_t *ret, struct cm_err *err)
{
    (void)pthread_once(&shared_once, shared_make);
    if (shared_credentials == NULL)
        return cm_fail_nomem(err);
    *ret = shared_credentials;
    return CM_OK;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "key.h"

#include <string.h>

/* Certificates begin a little early, for the clocks of those who check them. */
enum { BACKDATE_S = 60, DAYS_MAX = 100 * 366, ROOT_PATHLEN = 1, INTERMEDIATE_PATHLEN = 0 };

/* A CA that signs, as its own certificate describes it. */
struct signer {
    const struct cm_key *key;
    struct cm_x509 cert;
    struct cm_span keyid;
    uint8_t keyid_own[CM_KEYID_LEN];
};

static cm_status signer_init(struct signer *s, const struct cm_key *key, struct cm_span der,
                             int64_t now_s, struct cm_err *err)
{
    bool same = false;

    s->key = key;
    cm_status rc = cm_x509_parse(der, &s->cert, err);
    if (rc == CM_OK)
        rc = cm__key_matches_spki(key, &s->cert.spki, &same, err);
    if (rc != CM_OK)
        return cm_wrap(err, rc, "CA certificate");
    if (!same)
        return cm_fail(err, CM_E_KEY, "CA certificate: is for another key than the one given");
    if (!s->cert.ext.is_ca || !s->cert.ext.may_sign_certs)
        return cm_fail(err, CM_E_CERT, "CA certificate: is not one of a CA");
    if (now_s > s->cert.not_after_s)
        return cm_fail(err, CM_E_CERT, "CA certificate: has expired; make a new one");
    s->keyid = s->cert.ext.ski;
    if (s->keyid.len == 0 || s->keyid.len > 32) {
        cm_spki_keyid(&s->cert.spki, s->keyid_own);
        s->keyid = CM_SPAN_OF(s->keyid_own);
    }
    return CM_OK;
}

/* Not before the CA's own beginning, not after its end. */
static void clamp_dates(struct cm_x509_new *t, const struct signer *s)
{
    if (t->not_before_s < s->cert.not_before_s)
        t->not_before_s = s->cert.not_before_s;
    if (t->not_after_s > s->cert.not_after_s)
        t->not_after_s = s->cert.not_after_s;
}

/* The keyid of a SubjectPublicKeyInfo that we wrote. */
static void keyid_of(struct cm_span spki_der, uint8_t ret[CM_KEYID_LEN])
{
    struct cm_spki spki;

    CM_ASSERT(cm_spki_parse(spki_der, &spki) == CM_OK);
    cm_spki_keyid(&spki, ret);
}

/* @by NULL: self-signed. */
static cm_status make_ca(const char *cn, const struct signer *by, int pathlen, int64_t now_s,
                         int days, struct cm_key **ret_key, struct cm_buf *ret_cert_der,
                         struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf name = CM_BUF_INIT(512);
    CM_AUTO_BUF struct cm_buf spki = CM_BUF_INIT(256);
    CM_AUTO_BUF struct cm_buf exts = CM_BUF_INIT(1024);
    struct cm_derw name_w = CM_DERW_INIT(&name, err);
    struct cm_derw w = CM_DERW_INIT(&exts, err);
    struct cm_key *key = NULL;
    uint8_t serial[CM_SERIAL_LEN];
    uint8_t keyid[CM_KEYID_LEN];

    if (cn == NULL || cn[0] == '\0' || strlen(cn) > 64) /* ub-common-name */
        return cm_fail(err, CM_E_INVAL, "CA certificate: its name needs 1 to 64 bytes");
    if (days < 1 || days > DAYS_MAX)
        return cm_fail(err, CM_E_INVAL, "CA certificate: %d days, 1 to %d are possible", days,
                       DAYS_MAX);
    cm_status rc = cm_random_serial(serial, err);
    if (rc == CM_OK)
        rc = cm_key_generate(CM_PK_P256, &key, err);
    if (rc == CM_OK)
        rc = cm__key_spki(key, &spki, err);
    if (rc != CM_OK) {
        cm_key_unref(key);
        return rc;
    }
    keyid_of(cm_buf_span(&spki), keyid);
    cm_dn_put(&name_w, cn);
    cm_ext_basic(&w, true, pathlen);
    cm_ext_key_usage(&w, CM_KU_DIGITAL_SIGNATURE | CM_KU_KEY_CERT_SIGN | CM_KU_CRL_SIGN);
    cm_ext_ski(&w, CM_SPAN_OF(keyid));
    cm_ext_aki(&w, by != NULL ? by->keyid : CM_SPAN_OF(keyid));
    rc = w.rc != CM_OK ? w.rc : name_w.rc;
    if (rc == CM_OK) {
        struct cm_x509_new t = {
            .serial = CM_SPAN_OF(serial),
            .issuer = by != NULL ? by->cert.subject : cm_buf_span(&name),
            .subject = cm_buf_span(&name),
            .not_before_s = now_s - BACKDATE_S,
            .not_after_s = now_s + (int64_t)days * 86400,
            .spki = cm_buf_span(&spki),
            .exts = cm_buf_span(&exts),
        };
        if (by != NULL)
            clamp_dates(&t, by);
        rc = cm_x509_sign(&t, by != NULL ? by->key : key, ret_cert_der, err);
    }
    if (rc != CM_OK) {
        cm_key_unref(key);
        return rc;
    }
    *ret_key = key;
    return CM_OK;
}

cm_status cm_ca_make_root(const char *cn, int64_t now_s, int days, struct cm_key **ret_key,
                          struct cm_buf *ret_cert_der, struct cm_err *err)
{
    return make_ca(cn, NULL, ROOT_PATHLEN, now_s, days, ret_key, ret_cert_der, err);
}

cm_status cm_ca_make_intermediate(const char *cn, const struct cm_key *root_key,
                                  struct cm_span root_der, int64_t now_s, int days,
                                  struct cm_key **ret_key, struct cm_buf *ret_cert_der,
                                  struct cm_err *err)
{
    struct signer root;

    cm_status rc = signer_init(&root, root_key, root_der, now_s, err);
    if (rc != CM_OK)
        return rc;
    if (root.cert.ext.has_pathlen && root.cert.ext.pathlen == 0)
        return cm_fail(err, CM_E_CERT, "CA certificate: allows no CA below it (path length 0)");
    return make_ca(cn, &root, INTERMEDIATE_PATHLEN, now_s, days, ret_key, ret_cert_der, err);
}

/* Does the request ask for exactly @names? */
static cm_status check_csr_names(const struct cm_x509 *csr, const char *const *names, size_t n,
                                 struct cm_err *err)
{
    struct cm_span san = csr->ext.san;
    struct cm_span content;
    uint8_t tag = 0;
    char name[CM_NAME_BUF];
    bool seen[CM_CERT_SANS_MAX] = { false };
    size_t count = 0;
    size_t bytes = 0;

    if (!cm_san_measure(san, &count, &bytes))
        return cm_fail(err, CM_E_PARSE, "certificate request: list of names is malformed");
    if (count != n)
        return cm_fail(err, CM_E_POLICY,
                       "certificate request: asks for %zu names where %zu are expected", count, n);
    while (san.len > 0 && cm_der_next(&san, &tag, &content, NULL)) {
        size_t at = 0;
        if (!cm_san_text(tag, content, name))
            return cm_fail(err, CM_E_POLICY,
                           "certificate request: has a name that is no host name or IP address");
        while (at < n && strcmp(names[at], name) != 0)
            at++;
        if (at == n || seen[at])
            return cm_fail(err, CM_E_POLICY, "certificate request: asks for '%s' unexpectedly",
                           name);
        seen[at] = true;
    }
    return CM_OK;
}

cm_status cm_ca_sign_csr(const struct cm_key *ca_key, struct cm_span ca_der, struct cm_span csr_der,
                         const char *const *names, size_t n, int64_t now_s, int64_t lifetime_s,
                         struct cm_buf *ret_leaf_der, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf name = CM_BUF_INIT(64);
    CM_AUTO_BUF struct cm_buf exts = CM_BUF_INIT(CM_CERT_DER_MAX);
    struct cm_derw name_w = CM_DERW_INIT(&name, err);
    struct cm_derw w = CM_DERW_INIT(&exts, err);
    struct signer ca;
    struct cm_x509 csr;
    uint8_t serial[CM_SERIAL_LEN];
    uint8_t keyid[CM_KEYID_LEN];
    int64_t end_s = 0;

    if (n == 0 || n > CM_CERT_SANS_MAX)
        return cm_fail(err, CM_E_INVAL, "certificate: %zu names, 1 to %d are possible", n,
                       CM_CERT_SANS_MAX);
    if (lifetime_s <= 0 || __builtin_add_overflow(now_s, lifetime_s, &end_s))
        return cm_fail(err, CM_E_INVAL, "certificate: its lifetime must be positive");
    cm_status rc = signer_init(&ca, ca_key, ca_der, now_s, err);
    if (rc == CM_OK)
        rc = cm_x509_parse_csr(csr_der, &csr, err);
    if (rc == CM_OK && !cm_spki_is_sound(&csr.spki))
        rc = cm_fail(err, CM_E_KEY,
                     "certificate request: its key is too weak or of a kind that is not accepted");
    if (rc == CM_OK)
        rc = cm_x509_verify_sig(&csr, &csr.spki, "certificate request", err);
    if (rc == CM_OK)
        rc = check_csr_names(&csr, names, n, err);
    if (rc == CM_OK)
        rc = cm_random_serial(serial, err);
    if (rc == CM_OK)
        rc = cm_ext_san(&w, names, n, true, err); /* critical: the subject is empty */
    if (rc != CM_OK)
        return rc;
    cm_spki_keyid(&csr.spki, keyid);
    cm_dn_put(&name_w, NULL);
    cm_ext_basic(&w, false, -1);
    cm_ext_key_usage(&w, CM_KU_DIGITAL_SIGNATURE);
    cm_ext_server_auth(&w);
    cm_ext_ski(&w, CM_SPAN_OF(keyid));
    cm_ext_aki(&w, ca.keyid);
    if (csr.ext.must_staple)
        cm_ext_must_staple(&w);
    if (w.rc != CM_OK || name_w.rc != CM_OK)
        return w.rc != CM_OK ? w.rc : name_w.rc;

    struct cm_x509_new t = {
        .serial = CM_SPAN_OF(serial),
        .issuer = ca.cert.subject,
        .subject = cm_buf_span(&name),
        .not_before_s = now_s - BACKDATE_S,
        .not_after_s = end_s,
        .spki = csr.spki.whole,
        .exts = cm_buf_span(&exts),
    };
    clamp_dates(&t, &ca);
    return cm_x509_sign(&t, ca.key, ret_leaf_der, err);
}

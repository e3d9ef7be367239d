/* SPDX-License-Identifier: Apache-2.0 */
#include "key.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Every rule in its own function, cheap ones first: nothing is verified before counts and sizes
 * are known to be sane. Errors begin with the rule's name, so that an operator can look it up. */

static cm_status refuse(struct cm_err *err, const char *rule, const char *detail)
{
    return cm_fail(err, CM_E_CERT, "certificate refused (%s): %s", rule, detail);
}

/* --------------------------------------------------------------------- key */

static cm_status check_strength(const struct cm_x509 *certs, size_t n, struct cm_err *err)
{
    for (size_t i = 0; i < n; i++) {
        if (cm_spki_is_sound(&certs[i].spki))
            continue;
        if (certs[i].spki.rsa_bits != 0)
            return cm_fail(err, CM_E_CERT,
                           "certificate refused (key strength): certificate %zu has an RSA key of "
                           "%u bits, %u to %u are accepted",
                           i + 1, certs[i].spki.rsa_bits, CM_RSA_BITS_SOUND, CM_RSA_BITS_MAX);
        return cm_fail(err, CM_E_CERT,
                       "certificate refused (key strength): certificate %zu has a key of a kind "
                       "that is not accepted",
                       i + 1);
    }
    return CM_OK;
}

static cm_status check_key(const struct cm_key *key, const struct cm_x509 *leaf, struct cm_err *err)
{
    bool same = false;

    cm_status rc = cm__key_matches_spki(key, &leaf->spki, &same, err);
    if (rc != CM_OK)
        return rc;
    if (!same)
        return refuse(err, "key match", "it is for another key than ours");
    /* The public half in the key's file is what was compared: is it really the key's? */
    rc = cm_key_check(key, err);
    return rc == CM_OK ? CM_OK : cm_wrap(err, rc, "certificate refused (key match)");
}

/* ------------------------------------------------------------------- names */

static bool is_requested(const char *san, const char *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(san, names[i]) == 0)
            return true;
    }
    return false;
}

static bool is_held(const struct cm_leaf *leaf, const char *name, bool exact)
{
    for (size_t i = 0; i < leaf->n_names; i++) {
        if (exact ? strcmp(leaf->names[i], name) == 0 : cm_name_covers(leaf->names[i], name))
            return true;
    }
    return false;
}

static cm_status check_names(const struct cm_leaf *leaf, const char *const *names, size_t n,
                             bool exact, struct cm_err *err)
{
    if (leaf->names_from_cn || leaf->n_names == 0)
        return refuse(err, "names",
                      "it has no subject alternative names that a client could match");
    for (size_t i = 0; i < n; i++) {
        if (!is_held(leaf, names[i], exact))
            return cm_fail(err, CM_E_CERT, "certificate refused (names): '%s' is not in it",
                           names[i]);
    }
    if (!exact)
        return CM_OK;
    for (size_t i = 0; i < leaf->n_names; i++) {
        if (!is_requested(leaf->names[i], names, n))
            return cm_fail(err, CM_E_CERT,
                           "certificate refused (names): it is also for '%s', which was not asked "
                           "for",
                           leaf->names[i]);
    }
    if (leaf->n_other_sans > 0)
        return cm_fail(err, CM_E_CERT,
                       "certificate refused (names): it has %zu alternative names of another kind "
                       "than asked for",
                       leaf->n_other_sans);
    return CM_OK;
}

/* ------------------------------------------------------------------- dates */

static cm_status check_leaf_dates(const struct cm_x509 *leaf, int64_t now_s, int64_t skew_s,
                                  struct cm_err *err)
{
    int64_t latest = 0;

    if (leaf->not_after_s < leaf->not_before_s)
        return refuse(err, "validity", "it ends before it begins");
    if (__builtin_add_overflow(now_s, skew_s, &latest))
        latest = INT64_MAX;
    if (leaf->not_before_s > latest)
        return cm_fail(err, CM_E_CERT,
                       "certificate refused (validity): it is not valid for another %" PRId64
                       " s; is this machine's clock right?",
                       leaf->not_before_s - now_s);
    if (leaf->not_after_s < now_s)
        return cm_fail(err, CM_E_CERT,
                       "certificate refused (validity): it expired %" PRId64
                       " s ago; is this machine's clock right?",
                       now_s - leaf->not_after_s);
    return CM_OK;
}

/* An expired certificate above the leaf breaks clients that do not look for another path (the
 * AddTrust root of 2020). A root at the end is no part of the path: clients use their own copy. */
static cm_status check_upper_dates(const struct cm_x509 *certs, size_t n, int64_t now_s,
                                   struct cm_err *err)
{
    for (size_t i = 1; i < n; i++) {
        bool root_at_end = i + 1 == n && cm_span_eq(certs[i].issuer, certs[i].subject);
        if (certs[i].not_after_s < now_s && !root_at_end)
            return cm_fail(err, CM_E_CERT,
                           "certificate refused (chain validity): certificate %zu expired %" PRId64
                           " s ago",
                           i + 1, now_s - certs[i].not_after_s);
    }
    return CM_OK;
}

/* ----------------------------------------------------------------- purpose */

static cm_status check_purpose(const struct cm_x509 *leaf, struct cm_err *err)
{
    if (leaf->ext.is_ca)
        return refuse(err, "purpose", "it is a CA certificate");
    if (leaf->ext.has_eku && !leaf->ext.eku_server)
        return refuse(err, "purpose", "its extended key usage does not list serverAuth");
    return CM_OK;
}

/* ------------------------------------------------------------------- chain */

/* CA certificates between @ca and the leaf; self-issued ones do not count (RFC 5280 6.1.4). */
static size_t cas_below(const struct cm_x509 *certs, size_t ca)
{
    size_t count = 0;

    for (size_t i = 1; i < ca; i++)
        count += cm_span_eq(certs[i].issuer, certs[i].subject) ? 0 : 1;
    return count;
}

static cm_status check_links(const struct cm_chain *c, const struct cm_x509 *certs,
                             struct cm_err *err)
{
    size_t n = c->n;

    for (size_t i = 0; i < n; i++) {
        for (size_t j = i + 1; j < n; j++) {
            if (cm_span_eq(c->der[i], c->der[j]))
                return cm_fail(err, CM_E_CERT,
                               "certificate refused (chain order): certificates %zu and %zu are "
                               "the same",
                               i + 1, j + 1);
        }
    }
    for (size_t i = 0; i + 1 < n; i++) {
        const struct cm_x509 *up = &certs[i + 1];
        if (!cm_span_eq(certs[i].issuer, up->subject))
            return cm_fail(err, CM_E_CERT,
                           "certificate refused (chain order): certificate %zu is not the issuer "
                           "of certificate %zu",
                           i + 2, i + 1);
        if (!up->ext.is_ca || !up->ext.may_sign_certs)
            return cm_fail(err, CM_E_CERT,
                           "certificate refused (chain order): certificate %zu issues another but "
                           "is not a CA certificate",
                           i + 2);
        if (up->ext.has_pathlen && cas_below(certs, i + 1) > up->ext.pathlen)
            return cm_fail(err, CM_E_CERT,
                           "certificate refused (path length): certificate %zu allows %u CA "
                           "certificates below it, there are %zu",
                           i + 2, up->ext.pathlen, cas_below(certs, i + 1));
    }
    return CM_OK;
}

static cm_status check_signatures(const struct cm_x509 *certs, size_t n, struct cm_err *err)
{
    char what[128];

    /* A self-issued leaf alone has no other witness than itself. */
    if (n == 1)
        return cm_x509_verify_sig(&certs[0], &certs[0].spki,
                                  "certificate refused (signature): self-signed certificate", err);
    for (size_t i = 0; i + 1 < n; i++) {
        (void)snprintf(what, sizeof what,
                       "certificate refused (signature): certificate %zu by certificate %zu", i + 1,
                       i + 2);
        cm_status rc = cm_x509_verify_sig(&certs[i], &certs[i + 1].spki, what, err);
        if (rc != CM_OK)
            return rc;
    }
    return CM_OK;
}

cm_status cm_chain_accept(const struct cm_chain *c, const struct cm_key *key,
                          const char *const *names, size_t n, bool exact_names, int64_t now_s,
                          int64_t skew_s, struct cm_err *err)
{
    struct cm_x509 certs[CM_CHAIN_CERTS_MAX];
    struct cm_leaf *leaf = NULL;

    if (c->n == 0 || c->n > CM_CHAIN_CERTS_MAX)
        return cm_fail(err, CM_E_CERT,
                       "certificate refused (chain length): %zu certificates, 1 to %d are accepted",
                       c->n, CM_CHAIN_CERTS_MAX);
    if (n == 0 || n > CM_CERT_SANS_MAX)
        return cm_fail(err, CM_E_INVAL, "certificate check: %zu names, 1 to %d are possible", n,
                       CM_CERT_SANS_MAX);
    for (size_t i = 0; i < c->n; i++) {
        cm_status rc = cm_x509_parse(c->der[i], &certs[i], err);
        if (rc != CM_OK)
            return cm_wrap(err, rc, "certificate refused (encoding): number %zu", i + 1);
    }
    cm_status rc = cm_leaf_parse(c->der[0], &leaf, err);
    if (rc != CM_OK)
        return cm_wrap(err, rc, "certificate refused (encoding)");

    rc = check_strength(certs, c->n, err);
    if (rc == CM_OK)
        rc = check_purpose(&certs[0], err);
    if (rc == CM_OK)
        rc = check_names(leaf, names, n, exact_names, err);
    if (rc == CM_OK)
        rc = check_leaf_dates(&certs[0], now_s, skew_s, err);
    if (rc == CM_OK && c->n == 1 && !leaf->self_issued)
        rc = refuse(err, "chain length", "the issuer's certificate is not with it");
    if (rc == CM_OK)
        rc = check_links(c, certs, err);
    if (rc == CM_OK)
        rc = check_upper_dates(certs, c->n, now_s, err);
    if (rc == CM_OK && key != NULL)
        rc = check_key(key, &certs[0], err);
    if (rc == CM_OK)
        rc = check_signatures(certs, c->n, err);
    cm_leaf_free(leaf);
    return rc;
}

cm_status cm_chain_check(const struct cm_chain *c, const struct cm_key *key, struct cm_err *err)
{
    struct cm_x509 certs[CM_CHAIN_CERTS_MAX];
    bool same = false;
    char what[64];

    if (c->n == 0 || c->n > CM_CHAIN_CERTS_MAX)
        return cm_fail(err, CM_E_CERT, "chain of %zu certificates, 1 to %d are accepted", c->n,
                       CM_CHAIN_CERTS_MAX);
    for (size_t i = 0; i < c->n; i++) {
        cm_status rc = cm_x509_parse(c->der[i], &certs[i], err);
        if (rc != CM_OK)
            return cm_wrap(err, rc, "certificate %zu of the chain", i + 1);
    }
    cm_status rc = cm__key_matches_spki(key, &certs[0].spki, &same, err);
    if (rc == CM_OK && !same)
        rc = cm_fail(err, CM_E_KEY, "the private key does not belong to the certificate");
    if (rc == CM_OK)
        rc = cm_key_check(key, err);
    if (rc == CM_OK && c->n == 1 && cm_span_eq(certs[0].issuer, certs[0].subject) &&
        cm_x509_sig_is_known(&certs[0]))
        rc = cm_x509_verify_sig(&certs[0], &certs[0].spki, "signature of the certificate", err);
    for (size_t i = 0; rc == CM_OK && i + 1 < c->n; i++) {
        if (cm_span_eq(certs[i].issuer, certs[i + 1].subject)) {
            /* Of one that we cannot check, clients may know more. */
            if (!cm_x509_sig_is_known(&certs[i]))
                continue;
            (void)snprintf(what, sizeof what, "signature of certificate %zu of the chain", i + 1);
            rc = cm_x509_verify_sig(&certs[i], &certs[i + 1].spki, what, err);
        } else if (i == 0) {
            rc = cm_fail(err, CM_E_CERT, "the leaf is not followed by its issuer");
        }
    }
    return rc;
}

cm_status cm_cert_check_own(struct cm_span der, struct cm_err *err)
{
    struct cm_x509 cert;

    cm_status rc = cm_x509_parse(der, &cert, err);
    if (rc == CM_OK && !cm_span_eq(cert.issuer, cert.subject))
        rc = cm_fail(err, CM_E_CERT, "it is issued by another");
    return rc == CM_OK ? cm_x509_verify_sig(&cert, &cert.spki, "its signature", err) : rc;
}

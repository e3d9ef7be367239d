/* SPDX-License-Identifier: Apache-2.0 */
#include "dns01.h"
#include "dns_persist.h"
#include "dns_record.h"
#include "issuers.h"

#include <certmesh/cm_dns_persist.h>
#include <stdio.h>
#include <string.h>

/* What somebody has to set in DNS, and whether that was done; what was left there. */

static cm_status acme_of(struct cm_config *cfg, struct acme_issuer **ret, struct cm_err *err)
{
    struct cm_issuer *is = NULL;

    for (size_t i = 0; (is = cm_config_issuer(cfg, i)) != NULL; i++)
        if (is->ops == &acme_issuer_ops) {
            *ret = CM_CONTAINER_OF(is, struct acme_issuer, base);
            return CM_OK;
        }
    return cm_fail(err, CM_E_UNSUPPORTED, "this config has no ACME CA, so there is no account");
}

/* *@domain is of the directory, or as given. */
static cm_status issuer_of(struct acme_issuer *ai, const struct cm_op *op, const char *given,
                           char domain[CM_NAME_BUF], struct cm_err *err)
{
    const struct cm_acme_directory *dir = NULL;

    if (given != NULL)
        return cm_name_normalize(given, 0, domain, err);
    cm_status rc = cm_acme_directory(ai->client, op, &dir, err);
    if (rc != CM_OK)
        return rc;
    if (dir->caa == NULL || dir->caa[0] == NULL)
        return cm_fail(err, CM_E_UNSUPPORTED,
                       "%s does not say by which domain name the CA is known; it is to be given",
                       ai->directory_url);
    (void)snprintf(domain, CM_NAME_BUF, "%s", dir->caa[0]);
    return CM_OK;
}

static cm_status write_value(struct cm_dns_persist_record *rec, const char *domain,
                             const char *account, int64_t until_s, struct cm_err *err)
{
    char until[48] = "";

    if (until_s > 0)
        (void)snprintf(until, sizeof until, "; persistUntil=%lld", (long long)until_s);
    int len = snprintf(rec->value, sizeof rec->value, "%s; accounturi=%s%s%s", domain, account,
                       rec->wildcard ? "; policy=wildcard" : "", until);
    if (len < 0 || (size_t)len >= sizeof rec->value || strchr(account, ';') != NULL)
        return cm_fail(err, CM_E_UNSUPPORTED, "the account %s cannot be named in a record",
                       account);
    return CM_OK;
}

cm_status cm_dns_persist_record(struct cm_config *cfg, const struct cm_op *op, const char *name,
                                const struct cm_dns_persist_options *opts,
                                struct cm_dns_persist_record *ret, struct cm_err *err)
{
    static const struct cm_dns_persist_options defaults = CM_DNS_PERSIST_OPTIONS_INIT;
    const struct cm_dns_persist_options *o = opts == NULL ? &defaults : opts;
    struct cm_dns_persist_record rec = { .size = sizeof rec };
    struct acme_identity *id = NULL;
    struct acme_issuer *ai = NULL;
    char ident[CM_NAME_BUF], record_name[DNS_NAME_BUF], domain[CM_NAME_BUF];

    if (cfg == NULL || name == NULL || ret == NULL || ret->size != sizeof *ret || o->until_s < 0)
        return cm_fail(err, CM_E_INVAL, "cm_dns_persist_record: an argument is missing or wrong");
    rec.wildcard = o->wildcard || cm_name_is_wildcard(name);
    cm_status rc = cm_name_normalize(cm_name_is_wildcard(name) ? name + 2 : name, 0, ident, err);
    if (rc == CM_OK)
        rc = dns_persist_name(ident, record_name, err);
    if (rc == CM_OK)
        rc = acme_of(cfg, &ai, err);
    if (rc != CM_OK)
        return rc;
    struct cm_op within = cm_op_within(op, ai->obtain_timeout_ns);
    rc = acme_identity_get(ai, &within, false, &id, err);
    if (rc == CM_OK)
        rc = issuer_of(ai, &within, o->issuer_domain, domain, err);
    if (rc == CM_OK)
        rc = write_value(&rec, domain, id->url, o->until_s, err);
    acme_identity_unref(id);
    if (rc != CM_OK)
        return rc;
    (void)snprintf(rec.name, sizeof rec.name, "%s", record_name);
    *ret = rec;
    return CM_OK;
}

/* The domain and the account that our own record names. */
static bool take_apart(char *value, struct dns_persist *want)
{
    char *account = strstr(value, "; accounturi=");

    if (account == NULL)
        return false;
    *account = '\0';
    account += strlen("; accounturi=");
    account[strcspn(account, ";")] = '\0';
    want->issuers = value;
    want->account = account;
    return true;
}

cm_status cm_dns_persist_check(struct cm_config *cfg, const struct cm_op *op,
                               const struct cm_dns_persist_record *rec, struct cm_err *err)
{
    struct dns_persist want = { .wildcard = rec != NULL && rec->wildcard };
    struct acme_issuer *ai = NULL;
    char value[sizeof rec->value];

    if (cfg == NULL || rec == NULL || rec->size != sizeof *rec ||
        memchr(rec->value, '\0', sizeof rec->value) == NULL)
        return cm_fail(err, CM_E_INVAL, "cm_dns_persist_check: an argument is missing or wrong");
    memcpy(value, rec->value, sizeof value);
    if (!take_apart(value, &want))
        return cm_fail(err, CM_E_INVAL, "not a record of cm_dns_persist_record()");
    cm_status rc = acme_of(cfg, &ai, err);
    if (rc == CM_OK)
        rc = dns_persist_look(ai->persist_solver, op, rec->name, &want, false, err);
    return rc;
}

cm_status cm_dns_sweep(struct cm_config *cfg, const struct cm_op *op, bool dry_run,
                       size_t *ret_left, struct cm_err *err)
{
    struct cm_issuer *is = NULL;
    struct cm_solver *sv = NULL;
    size_t n = 0;

    if (cfg == NULL)
        return cm_fail(err, CM_E_INVAL, "cm_dns_sweep: no config");
    /* All of a config have the same provider, as far as the notes are concerned. */
    for (size_t i = 0; sv == NULL && (is = cm_config_issuer(cfg, i)) != NULL; i++)
        if (is->ops == &acme_issuer_ops)
            sv = CM_CONTAINER_OF(is, struct acme_issuer, base)->dns_solver;
    cm_status rc = dns_record_count(cm_config_storage(cfg), op, &n, err);
    if (rc == CM_OK && n > 0 && sv != NULL && !dry_run) {
        rc = cm_solver_dns01_sweep(sv, op, err);
        if (rc == CM_OK)
            rc = dns_record_count(cm_config_storage(cfg), op, &n, err);
    }
    if (rc == CM_OK && ret_left != NULL)
        *ret_left = n;
    return rc == CM_OK ? rc : cm_wrap(err, rc, "TXT records that were left");
}

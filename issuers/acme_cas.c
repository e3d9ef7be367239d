/* SPDX-License-Identifier: Apache-2.0 */
#include "issuers.h"

#include <string.h>

/* What is known of public CAs: a table and no code, since it changes. */

#define HOUR_S 3600

/* Of a CA that publishes no limit, or that we do not know: enough for a hundred names at once, and
 * a stop for what runs away. */
#define DEFAULT_EVENTS    300
#define DEFAULT_WINDOW_NS (10 * CM_NS_PER_S)
#define EVENTS_MAX        1000000u
#define WINDOW_MAX_MS     (366 * INT64_C(86400000))

static const struct ca {
    const char *host;     /* or the domain it is in */
    bool renewals_exempt; /* with "replaces" they count against nothing */
    struct cm_ca_info info;
} cas[] = {
    /* letsencrypt.org/docs/rate-limits, .../staging-environment, .../profiles; no OCSP since 2025,
     * and no certificates that ask for it */
    { "acme-v02.api.letsencrypt.org",
      true,
      { .name = "Let's Encrypt",
        .directory_url = CM_CA_LETSENCRYPT,
        .profiles = "classic,tlsserver,shortlived",
        .addresses = true,
        .address_profile = "shortlived",
        .wildcards = true,
        .suggests_renewal = true,
        .refuses_must_staple = true,
        .names_max = 100,
        .orders = 300,
        .window_s = 3 * HOUR_S,
        .remark = "90 days; 45 with tlsserver, 160 hours with shortlived, at most 25 names with "
                  "these" } },
    { "acme-staging-v02.api.letsencrypt.org",
      true,
      { .name = "Let's Encrypt, staging",
        .directory_url = CM_CA_LETSENCRYPT_STAGING,
        .profiles = "classic,tlsserver,shortlived",
        .addresses = true,
        .address_profile = "shortlived",
        .wildcards = true,
        .suggests_renewal = true,
        .refuses_must_staple = true,
        .names_max = 100,
        .orders = 1500,
        .window_s = 3 * HOUR_S,
        .remark = "for tests: no browser trusts it" } },
    /* cloud.google.com/certificate-manager/docs/public-ca */
    { "pki.goog",
      false,
      { .name = "Google Trust Services",
        .directory_url = "https://dv.acme-v02.api.pki.goog/directory",
        .eab_where = "'gcloud publicca external-account-keys create', once for each account",
        .profiles = "standard,minimal",
        .addresses = true,
        .wildcards = true,
        .suggests_renewal = true,
        .names_max = 100,
        .remark = "from 1 to 90 days" } },
    /* zerossl.com/documentation/acme */
    { "acme.zerossl.com",
      false,
      { .name = "ZeroSSL",
        .directory_url = "https://acme.zerossl.com/v2/DV90",
        .eab_where = "the page 'Developer' of your account at app.zerossl.com",
        .wildcards = true,
        .remark = "slow at times; has an interface of its own, too: --issuer zerossl" } },
    { "acme.ssl.com",
      false,
      { .name = "SSL.com, ECDSA",
        .directory_url = "https://acme.ssl.com/sslcom-dv-ecc",
        .eab_where = "the API credentials of your account at ssl.com",
        .remark = "no wildcards for free accounts" } },
    { "acme.ssl.com",
      false,
      { .name = "SSL.com, RSA",
        .directory_url = "https://acme.ssl.com/sslcom-dv-rsa",
        .eab_where = "the API credentials of your account at ssl.com",
        .remark = "no wildcards for free accounts" } },
    { "acme-api.actalis.com",
      false,
      { .name = "Actalis",
        .directory_url = "https://acme-api.actalis.com/acme/directory",
        .eab_where = "your account at actalis.com",
        .remark = "no wildcards for free accounts" } },
    { "api.buypass.com",
      false,
      { .name = "Buypass",
        .directory_url = "https://api.buypass.com/acme/directory",
        .gone = "2025" } },
};

static const struct ca *find(const char *url)
{
    const char *host = strstr(url, "://");
    size_t len;

    if (host == NULL)
        return NULL;
    host += 3;
    len = strcspn(host, ":/?#");
    for (size_t i = 0; i < CM_ARRAY_LEN(cas); i++) {
        size_t n = strlen(cas[i].host);

        if (len >= n && strncasecmp(host + len - n, cas[i].host, n) == 0 &&
            (len == n || host[len - n - 1] == '.'))
            return &cas[i];
    }
    return NULL;
}

const struct cm_ca_info *cm_ca_at(size_t i)
{
    return i < CM_ARRAY_LEN(cas) ? &cas[i].info : NULL;
}

const struct cm_ca_info *cm_ca_find(const char *directory_url)
{
    const struct ca *ca = directory_url != NULL ? find(directory_url) : NULL;

    return ca != NULL ? &ca->info : NULL;
}

static cm_status refused(cm_status rc, struct cm_err *err)
{
    if (err != NULL)
        err->no_retry = true; /* asking again without a change is of no use */
    return rc;
}

cm_status acme_ca_precheck(const char *directory_url, const char *name, struct cm_err *err)
{
    const struct ca *ca = find(directory_url);

    if (ca == NULL)
        return CM_OK;
    if (ca->info.gone != NULL)
        return refused(cm_fail(err, CM_E_POLICY,
                               "%s: %s has issued no certificates since %s; choose another CA",
                               name, ca->host, ca->info.gone),
                       err);
    if (cm_name_is_internal(name))
        return cm_fail(err, CM_E_POLICY,
                       "%s: not a public name, %s cannot certify it (use --internal for a local "
                       "certificate)",
                       name, ca->host);
    if (cm_name_is_ip(name) && !ca->info.addresses)
        return cm_fail(err, CM_E_POLICY, "%s: %s does not certify IP addresses", name, ca->host);
    return CM_OK;
}

cm_status acme_ca_count(const char *directory_url, size_t names, struct cm_err *err)
{
    const struct ca *ca = find(directory_url);

    if (ca == NULL || ca->info.names_max == 0 || names <= ca->info.names_max)
        return CM_OK;
    return refused(cm_fail(err, CM_E_POLICY,
                           "%zu names for one certificate, and %s takes at most %zu", names,
                           ca->host, ca->info.names_max),
                   err);
}

cm_status acme_ca_binding(const char *directory_url, bool bound, struct cm_err *err)
{
    const struct ca *ca = find(directory_url);

    if (bound || ca == NULL || ca->info.eab_where == NULL)
        return CM_OK;
    return refused(cm_fail(err, CM_E_POLICY,
                           "%s wants an external account binding: get its key id and MAC key from "
                           "%s, and set them (--eab-kid, --eab-key-file)",
                           ca->host, ca->info.eab_where),
                   err);
}

static cm_status check_rate(size_t events, int64_t window_ms, struct cm_err *err)
{
    if ((events == 0) != (window_ms <= 0))
        return cm_fail(err, CM_E_INVAL,
                       "rate_events is %zu and rate_window_ms %lld: give both, or neither, or a "
                       "window of -1 alone for no limit",
                       events, (long long)window_ms);
    if (events > EVENTS_MAX)
        return cm_fail(err, CM_E_INVAL, "rate_events is %zu, at most %u", events, EVENTS_MAX);
    if (window_ms < -1 || window_ms > WINDOW_MAX_MS)
        return cm_fail(err, CM_E_INVAL, "rate_window_ms is %lld: from 1 to a year, or -1",
                       (long long)window_ms);
    return CM_OK;
}

cm_status acme_ca_limits(const char *directory_url, size_t events, int64_t window_ms,
                         struct cm_issuer_limits *ret, struct cm_err *err)
{
    const struct ca *ca = find(directory_url);
    struct cm_issuer_limits l = { .size = (uint32_t)sizeof l };

    cm_status rc = check_rate(events, window_ms, err);
    if (rc != CM_OK)
        return rc;
    if (ca != NULL) {
        l.renewals_exempt = ca->renewals_exempt;
        l.refuses_must_staple = ca->info.refuses_must_staple;
    }
    if (window_ms > 0) {
        l.events = events;
        l.window_ns = window_ms * CM_NS_PER_MS;
    } else if (window_ms == 0) {
        l.events = ca != NULL && ca->info.orders > 0 ? ca->info.orders : DEFAULT_EVENTS;
        l.window_ns =
            ca != NULL && ca->info.orders > 0 ? ca->info.window_s * CM_NS_PER_S : DEFAULT_WINDOW_NS;
    }
    *ret = l;
    return CM_OK;
}

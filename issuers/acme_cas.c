/* SPDX-License-Identifier: Apache-2.0 */
#include "issuers.h"

#include <string.h>

/* What is known of public CAs: a table and no code, since it changes. */

#define HOUR_NS (3600 * CM_NS_PER_S)

/* Of a CA that publishes no limit, or that we do not know: enough for a hundred names at once, and
 * a stop for what runs away. */
#define DEFAULT_EVENTS    300
#define DEFAULT_WINDOW_NS (10 * CM_NS_PER_S)
#define EVENTS_MAX        1000000u
#define WINDOW_MAX_MS     (366 * INT64_C(86400000))

static const struct ca {
    const char *host; /* or the domain it is in */
    bool ip;          /* certifies addresses */
    size_t events;    /* new orders per account and window; 0 = the default above */
    int64_t window_ns;
    bool renewals_exempt; /* with "replaces" they count against nothing */
    bool refuses_must_staple;
} cas[] = {
    /* letsencrypt.org/docs/rate-limits, .../staging-environment; no OCSP since 2025, and no
     * certificates that ask for it */
    { "acme-v02.api.letsencrypt.org", true, 300, 3 * HOUR_NS, true, true },
    { "acme-staging-v02.api.letsencrypt.org", true, 1500, 3 * HOUR_NS, true, true },
    { "pki.goog", true, 0, 0, false, false },
    { "acme.zerossl.com", false, 0, 0, false, false },
    { "api.buypass.com", false, 0, 0, false, false },
    { "acme.ssl.com", false, 0, 0, false, false },
    { "acme-api.actalis.com", false, 0, 0, false, false },
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

cm_status acme_ca_precheck(const char *directory_url, const char *name, struct cm_err *err)
{
    const struct ca *ca = find(directory_url);

    if (ca == NULL)
        return CM_OK;
    if (cm_name_is_internal(name))
        return cm_fail(err, CM_E_POLICY,
                       "%s: not a public name, %s cannot certify it (use --internal for a local "
                       "certificate)",
                       name, ca->host);
    if (cm_name_is_ip(name) && !ca->ip)
        return cm_fail(err, CM_E_POLICY, "%s: %s does not certify IP addresses", name, ca->host);
    return CM_OK;
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
        l.refuses_must_staple = ca->refuses_must_staple;
    }
    if (window_ms > 0) {
        l.events = events;
        l.window_ns = window_ms * CM_NS_PER_MS;
    } else if (window_ms == 0) {
        l.events = ca != NULL && ca->events > 0 ? ca->events : DEFAULT_EVENTS;
        l.window_ns = ca != NULL && ca->events > 0 ? ca->window_ns : DEFAULT_WINDOW_NS;
    }
    *ret = l;
    return CM_OK;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz.h"
#include "ocsp.h"

#include <string.h>

/* An OCSP response about a fixed certificate, of a fixed CA. Nobody here can sign another: so
 * whatever the input makes of those that were signed, one that is taken says what one of them says,
 * at a time when it holds.
 *
 * Input: a byte of flags, then the response. */

#define EARLY 1u
#define LATE  2u

#define NOW_S INT64_C(1800000000)
#define DAY_S INT64_C(86400)

static const char chain_pem[] = "-----BEGIN CERTIFICATE-----\n"
                                "MIIBczCCARigAwIBAgICEjQwCgYIKoZIzj0EAwIwEjEQMA4GA1UEAwwHRnV6eiBD\n"
                                "QTAeFw0yNzAxMTQwODAwMDBaFw0yNzA0MDUwODAwMDBaMBQxEjAQBgNVBAMMCWZ1\n"
                                "enoudGVzdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABL/SuCC4f4iX4IXdr3hN\n"
                                "mJuPUQqbGGbwLFgYeeWmkX57dZfAZlgJIA8kKJZua78LiRAPk0GWFmhgukqlLeRb\n"
                                "8+WjXDBaMBMGA1UdJQQMMAoGCCsGAQUFBwMBMBQGA1UdEQQNMAuCCWZ1enoudGVz\n"
                                "dDAtBggrBgEFBQcBAQQhMB8wHQYIKwYBBQUHMAGGEWh0dHA6Ly9vY3NwLnRlc3Qv\n"
                                "MAoGCCqGSM49BAMCA0kAMEYCIQC9AYhgQoSAEsJlYHdGJFRvbu6PkNBBo3gk9JiV\n"
                                "MAG9iAIhAMubRBaTpm5+smqKysyBZ0OKw3A0augHurcjm5LWPXyl\n"
                                "-----END CERTIFICATE-----\n"
                                "-----BEGIN CERTIFICATE-----\n"
                                "MIIBiDCCAS6gAwIBAgIQb+tfhfpLEE/X+6bYhsSRTDAKBggqhkjOPQQDAjASMRAw\n"
                                "DgYDVQQDDAdGdXp6IENBMB4XDTI3MDEwNTA3NTkwMFoXDTM3MDEwMjA4MDAwMFow\n"
                                "EjEQMA4GA1UEAwwHRnV6eiBDQTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABMhG\n"
                                "AuBct4+5anHKEjzLozB4ujbu2AYdZo3hRivTNAbHQAqkOXHzIma34vtT3WRhsIMQ\n"
                                "l4mIJxwPdR2Eb26JPaGjZjBkMBIGA1UdEwEB/wQIMAYBAf8CAQEwDgYDVR0PAQH/\n"
                                "BAQDAgGGMB0GA1UdDgQWBBSmGJ2DBqiYBbDOWXyjA6UcVw37WDAfBgNVHSMEGDAW\n"
                                "gBSmGJ2DBqiYBbDOWXyjA6UcVw37WDAKBggqhkjOPQQDAgNIADBFAiBG0USfBeze\n"
                                "1pbvmuAGX4UsJAaVfa7BWbjQ4s8fDAYpjgIhAPnjSMHIxtPtQtSLJguCZPr2rHvn\n"
                                "WJ0p3JqyK3UMXBtc\n"
                                "-----END CERTIFICATE-----\n";

/* What the CA and its delegate have signed. */
static const struct cm_ocsp signed_ones[] = {
    { CM_OCSP_GOOD, 0, 0, NOW_S, NOW_S + 7 * DAY_S, NOW_S + 7 * DAY_S, true },
    { CM_OCSP_GOOD, 0, 0, NOW_S, NOW_S + 7 * DAY_S, NOW_S + 3 * DAY_S, true },
    { CM_OCSP_GOOD, 0, 0, NOW_S, NOW_S + 7 * DAY_S, NOW_S + 7 * DAY_S, false },
    { CM_OCSP_GOOD, 0, 0, NOW_S, NOW_S + DAY_S / 2, NOW_S + DAY_S / 2, true },
    { CM_OCSP_REVOKED, 1, NOW_S - 1000, NOW_S, NOW_S + 7 * DAY_S, NOW_S + 7 * DAY_S, true },
    { CM_OCSP_UNKNOWN, 0, 0, NOW_S, NOW_S + 7 * DAY_S, NOW_S + 7 * DAY_S, true },
};

static bool is_one_of_them(const struct cm_ocsp *o)
{
    for (size_t i = 0; i < CM_ARRAY_LEN(signed_ones); i++) {
        const struct cm_ocsp *s = &signed_ones[i];

        if (o->status == s->status && o->reason == s->reason &&
            o->revoked_at_s == s->revoked_at_s && o->this_update_s == s->this_update_s &&
            o->next_update_s == s->next_update_s && o->end_s == s->end_s && o->alone == s->alone)
            return true;
    }
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct cm_chain chain;
    struct cm_err err = CM_ERR_INIT;
    struct cm_ocsp o;

    if (chain.n == 0)
        CM_ASSERT(cm_chain_from_pem(cm_span_str(chain_pem), &chain, &err) == CM_OK);
    if (size == 0)
        return 0;
    unsigned flags = data[0];
    int64_t now_s = (flags & EARLY) != 0  ? NOW_S - 301
                    : (flags & LATE) != 0 ? NOW_S + 7 * DAY_S
                                          : NOW_S;
    const struct cm_span response = { data + 1, size - 1 };
    cm_status rc = cm_ocsp_verify(response, chain.der[0], chain.der[1], now_s, &o, &err);

    CM_ASSERT(rc == cm_ocsp_verify(response, chain.der[0], chain.der[1], now_s, &o, NULL));
    if (rc != CM_OK) {
        CM_ASSERT(err.status == rc && err.msg[0] != '\0');
        return 0;
    }
    fuzz_reached();
    CM_ASSERT((flags & (EARLY | LATE)) == 0);
    CM_ASSERT(is_one_of_them(&o));
    return 0;
}

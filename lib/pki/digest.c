/* SPDX-License-Identifier: Apache-2.0 */
#include "pki_gnutls.h"

#include <gnutls/crypto.h>

cm_status cm_fail_gnutls(struct cm_err *err, cm_status rc, int gnutls_rc, const char *what)
{
    if (gnutls_rc == GNUTLS_E_MEMORY_ERROR)
        return cm_fail_nomem(err);
    return cm_fail(err, rc, "%s: %s", what, gnutls_strerror(gnutls_rc));
}

void cm_sha256(struct cm_span in, uint8_t out[CM_SHA256_LEN])
{
    CM_ASSERT(gnutls_hash_fast(GNUTLS_DIG_SHA256, in.data, in.len, out) == GNUTLS_E_SUCCESS);
}

cm_status cm_hmac(enum cm_hmac alg, struct cm_span key, struct cm_span in, struct cm_buf *out,
                  struct cm_err *err)
{
    uint8_t mac[64];
    gnutls_mac_algorithm_t mac_alg = GNUTLS_MAC_UNKNOWN;

    switch (alg) {
    case CM_HMAC_SHA256:
        mac_alg = GNUTLS_MAC_SHA256;
        break;
    case CM_HMAC_SHA384:
        mac_alg = GNUTLS_MAC_SHA384;
        break;
    case CM_HMAC_SHA512:
        mac_alg = GNUTLS_MAC_SHA512;
        break;
    }
    if (mac_alg == GNUTLS_MAC_UNKNOWN)
        return cm_fail(err, CM_E_INVAL, "HMAC: unknown algorithm %d", (int)alg);
    if (key.len == 0) /* a secret that got lost on the way, never a wish */
        return cm_fail(err, CM_E_INVAL, "HMAC: the key is empty");

    int rc = gnutls_hmac_fast(mac_alg, key.data, key.len, in.data, in.len, mac);
    if (rc < 0)
        return cm_fail_gnutls(err, CM_E_INTERNAL, rc, "HMAC");
    cm_status st = cm_buf_append(out, mac, gnutls_hmac_get_len(mac_alg), err);
    cm_wipe(mac, sizeof mac);
    return st;
}

bool cm_equal_ct(struct cm_span a, struct cm_span b)
{
    return a.len == b.len && (a.len == 0 || gnutls_memcmp(a.data, b.data, a.len) == 0);
}

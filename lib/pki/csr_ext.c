/* SPDX-License-Identifier: Apache-2.0 */
#include "x509.h"

#include <certmesh/cm_config_extra.h>
#include <string.h>

/* Extensions that a request asks for beside the names and must-staple. They are kept as they stand
 * in a request, one after the other. */

enum { OID_BYTES_MAX = 64 };

static const uint8_t oid_san[] = { 0x55, 0x1d, 0x11 };
static const uint8_t oid_features[] = { 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x01, 0x18 };

/* Who asks for one of these asks for what would not be granted, or for what is not to be had from
 * two mouths. */
static const char *whose(struct cm_span oid)
{
    static const struct {
        const char *whose;
        uint8_t len;
        uint8_t oid[10];
    } taken[] = {
        { "subjectAltName is made of the names", 3, { 0x55, 0x1d, 0x11 } },
        { "basicConstraints is the CA's", 3, { 0x55, 0x1d, 0x13 } },
        { "nameConstraints is the CA's", 3, { 0x55, 0x1d, 0x1e } },
        { "subjectKeyIdentifier is the CA's", 3, { 0x55, 0x1d, 0x0e } },
        { "authorityKeyIdentifier is the CA's", 3, { 0x55, 0x1d, 0x23 } },
        { "cRLDistributionPoints is the CA's", 3, { 0x55, 0x1d, 0x1f } },
        { "authorityInfoAccess is the CA's", 8, { 0x2b, 6, 1, 5, 5, 7, 1, 1 } },
        { "the TLS feature is the option must_staple", 8, { 0x2b, 6, 1, 5, 5, 7, 1, 0x18 } },
        { "acmeIdentifier is for challenges", 8, { 0x2b, 6, 1, 5, 5, 7, 1, 0x1f } },
        { "the list of SCTs is the CA's", 10, { 0x2b, 6, 1, 4, 1, 0xd6, 0x79, 2, 4, 2 } },
        { "the poison of precertificates is the CA's",
          10,
          { 0x2b, 6, 1, 4, 1, 0xd6, 0x79, 2, 4, 3 } },
    };

    for (size_t i = 0; i < CM_ARRAY_LEN(taken); i++)
        if (cm_span_eq(oid, (struct cm_span){ taken[i].oid, taken[i].len }))
            return taken[i].whose;
    return NULL;
}

/* ---- OIDs ---- */

/* The decimal number at *@at, without leading zeros; moves past it. */
static bool take_arc(const char **at, uint64_t *ret)
{
    const char *s = *at;
    uint64_t n = 0;

    if (*s < '0' || *s > '9' || (s[0] == '0' && s[1] >= '0' && s[1] <= '9'))
        return false;
    for (; *s >= '0' && *s <= '9'; s++) {
        if (n > (UINT64_MAX >> 8) / 10)
            return false;
        n = n * 10 + (uint64_t)(*s - '0');
    }
    *at = s;
    *ret = n;
    return true;
}

static bool put_arc(uint64_t n, uint8_t *out, size_t *len)
{
    unsigned shift = 0;

    while (n >> shift > 0x7f)
        shift += 7;
    for (;; shift -= 7) {
        if (*len == OID_BYTES_MAX)
            return false;
        out[(*len)++] = (uint8_t)((n >> shift & 0x7f) | (shift > 0 ? 0x80 : 0));
        if (shift == 0)
            return true;
    }
}

static bool encode_oid(const char *text, uint8_t out[OID_BYTES_MAX], size_t *ret_len)
{
    uint64_t first = 0, n = 0;

    *ret_len = 0;
    if (text == NULL || !take_arc(&text, &first) || first > 2 || *text++ != '.' ||
        !take_arc(&text, &n) || (first < 2 && n > 39) || !put_arc(first * 40 + n, out, ret_len))
        return false;
    while (*text == '.') {
        text++;
        if (!take_arc(&text, &n) || !put_arc(n, out, ret_len))
            return false;
    }
    return *text == '\0';
}

/* ---- the list ---- */

/* The next extension: its OID, and the whole of it. */
static bool next(struct cm_span *list, struct cm_span *oid, struct cm_span *whole)
{
    struct cm_span content;

    return list->len > 0 && cm_der_take_whole(list, CM_DER_SEQUENCE, &content, whole) &&
           cm_der_take(&content, CM_DER_OID, oid);
}

static bool has(struct cm_span list, struct cm_span wanted)
{
    struct cm_span oid, whole;

    while (next(&list, &oid, &whole))
        if (cm_span_eq(oid, wanted))
            return true;
    return false;
}

cm_status cm_csr_ext_add(const char *oid, bool critical, struct cm_span value, struct cm_buf *list,
                         struct cm_err *err)
{
    struct cm_derw w = CM_DERW_INIT(list, err);
    struct cm_x509_exts seen = { .eku_server = false };
    struct cm_span rest = value;
    uint8_t bytes[OID_BYTES_MAX], tag = 0;
    size_t len = 0;

    if (!encode_oid(oid, bytes, &len))
        return cm_fail(err, CM_E_INVAL, "extension '%.80s': is no OID such as 1.3.6.1.4.1.311.21.7",
                       oid != NULL ? oid : "");
    const struct cm_span id = { bytes, len };
    if (whose(id) != NULL)
        return cm_fail(err, CM_E_INVAL, "extension %s cannot be asked for: %s", oid, whose(id));
    if (has(cm_buf_span(list), id))
        return cm_fail(err, CM_E_INVAL, "extension %s is there twice", oid);
    if (value.len > CM_CSR_EXTENSION_BYTES_MAX ||
        list->len + value.len + OID_BYTES_MAX > CM_CSR_EXTENSION_BYTES_MAX)
        return cm_fail(err, CM_E_LIMIT, "extension %s: all of them are larger than %u bytes", oid,
                       CM_CSR_EXTENSION_BYTES_MAX);
    if (!cm_der_next(&rest, &tag, &(struct cm_span){ NULL, 0 }, NULL) || rest.len != 0 ||
        !cm_x509_ext_look(id, value, &seen))
        return cm_fail(err, CM_E_INVAL, "extension %s: its value is not DER of its kind", oid);
    if (seen.has_eku && !seen.eku_server)
        return cm_fail(err, CM_E_INVAL,
                       "extension %s: an extendedKeyUsage without serverAuth is of no use to a "
                       "server",
                       oid);
    cm_ext_put(&w, id, critical, value);
    return w.rc;
}

bool cm_csr_ext_is(struct cm_span csr_der, struct cm_span list)
{
    struct cm_span oid, whole;
    struct cm_x509 csr;

    if (cm_x509_parse_csr(csr_der, &csr, NULL) != CM_OK)
        return false;
    while (next(&csr.ext_list, &oid, &whole)) {
        if (CM_SPAN_IS(oid, oid_san) || CM_SPAN_IS(oid, oid_features))
            continue;
        if (list.len < whole.len || memcmp(list.data, whole.data, whole.len) != 0)
            return false;
        list.data += whole.len;
        list.len -= whole.len;
    }
    return list.len == 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "core_private.h"

/* Which of several certificates for one name a client gets. A certificate of the wrong kind ends
 * the handshake, so what the client can use comes first, if its key can be used; then what is valid
 * now; then elliptic curves before RSA (signing costs a seventh or less); then the newest. If
 * nothing fits, the best of what does not is still offered: a client may know more than it says. */

#define TLS12 0x0303
#define TLS13 0x0304

/* SignatureScheme and supported group numbers (RFC 8446 4.2.3, 4.2.7; RFC 8422 5.1.1). */
enum {
    SIG_RSA_SHA1 = 0x0201,
    SIG_ECDSA_SHA1 = 0x0203,
    SIG_RSA_SHA256 = 0x0401,
    SIG_ECDSA_P256 = 0x0403,
    SIG_RSA_SHA384 = 0x0501,
    SIG_ECDSA_P384 = 0x0503,
    SIG_RSA_SHA512 = 0x0601,
    SIG_ECDSA_P521 = 0x0603,
    SIG_PSS_SHA256 = 0x0804,
    SIG_PSS_SHA384 = 0x0805,
    SIG_PSS_SHA512 = 0x0806,
    SIG_ED25519 = 0x0807,
    GROUP_P256 = 23,
    GROUP_P384 = 24
};

enum family { FAMILY_ECDSA, FAMILY_RSA, FAMILY_ED25519, FAMILY_UNKNOWN };

static bool lists(const uint16_t *list, size_t n, size_t max, uint16_t value)
{
    for (size_t i = 0; i < n && i < max; i++)
        if (list[i] == value)
            return true;
    return false;
}

static bool has_sig(const struct cm_hello *h, uint16_t value)
{
    return lists(h->sigalgs, h->n_sigalgs, CM_HELLO_MAX_LIST, value);
}

static bool has_version(const struct cm_hello *h, uint16_t value)
{
    return lists(h->versions, h->n_versions, CM_ARRAY_LEN(h->versions), value);
}

static enum family family_of(enum cm_pk type)
{
    switch (type) {
    case CM_PK_DEFAULT:
    case CM_PK_P256:
    case CM_PK_P384:
        return FAMILY_ECDSA;
    case CM_PK_RSA2048:
    case CM_PK_RSA3072:
    case CM_PK_RSA4096:
    case CM_PK_RSA8192:
        return FAMILY_RSA;
    case CM_PK_ED25519:
        return FAMILY_ED25519;
    case CM_PK_OTHER:
        break;
    }
    return FAMILY_UNKNOWN;
}

/* Cipher suites of TLS 1.2 by the kind of certificate they need. */
static bool is_ecdsa_suite(uint16_t s)
{
    return (s >= 0xC006 && s <= 0xC00A) || s == 0xC023 || s == 0xC024 || s == 0xC02B ||
           s == 0xC02C || s == 0xC048 || s == 0xC049 || s == 0xC05C || s == 0xC05D || s == 0xC072 ||
           s == 0xC073 || s == 0xC086 || s == 0xC087 || (s >= 0xC0AC && s <= 0xC0AF) || s == 0xCCA9;
}

static bool is_rsa_suite(uint16_t s)
{
    switch (s) {
    case 0x000A: /* RSA key transport */
    case 0x002F:
    case 0x0035:
    case 0x003B:
    case 0x003C:
    case 0x003D:
    case 0x0041:
    case 0x0084:
    case 0x009C:
    case 0x009D:
    case 0x0016: /* DHE_RSA */
    case 0x0033:
    case 0x0039:
    case 0x0045:
    case 0x0067:
    case 0x006B:
    case 0x0088:
    case 0x009E:
    case 0x009F:
    case 0xC012: /* ECDHE_RSA */
    case 0xC013:
    case 0xC014:
    case 0xC027:
    case 0xC028:
    case 0xC02F:
    case 0xC030:
    case 0xCCA8:
    case 0xCCAA:
        return true;
    default:
        return (s >= 0xC09C && s <= 0xC0A3) || s == 0xC076 || s == 0xC077 || s == 0xC08A ||
               s == 0xC08B || s == 0xC07A || s == 0xC07B || s == 0xC07C || s == 0xC07D;
    }
}

static bool has_suite(const struct cm_hello *h, bool (*is)(uint16_t))
{
    for (size_t i = 0; i < h->n_suites && i < CM_HELLO_MAX_LIST; i++)
        if (is(h->suites[i]))
            return true;
    return false;
}

/* Without the extension a TLS 1.2 client takes whatever is usual (RFC 5246 7.4.1.4.1). */
static bool rsa_sig12(const struct cm_hello *h)
{
    return h->n_sigalgs == 0 || has_sig(h, SIG_RSA_SHA256) || has_sig(h, SIG_RSA_SHA384) ||
           has_sig(h, SIG_RSA_SHA512) || has_sig(h, SIG_RSA_SHA1) || has_sig(h, SIG_PSS_SHA256) ||
           has_sig(h, SIG_PSS_SHA384) || has_sig(h, SIG_PSS_SHA512);
}

static bool ecdsa_sig12(const struct cm_hello *h)
{
    return h->n_sigalgs == 0 || has_sig(h, SIG_ECDSA_P256) || has_sig(h, SIG_ECDSA_P384) ||
           has_sig(h, SIG_ECDSA_P521) || has_sig(h, SIG_ECDSA_SHA1);
}

/* In TLS 1.2 the curve of the key is one of the groups, not part of the signature algorithm. */
static bool has_curve(const struct cm_hello *h, enum cm_pk type)
{
    uint16_t group = type == CM_PK_P384 ? GROUP_P384 : GROUP_P256;

    return h->n_groups == 0 || lists(h->groups, h->n_groups, CM_HELLO_MAX_LIST, group);
}

static bool supports12(const struct cm_hello *h, enum cm_pk type)
{
    switch (family_of(type)) {
    case FAMILY_ECDSA:
        return has_suite(h, is_ecdsa_suite) && ecdsa_sig12(h) && has_curve(h, type);
    case FAMILY_RSA:
        return has_suite(h, is_rsa_suite) && rsa_sig12(h);
    case FAMILY_ED25519:
        return has_suite(h, is_ecdsa_suite) && has_sig(h, SIG_ED25519);
    case FAMILY_UNKNOWN:
        break;
    }
    return true;
}

static bool supports13(const struct cm_hello *h, enum cm_pk type)
{
    switch (family_of(type)) {
    case FAMILY_ECDSA:
        return has_sig(h, type == CM_PK_P384 ? SIG_ECDSA_P384 : SIG_ECDSA_P256);
    case FAMILY_RSA:
        return has_sig(h, SIG_PSS_SHA256) || has_sig(h, SIG_PSS_SHA384) ||
               has_sig(h, SIG_PSS_SHA512);
    case FAMILY_ED25519:
        return has_sig(h, SIG_ED25519);
    case FAMILY_UNKNOWN:
        break;
    }
    return true;
}

bool cm_select_supports(const struct cm_hello *h, enum cm_pk type)
{
    /* The server prefers TLS 1.3, and what is chosen here cannot change the version any more. */
    if (h->has_versions_ext && has_version(h, TLS13))
        return supports13(h, type);
    return supports12(h, type);
}

/* Higher is better. */
static unsigned rank(const struct cm_hello *h, const struct cm_cert *c, int64_t now_s)
{
    enum cm_pk type = (enum cm_pk)c->key_type;
    enum family f = family_of(type);
    unsigned r = f == FAMILY_UNKNOWN ? 0 : f == FAMILY_RSA ? 1 : 2;

    if (cm_cert_is_valid_at(c, now_s, 0))
        r += 4;
    if (cm_select_supports(h, type))
        r += 8;
    if (!cm_cert_key_is_away(c, NULL))
        r += 16;
    return r;
}

struct cm_cert *cm_select_best(const struct cm_hello *hello, struct cm_cert *const *certs, size_t n,
                               int64_t now_s)
{
    struct cm_cert *best = certs[0];
    unsigned best_rank = n > 1 ? rank(hello, best, now_s) : 0;

    for (size_t i = 1; i < n; i++) {
        unsigned r = rank(hello, certs[i], now_s);

        if (r > best_rank || (r == best_rank && certs[i]->not_before_s > best->not_before_s)) {
            best = certs[i];
            best_rank = r;
        }
    }
    return best;
}

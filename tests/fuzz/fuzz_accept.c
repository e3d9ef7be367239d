/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz.h"
#include "pki.h"
#include "x509.h"

#include <string.h>

/* What a CA hands out, judged before it is stored. One key, and one leaf for it that a CA has
 * signed: nobody here can sign another, so whatever else the input makes of them, an accepted chain
 * begins with the very contents of that leaf, at a time and for names that it is good for.
 *
 * Input: a byte of flags, then certificates, each with its length before it in two bytes. */

#define EXACT 1u
#define OTHER 2u /* names that are not in it */
#define EARLY 4u
#define LATE  8u

#define NOW_S INT64_C(1800000000) /* the leaf is of November 2026 */

static const char key_pem[] = "-----BEGIN EC PRIVATE KEY-----\n"
                              "MHcCAQEEIIZsiuLmtJ+WXvxvIc/mjGYoEZ2lF6iycedXacOyV2JUoAoGCCqGSM49\n"
                              "AwEHoUQDQgAEohNy05ziyP53ygBGP02lbbzUi7n2NHaZLd328+pSFEIKw/WL52QQ\n"
                              "Tox3HSWR2rUGe3AUgHj7CYHYzR29AIGpbQ==\n"
                              "-----END EC PRIVATE KEY-----\n";

/* SHA-256 of what the CA signed. */
static const uint8_t leaf_digest[CM_SHA256_LEN] = {
    0xc5, 0x1a, 0xe8, 0x7d, 0x2b, 0xc5, 0xf2, 0xa4, 0xda, 0x63, 0xe8, 0xc0, 0x4d, 0x35, 0xb5, 0x17,
    0x31, 0x84, 0xae, 0x57, 0x90, 0xf8, 0x61, 0x13, 0x39, 0x6f, 0x96, 0xe3, 0x74, 0xf9, 0xe6, 0x27,
};

static struct cm_chain chain_of(const uint8_t *data, size_t size)
{
    struct cm_chain c = { .n = 0 };

    while (size >= 2 && c.n < CM_CHAIN_CERTS_MAX) {
        size_t len = (size_t)data[0] << 8 | data[1];

        data += 2;
        size -= 2;
        if (len > size)
            len = size;
        c.der[c.n++] = (struct cm_span){ data, len };
        data += len;
        size -= len;
    }
    return c;
}

static void check_accepted(const struct cm_chain *c, unsigned flags)
{
    uint8_t digest[CM_SHA256_LEN];
    struct cm_x509 leaf;

    fuzz_reached();
    CM_ASSERT((flags & (OTHER | EARLY | LATE)) == 0);
    CM_ASSERT(cm_x509_parse(c->der[0], &leaf, NULL) == CM_OK);
    cm_sha256(leaf.tbs, digest);
    CM_ASSERT(memcmp(digest, leaf_digest, sizeof digest) == 0);
    CM_ASSERT(c->n >= 2);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const good[] = { "*.a.example", "a.example" };
    static const char *const covered[] = { "a.example", "www.a.example" };
    static const char *const other[] = { "a.example", "b.example" };
    static struct cm_key *key;
    struct cm_err err = CM_ERR_INIT;

    if (key == NULL)
        CM_ASSERT(cm_key_from_pem(cm_span_str(key_pem), &key, &err) == CM_OK);
    if (size == 0)
        return 0;
    unsigned flags = data[0];
    const char *const *names = (flags & OTHER) != 0 ? other : (flags & EXACT) != 0 ? good : covered;
    int64_t now_s = (flags & EARLY) != 0  ? NOW_S - 100000000
                    : (flags & LATE) != 0 ? NOW_S + INT64_C(4000000000)
                                          : NOW_S;
    struct cm_chain c = chain_of(data + 1, size - 1);
    cm_status rc = cm_chain_accept(&c, key, names, 2, (flags & EXACT) != 0, now_s, 3600, &err);

    CM_ASSERT(rc == cm_chain_accept(&c, key, names, 2, (flags & EXACT) != 0, now_s, 3600, NULL));
    if (rc == CM_OK)
        check_accepted(&c, flags);
    else
        CM_ASSERT(err.status == rc && err.msg[0] != '\0');
    return 0;
}

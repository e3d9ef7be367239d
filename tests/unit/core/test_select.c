/* SPDX-License-Identifier: Apache-2.0 */
#include "kit.h"

/* ---- what a client can use ---- */

struct client {
    const char *what;
    bool tls13;
    uint16_t suites[4];
    uint16_t sigalgs[4];
    uint16_t groups[3];
    /* expected: P-256, P-384, RSA, Ed25519 */
    bool p256, p384, rsa, ed25519;
};

static const struct client clients[] = {
    { "modern browser",
      true,
      { 0x1301, 0xC02B, 0xC02F },
      { 0x0403, 0x0804, 0x0401, 0x0503 },
      { 29, 23, 24 },
      true,
      true,
      true,
      false },
    { "TLS 1.3, RSA only",
      true,
      { 0x1301 },
      { 0x0804, 0x0401 },
      { 29 },
      false,
      false,
      true,
      false },
    { "TLS 1.3, PKCS#1 alone is no RSA there",
      true,
      { 0x1301 },
      { 0x0401, 0x0501 },
      { 29 },
      false,
      false,
      false,
      false },
    { "TLS 1.3, P-384 only", true, { 0x1302 }, { 0x0503 }, { 24 }, false, true, false, false },
    { "TLS 1.3, Ed25519 offered",
      true,
      { 0x1301 },
      { 0x0807, 0x0403 },
      { 29 },
      true,
      false,
      false,
      true },
    { "TLS 1.2, RSA suites but ECDSA signatures",
      false,
      { 0xC02F, 0x009C },
      { 0x0403, 0x0401 },
      { 23 },
      false,
      false,
      true,
      false },
    { "TLS 1.2, ECDSA suites only",
      false,
      { 0xC02B, 0xC02C },
      { 0x0403, 0x0401 },
      { 23 },
      true,
      false,
      false,
      false },
    { "TLS 1.2, ECDSA with P-384 alone",
      false,
      { 0xC02C },
      { 0x0503 },
      { 24 },
      false,
      true,
      false,
      false },
    { "TLS 1.2, RSA key transport",
      false,
      { 0x002F },
      { 0x0401 },
      { 0 },
      false,
      false,
      true,
      false },
    { "TLS 1.2, old client without extensions",
      false,
      { 0xC009, 0x0035 },
      { 0 },
      { 0 },
      true,
      true,
      true,
      false },
    { "TLS 1.2, Ed25519 with ECDSA suite",
      false,
      { 0xC02B },
      { 0x0807 },
      { 29 },
      false,
      false,
      false,
      true },
    { "TLS 1.2, Ed25519 signature but RSA suites",
      false,
      { 0xC02F },
      { 0x0807, 0x0804 },
      { 29 },
      false,
      false,
      true,
      false },
    { "TLS 1.2, ChaCha with ECDSA",
      false,
      { 0xCCA9 },
      { 0x0403 },
      { 23 },
      true,
      false,
      false,
      false },
    { "TLS 1.2, ChaCha with RSA",
      false,
      { 0xCCA8 },
      { 0x0804 },
      { 23 },
      false,
      false,
      true,
      false },
};

static void fill(struct cm_hello *h, const struct client *c)
{
    memset(h, 0, sizeof *h);
    for (size_t i = 0; i < CM_ARRAY_LEN(c->suites) && c->suites[i] != 0; i++)
        h->suites[h->n_suites++] = c->suites[i];
    for (size_t i = 0; i < CM_ARRAY_LEN(c->sigalgs) && c->sigalgs[i] != 0; i++)
        h->sigalgs[h->n_sigalgs++] = c->sigalgs[i];
    for (size_t i = 0; i < CM_ARRAY_LEN(c->groups) && c->groups[i] != 0; i++)
        h->groups[h->n_groups++] = c->groups[i];
    if (c->tls13) {
        h->has_versions_ext = true;
        h->versions[h->n_versions++] = 0x0304;
    }
    h->versions[h->n_versions++] = 0x0303;
}

START_TEST(support_table)
{
    struct cm_hello h;

    for (size_t i = 0; i < CM_ARRAY_LEN(clients); i++) {
        const struct client *c = &clients[i];

        fill(&h, c);
        ck_assert_msg(cm_select_supports(&h, CM_PK_P256) == c->p256, "%s: P-256", c->what);
        ck_assert_msg(cm_select_supports(&h, CM_PK_P384) == c->p384, "%s: P-384", c->what);
        ck_assert_msg(cm_select_supports(&h, CM_PK_RSA2048) == c->rsa, "%s: RSA", c->what);
        ck_assert_msg(cm_select_supports(&h, CM_PK_RSA4096) == c->rsa, "%s: RSA 4096", c->what);
        ck_assert_msg(cm_select_supports(&h, CM_PK_ED25519) == c->ed25519, "%s: Ed25519", c->what);
        ck_assert(cm_select_supports(&h, CM_PK_OTHER));
    }
}
END_TEST

START_TEST(lists_longer_than_kept_are_read_to_their_bound)
{
    struct cm_hello h;

    memset(&h, 0, sizeof h);
    h.n_suites = h.n_sigalgs = h.n_groups = 1000; /* as a parser may count */
    h.n_versions = 100;
    h.suites[CM_HELLO_MAX_LIST - 1] = 0xC02B;
    h.sigalgs[CM_HELLO_MAX_LIST - 1] = 0x0403;
    h.groups[CM_HELLO_MAX_LIST - 1] = 23;
    ck_assert(cm_select_supports(&h, CM_PK_P256));
    ck_assert(!cm_select_supports(&h, CM_PK_RSA2048));
}
END_TEST

/* ---- which one wins ---- */

static struct cm_cert *cert(enum cm_pk type, int64_t nb, int64_t na)
{
    struct cm_cert *c = calloc(1, sizeof *c);

    ck_assert_ptr_nonnull(c);
    c->key_type = (uint8_t)type;
    c->not_before_s = nb;
    c->not_after_s = na;
    return c;
}

/* Does @a win over @b at time 1000, in either order? */
static void wins(const struct client *client, struct cm_cert *a, struct cm_cert *b)
{
    struct cm_cert *pair[2] = { a, b };
    struct cm_hello h;

    fill(&h, client);
    ck_assert_ptr_eq(cm_select_best(&h, pair, 2, 1000), a);
    pair[0] = b;
    pair[1] = a;
    ck_assert_ptr_eq(cm_select_best(&h, pair, 2, 1000), a);
    free(a);
    free(b);
}

START_TEST(ranking)
{
    const struct client *modern = &clients[0];
    const struct client *rsa_only = &clients[1];
    const struct client *none = &clients[2];

    /* the newest of the same kind */
    wins(modern, cert(CM_PK_P256, 900, 2000), cert(CM_PK_P256, 800, 3000));
    /* valid before newer-but-future and before expired */
    wins(modern, cert(CM_PK_P256, 100, 2000), cert(CM_PK_P256, 1001, 2000));
    wins(modern, cert(CM_PK_P256, 100, 1000), cert(CM_PK_P256, 200, 999));
    /* usable by the client before valid */
    wins(rsa_only, cert(CM_PK_RSA2048, 100, 500), cert(CM_PK_P256, 900, 2000));
    wins(rsa_only, cert(CM_PK_RSA2048, 100, 2000), cert(CM_PK_P256, 900, 2000));
    /* an elliptic curve before RSA, even when older; validity counts for more */
    wins(modern, cert(CM_PK_P256, 100, 2000), cert(CM_PK_RSA2048, 900, 2000));
    wins(modern, cert(CM_PK_RSA2048, 100, 2000), cert(CM_PK_P256, 100, 999));
    /* Ed25519 only if offered */
    wins(modern, cert(CM_PK_RSA2048, 100, 2000), cert(CM_PK_ED25519, 900, 2000));
    wins(&clients[4], cert(CM_PK_ED25519, 900, 2000), cert(CM_PK_P256, 800, 2000));
    /* nothing fits: still one of them */
    wins(none, cert(CM_PK_P256, 100, 2000), cert(CM_PK_RSA2048, 100, 2000));
}
END_TEST

int main(void)
{
    const TTest *const tests[] = { support_table, lists_longer_than_kept_are_read_to_their_bound,
                                   ranking };

    return kit_run("select", tests, CM_ARRAY_LEN(tests));
}

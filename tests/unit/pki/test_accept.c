/* SPDX-License-Identifier: Apache-2.0 */
#include "mkcert.h"
#include "run.h"

static struct cm_err err;

#define NOW INT64_C(1800000000)

/* Keys are made once for the process; check forks each test from it. */
static gnutls_x509_privkey_t root_key, inter_key, sub_key, other_key, leaf_key, weak_key, rsa_key,
    ed_key, p384_key;

/* The certificates that chains are put together from, one letter each. */
enum cert {
    R_ROOT,     /* R */
    I_INTER,    /* I, by R, pathlen 0 */
    S_SUB,      /* S, by J: an intermediate below one that allows none is by I */
    J_WIDE,     /* J, by R, no pathlen: same name and key as I */
    P_BELOW_I,  /* P, an intermediate by I, against its path length */
    E_EXPIRED,  /* E, like I but expired */
    F_RESIGNED, /* F, I's name and key, but signed by another key in R's name */
    X_UNREL,    /* X, an unrelated intermediate */
    N_NOT_CA,   /* N, I's name and key, CA:FALSE */
    B_NO_BASIC, /* B, I's name and key, no basicConstraints */
    U_NO_SIGN,  /* U, I's name and key, key usage without keyCertSign */
    K_OTHER,    /* K, I's name, another key */
    W_WEAK,     /* W, I's name, RSA of 1024 bits */
    O_OLD_ROOT, /* O, R's name and key, expired */
    N_CERTS
};
static const char letters[] = "RISJPEFXNBUKWO";
static struct mk_cert certs[N_CERTS];

static void make_certs(void)
{
    struct mk_spec ca = { .cn = "Test Root",
                          .not_before_s = NOW - 100 * MK_DAY,
                          .not_after_s = NOW + 1000 * MK_DAY,
                          .ca = 1,
                          .pathlen = -1,
                          .usage = GNUTLS_KEY_KEY_CERT_SIGN | GNUTLS_KEY_CRL_SIGN };
    struct mk_spec s;

    ck_assert_uint_eq(sizeof letters - 1, N_CERTS);
    root_key = mk_key(MK_P256);
    inter_key = mk_key(MK_P256);
    sub_key = mk_key(MK_P256);
    other_key = mk_key(MK_P256);
    leaf_key = mk_key(MK_P256);
    weak_key = mk_key(GNUTLS_PK_RSA, 1024);
    rsa_key = mk_key(GNUTLS_PK_RSA, 2048);
    ed_key = mk_key(GNUTLS_PK_EDDSA_ED25519, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_ED25519));
    p384_key = mk_key(GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP384R1));

    certs[R_ROOT] = mk_cert(&ca, root_key, NULL, root_key);
    s = ca;
    s.not_after_s = NOW - 1;
    certs[O_OLD_ROOT] = mk_cert(&s, root_key, NULL, root_key);
    s = ca;
    s.cn = "Test Intermediate";
    s.pathlen = 0;
    certs[I_INTER] = mk_cert(&s, inter_key, &certs[R_ROOT], root_key);
    certs[F_RESIGNED] = mk_cert(&s, inter_key, &certs[R_ROOT], other_key);
    certs[K_OTHER] = mk_cert(&s, other_key, &certs[R_ROOT], root_key);
    certs[W_WEAK] = mk_cert(&s, weak_key, &certs[R_ROOT], root_key);
    s.pathlen = -1;
    certs[J_WIDE] = mk_cert(&s, inter_key, &certs[R_ROOT], root_key);
    s.not_after_s = NOW - 1;
    certs[E_EXPIRED] = mk_cert(&s, inter_key, &certs[R_ROOT], root_key);
    s = ca;
    s.cn = "Test Intermediate";
    s.usage = GNUTLS_KEY_DIGITAL_SIGNATURE;
    certs[U_NO_SIGN] = mk_cert(&s, inter_key, &certs[R_ROOT], root_key);
    s.usage = 0;
    s.ca = 0;
    certs[N_NOT_CA] = mk_cert(&s, inter_key, &certs[R_ROOT], root_key);
    s.ca = -1;
    certs[B_NO_BASIC] = mk_cert(&s, inter_key, &certs[R_ROOT], root_key);
    s = ca;
    s.cn = "Test Sub";
    certs[S_SUB] = mk_cert(&s, sub_key, &certs[J_WIDE], inter_key);
    certs[P_BELOW_I] = mk_cert(&s, sub_key, &certs[I_INTER], inter_key);
    s.cn = "Unrelated Intermediate";
    certs[X_UNREL] = mk_cert(&s, other_key, &certs[R_ROOT], root_key);
}

enum leaf_kind {
    LEAF_OURS,
    LEAF_OTHER_KEY,
    LEAF_RSA,
    LEAF_RSA_WEAK,
    LEAF_ED,
    LEAF_P384,
    LEAF_SELF,         /* self-signed by our key */
    LEAF_SELF_BY_OTHER /* issuer equals subject, signature by another key */
};
#define DEF_SANS "a.example"

struct accept_case {
    const char *title;
    const char *chain; /* L = leaf, else letters above */
    const char *names; /* comma separated */
    const char *sans;  /* NULL = DEF_SANS; "-" = none */
    enum leaf_kind kind;
    enum mk_eku eku;
    int64_t from;  /* days from now; 0 = -1 */
    int64_t until; /* seconds from now; 0 = 90 days */
    int ca;
    bool covers; /* not exact_names */
    bool by_sub; /* the leaf is signed by S's key */
    gnutls_digest_algorithm_t digest;
    const char *refused; /* part of the message; NULL = accepted */
};

static const struct accept_case cases[] = {
    /* right ones */
    { .title = "plain", .chain = "LI" },
    { .title = "root at the end", .chain = "LIR" },
    { .title = "expired root at the end", .chain = "LIO" },
    { .title = "two intermediates", .chain = "LSJ", .by_sub = true },
    { .title = "two intermediates and root", .chain = "LSJR", .by_sub = true },
    { .title = "serverAuth", .chain = "LI", .eku = MK_EKU_SERVER },
    { .title = "serverAuth and clientAuth", .chain = "LI", .eku = MK_EKU_BOTH },
    { .title = "anyExtendedKeyUsage", .chain = "LI", .eku = MK_EKU_ANY },
    { .title = "no basicConstraints", .chain = "LI", .ca = -1 },
    { .title = "two names in other order",
      .chain = "LI",
      .sans = "b.example,a.example",
      .names = "a.example,b.example" },
    { .title = "name twice in it", .chain = "LI", .sans = "a.example,a.example" },
    { .title = "upper case name in it", .chain = "LI", .sans = "A.Example" },
    { .title = "address and name",
      .chain = "LI",
      .sans = "a.example,192.0.2.1,2001:db8::1",
      .names = "2001:db8::1,192.0.2.1,a.example" },
    { .title = "wildcard asked for", .chain = "LI", .sans = "*.example", .names = "*.example" },
    { .title = "wildcard covers", .chain = "LI", .sans = "*.example", .covers = true },
    { .title = "more names cover", .chain = "LI", .sans = "a.example,b.example", .covers = true },
    { .title = "mail address beside, covering",
      .chain = "LI",
      .sans = "a.example,mail:x@a.example",
      .covers = true },
    { .title = "begins within the skew", .chain = "LI", .from = 1 },
    { .title = "last second of validity", .chain = "LI", .until = -1 },
    { .title = "until 9999", .chain = "LI", .until = INT64_C(253402300799) - NOW },
    { .title = "RSA leaf", .chain = "LI", .kind = LEAF_RSA },
    { .title = "Ed25519 leaf", .chain = "LI", .kind = LEAF_ED },
    { .title = "P-384 leaf", .chain = "LI", .kind = LEAF_P384 },
    { .title = "self-signed", .chain = "L", .kind = LEAF_SELF },
    { .title = "SHA-512 signature", .chain = "LI", .digest = GNUTLS_DIG_SHA512 },

    /* wrong ones */
    { .title = "another key", .chain = "LI", .kind = LEAF_OTHER_KEY, .refused = "(key match)" },
    { .title = "missing name",
      .chain = "LI",
      .names = "a.example,b.example",
      .refused = "(names): 'b.example' is not in it" },
    { .title = "extra name",
      .chain = "LI",
      .sans = "a.example,b.example",
      .refused = "(names): it is also for 'b.example'" },
    { .title = "extra address",
      .chain = "LI",
      .sans = "a.example,192.0.2.1",
      .refused = "(names): it is also for '192.0.2.1'" },
    { .title = "wildcard for exact",
      .chain = "LI",
      .sans = "*.example",
      .refused = "(names): 'a.example' is not in it" },
    { .title = "exact for wildcard",
      .chain = "LI",
      .names = "*.example",
      .refused = "(names): '*.example' is not in it" },
    { .title = "wildcard does not cover two labels",
      .chain = "LI",
      .sans = "*.example",
      .names = "a.b.example",
      .covers = true,
      .refused = "(names)" },
    { .title = "address written as a DNS name",
      .chain = "LI",
      .sans = "dns:192.0.2.1",
      .names = "192.0.2.1",
      .refused = "(names): it has no subject alternative names" },
    { .title = "name with a final dot",
      .chain = "LI",
      .sans = "dns:a.example.",
      .refused = "(names)" },
    { .title = "name with a blank", .chain = "LI", .sans = "dns: a.example", .refused = "(names)" },
    { .title = "mail address beside",
      .chain = "LI",
      .sans = "a.example,mail:x@a.example",
      .refused = "(names): it has 1 alternative names of another kind" },
    { .title = "URI beside",
      .chain = "LI",
      .sans = "a.example,uri:http://a.example/",
      .refused = "(names): it has 1 alternative names of another kind" },
    { .title = "CN only",
      .chain = "LI",
      .sans = "-",
      .refused = "(names): it has no subject alternative names" },
    { .title = "CA:TRUE", .chain = "LI", .ca = 1, .refused = "(purpose): it is a CA" },
    { .title = "clientAuth only",
      .chain = "LI",
      .eku = MK_EKU_CLIENT,
      .refused = "(purpose): its extended key usage" },
    { .title = "expired a second ago",
      .chain = "LI",
      .until = -2,
      .refused = "(validity): it expired" },
    { .title = "not yet valid beyond the skew",
      .chain = "LI",
      .from = 2,
      .refused = "(validity): it is not valid for another" },
    { .title = "ends before it begins",
      .chain = "LI",
      .from = 1,
      .until = -1,
      .refused = "(validity): it ends before it begins" },
    { .title = "no intermediate", .chain = "L", .refused = "(chain length)" },
    { .title = "leaf last", .chain = "IL", .refused = "(purpose)" },
    { .title = "unsorted", .chain = "LRI", .refused = "(chain order): certificate 2" },
    { .title = "unsorted above", .chain = "LJS", .by_sub = true, .refused = "(chain order)" },
    { .title = "leaf twice", .chain = "LLI", .refused = "certificates 1 and 2 are the same" },
    { .title = "intermediate twice",
      .chain = "LII",
      .refused = "certificates 2 and 3 are the same" },
    { .title = "root twice", .chain = "LIRR", .refused = "certificates 3 and 4 are the same" },
    { .title = "unrelated intermediate", .chain = "LX", .refused = "(chain order)" },
    { .title = "unrelated intermediate after",
      .chain = "LIX",
      .refused = "(chain order): certificate 3 is not the issuer of certificate 2" },
    { .title = "gap in the chain", .chain = "LR", .refused = "(chain order)" },
    { .title = "issuer of the same name with another key",
      .chain = "LK",
      .refused = "(signature): certificate 1 by certificate 2" },
    { .title = "intermediate not signed by the root",
      .chain = "LFR",
      .refused = "(signature): certificate 2 by certificate 3" },
    { .title = "issuer is no CA", .chain = "LN", .refused = "certificate 2 issues another but" },
    { .title = "issuer without basicConstraints", .chain = "LB", .refused = "is not a CA" },
    { .title = "issuer may not sign", .chain = "LU", .refused = "is not a CA" },
    { .title = "path too long", .chain = "LPI", .by_sub = true, .refused = "(path length)" },
    { .title = "expired intermediate",
      .chain = "LE",
      .refused = "(chain validity): certificate 2 expired" },
    { .title = "expired intermediate above", .chain = "LER", .refused = "(chain validity)" },
    { .title = "expired cross-signed root between",
      .chain = "LIOR",
      .refused = "(chain validity): certificate 3 expired" },
    { .title = "weak RSA leaf",
      .chain = "LI",
      .kind = LEAF_RSA_WEAK,
      .refused = "(key strength): certificate 1 has an RSA key of 1024 bits" },
    { .title = "weak RSA intermediate", .chain = "LW", .refused = "(key strength): certificate 2" },
    { .title = "self-issued but signed by another",
      .chain = "L",
      .kind = LEAF_SELF_BY_OTHER,
      .refused = "(signature): self-signed" },
    { .title = "SHA-1 signature",
      .chain = "LI",
      .digest = GNUTLS_DIG_SHA1,
      .refused = "(signature): certificate 1 by certificate 2: signed with an algorithm" },
    { .title = "no certificate", .chain = "", .refused = "(chain length): 0" },
};

static gnutls_x509_privkey_t key_of(enum leaf_kind kind)
{
    switch (kind) {
    case LEAF_OTHER_KEY:
        return other_key;
    case LEAF_RSA:
        return rsa_key;
    case LEAF_RSA_WEAK:
        return weak_key;
    case LEAF_ED:
        return ed_key;
    case LEAF_P384:
        return p384_key;
    case LEAF_OURS:
    case LEAF_SELF:
    case LEAF_SELF_BY_OTHER:
        break;
    }
    return leaf_key;
}

static struct mk_cert make_leaf(const struct accept_case *c)
{
    struct mk_spec s = {
        .cn = "a.example",
        .sans = c->sans == NULL             ? DEF_SANS
                : strcmp(c->sans, "-") == 0 ? NULL
                                            : c->sans,
        .not_before_s = NOW + (c->from == 0 ? -1 : c->from) * MK_DAY,
        .not_after_s = NOW + (c->until == 0 ? 90 * MK_DAY : c->until + 1),
        .ca = c->ca,
        .pathlen = -1,
        .eku = c->eku,
        .digest = c->digest,
    };

    if (c->kind == LEAF_SELF)
        return mk_cert(&s, leaf_key, NULL, leaf_key);
    if (c->kind == LEAF_SELF_BY_OTHER)
        return mk_cert(&s, leaf_key, NULL, other_key);
    return mk_cert(&s, key_of(c->kind), &certs[c->by_sub ? S_SUB : I_INTER],
                   c->by_sub ? sub_key : inter_key);
}

static size_t split(char *text, const char **names, size_t max)
{
    size_t n = 0;

    for (char *p = text; p != NULL && n < max; n++) {
        names[n] = p;
        p = strchr(p, ',');
        if (p != NULL)
            *p++ = '\0';
    }
    return n;
}

static struct cm_chain chain_of(const char *spec, const struct mk_cert *leaf)
{
    struct cm_chain chain = { .n = 0 };

    for (; *spec != '\0'; spec++) {
        const char *at = strchr(letters, *spec);
        if (*spec == 'L')
            chain.der[chain.n++] = mk_span(leaf);
        else
            chain.der[chain.n++] = mk_span(&certs[at - letters]);
    }
    return chain;
}

START_TEST(each_chain_is_judged_by_its_rule)
{
    const struct accept_case *c = &cases[_i];
    struct mk_cert leaf = make_leaf(c);
    struct cm_chain chain = chain_of(c->chain, &leaf);
    /* The key that we hold; "another key" means that the certificate is for a different one. */
    struct cm_key *key = mk_cm_key(c->kind == LEAF_OTHER_KEY ? leaf_key : key_of(c->kind));
    char *text = cm_strdup(c->names != NULL ? c->names : "a.example");
    const char *names[8];
    size_t n = split(text, names, 8);

    cm_status rc = cm_chain_accept(&chain, key, names, n, !c->covers, NOW, MK_DAY, &err);
    if (c->refused == NULL) {
        ck_assert_msg(rc == CM_OK, "%s: %s", c->title, err.msg);
    } else {
        ck_assert_msg(rc == CM_E_CERT, "%s: %s", c->title, cm_status_name(rc));
        ck_assert_msg(strstr(err.msg, c->refused) != NULL, "%s: %s", c->title, err.msg);
    }
    free(text);
    cm_key_unref(key);
    mk_cert_free(&leaf);
}
END_TEST

START_TEST(eleven_certificates_are_too_many)
{
    struct accept_case c = { .title = "" };
    struct mk_cert leaf = make_leaf(&c);
    struct cm_chain chain = chain_of("LI", &leaf);
    struct cm_key *key = mk_cm_key(leaf_key);
    const char *name = "a.example";

    chain.n = CM_CHAIN_CERTS_MAX + 1;
    ck_refused(cm_chain_accept(&chain, key, &name, 1, true, NOW, 0, &err), CM_E_CERT,
               "(chain length): 11");
    chain.n = 2;
    ck_refused(cm_chain_accept(&chain, key, &name, 0, true, NOW, 0, &err), CM_E_INVAL, "0 names");
    cm_key_unref(key);
    mk_cert_free(&leaf);
}
END_TEST

START_TEST(garbage_after_a_certificate_is_refused)
{
    struct accept_case c = { .title = "" };
    struct mk_cert leaf = make_leaf(&c);
    struct cm_chain chain = chain_of("LI", &leaf);
    struct cm_key *key = mk_cm_key(leaf_key);
    const char *name = "a.example";
    uint8_t *longer = calloc(1, leaf.der.size + 3);

    memcpy(longer, leaf.der.data, leaf.der.size);
    chain.der[0] = (struct cm_span){ longer, leaf.der.size + 3 };
    ck_refused(cm_chain_accept(&chain, key, &name, 1, true, NOW, 0, &err), CM_E_PARSE,
               "3 bytes of garbage");
    free(longer);
    cm_key_unref(key);
    mk_cert_free(&leaf);
}
END_TEST

START_TEST(every_changed_bit_of_a_leaf_is_noticed)
{
    struct accept_case c = { .title = "" };
    struct mk_cert leaf = make_leaf(&c);
    struct cm_chain chain = chain_of("LI", &leaf);
    struct cm_key *key = mk_cm_key(leaf_key);
    const char *name = "a.example";

    ck_ok(cm_chain_accept(&chain, key, &name, 1, true, NOW, 0, &err));
    for (unsigned i = 0; i < leaf.der.size; i++) {
        leaf.der.data[i] ^= (unsigned char)(1u << (i % 8));
        ck_assert_msg(cm_chain_accept(&chain, key, &name, 1, true, NOW, 0, &err) != CM_OK,
                      "byte %u", i);
        leaf.der.data[i] ^= (unsigned char)(1u << (i % 8));
    }
    cm_key_unref(key);
    mk_cert_free(&leaf);
}
END_TEST

/* What lies in storage may be a peer's: it is damaged only if that can be seen. */
START_TEST(what_is_stored_is_checked_as_far_as_we_can)
{
    struct accept_case c = { .title = "" };
    struct accept_case old = { .title = "", .digest = GNUTLS_DIG_SHA1 };
    struct mk_cert leaf = make_leaf(&c);
    struct mk_cert by_sha1 = make_leaf(&old);
    struct cm_chain chain = chain_of("LI", &leaf);
    struct cm_key *key = mk_cm_key(leaf_key);
    const char *name = "a.example";

    ck_ok(cm_chain_check(&chain, key, &err));
    leaf.der.data[leaf.der.size - 1] ^= 1; /* of the signature */
    ck_refused(cm_chain_check(&chain, key, &err), CM_E_CERT, "signature of certificate 1");
    chain = chain_of("LI", &by_sha1);
    ck_assert_int_eq(cm_chain_accept(&chain, key, &name, 1, true, NOW, 0, &err), CM_E_CERT);
    ck_ok(cm_chain_check(&chain, key, &err));
    chain = chain_of("LX", &by_sha1);
    ck_refused(cm_chain_check(&chain, key, &err), CM_E_CERT, "not followed by its issuer");
    cm_key_unref(key);
    mk_cert_free(&leaf);
    mk_cert_free(&by_sha1);
}
END_TEST

START_TEST(now_near_the_end_of_time_does_not_overflow)
{
    struct accept_case c = { .title = "" };
    struct mk_cert leaf = make_leaf(&c);
    struct cm_chain chain = chain_of("LI", &leaf);
    struct cm_key *key = mk_cm_key(leaf_key);
    const char *name = "a.example";

    ck_refused(cm_chain_accept(&chain, key, &name, 1, true, INT64_MAX, INT64_MAX, &err), CM_E_CERT,
               "(validity)");
    ck_refused(cm_chain_accept(&chain, key, &name, 1, true, 0, 0, &err), CM_E_CERT, "(validity)");
    cm_key_unref(key);
    mk_cert_free(&leaf);
}
END_TEST

START_TEST(key_with_a_foreign_public_half_is_refused)
{
    struct accept_case c = { .title = "" };
    struct mk_cert leaf = make_leaf(&c);
    struct cm_chain chain = chain_of("LI", &leaf);
    struct cm_key *ours = mk_cm_key(leaf_key);
    struct cm_key *lying = NULL;
    struct cm_buf der = CM_BUF_SECRET(512);
    const char *name = "a.example";

    ck_ok(cm_key_to_der(ours, &der, &err));
    der.data[7 + 31] ^= 1; /* the last byte of the scalar */
    ck_ok(cm_key_from_der(cm_buf_span(&der), &lying, &err));
    ck_refused(cm_chain_accept(&chain, lying, &name, 1, true, NOW, 0, &err), CM_E_KEY,
               "(key match)");
    cm_key_unref(lying);
    cm_key_unref(ours);
    cm_buf_free(&der);
    mk_cert_free(&leaf);
}
END_TEST

static void free_certs(void)
{
    gnutls_x509_privkey_t keys[] = { root_key, inter_key, sub_key, other_key, leaf_key,
                                     weak_key, rsa_key,   ed_key,  p384_key };

    for (size_t i = 0; i < N_CERTS; i++)
        mk_cert_free(&certs[i]);
    for (size_t i = 0; i < CM_ARRAY_LEN(keys); i++)
        gnutls_x509_privkey_deinit(keys[i]);
}

int main(void)
{
    Suite *suite = suite_create("accept");
    TCase *tc = tcase_create("accept");

    tcase_set_timeout(tc, 120);
    tcase_add_unchecked_fixture(tc, make_certs, free_certs);
    tcase_add_loop_test(tc, each_chain_is_judged_by_its_rule, 0, (int)CM_ARRAY_LEN(cases));
    tcase_add_test(tc, eleven_certificates_are_too_many);
    tcase_add_test(tc, garbage_after_a_certificate_is_refused);
    tcase_add_test(tc, every_changed_bit_of_a_leaf_is_noticed);
    tcase_add_test(tc, what_is_stored_is_checked_as_far_as_we_can);
    tcase_add_test(tc, now_near_the_end_of_time_does_not_overflow);
    tcase_add_test(tc, key_with_a_foreign_public_half_is_refused);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "bench.h"

#include <gnutls/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define DAY_S 86400

static const uint8_t serial_pattern[16] = { 0x5A, 0xC3, 0x17, 0x88, 0x21, 0x94, 0xEE, 0x0D,
                                            0x3B, 0x76, 0xF1, 0x4A, 0x69, 0x05, 0xD2, 0x9C };

void bench_name(size_t i, char ret[BENCH_NAME_BUF])
{
    static const char suffix[] = ".bench.test";

    ret[0] = 'n';
    for (size_t k = 7; k >= 1; k--, i /= 10)
        ret[k] = (char)('0' + i % 10);
    memcpy(ret + 8, suffix, sizeof suffix);
}

static gnutls_x509_privkey_t new_key(const char *type)
{
    static const struct {
        const char *name;
        gnutls_pk_algorithm_t pk;
        unsigned bits;
    } types[] = {
        { "p256", GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1) },
        { "p384", GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP384R1) },
        { "ed25519", GNUTLS_PK_EDDSA_ED25519, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_ED25519) },
        { "rsa2048", GNUTLS_PK_RSA, 2048 },
    };
    gnutls_x509_privkey_t key = NULL;
    size_t n = sizeof types / sizeof types[0], i = 0;

    while (i < n && strcmp(types[i].name, type) != 0)
        i++;
    bench_check(i < n, "unknown type of key '%s'", type);
    bench_gnutls(gnutls_x509_privkey_init(&key), "key");
    bench_gnutls(gnutls_x509_privkey_generate(key, types[i].pk, types[i].bits, 0),
                 "generate a key");
    return key;
}

/* @issuer NULL: signs itself. @dns NULL: a CA. */
static gnutls_x509_crt_t new_cert(const char *cn, const char *dns, gnutls_x509_privkey_t key,
                                  gnutls_x509_crt_t issuer, gnutls_x509_privkey_t issuer_key)
{
    gnutls_x509_crt_t crt = NULL;
    time_t now = time(NULL);
    uint8_t id[20];
    size_t id_len = sizeof id;

    bench_gnutls(gnutls_x509_crt_init(&crt), "certificate");
    bench_gnutls(gnutls_x509_crt_set_version(crt, 3), "version");
    bench_gnutls(gnutls_x509_crt_set_serial(crt, serial_pattern, sizeof serial_pattern), "serial");
    bench_gnutls(gnutls_x509_crt_set_activation_time(crt, now - DAY_S), "activation");
    bench_gnutls(gnutls_x509_crt_set_expiration_time(crt, now + 89 * DAY_S), "expiration");
    bench_gnutls(gnutls_x509_crt_set_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, cn,
                                               (unsigned)strlen(cn)),
                 "name");
    bench_gnutls(gnutls_x509_crt_set_key(crt, key), "public key");
    bench_gnutls(gnutls_x509_crt_set_basic_constraints(crt, dns == NULL, dns == NULL ? 0 : -1),
                 "constraints");
    bench_gnutls(gnutls_x509_crt_set_key_usage(crt, dns == NULL ? GNUTLS_KEY_KEY_CERT_SIGN
                                                                : GNUTLS_KEY_DIGITAL_SIGNATURE),
                 "usage");
    if (dns != NULL) {
        bench_gnutls(gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_DNSNAME, dns,
                                                          (unsigned)strlen(dns), GNUTLS_FSAN_SET),
                     "subject alternative name");
        bench_gnutls(gnutls_x509_crt_set_key_purpose_oid(crt, GNUTLS_KP_TLS_WWW_SERVER, 0),
                     "purpose");
    }
    bench_gnutls(gnutls_x509_crt_get_key_id(crt, 0, id, &id_len), "key id");
    bench_gnutls(gnutls_x509_crt_set_subject_key_id(crt, id, id_len), "key id");
    if (issuer != NULL) {
        id_len = sizeof id;
        bench_gnutls(gnutls_x509_crt_get_subject_key_id(issuer, id, &id_len, NULL), "key id");
        bench_gnutls(gnutls_x509_crt_set_authority_key_id(crt, id, id_len), "authority key id");
    }
    bench_gnutls(
        gnutls_x509_crt_sign2(crt, issuer != NULL ? issuer : crt, issuer_key, GNUTLS_DIG_SHA256, 0),
        "sign");
    return crt;
}

static void find_patterns(struct bench_factory *f, const char *name)
{
    const uint8_t *at;

    f->n_name_at = 0;
    for (size_t from = 0;; from = f->name_at[f->n_name_at - 1] + BENCH_NAME_LEN) {
        at = memmem(f->leaf.data + from, f->leaf.size - from, name, BENCH_NAME_LEN);
        if (at == NULL || f->n_name_at == sizeof f->name_at / sizeof f->name_at[0])
            break;
        f->name_at[f->n_name_at++] = (size_t)(at - f->leaf.data);
    }
    at = memmem(f->leaf.data, f->leaf.size, serial_pattern, sizeof serial_pattern);
    bench_check(f->n_name_at == 2 && at != NULL, "the pattern certificate is not as expected");
    f->serial_at = (size_t)(at - f->leaf.data);
}

void bench_factory_init(struct bench_factory *f)
{
    bench_factory_init_key(f, "p256");
}

void bench_factory_init_key(struct bench_factory *f, const char *type)
{
    gnutls_x509_privkey_t root_key = new_key("p256"), ca_key = new_key("p256"), key = new_key(type);
    char name[BENCH_NAME_BUF];
    gnutls_datum_t pem = { NULL, 0 };

    memset(f, 0, sizeof *f);
    bench_name(0, name);
    gnutls_x509_crt_t root = new_cert("bench root", NULL, root_key, NULL, root_key);
    gnutls_x509_crt_t ca = new_cert("bench CA", NULL, ca_key, root, root_key);
    gnutls_x509_crt_t leaf = new_cert(name, name, key, ca, ca_key);
    bench_gnutls(gnutls_x509_crt_export2(leaf, GNUTLS_X509_FMT_DER, &f->leaf), "export");
    bench_gnutls(gnutls_x509_crt_export2(ca, GNUTLS_X509_FMT_PEM, &pem), "export");
    bench_gnutls(gnutls_x509_privkey_export2(key, GNUTLS_X509_FMT_PEM, &f->key), "export");
    f->issuer_pem = strndup((const char *)pem.data, pem.size);
    bench_check(f->issuer_pem != NULL, "out of memory");
    gnutls_free(pem.data);
    find_patterns(f, name);
    gnutls_x509_crt_deinit(root);
    gnutls_x509_crt_deinit(leaf);
    gnutls_x509_privkey_deinit(root_key);
    f->ca = ca;
    f->ca_key = ca_key;
    gnutls_x509_privkey_deinit(key);
}

void bench_factory_free(struct bench_factory *f)
{
    gnutls_free(f->leaf.data);
    gnutls_free(f->key.data);
    free(f->issuer_pem);
    gnutls_x509_crt_deinit(f->ca);
    gnutls_x509_privkey_deinit(f->ca_key);
}

void bench_factory_der(const struct bench_factory *f, size_t i, unsigned generation, uint8_t *out)
{
    char name[BENCH_NAME_BUF];

    bench_name(i, name);
    memcpy(out, f->leaf.data, f->leaf.size);
    for (size_t k = 0; k < f->n_name_at; k++)
        memcpy(out + f->name_at[k], name, BENCH_NAME_LEN);
    for (size_t k = 0; k < 8; k++) /* the first byte stays: its sign is the number's */
        out[f->serial_at + 1 + k] = (uint8_t)(i >> (8 * k));
    for (size_t k = 0; k < 4; k++)
        out[f->serial_at + 9 + k] = (uint8_t)(generation >> (8 * k));
}

/* With the issuer behind it; @pem is GnuTLS's and goes into the answer. */
static struct cm_span with_issuer(const struct bench_factory *f, gnutls_datum_t pem)
{
    size_t rest = strlen(f->issuer_pem);
    uint8_t *all = gnutls_realloc(pem.data, pem.size + rest);

    bench_check(all != NULL, "out of memory");
    memcpy(all + pem.size, f->issuer_pem, rest);
    return (struct cm_span){ all, pem.size + rest };
}

struct cm_span bench_factory_pem(const struct bench_factory *f, size_t i, unsigned generation)
{
    gnutls_datum_t der = { malloc(f->leaf.size), f->leaf.size };
    gnutls_datum_t pem = { NULL, 0 };

    bench_check(der.data != NULL, "out of memory");
    bench_factory_der(f, i, generation, der.data);
    bench_gnutls(gnutls_pem_base64_encode2("CERTIFICATE", &der, &pem), "PEM");
    free(der.data);
    return with_issuer(f, pem);
}

struct cm_span bench_factory_signed_pem(const struct bench_factory *f, size_t i,
                                        unsigned generation)
{
    gnutls_datum_t der = { malloc(f->leaf.size), f->leaf.size };
    gnutls_datum_t pem = { NULL, 0 };
    gnutls_x509_crt_t crt = NULL;

    bench_check(der.data != NULL, "out of memory");
    bench_factory_der(f, i, generation, der.data);
    bench_gnutls(gnutls_x509_crt_init(&crt), "certificate");
    bench_gnutls(gnutls_x509_crt_import(crt, &der, GNUTLS_X509_FMT_DER), "import");
    bench_gnutls(gnutls_x509_crt_sign2(crt, f->ca, f->ca_key, GNUTLS_DIG_SHA256, 0), "sign");
    bench_gnutls(gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, &pem), "export");
    gnutls_x509_crt_deinit(crt);
    free(der.data);
    return with_issuer(f, pem);
}

struct cm_span bench_factory_key(const struct bench_factory *f)
{
    return (struct cm_span){ f->key.data, f->key.size };
}

void bench_factory_add(const struct bench_factory *f, struct cm_cache *cache, size_t i,
                       unsigned generation, struct cm_cert **ret)
{
    struct cm_span pem = bench_factory_pem(f, i, generation);
    struct cm_err err = CM_ERR_INIT;

    bench_ok(cm_cache_add_pem(cache, pem, bench_factory_key(f), NULL, ret, &err), &err,
             "add a certificate");
    gnutls_free((void *)(uintptr_t)pem.data);
}

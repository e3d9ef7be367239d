/* SPDX-License-Identifier: Apache-2.0 */
#include "mkcert.h"
#include "run.h"

#include <arpa/inet.h>

static struct cm_err err;

#define ok(call)                                                                                   \
    do {                                                                                           \
        int ok_rc = (call);                                                                        \
        ck_assert_msg(ok_rc >= 0, "%s: %s", #call, gnutls_strerror(ok_rc));                        \
    } while (0)

static void add_san(gnutls_x509_crt_t crt, const char *san)
{
    uint8_t ip[16];

    if (strncmp(san, "mail:", 5) == 0)
        ok(gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_RFC822NAME, san + 5,
                                                (unsigned)strlen(san + 5), GNUTLS_FSAN_APPEND));
    else if (strncmp(san, "uri:", 4) == 0)
        ok(gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_URI, san + 4,
                                                (unsigned)strlen(san + 4), GNUTLS_FSAN_APPEND));
    else if (strncmp(san, "dns:", 4) == 0) /* even if it looks like an address */
        ok(gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_DNSNAME, san + 4,
                                                (unsigned)strlen(san + 4), GNUTLS_FSAN_APPEND));
    else if (inet_pton(AF_INET, san, ip) == 1)
        ok(gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_IPADDRESS, ip, 4,
                                                GNUTLS_FSAN_APPEND));
    else if (inet_pton(AF_INET6, san, ip) == 1)
        ok(gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_IPADDRESS, ip, 16,
                                                GNUTLS_FSAN_APPEND));
    else
        ok(gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_DNSNAME, san, (unsigned)strlen(san),
                                                GNUTLS_FSAN_APPEND));
}

static void add_sans(gnutls_x509_crt_t crt, const char *sans)
{
    while (*sans != '\0') {
        char *one = cm_strndup(sans, strcspn(sans, ","));
        ck_assert_ptr_nonnull(one);
        add_san(crt, one);
        sans += strlen(one);
        sans += *sans == ',';
        free(one);
    }
}

static void add_eku(gnutls_x509_crt_t crt, enum mk_eku eku)
{
    if (eku == MK_EKU_SERVER || eku == MK_EKU_BOTH)
        ok(gnutls_x509_crt_set_key_purpose_oid(crt, GNUTLS_KP_TLS_WWW_SERVER, 0));
    if (eku == MK_EKU_CLIENT || eku == MK_EKU_BOTH)
        ok(gnutls_x509_crt_set_key_purpose_oid(crt, GNUTLS_KP_TLS_WWW_CLIENT, 0));
    if (eku == MK_EKU_ANY)
        ok(gnutls_x509_crt_set_key_purpose_oid(crt, GNUTLS_KP_ANY, 0));
}

static size_t unhex(const char *hex, uint8_t *out, size_t size)
{
    gnutls_datum_t in = { (unsigned char *)(uintptr_t)hex, (unsigned)strlen(hex) };

    ok(gnutls_hex_decode(&in, out, &size));
    return size;
}

static void set_ids(gnutls_x509_crt_t crt, const struct mk_spec *s)
{
    uint8_t bytes[64] = { 1 };
    size_t n = 1;

    if (s->serial_hex != NULL)
        n = unhex(s->serial_hex, bytes, sizeof bytes);
    ok(gnutls_x509_crt_set_serial(crt, bytes, n));
    if (s->aki_hex != NULL) {
        n = unhex(s->aki_hex, bytes, sizeof bytes);
        ok(gnutls_x509_crt_set_authority_key_id(crt, bytes, n));
    }
}

struct mk_cert mk_cert(const struct mk_spec *s, gnutls_x509_privkey_t subject_key,
                       const struct mk_cert *issuer, gnutls_x509_privkey_t signer)
{
    static const uint8_t staple[] = { 0x30, 0x03, 0x02, 0x01, 0x05 };
    struct mk_cert c = { { NULL, 0 }, NULL };

    ok(gnutls_x509_crt_init(&c.crt));
    ok(gnutls_x509_crt_set_version(c.crt, 3));
    set_ids(c.crt, s);
    ok(gnutls_x509_crt_set_activation_time(c.crt, s->not_before_s));
    ok(gnutls_x509_crt_set_expiration_time(c.crt, s->not_after_s));
    if (s->cn != NULL)
        ok(gnutls_x509_crt_set_dn_by_oid(c.crt, GNUTLS_OID_X520_COMMON_NAME, 0, s->cn,
                                         (unsigned)strlen(s->cn)));
    ok(gnutls_x509_crt_set_key(c.crt, subject_key));
    if (s->sans != NULL)
        add_sans(c.crt, s->sans);
    if (s->ca == 1)
        ok(gnutls_x509_crt_set_basic_constraints(c.crt, 1, s->pathlen));
    else if (s->ca == 0)
        ok(gnutls_x509_crt_set_ca_status(c.crt, 0));
    add_eku(c.crt, s->eku);
    if (s->usage != 0)
        ok(gnutls_x509_crt_set_key_usage(c.crt, s->usage));
    if (s->must_staple)
        ok(gnutls_x509_crt_set_extension_by_oid(c.crt, "1.3.6.1.5.5.7.1.24", staple, sizeof staple,
                                                0));
    if (s->ocsp != NULL) {
        gnutls_datum_t uri = { (unsigned char *)(uintptr_t)s->ocsp, (unsigned)strlen(s->ocsp) };
        ok(gnutls_x509_crt_set_authority_info_access(c.crt, GNUTLS_IA_OCSP_URI, &uri));
    }
    ok(gnutls_x509_crt_sign2(c.crt, issuer != NULL ? issuer->crt : c.crt, signer,
                             s->digest != 0 ? s->digest : GNUTLS_DIG_SHA256, 0));
    ok(gnutls_x509_crt_export2(c.crt, GNUTLS_X509_FMT_DER, &c.der));
    /* What was built is not what was read: GnuTLS fills its own fields only on import. */
    gnutls_x509_crt_deinit(c.crt);
    ok(gnutls_x509_crt_init(&c.crt));
    ok(gnutls_x509_crt_import(c.crt, &c.der, GNUTLS_X509_FMT_DER));
    return c;
}

void mk_cert_free(struct mk_cert *c)
{
    if (c->crt != NULL)
        gnutls_x509_crt_deinit(c->crt);
    gnutls_free(c->der.data);
    memset(c, 0, sizeof *c);
}

gnutls_x509_privkey_t mk_key(gnutls_pk_algorithm_t alg, unsigned bits)
{
    gnutls_x509_privkey_t key = NULL;

    ok(gnutls_x509_privkey_init(&key));
    ok(gnutls_x509_privkey_generate(key, alg, bits, 0));
    return key;
}

struct cm_key *mk_cm_key(gnutls_x509_privkey_t key)
{
    gnutls_datum_t der = { NULL, 0 };
    struct cm_key *ret = NULL;

    ok(gnutls_x509_privkey_export2_pkcs8(key, GNUTLS_X509_FMT_DER, NULL, GNUTLS_PKCS_PLAIN, &der));
    ck_ok(cm_key_from_der((struct cm_span){ der.data, der.size }, &ret, &err));
    gnutls_free(der.data);
    return ret;
}

struct cm_span mk_span(const struct mk_cert *c)
{
    return (struct cm_span){ c->der.data, c->der.size };
}

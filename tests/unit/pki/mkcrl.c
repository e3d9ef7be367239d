/* SPDX-License-Identifier: Apache-2.0 */
#include "mkcrl.h"
#include "key.h"

#include <check.h>
#include <string.h>

#define ROOM (64u * 1024 * 1024)

static const uint8_t oid_idp[] = { 0x55, 0x1d, 0x1c };
static const uint8_t oid_delta[] = { 0x55, 0x1d, 0x1b };
static const uint8_t oid_number[] = { 0x55, 0x1d, 0x14 };
static const uint8_t oid_reason[] = { 0x55, 0x1d, 0x15 };
static const uint8_t oid_points[] = { 0x55, 0x1d, 0x1f };
static const uint8_t oid_odd[] = { 0x2a, 0x03, 0x04, 0x05 };
static const uint8_t oid_aia[] = { 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x01, 0x01 };
static const uint8_t oid_ocsp[] = { 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01 };
static const uint8_t yes[] = { 0xff };
static const uint8_t one[] = { CM_DER_INTEGER, 1, 1 };

static struct cm_err err;

#define ok(call)                                                                                   \
    do {                                                                                           \
        cm_status ok_rc = (call);                                                                  \
        ck_assert_msg(ok_rc == CM_OK, "%s: %s", #call, err.msg);                                   \
    } while (0)

/* ---- a CA and what it issues ---- */

static void sign_cert(const struct cm_key *signer, struct cm_span issuer, const char *cn,
                      struct cm_span serial, int64_t from_s, int64_t lifetime_s,
                      const struct cm_key *key, struct cm_span exts, struct cm_buf *ret)
{
    CM_AUTO_BUF struct cm_buf name = CM_BUF_INIT(1024);
    CM_AUTO_BUF struct cm_buf spki = CM_BUF_INIT(4096);
    struct cm_derw w = CM_DERW_INIT(&name, &err);

    cm_dn_put(&w, cn);
    ok(w.rc);
    ok(cm__key_spki(key, &spki, &err));
    struct cm_x509_new t = { .serial = serial,
                             .issuer = issuer.len > 0 ? issuer : cm_buf_span(&name),
                             .subject = cm_buf_span(&name),
                             .not_before_s = from_s,
                             .not_after_s = from_s + lifetime_s - 1,
                             .spki = cm_buf_span(&spki),
                             .exts = exts };
    ok(cm_x509_sign(&t, signer, ret, &err));
}

void mk_ca_make(struct mk_ca *ca, const char *cn, int64_t now_s, unsigned usage)
{
    CM_AUTO_BUF struct cm_buf exts = CM_BUF_INIT(1024);
    struct cm_derw w = CM_DERW_INIT(&exts, &err);
    const struct cm_span none = { NULL, 0 };

    memset(ca, 0, sizeof *ca);
    ca->der.max = CM_CERT_DER_MAX;
    ok(cm_key_generate(CM_PK_P256, &ca->key, &err));
    cm_ext_basic(&w, true, -1);
    if (usage != 0)
        cm_ext_key_usage(&w, (uint8_t)usage);
    ok(w.rc);
    sign_cert(ca->key, none, cn, CM_SPAN_OF(one), now_s - 86400, 3650 * INT64_C(86400), ca->key,
              cm_buf_span(&exts), &ca->der);
}

void mk_ca_free(struct mk_ca *ca)
{
    cm_key_unref(ca->key);
    cm_buf_free(&ca->der);
}

struct cm_span mk_serial(uint64_t serial, uint8_t room[9])
{
    size_t skip = 1;

    room[0] = 0;
    for (size_t i = 0; i < 8; i++)
        room[1 + i] = (uint8_t)(serial >> (56 - 8 * i));
    while (skip < 8 && room[skip] == 0)
        skip++;
    if ((room[skip] & 0x80) != 0)
        skip--;
    return (struct cm_span){ room + skip, 9 - skip };
}

static void put_uri(struct cm_derw *w, const char *uri)
{
    cm_derw_put(w, CM_DER_CTX(6), cm_span_str(uri));
}

static void put_points(struct cm_derw *w, const char *url)
{
    CM_AUTO_BUF struct cm_buf value = CM_BUF_INIT(1024);
    struct cm_derw v = CM_DERW_INIT(&value, &err);
    size_t list = cm_derw_open(&v, CM_DER_SEQUENCE);
    size_t point = cm_derw_open(&v, CM_DER_SEQUENCE);
    size_t place = cm_derw_open(&v, CM_DER_CTX_CONS(0));
    size_t names = cm_derw_open(&v, CM_DER_CTX_CONS(0));

    put_uri(&v, url);
    cm_derw_close(&v, names);
    cm_derw_close(&v, place);
    cm_derw_close(&v, point);
    cm_derw_close(&v, list);
    ok(v.rc);
    cm_ext_put(w, CM_SPAN_OF(oid_points), false, cm_buf_span(&value));
}

static void put_responder(struct cm_derw *w, const char *url)
{
    CM_AUTO_BUF struct cm_buf value = CM_BUF_INIT(1024);
    struct cm_derw v = CM_DERW_INIT(&value, &err);
    size_t list = cm_derw_open(&v, CM_DER_SEQUENCE);
    size_t access = cm_derw_open(&v, CM_DER_SEQUENCE);

    cm_derw_put(&v, CM_DER_OID, CM_SPAN_OF(oid_ocsp));
    put_uri(&v, url);
    cm_derw_close(&v, access);
    cm_derw_close(&v, list);
    ok(v.rc);
    cm_ext_put(w, CM_SPAN_OF(oid_aia), false, cm_buf_span(&value));
}

void mk_leaf(const struct mk_ca *ca, const struct mk_leaf *leaf, struct cm_buf *ret_der,
             struct cm_key **ret_key)
{
    CM_AUTO_BUF struct cm_buf exts = CM_BUF_INIT(8192);
    struct cm_derw w = CM_DERW_INIT(&exts, &err);
    struct cm_x509 issuer;
    uint8_t room[9];

    ok(cm_x509_parse(cm_buf_span(&ca->der), &issuer, &err));
    ok(cm_ext_san(&w, &leaf->name, 1, false, &err));
    cm_ext_server_auth(&w);
    if (leaf->crl_dp.len > 0)
        cm_ext_put(&w, CM_SPAN_OF(oid_points), false, leaf->crl_dp);
    else if (leaf->crl_url != NULL)
        put_points(&w, leaf->crl_url);
    if (leaf->ocsp_url != NULL)
        put_responder(&w, leaf->ocsp_url);
    ok(w.rc);
    if (*ret_key == NULL)
        ok(cm_key_generate(CM_PK_P256, ret_key, &err));
    sign_cert(ca->key, issuer.subject, "", mk_serial(leaf->serial, room), leaf->from_s,
              leaf->lifetime_s, *ret_key, cm_buf_span(&exts), ret_der);
}

/* ---- lists ---- */

/* The writer of lib/pki is for small things; a list of a million entries is made from the inside:
 * frame what @buf holds. */
static void frame(struct cm_buf *buf, uint8_t tag)
{
    uint8_t head[6] = { tag };
    size_t len = buf->len;
    size_t n = len < 0x80 ? 0 : len < 0x100 ? 1 : len < 0x10000 ? 2 : len < 0x1000000 ? 3 : 4;

    head[1] = n == 0 ? (uint8_t)len : (uint8_t)(0x80 | n);
    for (size_t i = 0; i < n; i++)
        head[2 + i] = (uint8_t)(len >> (8 * (n - 1 - i)));
    ok(cm_buf_append(buf, head, 2 + n, &err));
    memmove(buf->data + 2 + n, buf->data, len);
    memcpy(buf->data, head, 2 + n);
}

static void put_entry(struct cm_derw *w, const struct mk_crl_entry *e, bool critical)
{
    uint8_t reason[] = { 0x0a, 1, (uint8_t)e->reason };
    uint8_t room[9];
    size_t entry = cm_derw_open(w, CM_DER_SEQUENCE);

    cm_derw_put(w, CM_DER_INTEGER, mk_serial(e->serial, room));
    cm_derw_time(w, e->at_s);
    if (e->reason >= 0 || critical) {
        size_t exts = cm_derw_open(w, CM_DER_SEQUENCE);

        if (e->reason >= 0)
            cm_ext_put(w, CM_SPAN_OF(oid_reason), false, CM_SPAN_OF(reason));
        if (critical)
            cm_ext_put(w, CM_SPAN_OF(oid_odd), true, CM_SPAN_OF(one));
        cm_derw_close(w, exts);
    }
    cm_derw_close(w, entry);
}

/* A buffer of its own for each, as closing an element costs what the buffer holds. */
static void put_entries(const struct mk_crl *spec, struct cm_buf *out)
{
    for (size_t i = 0; i < spec->n; i++) {
        CM_AUTO_BUF struct cm_buf entry = CM_BUF_INIT(256);
        struct cm_derw w = CM_DERW_INIT(&entry, &err);

        put_entry(&w, &spec->entries[i], spec->entry_critical && i == spec->n - 1);
        ok(w.rc);
        ok(cm_buf_append(out, entry.data, entry.len, &err));
    }
}

/* Very many, made of one. */
static void put_counted(const struct mk_crl *spec, struct cm_buf *out)
{
    CM_AUTO_BUF struct cm_buf entry = CM_BUF_INIT(256);
    struct cm_derw w = CM_DERW_INIT(&entry, &err);
    const struct mk_crl_entry first = { UINT64_C(1) << 62, -1, spec->this_s };

    put_entry(&w, &first, false);
    ok(w.rc);
    for (size_t i = 0; i < spec->n_counted; i++) {
        uint64_t serial = first.serial | 2 * (spec->shuffled ? spec->n_counted - i : i + 1);

        for (size_t k = 0; k < 8; k++) /* behind two headers of two bytes */
            entry.data[4 + k] = (uint8_t)(serial >> (56 - 8 * k));
        ok(cm_buf_append(out, entry.data, entry.len, &err));
    }
}

static void put_flag(struct cm_derw *w, unsigned n, bool set)
{
    if (set)
        cm_derw_put(w, CM_DER_CTX(n), CM_SPAN_OF(yes));
}

static void put_idp(struct cm_derw *w, const struct mk_crl *spec)
{
    CM_AUTO_BUF struct cm_buf value = CM_BUF_INIT(1024);
    struct cm_derw v = CM_DERW_INIT(&value, &err);
    size_t idp = cm_derw_open(&v, CM_DER_SEQUENCE);

    if (spec->idp_url != NULL || spec->idp_relative) {
        size_t place = cm_derw_open(&v, CM_DER_CTX_CONS(0));
        size_t names = cm_derw_open(&v, CM_DER_CTX_CONS(spec->idp_relative ? 1 : 0));

        put_uri(&v, spec->idp_relative ? "x" : spec->idp_url);
        cm_derw_close(&v, names);
        cm_derw_close(&v, place);
    }
    put_flag(&v, 1, spec->user_only);
    put_flag(&v, 2, spec->ca_only);
    put_flag(&v, 4, spec->indirect);
    put_flag(&v, 5, spec->attribute_only);
    cm_derw_close(&v, idp);
    ok(v.rc);
    cm_ext_put(w, CM_SPAN_OF(oid_idp), true, cm_buf_span(&value));
}

static void put_extensions(const struct mk_crl *spec, struct cm_buf *out)
{
    struct cm_derw w = CM_DERW_INIT(out, &err);
    size_t tag = cm_derw_open(&w, CM_DER_CTX_CONS(0));
    size_t list = cm_derw_open(&w, CM_DER_SEQUENCE);

    cm_ext_put(&w, CM_SPAN_OF(oid_number), false, CM_SPAN_OF(one));
    if (spec->idp_url != NULL || spec->idp_relative || spec->user_only || spec->ca_only ||
        spec->indirect || spec->attribute_only)
        put_idp(&w, spec);
    if (spec->delta)
        cm_ext_put(&w, CM_SPAN_OF(oid_delta), true, CM_SPAN_OF(one));
    if (spec->unknown || spec->unknown_critical)
        cm_ext_put(&w, CM_SPAN_OF(oid_odd), spec->unknown_critical, CM_SPAN_OF(one));
    cm_derw_close(&w, list);
    cm_derw_close(&w, tag);
    ok(w.rc);
}

static void append(struct cm_buf *to, struct cm_span what)
{
    ok(cm_buf_append(to, what.data, what.len, &err));
}

void mk_crl(const struct mk_ca *ca, const struct mk_crl *spec, struct cm_buf *ret_der)
{
    static const uint8_t other[] = { CM_DER_SEQUENCE, 5, CM_DER_OID, 3, 0x2b, 0x65, 0x70 };
    CM_AUTO_BUF struct cm_buf head = CM_BUF_INIT(4096);
    CM_AUTO_BUF struct cm_buf entries = CM_BUF_INIT(ROOM);
    CM_AUTO_BUF struct cm_buf exts = CM_BUF_INIT(4096);
    CM_AUTO_BUF struct cm_buf tbs = CM_BUF_INIT(ROOM);
    CM_AUTO_BUF struct cm_buf sig = CM_BUF_INIT(2048);
    struct cm_derw w = CM_DERW_INIT(&head, &err);
    struct cm_x509 issuer;

    ok(cm_x509_parse(cm_buf_span(&ca->der), &issuer, &err));
    if (!spec->version1)
        cm_derw_raw(&w, CM_SPAN_OF(one));
    cm_derw_raw(&w, spec->other_algorithm ? CM_SPAN_OF(other) : cm__key_sig_alg(ca->key));
    cm_derw_raw(&w, issuer.subject);
    cm_derw_time(&w, spec->this_s);
    if (spec->next_s != 0)
        cm_derw_time(&w, spec->next_s);
    ok(w.rc);
    append(&tbs, cm_buf_span(&head));
    if (spec->n + spec->n_counted > 0) {
        put_entries(spec, &entries);
        put_counted(spec, &entries);
        frame(&entries, CM_DER_SEQUENCE);
        append(&tbs, cm_buf_span(&entries));
    }
    if (!spec->version1) {
        put_extensions(spec, &exts);
        append(&tbs, cm_buf_span(&exts));
    }
    frame(&tbs, CM_DER_SEQUENCE);
    ok(cm__key_sign(ca->key, cm_buf_span(&tbs), &sig, &err));
    cm_buf_reset(ret_der);
    ret_der->max = ROOM;
    append(ret_der, cm_buf_span(&tbs));
    append(ret_der, cm__key_sig_alg(ca->key));
    cm_buf_reset(&head);
    cm_derw_byte(&w, 0);
    cm_derw_raw(&w, cm_buf_span(&sig));
    ok(w.rc);
    frame(&head, CM_DER_BIT_STRING);
    append(ret_der, cm_buf_span(&head));
    frame(ret_der, CM_DER_SEQUENCE);
}

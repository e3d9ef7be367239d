/* SPDX-License-Identifier: Apache-2.0 */
#include "crl.h"
#include "fuzz.h"
#include "key.h"
#include "x509.h"

#include <string.h>

/* Revocation lists as anybody may serve them. The input is: two bytes, the length of a CA's
 * certificate; that certificate; the list. When that length is 0, what follows is signed here, so
 * that what comes behind the signature is reached, too: two bytes, the length of the entries; the
 * entries; the extensions. */

#define URL "http://crl.example/7.crl"
#define NOW INT64_C(1767225600) /* as in the corpus */

/* What was kept of it says the same as the list. */
static void check_set(const struct cm_crl *crl)
{
    struct cm_span rest = crl->entries;
    struct cm_crl_set *set = NULL;
    struct cm_crl_entry e, found;
    struct cm_err err;
    size_t n = 0;

    CM_ASSERT(cm_crl_set_new(crl, &set, &err) == CM_OK);
    while (cm_crl_next(&rest, &e)) {
        int reason = -1;
        int64_t at = -1;
        bool is = cm_crl_set_find(set, e.serial, &reason, &at);

        n++;
        CM_ASSERT(is == (e.serial.len <= CM_CRL_SERIAL_MAX));
        CM_ASSERT(!is || (reason >= 0 && reason <= 10));
        CM_ASSERT(n > 64 || cm_crl_find(crl, e.serial, &found));
    }
    CM_ASSERT(rest.len == 0 && n == crl->n_entries && cm_crl_set_count(set) <= n);
    cm_crl_set_free(set);
}

static void check(struct cm_span list, struct cm_span issuer)
{
    struct cm_buf room = CM_BUF_INIT(CM_CRL_MAX);
    struct cm_span der;
    struct cm_crl crl;
    struct cm_err err;

    if (cm_crl_der(list, &room, &der, &err) == CM_OK &&
        cm_crl_verify(der, issuer, URL, NOW, &crl, &err) == CM_OK) {
        fuzz_reached();
        CM_ASSERT(crl.this_update_s <= NOW + CM_CRL_SKEW_S && crl.next_update_s > NOW);
        CM_ASSERT(crl.serial_max <= CM_CRL_SERIAL_MAX);
        check_set(&crl);
    }
    cm_buf_free(&room);
}

static size_t take_len(struct cm_span *in)
{
    size_t len = (size_t)in->data[0] << 8 | in->data[1];

    *in = (struct cm_span){ in->data + 2, in->len - 2 };
    return len < in->len ? len : in->len;
}

static void sign_and_check(struct cm_span in)
{
    static const uint8_t v2[] = { CM_DER_INTEGER, 1, 1 };
    static struct cm_buf ca = CM_BUF_INIT(CM_CERT_DER_MAX);
    static struct cm_key *key;
    struct cm_buf tbs = CM_BUF_INIT(256 * 1024);
    struct cm_buf list = CM_BUF_INIT(256 * 1024);
    struct cm_derw w = { &tbs, NULL, CM_OK };
    struct cm_x509 issuer;

    if (in.len < 2)
        return;
    if (key == NULL)
        CM_ASSERT(cm_ca_make_root("Fuzz CA", NOW, 10, &key, &ca, NULL) == CM_OK);
    CM_ASSERT(cm_x509_parse(cm_buf_span(&ca), &issuer, NULL) == CM_OK);
    size_t len = take_len(&in);
    size_t seq = cm_derw_open(&w, CM_DER_SEQUENCE);
    cm_derw_raw(&w, CM_SPAN_OF(v2));
    cm_derw_raw(&w, cm__key_sig_alg(key));
    cm_derw_raw(&w, issuer.subject);
    cm_derw_time(&w, NOW);
    cm_derw_time(&w, NOW + 1);
    cm_derw_put(&w, CM_DER_SEQUENCE, (struct cm_span){ in.data, len });
    size_t tag = cm_derw_open(&w, CM_DER_CTX_CONS(0));
    cm_derw_put(&w, CM_DER_SEQUENCE, (struct cm_span){ in.data + len, in.len - len });
    cm_derw_close(&w, tag);
    cm_derw_close(&w, seq);
    if (w.rc == CM_OK && cm_x509_frame(cm_buf_span(&tbs), key, &list, NULL) == CM_OK)
        check(cm_buf_span(&list), cm_buf_span(&ca));
    cm_buf_free(&tbs);
    cm_buf_free(&list);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct cm_span in = { data, size };
    char url[CM_CRL_URL_BUF];

    if (size < 2)
        return 0;
    size_t len = take_len(&in);
    struct cm_span issuer = { in.data, len };
    struct cm_span list = { in.data + len, in.len - len };
    if (cm_crl_url(issuer, url))
        CM_ASSERT(strlen(url) < sizeof url && strncmp(url, "http", 4) == 0);
    if (len == 0)
        sign_and_check(list);
    else
        check(list, issuer);
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "kit.h"

#include "der.h"

static void put_time(struct cm_derw *w, int64_t t)
{
    char text[CM_TIME_TEXT];
    char der[16];

    cm_time_format_rfc3339(t * CM_NS_PER_S, true, text);
    (void)snprintf(der, sizeof der, "%.4s%.2s%.2s%.2s%.2s%.2sZ", text, text + 5, text + 8,
                   text + 11, text + 14, text + 17);
    cm_derw_put(w, CM_DER_GENERALIZED_TIME, cm_span_str(der));
}

static void put_answer(struct cm_derw *w, int64_t this_s, int64_t next_s, bool revoked)
{
    size_t answer = cm_derw_open(w, CM_DER_SEQUENCE);

    cm_derw_put(w, CM_DER_SEQUENCE, cm_span_str("")); /* of which certificate nobody asks */
    size_t status = cm_derw_open(w, revoked ? CM_DER_CTX_CONS(1) : CM_DER_CTX(0));
    if (revoked)
        put_time(w, this_s);
    cm_derw_close(w, status);
    put_time(w, this_s);
    if (next_s != 0) {
        size_t next = cm_derw_open(w, CM_DER_CTX_CONS(0));

        put_time(w, next_s);
        cm_derw_close(w, next);
    }
    cm_derw_close(w, answer);
}

static void put_data(struct cm_derw *w, int64_t this_s, int64_t next_s, bool revoked)
{
    size_t data = cm_derw_open(w, CM_DER_SEQUENCE);

    cm_derw_put(w, CM_DER_CTX_CONS(2), cm_span_str(""));
    put_time(w, this_s);
    size_t answers = cm_derw_open(w, CM_DER_SEQUENCE);
    put_answer(w, this_s, next_s, revoked);
    cm_derw_close(w, answers);
    cm_derw_close(w, data);
}

void kit_put_staple(struct cm_storage *st, const char *key, int64_t this_s, int64_t next_s,
                    bool revoked)
{
    static const uint8_t basic[] = { 0x2b, 6, 1, 5, 5, 7, 0x30, 1, 1 };
    CM_AUTO_BUF struct cm_buf der = CM_BUF_INIT(4096);
    struct cm_err err = CM_ERR_INIT;
    struct cm_derw w = CM_DERW_INIT(&der, &err);

    size_t whole = cm_derw_open(&w, CM_DER_SEQUENCE);
    cm_derw_put(&w, 0x0a, CM_SPAN_OF(((uint8_t[]){ 0 })));
    size_t bytes = cm_derw_open(&w, CM_DER_CTX_CONS(0));
    size_t inner = cm_derw_open(&w, CM_DER_SEQUENCE);
    cm_derw_put(&w, CM_DER_OID, CM_SPAN_OF(basic));
    size_t octets = cm_derw_open(&w, CM_DER_OCTET_STRING);
    size_t response = cm_derw_open(&w, CM_DER_SEQUENCE);
    put_data(&w, this_s, next_s, revoked);
    cm_derw_close(&w, response);
    cm_derw_close(&w, octets);
    cm_derw_close(&w, inner);
    cm_derw_close(&w, bytes);
    cm_derw_close(&w, whole);
    ck_ok(w.rc);
    ck_ok(cm_storage_store(st, NULL, key, cm_buf_span(&der), &err));
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "der.h"
#include "pki.h"

/* RFC 6960 4.2.1, as far as the dates:
 *
 *   SEQUENCE { ENUMERATED successful(0),
 *     [0] SEQUENCE { OID id-pkix-ocsp-basic, OCTET STRING {
 *       SEQUENCE { ResponseData, algorithm, signature, ... } } } }
 *   ResponseData: SEQUENCE { [0] version?, [1]/[2] responder, producedAt,
 *     SEQUENCE OF SEQUENCE { certID, [0]/[1]/[2] status, thisUpdate, [0] nextUpdate?, ... }, ... }
 */

#define ENUMERATED 0x0a

static const uint8_t oid_basic[] = { 0x2b, 6, 1, 5, 5, 7, 0x30, 1, 1 };

static bool take_basic(struct cm_span in, struct cm_span *ret)
{
    struct cm_span seq, status, oid, octets;

    return cm_der_take(&in, CM_DER_SEQUENCE, &seq) && in.len == 0 &&
           cm_der_take(&seq, ENUMERATED, &status) && CM_SPAN_IS(status, ((uint8_t[]){ 0 })) &&
           cm_der_take(&seq, CM_DER_CTX_CONS(0), &in) && seq.len == 0 &&
           cm_der_take(&in, CM_DER_SEQUENCE, &seq) && in.len == 0 &&
           cm_der_take(&seq, CM_DER_OID, &oid) && CM_SPAN_IS(oid, oid_basic) &&
           cm_der_take(&seq, CM_DER_OCTET_STRING, &octets) && seq.len == 0 &&
           cm_der_take(&octets, CM_DER_SEQUENCE, ret) && octets.len == 0;
}

static bool take_answers(struct cm_span basic, struct cm_span *ret)
{
    struct cm_span data, skipped;
    int64_t produced_s;
    uint8_t tag;

    return cm_der_take(&basic, CM_DER_SEQUENCE, &data) &&
           cm_der_skip_opt(&data, CM_DER_CTX_CONS(0)) && cm_der_next(&data, &tag, &skipped, NULL) &&
           (tag == CM_DER_CTX_CONS(1) || tag == CM_DER_CTX_CONS(2)) &&
           cm_der_take_time(&data, &produced_s) && cm_der_take(&data, CM_DER_SEQUENCE, ret);
}

static bool take_answer(struct cm_span *answers, struct cm_ocsp_peek *io)
{
    struct cm_span answer, skipped, explicit_time;
    int64_t this_s;
    int64_t next_s = 0;
    uint8_t status;

    if (!cm_der_take(answers, CM_DER_SEQUENCE, &answer) ||
        !cm_der_take(&answer, CM_DER_SEQUENCE, &skipped) ||
        !cm_der_next(&answer, &status, &skipped, NULL) || !cm_der_take_time(&answer, &this_s))
        return false;
    if (cm_der_is(&answer, CM_DER_CTX_CONS(0)) &&
        (!cm_der_take(&answer, CM_DER_CTX_CONS(0), &explicit_time) ||
         !cm_der_take_time(&explicit_time, &next_s)))
        return false;
    if (this_s > io->this_update_s)
        io->this_update_s = this_s;
    if (next_s > io->next_update_s)
        io->next_update_s = next_s;
    io->revoked = io->revoked || status == CM_DER_CTX_CONS(1);
    return true;
}

bool cm_ocsp_peek(struct cm_span der, struct cm_ocsp_peek *ret)
{
    struct cm_ocsp_peek p = { 0, 0, false };
    struct cm_span basic, answers;

    if (!take_basic(der, &basic) || !take_answers(basic, &answers) || answers.len == 0)
        return false;
    while (answers.len > 0)
        if (!take_answer(&answers, &p))
            return false;
    *ret = p;
    return true;
}

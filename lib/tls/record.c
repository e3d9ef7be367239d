/* SPDX-License-Identifier: Apache-2.0 */
#include "record.h"

#include <string.h>

#define RECORD_HEAD       5u
#define RECORD_BODY_MAX   16384u /* plaintext, RFC 8446 5.1 */
#define TYPE_HANDSHAKE    22u
#define HANDSHAKE_HEAD    4u
#define TYPE_CLIENT_HELLO 1u

void cm_record_scan_free(struct cm_record_scan *s)
{
    cm_buf_free(&s->msg);
}

/* What the first bytes of the message say about it. */
static enum cm_record_result look_at_head(struct cm_record_scan *s, const uint8_t *head,
                                          size_t msg_max)
{
    size_t len = ((size_t)head[1] << 16) | ((size_t)head[2] << 8) | head[3];

    if (head[0] != TYPE_CLIENT_HELLO)
        return CM_RECORD_PASS;
    if (len > msg_max)
        return CM_RECORD_LIMIT;
    s->want = HANDSHAKE_HEAD + len;
    return CM_RECORD_MORE;
}

/* The payload of one whole record. */
static enum cm_record_result take(struct cm_record_scan *s, const uint8_t *data, size_t len,
                                  size_t msg_max)
{
    enum cm_record_result r;
    size_t missing;

    if (s->want == 0 && s->msg.len == 0 && len >= HANDSHAKE_HEAD) {
        r = look_at_head(s, data, msg_max);
        if (r != CM_RECORD_MORE)
            return r;
        if (len >= s->want) {
            s->in_place = true;
            return CM_RECORD_HELLO;
        }
    }
    /* Byte-wise until the header is known, so that nothing behind the message is taken in. */
    s->msg.max = HANDSHAKE_HEAD + msg_max;
    while (len > 0 && s->want == 0) {
        if (cm_buf_append(&s->msg, data, 1, NULL) != CM_OK)
            return CM_RECORD_LIMIT;
        data++;
        len--;
        if (s->msg.len == HANDSHAKE_HEAD) {
            r = look_at_head(s, s->msg.data, msg_max);
            if (r != CM_RECORD_MORE)
                return r;
        }
    }
    if (s->want == 0)
        return CM_RECORD_MORE;
    missing = s->want - s->msg.len;
    if (cm_buf_append(&s->msg, data, len < missing ? len : missing, NULL) != CM_OK)
        return CM_RECORD_LIMIT;
    s->rest = len < missing ? 0 : len - missing;
    return s->msg.len == s->want ? CM_RECORD_HELLO : CM_RECORD_MORE;
}

enum cm_record_result cm_record_scan(struct cm_record_scan *s, struct cm_span raw, size_t msg_max)
{
    while (raw.len > s->next) {
        const uint8_t *head = raw.data + s->next;
        size_t have = raw.len - s->next;
        enum cm_record_result r;
        size_t len;

        /* Anything that is no handshake record is none of ours, and it shows in the first byte:
         * whoever speaks plain HTTP to the TLS port must not have to send five. */
        if (head[0] != TYPE_HANDSHAKE || (have > 1 && head[1] != 3))
            return CM_RECORD_PASS;
        if (have < RECORD_HEAD)
            return CM_RECORD_MORE;
        len = ((size_t)head[3] << 8) | head[4];
        if (len == 0 || len > RECORD_BODY_MAX)
            return CM_RECORD_PASS;
        if (have < RECORD_HEAD + len)
            return CM_RECORD_MORE;
        r = take(s, head + RECORD_HEAD, len, msg_max);
        s->next += RECORD_HEAD + len;
        if (r != CM_RECORD_MORE)
            return r;
    }
    return CM_RECORD_MORE;
}

struct cm_span cm_record_hello(const struct cm_record_scan *s, struct cm_span raw)
{
    const uint8_t *msg = s->in_place ? raw.data + RECORD_HEAD : s->msg.data;

    return (struct cm_span){ msg + HANDSHAKE_HEAD, s->want - HANDSHAKE_HEAD };
}

static cm_status put_record(struct cm_span payload, const uint8_t *version, struct cm_buf *out,
                            struct cm_err *err)
{
    const uint8_t head[RECORD_HEAD] = { TYPE_HANDSHAKE, version[0], version[1],
                                        (uint8_t)(payload.len >> 8), (uint8_t)payload.len };
    cm_status rc = cm_buf_append(out, head, sizeof head, err);

    return rc == CM_OK ? cm_buf_append(out, payload.data, payload.len, err) : rc;
}

cm_status cm_record_reframe(const struct cm_record_scan *s, struct cm_span raw, struct cm_buf *out,
                            struct cm_err *err)
{
    struct cm_span msg = cm_buf_span(&s->msg);
    const uint8_t *version = raw.data + 1;
    cm_status rc = CM_OK;

    if (s->in_place)
        return cm_buf_append(out, raw.data, raw.len, err);
    while (msg.len > 0 && rc == CM_OK) {
        size_t n = msg.len < RECORD_BODY_MAX ? msg.len : RECORD_BODY_MAX;

        rc = put_record((struct cm_span){ msg.data, n }, version, out, err);
        msg = (struct cm_span){ msg.data + n, msg.len - n };
    }
    if (rc == CM_OK && s->rest > 0)
        rc = put_record((struct cm_span){ raw.data + s->next - s->rest, s->rest }, version, out,
                        err);
    if (rc == CM_OK)
        rc = cm_buf_append(out, raw.data + s->next, raw.len - s->next, err);
    return rc;
}

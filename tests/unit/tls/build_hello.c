/* SPDX-License-Identifier: Apache-2.0 */
#include "build_hello.h"

#include <string.h>

void put(struct cm_buf *b, const void *data, size_t len)
{
    CM_ASSERT(cm_buf_append(b, data, len, NULL) == CM_OK);
}

void put_u8(struct cm_buf *b, size_t v)
{
    uint8_t byte = (uint8_t)v;

    put(b, &byte, 1);
}

void put_u16(struct cm_buf *b, size_t v)
{
    put_u8(b, v >> 8);
    put_u8(b, v & 0xFF);
}

void put_sni(struct cm_buf *b, const void *name, size_t len)
{
    put_u16(b, 0);
    put_u16(b, len + 5);
    put_u16(b, len + 3);
    put_u8(b, 0);
    put_u16(b, len);
    put(b, name, len);
}

void put_alpn(struct cm_buf *b, const char *const *names)
{
    size_t all = 0;

    for (size_t i = 0; names[i] != NULL; i++)
        all += 1 + strlen(names[i]);
    put_u16(b, 16);
    put_u16(b, all + 2);
    put_u16(b, all);
    for (size_t i = 0; names[i] != NULL; i++) {
        put_u8(b, strlen(names[i]));
        put(b, names[i], strlen(names[i]));
    }
}

void build_hello(const struct hello_parts *p, struct cm_buf *out)
{
    static const uint8_t random[32] = { 7 };
    struct cm_buf body = CM_BUF_INIT(1 << 20);

    put_u16(&body, 0x0303);
    put(&body, random, sizeof random);
    put_u8(&body, 0);
    put_u16(&body, 8);
    put_u16(&body, 0x3A3A); /* GREASE */
    put_u16(&body, 0xC02B);
    put_u16(&body, 0x1301);
    put_u16(&body, 0xC02F);
    put_u8(&body, 1);
    put_u8(&body, 0);
    if (!p->no_ext) {
        put_u16(&body, p->ext_len);
        put(&body, p->ext, p->ext_len);
    }
    put(&body, p->tail, p->tail_len);

    put_u8(out, 1);
    put_u8(out, body.len >> 16);
    put_u16(out, body.len & 0xFFFF);
    put(out, body.data, body.len);
    cm_buf_free(&body);
}

void build_records(struct cm_span msg, size_t size, struct cm_buf *out)
{
    while (msg.len > 0) {
        size_t n = msg.len < size ? msg.len : size;

        put_u8(out, 22);
        put_u16(out, 0x0301);
        put_u16(out, n);
        put(out, msg.data, n);
        msg.data += n;
        msg.len -= n;
    }
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "redis_data.h"

#include <json-c/json.h>
#include <string.h>

/* A value as caddy-storage-redis keeps it, one line of JSON:
 *
 * {"value":"<base64>","modified":"<RFC 3339>","size":<bytes>,"compression":0,"encryption":0}
 *
 * The flags belong to the value, so each is read as it was written, whatever this node is told to
 * write. */

#define JSON_DEPTH 8

/* A value that is no object, or whose members are of the wrong kind. */
static cm_status damaged(const char *key, const char *why, struct cm_err *err)
{
    return cm_fail(err, CM_E_PARSE, "the value at '%s' is damaged: %s", key, why);
}

/* ------------------------------------------------------------------- write */

static cm_status pack(const struct rds_codec *c, struct cm_span value, struct cm_buf *out,
                      int *ret_compression, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf squeezed = CM_BUF_SECRET(RDS_STORED_MAX);
    CM_AUTO_BUF struct cm_buf sealed = CM_BUF_INIT(RDS_STORED_MAX);
    cm_status rc = CM_OK;

    *ret_compression = 0;
    if (c->compression != 0) {
        rc = rds_deflate(c->compression, value, &squeezed, err);
        if (rc == CM_OK && squeezed.len < value.len) {
            *ret_compression = c->compression;
            value = cm_buf_span(&squeezed);
        }
    }
    if (rc == CM_OK && c->encrypts) {
        rc = rds_seal(c, value, &sealed, err);
        value = cm_buf_span(&sealed);
    }
    return rc == CM_OK ? cm_b64_encode(value, out, err) : rc;
}

cm_status rds_value_encode(const struct rds_codec *c, struct cm_span value, int64_t modified_ns,
                           struct cm_buf *out, struct cm_err *err)
{
    char modified[CM_TIME_TEXT];
    int compression = 0;
    cm_status rc = cm_buf_puts(out, "{\"value\":\"", err);

    cm_time_format_rfc3339(modified_ns, false, modified);
    if (rc == CM_OK)
        rc = pack(c, value, out, &compression, err);
    if (rc == CM_OK)
        rc = cm_buf_printf(
            out, err, "\",\"modified\":\"%s\",\"size\":%zu,\"compression\":%d,\"encryption\":%d}",
            modified, value.len, compression, c->encrypts ? RDS_AES_GCM : 0);
    return rc;
}

/* -------------------------------------------------------------------- read */

/* A member that is a number; absent is 0, as for the peers. */
static bool get_number(struct json_object *o, const char *name, int64_t *ret)
{
    struct json_object *m = NULL;

    *ret = 0;
    if (!json_object_object_get_ex(o, name, &m) || m == NULL)
        return true;
    if (json_object_get_type(m) != json_type_int)
        return false;
    *ret = json_object_get_int64(m);
    return *ret >= 0;
}

static bool get_facts(struct json_object *o, struct rds_facts *ret)
{
    struct json_object *m = NULL;
    int64_t size = 0;

    ret->modified_ns = 0;
    if (json_object_object_get_ex(o, "modified", &m) && m != NULL) {
        if (json_object_get_type(m) != json_type_string ||
            cm_time_parse_rfc3339(json_object_get_string(m), (size_t)json_object_get_string_len(m),
                                  &ret->modified_ns, NULL) != CM_OK)
            return false;
    }
    if (!get_number(o, "size", &size))
        return false;
    ret->size = (uint64_t)size;
    return true;
}

static cm_status read_object(const char *key, struct cm_span stored, struct json_object **ret,
                             struct cm_err *err)
{
    struct cm_err why = CM_ERR_INIT;
    cm_status rc = cm_json_read_max(stored, JSON_DEPTH, RDS_STORED_MAX, ret, &why);

    if (rc == CM_E_NOMEM)
        return cm_fail_nomem(err);
    if (rc != CM_OK)
        return damaged(key, why.msg, err);
    if (json_object_get_type(*ret) != json_type_object) {
        (void)json_object_put(*ret);
        return damaged(key, "no JSON object", err);
    }
    return CM_OK;
}

/* The text of the value stays in json-c's memory until it is given back. */
static void forget(struct json_object *o)
{
    struct json_object *m = NULL;

    if (json_object_object_get_ex(o, "value", &m) && json_object_get_type(m) == json_type_string)
        cm_wipe((char *)(uintptr_t)json_object_get_string(m),
                (size_t)json_object_get_string_len(m));
    (void)json_object_put(o);
}

static cm_status unpack(const struct rds_codec *c, int64_t compression, int64_t encryption,
                        struct cm_span text, struct cm_buf *out, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf raw = CM_BUF_SECRET(RDS_STORED_MAX);
    CM_AUTO_BUF struct cm_buf opened = CM_BUF_SECRET(RDS_STORED_MAX);
    struct cm_span bytes;

    if (compression < 0 || compression > RDS_ZLIB || encryption < 0 || encryption > RDS_AES_GCM)
        return cm_fail(err, CM_E_PARSE,
                       "it is packed in a way (%d, %d) that this version of "
                       "certmesh does not know",
                       (int)compression, (int)encryption);
    if (compression == 0 && encryption == 0)
        return cm_b64_decode(text, out, err);
    cm_status rc = cm_b64_decode(text, &raw, err);
    bytes = cm_buf_span(&raw);
    if (rc == CM_OK && encryption == RDS_AES_GCM) {
        rc = rds_unseal(c, bytes, &opened, err);
        bytes = cm_buf_span(&opened);
    }
    if (rc == CM_OK && compression != 0)
        rc = rds_inflate((int)compression, bytes, out, err);
    else if (rc == CM_OK)
        rc = cm_buf_append(out, bytes.data, bytes.len, err);
    return rc;
}

/* @out is as it was on failure. */
static cm_status decode_text(const struct rds_codec *c, const char *key, int64_t compression,
                             int64_t encryption, struct cm_span text, struct cm_buf *out,
                             struct cm_err *err)
{
    size_t before = out->len;
    cm_status rc = unpack(c, compression, encryption, text, out, err);

    if (rc != CM_OK && out->len > before) {
        cm_wipe(out->data + before, out->len - before);
        out->len = before;
    }
    return rc == CM_OK ? rc : cm_wrap(err, rc, "the value at '%s'", key);
}

static cm_status decode_object(const struct rds_codec *c, const char *key, struct json_object *o,
                               struct cm_buf *out, struct cm_err *err)
{
    struct json_object *m = NULL;
    struct cm_span text = { NULL, 0 };
    int64_t compression = 0;
    int64_t encryption = 0;

    if (!json_object_object_get_ex(o, "value", &m))
        return damaged(key, "it has no 'value'", err);
    if (m != NULL && json_object_get_type(m) != json_type_string)
        return damaged(key, "its 'value' is no text", err);
    if (!get_number(o, "compression", &compression) || !get_number(o, "encryption", &encryption))
        return damaged(key, "its flags are no numbers", err);
    if (m == NULL) /* how peers write nothing at all */
        return CM_OK;
    text.data = (const uint8_t *)json_object_get_string(m);
    text.len = (size_t)json_object_get_string_len(m);
    return decode_text(c, key, compression, encryption, text, out, err);
}

/* Go on behind @text, if that is what comes next. */
static bool skip_text(struct cm_span *in, const char *text)
{
    size_t len = strlen(text);

    if (in->len < len || memcmp(in->data, text, len) != 0)
        return false;
    in->data += len;
    in->len -= len;
    return true;
}

/* What comes before the next quote; there is one, and no escape before it. */
static bool take_string(struct cm_span *in, struct cm_span *ret)
{
    const uint8_t *quote = in->len > 0 ? memchr(in->data, '"', in->len) : NULL;

    if (quote == NULL)
        return false;
    *ret = (struct cm_span){ in->data, (size_t)(quote - in->data) };
    in->data = quote + 1;
    in->len -= ret->len + 1;
    return ret->len == 0 || memchr(ret->data, '\\', ret->len) == NULL;
}

static bool take_digit(struct cm_span *in, int *ret)
{
    if (in->len == 0 || in->data[0] < '0' || in->data[0] > '9')
        return false;
    *ret = in->data[0] - '0';
    in->data++;
    in->len--;
    return true;
}

/* The same for a value that is written just as all peers and we write it: no parser of JSON reads
 * through it, of which a start with many names would consist to a half. False: @out is as it was,
 * and nothing is said of what @stored is worth, so that there is one place that judges it. */
static bool decode_usual(const struct rds_codec *c, const char *key, struct cm_span stored,
                         struct cm_buf *out)
{
    struct cm_span text, modified;
    int compression, encryption, digit;

    if (!skip_text(&stored, "{\"value\":\"") || !take_string(&stored, &text) ||
        !skip_text(&stored, ",\"modified\":\"") || !take_string(&stored, &modified) ||
        !skip_text(&stored, ",\"size\":"))
        return false;
    for (size_t i = 0; i < modified.len; i++) /* no control bytes, nothing but ASCII */
        if (modified.data[i] < 0x20 || modified.data[i] > 0x7e)
            return false;
    if (!take_digit(&stored, &digit) || (digit == 0 && stored.len > 0 && stored.data[0] != ','))
        return false;
    while (take_digit(&stored, &digit))
        continue;
    return skip_text(&stored, ",\"compression\":") && take_digit(&stored, &compression) &&
           skip_text(&stored, ",\"encryption\":") && take_digit(&stored, &encryption) &&
           skip_text(&stored, "}") && stored.len == 0 &&
           decode_text(c, key, compression, encryption, text, out, NULL) == CM_OK;
}

cm_status rds_value_decode(const struct rds_codec *c, const char *key, struct cm_span stored,
                           struct cm_buf *out, struct cm_err *err)
{
    struct json_object *o = NULL;
    cm_status rc;

    if (decode_usual(c, key, stored, out))
        return CM_OK;
    rc = read_object(key, stored, &o, err);
    if (rc != CM_OK)
        return rc;
    rc = decode_object(c, key, o, out, err);
    forget(o);
    return rc;
}

cm_status rds_value_facts(const char *key, struct cm_span stored, struct rds_facts *ret,
                          struct cm_err *err)
{
    struct json_object *o = NULL;
    struct rds_facts facts;
    cm_status rc = read_object(key, stored, &o, err);

    if (rc != CM_OK)
        return rc;
    if (!json_object_object_get_ex(o, "value", NULL) || !get_facts(o, &facts))
        rc = damaged(key, "no size or time can be read", err);
    else
        *ret = facts;
    forget(o);
    return rc;
}

/* The members after the value, as the peers and we write them, are an object of their own if a
 * brace is put before them. Base64 has no quote, so the mark cannot be part of a value. */
bool rds_value_tail_facts(struct cm_span tail, struct rds_facts *ret)
{
    static const char mark[] = "\"modified\":\"";
    char text[RDS_FACTS_TAIL + 2];
    const uint8_t *at = NULL;
    struct json_object *o = NULL;
    struct rds_facts facts;

    if (tail.len > RDS_FACTS_TAIL)
        return false;
    if (tail.data != NULL)
        at = memmem(tail.data, tail.len, mark, sizeof mark - 1);
    if (at == NULL)
        return false;
    size_t len = tail.len - (size_t)(at - tail.data);
    text[0] = '{';
    memcpy(text + 1, at, len);
    struct cm_span span = { (const uint8_t *)text, len + 1 };
    if (cm_json_read(span, JSON_DEPTH, &o, NULL) != CM_OK)
        return false;
    bool good = json_object_get_type(o) == json_type_object &&
                json_object_object_get_ex(o, "size", NULL) && get_facts(o, &facts);
    (void)json_object_put(o);
    if (good)
        *ret = facts;
    return good;
}

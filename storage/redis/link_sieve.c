/* SPDX-License-Identifier: Apache-2.0 */
#include "link.h"

#include <string.h>

/* What a server sends is judged before hiredis sees it: old versions of it take lengths on trust,
 * allocate what an array only announces, and read numbers without looking for overflow. So here
 * every length is bounded, and hiredis gets one whole, well-formed reply at a time. */

static cm_status garbage(uint8_t type, struct cm_err *err)
{
    char c = (char)type;
    char shown[8];

    if (type == 0x15 || type == 0x16)
        return cm_fail(err, CM_E_PARSE, "the server speaks TLS: write rediss instead of redis");
    return cm_fail(err, CM_E_PARSE, "this is no Redis protocol: a reply begins with '%s'",
                   cm_escape(&c, 1, shown, sizeof shown));
}

/* A number as Redis writes it: no '+', no leading zero, within int64. */
static bool read_number(const uint8_t *s, size_t len, int64_t *ret)
{
    bool minus = len > 0 && s[0] == '-';
    int64_t n = 0;

    s += minus;
    len -= minus;
    if (len == 0 || len > 19 || (s[0] == '0' && (len > 1 || minus)))
        return false;
    for (size_t i = 0; i < len; i++) {
        if (s[i] < '0' || s[i] > '9')
            return false;
        /* Downwards, as there is one more below zero. */
        if (__builtin_mul_overflow(n, 10, &n) || __builtin_sub_overflow(n, s[i] - '0', &n))
            return false;
    }
    if (!minus && n == INT64_MIN)
        return false;
    *ret = minus ? n : -n;
    return true;
}

static cm_status open_array(struct redis_sieve *s, int64_t n, bool *ret_opened, struct cm_err *err)
{
    *ret_opened = n > 0;
    if (n < -1)
        return cm_fail(err, CM_E_PARSE, "a Redis reply has an array of %lld elements",
                       (long long)n);
    if (n <= 0)
        return CM_OK;
    if (n > REDIS_ELEMENTS_MAX || s->elements + (size_t)n > REDIS_ELEMENTS_MAX)
        return cm_fail(err, CM_E_LIMIT, "a Redis reply has more than %u elements",
                       REDIS_ELEMENTS_MAX);
    if (s->depth == REDIS_DEPTH_MAX)
        return cm_fail(err, CM_E_LIMIT, "a Redis reply is nested more than %u deep",
                       REDIS_DEPTH_MAX);
    s->elements += (size_t)n;
    s->left[s->depth++] = (size_t)n;
    return CM_OK;
}

/* The bulk string whose line ends before @body; *ret_end is behind its CRLF. */
static cm_status skip_bulk(int64_t n, struct cm_span in, size_t body, size_t *ret_end,
                           struct cm_err *err)
{
    if (n < -1)
        return cm_fail(err, CM_E_PARSE, "a Redis reply has a string of %lld bytes", (long long)n);
    if (n > REDIS_BULK_MAX)
        return cm_fail(err, CM_E_LIMIT, "a Redis reply has a string of %lld bytes; %u are allowed",
                       (long long)n, REDIS_BULK_MAX);
    *ret_end = body;
    if (n < 0)
        return CM_OK;
    *ret_end = body + (size_t)n + 2;
    if (*ret_end > REDIS_REPLY_MAX)
        return cm_fail(err, CM_E_LIMIT, "a Redis reply has more than %u bytes", REDIS_REPLY_MAX);
    if (*ret_end > in.len)
        return CM_E_AGAIN;
    if (in.data[*ret_end - 2] != '\r' || in.data[*ret_end - 1] != '\n')
        return cm_fail(err, CM_E_PARSE, "a string in a Redis reply does not end where it said");
    return CM_OK;
}

/* Where the line that begins at @from ends (its CR). */
static cm_status find_line(struct cm_span in, size_t from, size_t *ret_cr, struct cm_err *err)
{
    size_t end = in.len < from + REDIS_LINE_MAX ? in.len : from + REDIS_LINE_MAX;

    for (size_t i = from; i + 1 < end; i++) {
        const uint8_t *cr = memchr(in.data + i, '\r', end - 1 - i);

        if (cr == NULL)
            break;
        i = (size_t)(cr - in.data);
        if (in.data[i + 1] == '\n') {
            *ret_cr = i;
            return CM_OK;
        }
    }
    if (in.len >= from + REDIS_LINE_MAX)
        return cm_fail(err, CM_E_PARSE, "a Redis reply has a line of more than %u bytes",
                       REDIS_LINE_MAX);
    return CM_E_AGAIN;
}

/* One element at s->at; *ret_end is behind it or, of an array, behind its line. */
static cm_status look_at_one(struct redis_sieve *s, struct cm_span in, size_t *ret_end,
                             bool *ret_opened, struct cm_err *err)
{
    uint8_t type = in.data[s->at];
    int64_t n = 0;
    size_t cr;
    cm_status rc;

    *ret_opened = false;
    if (type == '\0' || strchr("+-:$*", type) == NULL)
        return garbage(type, err);
    rc = find_line(in, s->at + 1, &cr, err);
    if (rc != CM_OK)
        return rc;
    *ret_end = cr + 2;
    if (type == '+' || type == '-')
        return CM_OK;
    if (!read_number(in.data + s->at + 1, cr - s->at - 1, &n))
        return cm_fail(err, CM_E_PARSE, "a Redis reply has a '%c' without a valid number", type);
    if (type == '$')
        return skip_bulk(n, in, cr + 2, ret_end, err);
    return type == '*' ? open_array(s, n, ret_opened, err) : CM_OK;
}

cm_status redis_sieve_look(struct redis_sieve *s, struct cm_span in, size_t *ret_len,
                           struct cm_err *err)
{
    while (s->at < in.len) {
        size_t end = 0;
        bool opened;
        cm_status rc = look_at_one(s, in, &end, &opened, err);

        if (rc != CM_OK)
            return rc;
        s->at = end;
        if (s->at > REDIS_REPLY_MAX)
            return cm_fail(err, CM_E_LIMIT, "a Redis reply has more than %u bytes",
                           REDIS_REPLY_MAX);
        while (!opened && s->depth > 0 && --s->left[s->depth - 1] == 0)
            s->depth--;
        if (s->depth == 0) {
            *ret_len = s->at;
            return CM_OK;
        }
    }
    return CM_E_AGAIN;
}

cm_status redis_reply_read(struct cm_span whole, redisReply **ret, struct cm_err *err)
{
    redisReader *reader = redisReaderCreate();
    void *reply = NULL;
    cm_status rc = CM_OK;

    if (reader == NULL)
        return cm_fail_nomem(err);
    reader->maxbuf = 0; /* no second thoughts about the buffer, which is wiped below */
    if (redisReaderFeed(reader, (const char *)whole.data, whole.len) != REDIS_OK ||
        redisReaderGetReply(reader, &reply) != REDIS_OK || reply == NULL) {
        if (reader->err == REDIS_ERR_OOM)
            rc = cm_fail_nomem(err);
        else
            rc = cm_fail(err, CM_E_PARSE, "a Redis reply that hiredis does not take: %s",
                         reader->errstr);
        if (reply != NULL)
            freeReplyObject(reply);
    }
    /* It may have been a private key. The buffer was empty, so what was fed lies at its start. */
    if (reader->buf != NULL && reader->err == 0)
        cm_wipe(reader->buf, whole.len);
    redisReaderFree(reader);
    if (rc == CM_OK)
        *ret = reply;
    return rc;
}

bool redis_is_error(const redisReply *r, const char *code)
{
    size_t len = strlen(code);

    return r->type == REDIS_REPLY_ERROR && strncmp(r->str, code, len) == 0 &&
           (r->str[len] == ' ' || r->str[len] == '\0');
}

const char *redis_shown(const redisReply *r, char *buf, size_t size)
{
    if (r->type != REDIS_REPLY_ERROR && r->type != REDIS_REPLY_STATUS)
        return "something else than text";
    return cm_escape(r->str, (size_t)r->len, buf, size);
}

void redis_free_replies(redisReply **replies, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (replies[i] != NULL)
            freeReplyObject(replies[i]);
        replies[i] = NULL;
    }
}

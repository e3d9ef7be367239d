/* SPDX-License-Identifier: Apache-2.0 */
#include "tickets.h"

#include <string.h>

/* The keys of session tickets in storage: one line for each, the oldest first,
 *
 *   certmesh-tickets 1
 *   key ID CREATED FROM BASE64URL
 *
 * They are secrets, so they are only ever in secret buffers; that is why it is no JSON. */

#define MAGIC         "certmesh-tickets 1\n"
#define AHEAD_MAX_S   (8 * 24 * 3600) /* no key is made longer than that before it is used */
#define FUTURE_S      3600            /* clocks that differ by less merely differ */
#define ID_BYTES      8u
#define FIELDS_OF_KEY 5u

/* ---- reading ---- */

static bool next_field(struct cm_span *line, struct cm_span *ret)
{
    const uint8_t *space;

    if (line->len == 0)
        return false;
    space = memchr(line->data, ' ', line->len);
    size_t len = space != NULL ? (size_t)(space - line->data) : line->len;
    *ret = (struct cm_span){ line->data, len };
    len += space != NULL;
    line->data += len;
    line->len -= len;
    return true;
}

static bool take_time(struct cm_span text, int64_t *ret_s)
{
    int64_t ns = 0;

    if (cm_time_parse_rfc3339((const char *)text.data, text.len, &ns, NULL) != CM_OK || ns <= 0)
        return false;
    *ret_s = ns / CM_NS_PER_S;
    return true;
}

static bool take_id(struct cm_span text, char ret[2 * ID_BYTES + 1])
{
    if (text.len != 2 * ID_BYTES)
        return false;
    for (size_t i = 0; i < text.len; i++)
        if (text.data[i] == '\0' || strchr("0123456789abcdef", text.data[i]) == NULL)
            return false;
    memcpy(ret, text.data, text.len);
    ret[text.len] = '\0';
    return true;
}

/* A key of zeros is what a program with an error would write, and everybody could read such
 * tickets. */
static bool take_key(struct cm_span text, uint8_t ret[CM_TICKET_KEY_LEN])
{
    CM_AUTO_BUF struct cm_buf key = CM_BUF_SECRET(CM_TICKET_KEY_LEN);
    uint8_t any = 0;

    if (cm_b64url_decode(text, &key, NULL) != CM_OK || key.len != CM_TICKET_KEY_LEN)
        return false;
    for (size_t i = 0; i < key.len; i++)
        any |= key.data[i];
    memcpy(ret, key.data, key.len);
    return any != 0;
}

static bool take_line(struct cm_span line, struct cm_ticket_key *ret)
{
    struct cm_span f[FIELDS_OF_KEY];
    size_t n = 0;

    while (n < FIELDS_OF_KEY && next_field(&line, &f[n]))
        n++;
    return n == FIELDS_OF_KEY && line.len == 0 && f[0].len == 3 &&
           memcmp(f[0].data, "key", 3) == 0 && take_id(f[1], ret->id) &&
           take_time(f[2], &ret->created_s) && take_time(f[3], &ret->from_s) &&
           ret->from_s >= ret->created_s && ret->from_s - ret->created_s <= AHEAD_MAX_S &&
           take_key(f[4], ret->key);
}

static bool is_known(const struct cm_ticket_record *r, const struct cm_ticket_key *k)
{
    for (size_t i = 0; i < r->n; i++)
        if (memcmp(r->at[i].key, k->key, sizeof k->key) == 0)
            return true;
    return false;
}

static const char *take_lines(struct cm_span rest, struct cm_ticket_record *r)
{
    while (rest.len > 0) {
        const uint8_t *end = memchr(rest.data, '\n', rest.len);
        struct cm_ticket_key *k = &r->at[r->n];

        if (end == NULL)
            return "it is cut short";
        if (r->n == CM_TICKET_STORED)
            return "it has too many keys";
        size_t len = (size_t)(end - rest.data);
        if (!take_line((struct cm_span){ rest.data, len }, k))
            return "a line is none that tells of a key";
        if (is_known(r, k) || (r->n > 0 && k->from_s <= r->at[r->n - 1].from_s))
            return "its keys are out of order";
        r->n++;
        rest.data = end + 1;
        rest.len -= len + 1;
    }
    return r->n > 0 ? NULL : "it has no key";
}

cm_status cm_ticket_parse(struct cm_span text, struct cm_ticket_record *ret, struct cm_err *err)
{
    struct cm_ticket_record r;
    const char *why;

    memset(&r, 0, sizeof r);
    if (text.len < sizeof MAGIC - 1 || memcmp(text.data, MAGIC, sizeof MAGIC - 1) != 0)
        why = "it does not begin with 'certmesh-tickets 1'";
    else if (memchr(text.data, 0, text.len) != NULL)
        why = "there is a NUL in it";
    else
        why = take_lines(
            (struct cm_span){ text.data + sizeof MAGIC - 1, text.len - (sizeof MAGIC - 1) }, &r);
    if (why == NULL)
        *ret = r;
    cm_wipe(&r, sizeof r);
    return why == NULL ? CM_OK : cm_fail(err, CM_E_PARSE, "keys of session tickets: %s", why);
}

/* ---- writing ---- */

cm_status cm_ticket_format(const struct cm_ticket_record *r, struct cm_buf *out, struct cm_err *err)
{
    char created[CM_TIME_TEXT], from[CM_TIME_TEXT];

    CM_ASSERT(out->secret);
    cm_status rc = cm_buf_puts(out, MAGIC, err);
    for (size_t i = 0; i < r->n && rc == CM_OK; i++) {
        const struct cm_ticket_key *k = &r->at[i];

        cm_time_format_rfc3339(k->created_s * CM_NS_PER_S, false, created);
        cm_time_format_rfc3339(k->from_s * CM_NS_PER_S, false, from);
        rc = cm_buf_printf(out, err, "key %s %s %s ", k->id, created, from);
        if (rc == CM_OK)
            rc = cm_b64url_encode((struct cm_span){ k->key, sizeof k->key }, out, err);
        if (rc == CM_OK)
            rc = cm_buf_puts(out, "\n", err);
    }
    return rc;
}

/* ---- time ---- */

size_t cm_ticket_current(const struct cm_ticket_record *r, int64_t now_s)
{
    size_t i = r->n - 1;

    while (i > 0 && r->at[i].from_s > now_s)
        i--;
    return i;
}

bool cm_ticket_is_future(const struct cm_ticket_record *r, int64_t now_s)
{
    for (size_t i = 0; i < r->n; i++)
        if (r->at[i].created_s > now_s + FUTURE_S)
            return true;
    return false;
}

static cm_status new_key(const struct cm_env *env, int64_t now_s, int64_t from_s,
                         struct cm_ticket_record *r, struct cm_err *err)
{
    struct cm_ticket_key *k = &r->at[r->n];

    k->created_s = now_s;
    k->from_s = from_s;
    cm_status rc = cm_random_hex(env, ID_BYTES, k->id, err);
    if (rc == CM_OK)
        rc = cm_env_random(env, k->key, sizeof k->key, err);
    if (rc == CM_OK)
        r->n++;
    return rc;
}

cm_status cm_ticket_plan(const struct cm_env *env, const struct cm_ticket_record *known,
                         int64_t now_s, int64_t interval_s, struct cm_ticket_record *ret,
                         bool *ret_new, struct cm_err *err)
{
    int64_t lead_s = interval_s < CM_TICKET_LEAD_S ? interval_s : CM_TICKET_LEAD_S;
    struct cm_ticket_record r;
    cm_status rc = CM_OK;

    memset(&r, 0, sizeof r);
    *ret_new = known == NULL;
    if (known == NULL) {
        rc = new_key(env, now_s, now_s, &r, err);
    } else {
        size_t cur = cm_ticket_current(known, now_s);
        size_t first = cur > 0 && now_s < known->at[cur].from_s + interval_s ? cur - 1 : cur;

        /* Room for a successor: none is missing where there are two. */
        r.n = known->n - first;
        memcpy(r.at, known->at + first, r.n * sizeof r.at[0]);
        *ret_new = first > 0;
    }
    size_t cur = rc == CM_OK ? cm_ticket_current(&r, now_s) : 0;
    if (rc == CM_OK && cur + 1 == r.n) {
        int64_t from_s = r.at[cur].from_s + interval_s;

        /* Whoever was away for long, or alone, gives the others time to learn of it. */
        if (from_s < now_s + lead_s)
            from_s = now_s + lead_s;
        *ret_new = true;
        rc = new_key(env, now_s, from_s, &r, err);
    }
    if (rc == CM_OK)
        *ret = r;
    cm_wipe(&r, sizeof r);
    return rc;
}

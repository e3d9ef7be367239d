/* SPDX-License-Identifier: Apache-2.0 */
#include "net.h"

#include <string.h>
#include <strings.h>

static bool is_space(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

static struct cm_span trim(struct cm_span s)
{
    while (s.len > 0 && is_space(s.data[0])) {
        s.data++;
        s.len--;
    }
    while (s.len > 0 && is_space(s.data[s.len - 1]))
        s.len--;
    return s;
}

/* Cut the first line off @rest. */
static bool next_line(struct cm_span *rest, struct cm_span *line)
{
    const uint8_t *end;

    if (rest->len == 0)
        return false;
    end = memchr(rest->data, '\n', rest->len);
    line->data = rest->data;
    line->len = end != NULL ? (size_t)(end - rest->data) : rest->len;
    rest->data += line->len;
    rest->len -= line->len;
    if (end != NULL) {
        rest->data++;
        rest->len--;
    }
    return true;
}

bool cm_http_header(const struct cm_http_response *resp, const char *name, unsigned index,
                    struct cm_span *ret)
{
    struct cm_span rest = cm_buf_span(&resp->headers);
    struct cm_span line;
    size_t name_len = strlen(name);

    while (next_line(&rest, &line)) {
        /* No white space is allowed before the colon (RFC 9112 5.1); a folded line starts with
         * white space and so never has a name. */
        if (line.len <= name_len || line.data[name_len] != ':' ||
            strncasecmp((const char *)line.data, name, name_len) != 0)
            continue;
        if (index-- > 0)
            continue;
        line.data += name_len + 1;
        line.len -= name_len + 1;
        *ret = trim(line);
        return true;
    }
    return false;
}

/* ---- Link, RFC 8288 3: <target> *( ";" name [ "=" ( token / quoted ) ] ), comma separated ---- */

struct cursor {
    const uint8_t *at;
    const uint8_t *end;
};

static void skip_space(struct cursor *c)
{
    while (c->at < c->end && is_space(*c->at))
        c->at++;
}

static bool eat(struct cursor *c, uint8_t ch)
{
    skip_space(c);
    if (c->at >= c->end || *c->at != ch)
        return false;
    c->at++;
    return true;
}

static bool is_token_char(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != 0 && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

/* Everything up to the next ',' that is outside quotes and angle brackets: recovery after what
 * could not be understood. */
static void skip_entry(struct cursor *c)
{
    bool quoted = false;
    bool angled = false;

    for (; c->at < c->end; c->at++) {
        if (quoted) {
            if (*c->at == '\\' && c->at + 1 < c->end)
                c->at++;
            else if (*c->at == '"')
                quoted = false;
        } else if (angled) {
            angled = *c->at != '>';
        } else if (*c->at == '"') {
            quoted = true;
        } else if (*c->at == '<') {
            angled = true;
        } else if (*c->at == ',') {
            return;
        }
    }
}

/* Is @word one of the space separated words of @list (without quotes)? Relation types are
 * compared without regard to case (RFC 8288 2.1). */
static bool has_word(const uint8_t *list, const uint8_t *end, const char *word)
{
    size_t len = strlen(word);

    while (list < end) {
        const uint8_t *start;

        while (list < end && is_space(*list))
            list++;
        start = list;
        while (list < end && !is_space(*list))
            list++;
        if ((size_t)(list - start) == len && len > 0 &&
            strncasecmp((const char *)start, word, len) == 0)
            return true;
    }
    return false;
}

static bool quoted_end(struct cursor *c, const uint8_t **ret)
{
    for (; c->at < c->end; c->at++) {
        if (*c->at == '\\' && c->at + 1 < c->end) {
            c->at++;
        } else if (*c->at == '"') {
            *ret = c->at++;
            return true;
        }
    }
    return false;
}

/* One ";name=value". @is_rel and @match tell of a rel parameter. */
static bool parse_param(struct cursor *c, const char *rel, bool *is_rel, bool *match)
{
    const uint8_t *name;
    const uint8_t *name_end;
    const uint8_t *value;
    const uint8_t *value_end;

    skip_space(c);
    name = c->at;
    while (c->at < c->end && is_token_char(*c->at))
        c->at++;
    name_end = c->at;
    *is_rel = name_end - name == 3 && strncasecmp((const char *)name, "rel", 3) == 0;
    *match = false;
    if (!eat(c, '='))
        return true; /* a name without value; an empty one ("; ;") is tolerated as well */
    skip_space(c);
    if (c->at < c->end && *c->at == '"') {
        value = ++c->at;
        if (!quoted_end(c, &value_end))
            return false;
    } else {
        value = c->at;
        while (c->at < c->end && !is_space(*c->at) && *c->at != ';' && *c->at != ',')
            c->at++;
        value_end = c->at;
    }
    *match = *is_rel && has_word(value, value_end, rel);
    return true;
}

/* One entry. True when it is whole and its (first) rel has @rel; @target is what stood in <>. */
static bool parse_entry(struct cursor *c, const char *rel, struct cm_span *target)
{
    const uint8_t *end;
    bool seen_rel = false;
    bool match = false;

    if (!eat(c, '<'))
        return false;
    end = memchr(c->at, '>', (size_t)(c->end - c->at));
    if (end == NULL) {
        c->at = c->end;
        return false;
    }
    target->data = c->at;
    target->len = (size_t)(end - c->at);
    c->at = end + 1;
    while (eat(c, ';')) {
        bool is_rel;
        bool has;

        if (!parse_param(c, rel, &is_rel, &has))
            return false;
        if (is_rel && !seen_rel) { /* later ones must be ignored (RFC 8288 3.3) */
            seen_rel = true;
            match = has;
        }
    }
    skip_space(c);
    return match && (c->at == c->end || *c->at == ',');
}

bool cm_http_link(const struct cm_http_response *resp, const char *rel, unsigned index,
                  struct cm_buf *ret_url)
{
    struct cm_span value;

    for (unsigned i = 0; cm_http_header(resp, "link", i, &value); i++) {
        struct cursor c = { value.data, value.data + value.len };

        while (c.at < c.end) {
            struct cm_span target = { NULL, 0 };

            if (parse_entry(&c, rel, &target)) {
                target = trim(target);
                if (index-- == 0) {
                    cm_buf_reset(ret_url);
                    return target.len <= CM_HTTP_URL_MAX &&
                           cm_buf_append(ret_url, target.data, target.len, NULL) == CM_OK;
                }
            }
            skip_entry(&c);
            if (c.at < c.end)
                c.at++; /* the comma */
        }
    }
    return false;
}

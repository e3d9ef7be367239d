/* SPDX-License-Identifier: Apache-2.0 */
#include "acme_internal.h"

#include <string.h>
#include <strings.h>

/* json-c has no limit but depth; of two members with one name it silently keeps the last; and even
 * its strict mode takes 'single quotes', NaN and line breaks inside strings. So the text is looked
 * through before: outside of strings nothing but what JSON has there, and then every ':' is one
 * member and every '{' or '[' one node. Too many nodes are refused before anything is allocated
 * for them (an empty object costs json-c 900 bytes); more members in the text than later in the
 * tree mean duplicates. */
struct scan {
    size_t members;
    size_t nodes;
    bool sane;
};

/* RFC 3629: no overlong form, no surrogate, nothing past U+10FFFF. */
static bool is_utf8(struct cm_span in)
{
    for (size_t i = 0; i < in.len;) {
        uint8_t c = in.data[i++];
        unsigned more = c < 0x80 ? 0u : c < 0xe0 ? 1u : c < 0xf0 ? 2u : 3u;
        uint8_t low = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
        uint8_t high = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;

        if (more > 0 && (c < 0xc2 || c > 0xf4 || more > in.len - i))
            return false;
        for (; more > 0; more--, i++) {
            if (in.data[i] < low || in.data[i] > high)
                return false;
            low = 0x80;
            high = 0xbf;
        }
    }
    return true;
}

static bool is_outside_char(uint8_t c)
{
    return c != 0 && strchr(" \t\r\n{}[]:,0123456789+-.eEtrufalsn", c) != NULL;
}

static struct scan scan_text(struct cm_span in)
{
    struct scan s = { 0, 0, true };
    bool quoted = false;

    for (size_t i = 0; i < in.len && s.sane; i++) {
        uint8_t c = in.data[i];

        if (quoted) {
            s.sane = c >= 0x20;
            if (c == '\\')
                i++;
            else if (c == '"')
                quoted = false;
        } else if (c == '"') {
            quoted = true;
        } else {
            s.sane = is_outside_char(c);
            s.members += c == ':';
            s.nodes += c == '{' || c == '[';
        }
    }
    return s;
}

/* Recursion is bounded by the parser's depth limit. */
static size_t count_members(struct json_object *o)
{
    size_t n = 0;

    if (json_object_is_type(o, json_type_object)) {
        struct json_object_iterator at = json_object_iter_begin(o);
        struct json_object_iterator end = json_object_iter_end(o);

        for (; !json_object_iter_equal(&at, &end); json_object_iter_next(&at))
            n += 1 + count_members(json_object_iter_peek_value(&at));
    } else if (json_object_is_type(o, json_type_array)) {
        for (size_t i = 0; i < json_object_array_length(o); i++)
            n += count_members(json_object_array_get_idx(o, i));
    }
    return n;
}

cm_status cm__json_parse(struct cm_span in, const char *what, struct json_object **ret,
                         struct cm_err *err)
{
    struct scan text = scan_text(in);
    struct json_object *root = NULL;

    if (in.len > CM_ACME_JSON_MAX || text.nodes > CM_ACME_JSON_NODES_MAX)
        return cm_fail(err, CM_E_LIMIT, "%s is too large", what);
    if (!text.sane || !is_utf8(in))
        return cm_fail(err, CM_E_PARSE, "%s is not JSON", what);
    cm_status rc = cm_json_read(in, CM_ACME_JSON_DEPTH, &root, err);
    if (rc != CM_OK)
        return cm_wrap(err, rc, "%s", what);
    if (!json_object_is_type(root, json_type_object)) {
        json_object_put(root);
        return cm_fail(err, CM_E_PARSE, "%s is not a JSON object", what);
    }
    if (count_members(root) != text.members) {
        json_object_put(root);
        return cm_fail(err, CM_E_PARSE, "%s has a member twice", what);
    }
    *ret = root;
    return CM_OK;
}

void cm__json_auto_put(struct json_object **o)
{
    json_object_put(*o);
}

const char *cm__json_text_of(struct json_object *value, size_t max)
{
    const char *s;
    int len;

    if (!json_object_is_type(value, json_type_string))
        return NULL;
    s = json_object_get_string(value);
    len = json_object_get_string_len(value);
    if (s == NULL || len < 0 || (size_t)len > max || strlen(s) != (size_t)len)
        return NULL;
    return s;
}

static struct json_object *member(struct json_object *o, const char *key)
{
    struct json_object *value = NULL;

    if (!json_object_is_type(o, json_type_object) || !json_object_object_get_ex(o, key, &value))
        return NULL;
    return value;
}

const char *cm__json_str(struct json_object *o, const char *key, size_t max)
{
    return cm__json_text_of(member(o, key), max);
}

struct json_object *cm__json_array(struct json_object *o, const char *key)
{
    struct json_object *value = member(o, key);

    return json_object_is_type(value, json_type_array) ? value : NULL;
}

struct json_object *cm__json_object(struct json_object *o, const char *key)
{
    struct json_object *value = member(o, key);

    return json_object_is_type(value, json_type_object) ? value : NULL;
}

bool cm__json_bool(struct json_object *o, const char *key, bool otherwise)
{
    struct json_object *value = member(o, key);

    if (!json_object_is_type(value, json_type_boolean))
        return otherwise;
    return json_object_get_boolean(value) != 0;
}

bool cm__acme_is_url(const char *url)
{
    size_t len = url != NULL ? strnlen(url, CM_ACME_URL_MAX + 1) : 0;
    size_t host;

    if (len == 0 || len > CM_ACME_URL_MAX)
        return false;
    if (strncasecmp(url, "https://", 8) == 0)
        host = 8;
    else if (strncasecmp(url, "http://", 7) == 0)
        host = 7;
    else
        return false;
    if (host == len || strchr("/?#@:", url[host]) != NULL)
        return false;
    for (size_t i = 0; i < len; i++)
        if (url[i] <= 0x20 || url[i] >= 0x7f || strchr("\"\\<>^`{|}#", url[i]) != NULL)
            return false;
    return true;
}

const char *cm__json_url(struct json_object *o, const char *key)
{
    const char *url = cm__json_str(o, key, CM_ACME_URL_MAX);

    return cm__acme_is_url(url) ? url : NULL;
}

cm_status cm__json_put_str(struct cm_buf *out, const char *s, struct cm_err *err)
{
    cm_status rc = cm_buf_append(out, "\"", 1, err);

    for (; rc == CM_OK && *s != '\0'; s++) {
        unsigned char c = (unsigned char)*s;

        if (c == '"' || c == '\\')
            rc = cm_buf_printf(out, err, "\\%c", c);
        else if (c < 0x20)
            rc = cm_buf_printf(out, err, "\\u%04x", c);
        else
            rc = cm_buf_append(out, s, 1, err);
    }
    if (rc == CM_OK)
        rc = cm_buf_append(out, "\"", 1, err);
    return rc;
}

cm_status cm__strv_add(char ***v, size_t *n, const char *s, struct cm_err *err)
{
    char **grown = cm_realloc_array(*v, *n + 2, sizeof **v);

    if (grown == NULL)
        return cm_fail_nomem(err);
    *v = grown;
    grown[*n + 1] = NULL;
    grown[*n] = cm_strdup(s);
    if (grown[*n] == NULL)
        return cm_fail_nomem(err);
    ++*n;
    return CM_OK;
}

void cm_acme_strv_free(char **v)
{
    for (char **at = v; at != NULL && *at != NULL; at++)
        free(*at);
    free(v);
}

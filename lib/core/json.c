/* SPDX-License-Identifier: Apache-2.0 */
#include "core_private.h"

#include <json-c/json.h>
#include <json-c/json_object_iterator.h>
#include <limits.h>
#include <string.h>
#include <strings.h>

/* JSON as Go's encoding/json reads and writes it, because the files are shared with certmagic.
 * Reading is json-c's; the layout is made here, since json-c has no HTML escaping and would
 * rewrite numbers of what must stay as the issuer gave it. */

#define JSON_DEPTH_MAX 16

cm_status cm_json_parse(struct cm_span text, struct json_object **ret, struct cm_err *err)
{
    return cm_json_read(text, JSON_DEPTH_MAX, ret, err);
}

bool cm_json_find(struct json_object *o, const char *name, struct json_object **ret)
{
    bool found = false;

    *ret = NULL;
    if (!json_object_is_type(o, json_type_object))
        return false;
    if (json_object_object_get_ex(o, name, ret))
        return true;
    struct json_object_iterator it = json_object_iter_begin(o);
    struct json_object_iterator end = json_object_iter_end(o);

    for (; !found && !json_object_iter_equal(&it, &end); json_object_iter_next(&it)) {
        found = strcasecmp(json_object_iter_peek_name(&it), name) == 0;
        if (found)
            *ret = json_object_iter_peek_value(&it);
    }
    return found;
}

bool cm_json_text(struct json_object *o, const char *name, char *ret, size_t ret_size)
{
    struct json_object *v;

    if (!cm_json_find(o, name, &v) || !json_object_is_type(v, json_type_string))
        return false;
    const char *s = json_object_get_string(v);
    size_t len = (size_t)json_object_get_string_len(v);
    if (len >= ret_size || memchr(s, 0, len) != NULL)
        return false;
    memcpy(ret, s, len);
    ret[len] = '\0';
    return true;
}

cm_status cm_json_quote(const char *s, struct cm_buf *out, struct cm_err *err)
{
    cm_status rc = cm_buf_puts(out, "\"", err);

    for (; rc == CM_OK && *s != '\0'; s++) {
        unsigned char c = (unsigned char)*s;

        if (c == '"' || c == '\\')
            rc = cm_buf_printf(out, err, "\\%c", c);
        else if (c < 0x20)
            rc = cm_buf_printf(out, err, "\\u%04x", c);
        else
            rc = cm_buf_append(out, s, 1, err);
    }
    return rc == CM_OK ? cm_buf_puts(out, "\"", err) : rc;
}

/* What Go writes in place of the character at @s, and how many bytes of @s that replaces. */
static const char *html_escape(const uint8_t *s, size_t len, size_t *taken)
{
    *taken = 1;
    if (s[0] == '<')
        return "\\u003c";
    if (s[0] == '>')
        return "\\u003e";
    if (s[0] == '&')
        return "\\u0026";
    if (len >= 3 && s[0] == 0xE2 && s[1] == 0x80 && (s[2] == 0xA8 || s[2] == 0xA9)) {
        *taken = 3;
        return s[2] == 0xA8 ? "\\u2028" : "\\u2029";
    }
    return NULL;
}

static cm_status new_line(struct cm_buf *out, unsigned depth, struct cm_err *err)
{
    cm_status rc = cm_buf_puts(out, "\n", err);

    while (rc == CM_OK && depth-- > 0)
        rc = cm_buf_puts(out, "\t", err);
    return rc;
}

/* One string token with its quotes; *at moves behind it. */
static cm_status copy_string(struct cm_span in, size_t *at, struct cm_buf *out, struct cm_err *err)
{
    cm_status rc = CM_OK;
    bool escaped = false;
    size_t i = *at;

    do {
        size_t taken;
        const char *instead = html_escape(in.data + i, in.len - i, &taken);

        rc = instead != NULL ? cm_buf_puts(out, instead, err)
                             : cm_buf_append(out, in.data + i, 1, err);
        escaped = !escaped && in.data[i] == '\\';
        i += taken;
    } while (rc == CM_OK && i < in.len && (in.data[i] != '"' || escaped));
    if (rc == CM_OK && i < in.len)
        rc = cm_buf_puts(out, "\"", err);
    *at = i + 1;
    return rc;
}

cm_status cm_json_indent(struct cm_span in, struct cm_buf *out, struct cm_err *err)
{
    bool opened = false; /* just after '{' or '[': an empty one stays on its line */
    unsigned depth = 0;
    cm_status rc = CM_OK;

    for (size_t i = 0; rc == CM_OK && i < in.len;) {
        uint8_t c = in.data[i];
        bool closes = c == '}' || c == ']';

        if (c == ' ' || c == '\t' || c == '\r' || c == '\n') {
            i++;
            continue;
        }
        if (opened && !closes)
            rc = new_line(out, ++depth, err);
        if (!opened && closes)
            rc = new_line(out, depth > 0 ? --depth : 0, err);
        opened = false;
        if (rc != CM_OK)
            break;
        if (c == '"') {
            rc = copy_string(in, &i, out, err);
            continue;
        }
        rc = cm_buf_append(out, &c, 1, err);
        if (c == '{' || c == '[')
            opened = true;
        else if (rc == CM_OK && c == ',')
            rc = new_line(out, depth, err);
        else if (rc == CM_OK && c == ':')
            rc = cm_buf_puts(out, " ", err);
        i++;
    }
    return rc;
}

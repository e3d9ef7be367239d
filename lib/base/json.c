/* SPDX-License-Identifier: Apache-2.0 */
#include "base.h"

#include <json-c/json.h>
#include <limits.h>
#include <string.h>

/* Reading JSON is json-c's, made strict and made the same for every version of it. */

/* Strict json-c 0.18 takes every byte past 0x7f in a string for a control character where char is
 * signed (json-c issue 875). So it judges the text with those masked: anywhere but inside a string
 * the mask is as wrong as what it hides. The values are then read as they are. The NUL behind the
 * text goes along: it ends a number. */
static enum json_tokener_error parse(struct json_tokener *tok, struct cm_buf *text,
                                     struct cm_span real, struct json_object **ret)
{
    for (size_t i = 0; i < text->len; i++)
        if (text->data[i] > 0x7f)
            text->data[i] = 'x';
    json_tokener_set_flags(tok, JSON_TOKENER_STRICT);
    *ret = json_tokener_parse_ex(tok, (const char *)text->data, (int)text->len + 1);
    if (json_tokener_get_error(tok) != json_tokener_success)
        return json_tokener_get_error(tok);
    json_object_put(*ret);
    json_tokener_reset(tok);
    memcpy(text->data, real.data, real.len);
    json_tokener_set_flags(tok, JSON_TOKENER_VALIDATE_UTF8);
    *ret = json_tokener_parse_ex(tok, (const char *)text->data, (int)text->len + 1);
    return json_tokener_get_error(tok);
}

cm_status cm_json_read(struct cm_span text, int depth, struct json_object **ret, struct cm_err *err)
{
    return cm_json_read_max(text, depth, CM_JSON_MAX, ret, err);
}

cm_status cm_json_read_max(struct cm_span text, int depth, size_t max, struct json_object **ret,
                           struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf copy = CM_BUF_SECRET(max); /* a journal carries a key */
    struct json_object *o = NULL;

    if (text.len == 0 || text.len >= INT_MAX || memchr(text.data, 0, text.len) != NULL)
        return cm_fail(err, CM_E_PARSE, "not JSON: empty, too long or holding a NUL");
    cm_status rc = cm_buf_append(&copy, text.data, text.len, err);
    if (rc != CM_OK)
        return rc;
    struct json_tokener *tok = json_tokener_new_ex(depth);
    if (tok == NULL)
        return cm_fail_nomem(err);
    enum json_tokener_error je = parse(tok, &copy, text, &o);
    json_tokener_free(tok);
    if (je != json_tokener_success) {
        (void)json_object_put(o);
        return cm_fail(err, CM_E_PARSE, "not JSON: %s",
                       je == json_tokener_continue ? "cut short" : json_tokener_error_desc(je));
    }
    *ret = o;
    return CM_OK;
}

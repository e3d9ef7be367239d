/* SPDX-License-Identifier: Apache-2.0 */
#include "core_private.h"

#include <json-c/json.h>
#include <string.h>

/* The metadata file beside a certificate. It is certmagic's: nothing of ours is ever added to it,
 * since other nodes drop unknown members when they rewrite it. */

#define SANS_MAX CM_CERT_SANS_MAX

/* Absent, malformed and Go's zero time (year 1) all mean "unset". */
static int64_t time_member(struct json_object *o, const char *name)
{
    char text[64];
    int64_t ns;

    if (!cm_json_text(o, name, text, sizeof text) ||
        cm_time_parse_rfc3339(text, strlen(text), &ns, NULL) != CM_OK)
        return CM_TIME_UNSET;
    return ns;
}

static void parse_ari(struct json_object *issuer_data, struct cm_meta_ari *ari)
{
    struct json_object *info;
    struct json_object *window;

    ari->window_start_ns = ari->window_end_ns = CM_TIME_UNSET;
    ari->retry_after_ns = ari->selected_ns = CM_TIME_UNSET;
    if (!cm_json_find(issuer_data, "renewal_info", &info) ||
        !json_object_is_type(info, json_type_object))
        return;
    ari->present = true;
    if (cm_json_find(info, "suggestedWindow", &window)) {
        ari->window_start_ns = time_member(window, "start");
        ari->window_end_ns = time_member(window, "end");
    }
    ari->retry_after_ns = time_member(info, "_retryAfter");
    ari->selected_ns = time_member(info, "_selectedTime");
    (void)cm_json_text(info, "_uniqueIdentifier", ari->unique_id, sizeof ari->unique_id);
    (void)cm_json_text(info, "explanationURL", ari->explanation_url, sizeof ari->explanation_url);
}

static cm_status parse_sans(struct json_object *list, struct cm_meta *m, struct cm_err *err)
{
    size_t n;

    if (list == NULL)
        return CM_OK;
    if (!json_object_is_type(list, json_type_array))
        return cm_fail(err, CM_E_PARSE, "certificate metadata: 'sans' is not an array");
    n = json_object_array_length(list);
    if (n > SANS_MAX)
        return cm_fail(err, CM_E_LIMIT, "certificate metadata: %zu names, at most %u are accepted",
                       n, SANS_MAX);
    m->sans = cm_calloc(n, sizeof m->sans[0]);
    if (m->sans == NULL)
        return cm_fail_nomem(err);
    for (size_t i = 0; i < n; i++) {
        struct json_object *v = json_object_array_get_idx(list, i);

        if (!json_object_is_type(v, json_type_string))
            return cm_fail(err, CM_E_PARSE, "certificate metadata: 'sans' holds a non-string");
        m->sans[i] = cm_strdup(json_object_get_string(v));
        if (m->sans[i] == NULL)
            return cm_fail_nomem(err);
        m->n_sans++;
    }
    return CM_OK;
}

static cm_status parse_members(struct json_object *top, struct cm_meta *m, struct cm_err *err)
{
    struct json_object *v;
    cm_status rc = CM_OK;

    if (!json_object_is_type(top, json_type_object))
        return cm_fail(err, CM_E_PARSE, "certificate metadata is not a JSON object");
    if (cm_json_find(top, "sans", &v))
        rc = parse_sans(v, m, err);
    if (rc != CM_OK)
        return rc;
    bool has_data = cm_json_find(top, "issuer_data", &v);
    parse_ari(v, &m->ari);
    if (!has_data)
        return CM_OK;
    (void)cm_json_text(v, "url", m->cert_url, sizeof m->cert_url);
    (void)cm_json_text(v, "ca", m->ca, sizeof m->ca);
    (void)cm_json_text(v, "account", m->account, sizeof m->account);

    size_t len;
    const char *text = json_object_to_json_string_length(
        v, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &len);
    if (text == NULL)
        return cm_fail_nomem(err);
    return cm_buf_append(&m->issuer_data, text, len, err);
}

cm_status cm_meta_parse(struct cm_span json, struct cm_meta *ret, struct cm_err *err)
{
    struct cm_meta m = { .issuer_data = CM_BUF_INIT(2 * CM_META_MAX) };
    struct json_object *top;

    if (json.len > CM_META_MAX)
        return cm_fail(err, CM_E_LIMIT, "certificate metadata of %zu bytes; at most %u", json.len,
                       CM_META_MAX);
    cm_status rc = cm_json_parse(json, &top, err);
    if (rc != CM_OK)
        return cm_wrap(err, rc, "certificate metadata");
    rc = parse_members(top, &m, err);
    (void)json_object_put(top);
    if (rc != CM_OK) {
        cm_meta_free(&m);
        return rc;
    }
    *ret = m;
    return CM_OK;
}

void cm_meta_free(struct cm_meta *m)
{
    for (size_t i = 0; i < m->n_sans; i++)
        free(m->sans[i]);
    free(m->sans);
    cm_buf_free(&m->issuer_data);
    memset(m, 0, sizeof *m);
}

static cm_status put_sans(const char *const *sans, size_t n, struct cm_buf *out, struct cm_err *err)
{
    cm_status rc = cm_buf_puts(out, "\"sans\":[", err);

    for (size_t i = 0; rc == CM_OK && i < n; i++) {
        if (i > 0)
            rc = cm_buf_puts(out, ",", err);
        if (rc == CM_OK)
            rc = cm_json_quote(sans[i], out, err);
    }
    return rc == CM_OK ? cm_buf_puts(out, "],", err) : rc;
}

cm_status cm_meta_format(const char *const *sans, size_t n_sans, struct cm_span issuer_data,
                         struct cm_buf *out, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf text = CM_BUF_INIT(2 * CM_META_MAX);
    struct json_object *checked = NULL;
    cm_status rc;

    if (issuer_data.len > 0) {
        rc = cm_json_parse(issuer_data, &checked, err);
        (void)json_object_put(checked);
        if (rc != CM_OK)
            return cm_wrap(err, rc, "issuer data for the metadata");
    } else {
        issuer_data = cm_span_str("null");
    }
    rc = cm_buf_puts(&text, "{", err);
    if (rc == CM_OK && n_sans > 0)
        rc = put_sans(sans, n_sans, &text, err);
    if (rc == CM_OK)
        rc = cm_buf_puts(&text, "\"issuer_data\":", err);
    if (rc == CM_OK)
        rc = cm_buf_append(&text, issuer_data.data, issuer_data.len, err);
    if (rc == CM_OK)
        rc = cm_buf_puts(&text, "}", err);
    return rc == CM_OK ? cm_json_indent(cm_buf_span(&text), out, err) : rc;
}

static bool add_member(struct json_object *o, const char *name, struct json_object *value)
{
    if (value != NULL && json_object_object_add(o, name, value) == 0)
        return true;
    (void)json_object_put(value);
    return false;
}

static bool add_time(struct json_object *o, const char *name, int64_t ns)
{
    char text[CM_TIME_TEXT];

    cm_time_format_rfc3339(ns, false, text);
    return add_member(o, name, json_object_new_string(text));
}

/* Members and their order as a peer's encoder has them. */
static struct json_object *ari_object(const struct cm_meta_ari *ari)
{
    struct json_object *info = json_object_new_object();
    struct json_object *window = json_object_new_object();
    bool ok = info != NULL && window != NULL && add_time(window, "start", ari->window_start_ns) &&
              add_time(window, "end", ari->window_end_ns) &&
              add_member(info, "suggestedWindow", json_object_get(window));

    if (ok && ari->explanation_url[0] != '\0')
        ok = add_member(info, "explanationURL", json_object_new_string(ari->explanation_url));
    if (ok)
        ok = add_member(info, "_uniqueIdentifier", json_object_new_string(ari->unique_id));
    if (ok && ari->retry_after_ns != CM_TIME_UNSET)
        ok = add_time(info, "_retryAfter", ari->retry_after_ns);
    if (ok)
        ok = add_time(info, "_selectedTime", ari->selected_ns);
    (void)json_object_put(window);
    if (ok)
        return info;
    (void)json_object_put(info);
    return NULL;
}

cm_status cm_meta_set_ari(struct cm_span issuer_data, const struct cm_meta_ari *ari,
                          struct cm_buf *out, struct cm_err *err)
{
    struct json_object *o = NULL;

    CM_ASSERT(ari->window_start_ns != CM_TIME_UNSET && ari->selected_ns != CM_TIME_UNSET);
    cm_status rc = cm_json_parse(issuer_data, &o, err);
    if (rc == CM_OK && !json_object_is_type(o, json_type_object))
        rc = cm_fail(err, CM_E_PARSE, "issuer data is no object");
    if (rc == CM_OK && !add_member(o, "renewal_info", ari_object(ari)))
        rc = cm_fail_nomem(err);
    if (rc == CM_OK) {
        const char *text = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN |
                                                                 JSON_C_TO_STRING_NOSLASHESCAPE);

        rc = text != NULL ? cm_buf_puts(out, text, err) : cm_fail_nomem(err);
    }
    (void)json_object_put(o);
    return rc;
}

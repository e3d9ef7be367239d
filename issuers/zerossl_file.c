/* SPDX-License-Identifier: Apache-2.0 */
#include "zerossl.h"

#include <stdio.h>
#include <string.h>

/* The files by which ZeroSSL validates, where every node on the storage finds them: an object per
 * name below "zerossl/challenge_tokens", in the form that CertMagic gives it (the URL, and the
 * content as token), so that its nodes answer for ours and ours for its. */

#define LINES_MAX 16

static bool add(struct json_object *o, const char *name, const char *value)
{
    struct json_object *s = json_object_new_string(value);

    if (s != NULL && json_object_object_add(o, name, s) == 0)
        return true;
    json_object_put(s);
    return false;
}

static cm_status to_json(const char *name, const char *url, const char *content, struct cm_buf *out,
                         struct cm_err *err)
{
    struct json_object *o = json_object_new_object(), *ident = json_object_new_object();
    const char *text = NULL;

    if (o != NULL && ident != NULL && add(ident, "type", cm_name_is_ip(name) ? "ip" : "dns") &&
        add(ident, "value", name) && add(o, "type", "") && add(o, "url", url) &&
        add(o, "status", "") && add(o, "token", content) && add(o, "keyAuthorization", "") &&
        json_object_object_add(o, "identifier", json_object_get(ident)) == 0)
        text = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN |
                                                     JSON_C_TO_STRING_NOSLASHESCAPE);
    cm_status rc = text == NULL ? cm_fail_nomem(err) : cm_buf_puts(out, text, err);
    json_object_put(ident);
    json_object_put(o);
    return rc;
}

static bool is_plain(const char *s)
{
    for (; *s != '\0'; s++)
        if ((unsigned char)*s < 0x20 || (unsigned char)*s > 0x7e)
            return false;
    return true;
}

static cm_status content_of(struct json_object *info, const char *name, struct cm_buf *out,
                            struct cm_err *err)
{
    struct json_object *lines = NULL;

    (void)json_object_object_get_ex(info, "file_validation_content", &lines);
    size_t n = json_object_is_type(lines, json_type_array) ? json_object_array_length(lines) : 0;
    if (n == 0 || n > LINES_MAX)
        return cm_fail(err, CM_E_PARSE, "%s: ZeroSSL gives no content for the validation file",
                       name);
    for (size_t i = 0; i < n; i++) {
        struct json_object *v = json_object_array_get_idx(lines, i);
        const char *s = json_object_is_type(v, json_type_string) ? json_object_get_string(v) : NULL;
        cm_status rc = CM_OK;

        if (s == NULL || !is_plain(s))
            return cm_fail(err, CM_E_PARSE, "%s: the validation file is not plain text", name);
        if (i > 0)
            rc = cm_buf_puts(out, "\n", err);
        if (rc == CM_OK)
            rc = cm_buf_puts(out, s, err);
        if (rc != CM_OK)
            return cm_wrap(err, rc, "%s: validation file", name);
    }
    return CM_OK;
}

static cm_status put_one(struct zerossl_files *f, const struct cm_op *op, const char *name,
                         struct json_object *methods, struct cm_err *err)
{
    struct json_object *info = NULL;
    CM_AUTO_BUF struct cm_buf content = CM_BUF_INIT(ZEROSSL_CONTENT_MAX);
    CM_AUTO_BUF struct cm_buf json = CM_BUF_INIT(16 * 1024);
    CM_AUTO_BUF struct cm_buf safe = CM_BUF_INIT(CM_STORAGE_COMPONENT_MAX);

    if (!json_object_is_type(methods, json_type_object) ||
        !json_object_object_get_ex(methods, name, &info))
        return cm_fail(err, CM_E_PARSE, "%s: ZeroSSL offers no validation of it", name);
    const char *url = zerossl_text(info, "file_validation_url_http", 1024);
    if (url == NULL || strncmp(url, "http://", 7) != 0 ||
        strstr(url, "/.well-known/pki-validation/") == NULL)
        return cm_fail(err, CM_E_PARSE, "%s: ZeroSSL offers no validation by a file over HTTP",
                       name);
    cm_status rc = content_of(info, name, &content, err);
    if (rc == CM_OK)
        rc = to_json(name, url, cm_buf_str(&content), &json, err);
    if (rc == CM_OK)
        rc = cm_safe_name(name, &safe, err);
    if (rc != CM_OK)
        return rc;
    char *key = cm_asprintf(ZEROSSL_PREFIX "/challenge_tokens/%s.json", cm_buf_str(&safe));
    if (key == NULL)
        return cm_fail_nomem(err);
    f->keys[f->n++] = key;
    return cm_storage_store(f->host->storage, op, key, cm_buf_span(&json), err);
}

cm_status zerossl_files_put(struct zerossl_files *f, const struct cm_op *op,
                            const char *const *names, size_t n, struct json_object *cert,
                            struct cm_err *err)
{
    struct json_object *validation = NULL, *methods = NULL;
    cm_status rc = CM_OK;

    f->keys = cm_calloc(n, sizeof *f->keys);
    if (f->keys == NULL)
        return cm_fail_nomem(err);
    if (json_object_object_get_ex(cert, "validation", &validation) &&
        json_object_is_type(validation, json_type_object))
        (void)json_object_object_get_ex(validation, "other_methods", &methods);
    for (size_t i = 0; rc == CM_OK && i < n; i++)
        rc = put_one(f, op, names[i], methods, err);
    if (rc == CM_OK)
        rc = cm_responder_acquire(f->responder, ZEROSSL_PREFIX, err);
    f->open = rc == CM_OK;
    return rc;
}

void zerossl_files_remove(struct zerossl_files *f, const struct cm_op *op)
{
    for (size_t i = 0; i < f->n; i++) {
        struct cm_err err = CM_ERR_INIT;
        if (cm_storage_remove(f->host->storage, op, f->keys[i], &err) != CM_OK)
            cm_logf(&f->host->log, CM_LOG_WARN, "token_left", NULL, 0,
                    "could not remove validation file %s (%s); `certmesh clean` will", f->keys[i],
                    err.msg);
        free(f->keys[i]);
    }
    free(f->keys);
    f->keys = NULL;
    f->n = 0;
    if (f->open)
        cm_responder_release(f->responder);
    f->open = false;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "public.h"

#include <string.h>

/* Documents of the CA as they were sent. */

#define INDEX_MAX 100000u

cm_status cm__acme_doc_new(const char *url, struct cm_span json, const char *what,
                           int64_t retry_after_s, struct cm_acme_doc **ret, struct cm_err *err)
{
    struct cm_acme_doc *d = cm_calloc(1, sizeof *d);

    if (d == NULL)
        return cm_fail_nomem(err);
    d->json.max = json.len;
    d->retry_after_s = retry_after_s;
    d->url = cm_strdup(url);
    cm_status rc = d->url == NULL ? cm_fail_nomem(err) : CM_OK;
    if (rc == CM_OK)
        rc = cm__json_parse(json, what, &d->top, err);
    if (rc == CM_OK)
        rc = cm_buf_append(&d->json, json.data, json.len, err);
    if (rc != CM_OK) {
        cm_acme_doc_free(d);
        return rc;
    }
    *ret = d;
    return CM_OK;
}

void cm_acme_doc_free(struct cm_acme_doc *d)
{
    if (d == NULL)
        return;
    json_object_put(d->top);
    cm_buf_free(&d->json);
    free(d->url);
    free(d);
}

const char *cm_acme_doc_url(const struct cm_acme_doc *d)
{
    return d->url;
}

struct cm_span cm_acme_doc_json(const struct cm_acme_doc *d)
{
    return cm_buf_span(&d->json);
}

int64_t cm_acme_doc_retry_after_s(const struct cm_acme_doc *d)
{
    return d->retry_after_s;
}

/* A step of a path as an index; false if it is none. */
static bool to_index(const char *s, size_t len, size_t *ret)
{
    size_t n = 0;

    for (size_t i = 0; i < len; i++) {
        if (s[i] < '0' || s[i] > '9' || n > INDEX_MAX)
            return false;
        n = n * 10 + (size_t)(s[i] - '0');
    }
    *ret = n;
    return len > 0;
}

static struct json_object *member(struct json_object *o, const char *name, size_t len)
{
    char key[128];
    struct json_object *v = NULL;

    if (len >= sizeof key)
        return NULL;
    memcpy(key, name, len);
    key[len] = '\0';
    return json_object_object_get_ex(o, key, &v) ? v : NULL;
}

struct json_object *cm__acme_doc_at(const struct cm_acme_doc *d, const char *path)
{
    struct json_object *o = d != NULL ? d->top : NULL;
    size_t i;

    while (o != NULL && path != NULL && *path != '\0') {
        size_t len = strcspn(path, ".");

        if (json_object_is_type(o, json_type_object))
            o = member(o, path, len);
        else if (json_object_is_type(o, json_type_array) && to_index(path, len, &i))
            o = json_object_array_get_idx(o, i);
        else
            o = NULL;
        path += len;
        if (*path == '.')
            path++;
    }
    return o;
}

const char *cm_acme_doc_text(const struct cm_acme_doc *d, const char *path)
{
    struct json_object *o = cm__acme_doc_at(d, path);

    return o != NULL ? cm__json_text_of(o, CM_ACME_JSON_MAX) : NULL;
}

size_t cm_acme_doc_count(const struct cm_acme_doc *d, const char *path)
{
    struct json_object *o = cm__acme_doc_at(d, path);

    return json_object_is_type(o, json_type_array) ? json_object_array_length(o) : 0;
}

int64_t cm_acme_doc_int(const struct cm_acme_doc *d, const char *path, int64_t otherwise)
{
    struct json_object *o = cm__acme_doc_at(d, path);

    if (json_object_is_type(o, json_type_boolean))
        return json_object_get_boolean(o) ? 1 : 0;
    return json_object_is_type(o, json_type_int) ? json_object_get_int64(o) : otherwise;
}

int cm_acme_doc_challenge(const struct cm_acme_doc *d, const char *type)
{
    struct json_object *list = cm__acme_doc_at(d, "challenges");
    size_t n = cm_acme_doc_count(d, "challenges");

    for (size_t i = 0; type != NULL && i < n && i < CM_ACME_CHALLENGES_MAX; i++) {
        const char *s = cm__json_str(json_object_array_get_idx(list, i), "type", 64);

        if (s != NULL && strcmp(s, type) == 0)
            return (int)i;
    }
    return -1;
}

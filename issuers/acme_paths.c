/* SPDX-License-Identifier: Apache-2.0 */
#include "issuers.h"

#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

/* Where accounts lie and how they are written: CertMagic's layout, so that peers on the same
 * storage use the same account. */

static char ascii_lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

/* File base: what stands before the first '@' of the lower-cased address; all after it when it is
 * the first character; all of it without one. */
static cm_status user_base(const char *email, struct cm_buf *out, struct cm_err *err)
{
    const char *at = strchr(email, '@');
    size_t len = at == NULL ? strlen(email) : (size_t)(at - email);
    const char *from = email;

    if (at == email) {
        from = email + 1;
        len = strlen(from);
    }
    char *part = cm_strndup(from, len);
    if (part == NULL)
        return cm_fail_nomem(err);
    /* Nothing usable left of it ("é@x"): the caller has other words for that. */
    cm_status rc = cm_safe_name(part, out, err);
    free(part);
    return rc == CM_E_INVAL ? CM_OK : rc;
}

static cm_status put(char *out, size_t size, struct cm_err *err, const char *prefix,
                     const char *dir, const char *base, const char *suffix)
{
    int n = snprintf(out, size, "%s/users/%s/%s%s", prefix, dir, base, suffix);
    if (n < 0 || (size_t)n >= size)
        return cm_fail(err, CM_E_LIMIT, "storage key of account '%s' is too long", dir);
    return CM_OK;
}

cm_status acme_account_paths(const char *prefix, const char *email, struct acme_account_paths *ret,
                             struct cm_err *err)
{
    CM_AUTO_FREE char *addr = cm_strdup(email == NULL || email[0] == '\0' ? "default" : email);
    CM_AUTO_BUF struct cm_buf dir = CM_BUF_INIT(CM_STORAGE_COMPONENT_MAX);
    CM_AUTO_BUF struct cm_buf base = CM_BUF_INIT(CM_STORAGE_COMPONENT_MAX);

    if (addr == NULL)
        return cm_fail_nomem(err);
    for (char *p = addr; *p != '\0'; p++)
        *p = ascii_lower(*p);

    cm_status rc = cm_safe_name(addr, &dir, err);
    if (rc == CM_OK)
        rc = user_base(addr, &base, err);
    if (rc != CM_OK)
        return cm_wrap(err, rc, "e-mail '%s'", addr);
    bool odd = base.len == 0;
    rc = put(ret->json, sizeof ret->json, err, prefix, cm_buf_str(&dir),
             odd ? "registration" : cm_buf_str(&base), ".json");
    if (rc == CM_OK)
        rc = put(ret->key, sizeof ret->key, err, prefix, cm_buf_str(&dir),
                 odd ? "private" : cm_buf_str(&base), ".key");
    if (rc != CM_OK)
        return rc;

    int n = snprintf(ret->pending, sizeof ret->pending, "certmesh/%s/%s.pending", prefix,
                     cm_buf_str(&dir));
    if (n < 0 || (size_t)n >= sizeof ret->pending)
        return cm_fail(err, CM_E_LIMIT, "storage key of account '%s' is too long", addr);
    n = snprintf(ret->rollover, sizeof ret->rollover, "certmesh/%s/%s.nextkey", prefix,
                 cm_buf_str(&dir));
    if (n < 0 || (size_t)n >= sizeof ret->rollover)
        return cm_fail(err, CM_E_LIMIT, "storage key of account '%s' is too long", addr);
    n = snprintf(ret->lost, sizeof ret->lost, "certmesh/%s/%s.lost", prefix, cm_buf_str(&dir));
    if (n < 0 || (size_t)n >= sizeof ret->lost)
        return cm_fail(err, CM_E_LIMIT, "storage key of account '%s' is too long", addr);
    const char *const keys[] = { ret->json, ret->key, ret->pending, ret->rollover };
    for (size_t i = 0; i < CM_ARRAY_LEN(keys); i++) {
        rc = cm_storage_key_check(keys[i], false, err);
        if (rc != CM_OK)
            return cm_wrap(err, CM_E_LIMIT, "e-mail '%.64s...'", addr);
    }
    /* The lock name carries no CA: peers' habit, so that we exclude one another. */
    if (email == NULL || email[0] == '\0')
        n = snprintf(ret->lock, sizeof ret->lock, "register_acme_account");
    else
        n = snprintf(ret->lock, sizeof ret->lock, "register_acme_account_%s", addr);
    if (n < 0 || (size_t)n >= sizeof ret->lock)
        return cm_fail(err, CM_E_LIMIT, "lock name of account '%s' is too long", addr);
    return CM_OK;
}

static bool add_string(struct json_object *obj, const char *name, const char *value)
{
    struct json_object *s = json_object_new_string(value);
    if (s == NULL)
        return false;
    if (json_object_object_add(obj, name, s) != 0) {
        json_object_put(s);
        return false;
    }
    return true;
}

static bool add_contact(struct json_object *obj, char *const *contact)
{
    struct json_object *arr = json_object_new_array();
    if (arr == NULL || json_object_object_add(obj, "contact", arr) != 0) {
        json_object_put(arr);
        return false;
    }
    for (size_t i = 0; contact[i] != NULL; i++) {
        struct json_object *s = json_object_new_string(contact[i]);
        if (s == NULL || json_object_array_add(arr, s) != 0) {
            json_object_put(s);
            return false;
        }
    }
    return true;
}

static bool add_eab(struct json_object *obj, const char *eab_json)
{
    struct json_object *eab = json_tokener_parse(eab_json);
    if (eab == NULL)
        return false;
    if (json_object_object_add(obj, "externalAccountBinding", eab) != 0) {
        json_object_put(eab);
        return false;
    }
    return true;
}

cm_status acme_account_to_json(const struct cm_acme_account *acc, struct cm_buf *out,
                               struct cm_err *err)
{
    struct json_object *obj = json_object_new_object();
    if (obj == NULL)
        return cm_fail_nomem(err);

    /* Order of members and tabs as peers write them. */
    bool ok = add_string(obj, "status", cm_acme_status_text(acc->status));
    if (ok && acc->contact != NULL && acc->contact[0] != NULL)
        ok = add_contact(obj, acc->contact);
    if (ok && acc->tos_agreed) {
        struct json_object *b = json_object_new_boolean(1);
        ok = b != NULL && json_object_object_add(obj, "termsOfServiceAgreed", b) == 0;
    }
    if (ok && acc->eab_json != NULL)
        ok = add_eab(obj, acc->eab_json);
    if (ok && acc->orders != NULL)
        ok = add_string(obj, "orders", acc->orders);
    if (ok && acc->url != NULL)
        ok = add_string(obj, "location", acc->url);

    cm_status rc = CM_OK;
    if (!ok) {
        rc = cm_fail_nomem(err);
    } else {
        const char *text = json_object_to_json_string_ext(
            obj, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_PRETTY_TAB | JSON_C_TO_STRING_SPACED |
                     JSON_C_TO_STRING_NOSLASHESCAPE);
        rc = text == NULL ? cm_fail_nomem(err) : cm_buf_puts(out, text, err);
    }
    json_object_put(obj);
    return rc;
}

static const char *get_string(struct json_object *obj, const char *name)
{
    struct json_object *v = NULL;
    if (!json_object_object_get_ex(obj, name, &v) || !json_object_is_type(v, json_type_string))
        return NULL;
    return json_object_get_string(v);
}

static enum cm_acme_status status_from_text(const char *s)
{
    static const enum cm_acme_status known[] = { CM_ACME_VALID, CM_ACME_DEACTIVATED,
                                                 CM_ACME_REVOKED };
    for (size_t i = 0; s != NULL && i < CM_ARRAY_LEN(known); i++)
        if (strcmp(s, cm_acme_status_text(known[i])) == 0)
            return known[i];
    return CM_ACME_UNKNOWN;
}

static cm_status copy_contact(struct json_object *obj, struct cm_acme_account *ret,
                              struct cm_err *err)
{
    struct json_object *arr = NULL;
    if (!json_object_object_get_ex(obj, "contact", &arr) ||
        !json_object_is_type(arr, json_type_array))
        return CM_OK;
    size_t n = json_object_array_length(arr);
    if (n > 16)
        return cm_fail(err, CM_E_LIMIT, "account lists %zu contacts, more than 16", n);
    ret->contact = cm_calloc(n + 1, sizeof *ret->contact);
    if (ret->contact == NULL)
        return cm_fail_nomem(err);
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        struct json_object *v = json_object_array_get_idx(arr, i);
        if (!json_object_is_type(v, json_type_string))
            continue;
        ret->contact[kept] = cm_strdup(json_object_get_string(v));
        if (ret->contact[kept++] == NULL)
            return cm_fail_nomem(err);
    }
    return CM_OK;
}

cm_status acme_account_from_json(struct cm_span json, struct cm_acme_account *ret,
                                 struct cm_err *err)
{
    struct cm_acme_account acc = { 0 };
    struct json_object *obj = NULL;

    cm_status rc = cm_json_read(json, 16, &obj, err);
    if (rc == CM_OK && !json_object_is_type(obj, json_type_object)) {
        json_object_put(obj);
        rc = cm_fail(err, CM_E_PARSE, "not a JSON object");
    }
    if (rc != CM_OK)
        return cm_wrap(err, rc, "stored account");

    const char *location = get_string(obj, "location");
    const char *orders = get_string(obj, "orders");
    struct json_object *tos = NULL;

    acc.status = status_from_text(get_string(obj, "status"));
    acc.url = cm_strdup(location);
    acc.orders = cm_strdup(orders);
    if (json_object_object_get_ex(obj, "termsOfServiceAgreed", &tos))
        acc.tos_agreed = json_object_get_boolean(tos);
    if ((location != NULL && acc.url == NULL) || (orders != NULL && acc.orders == NULL))
        rc = cm_fail_nomem(err);
    if (rc == CM_OK)
        rc = copy_contact(obj, &acc, err);
    json_object_put(obj);
    if (rc != CM_OK) {
        cm_acme_account_free(&acc);
        return rc;
    }
    *ret = acc;
    return CM_OK;
}

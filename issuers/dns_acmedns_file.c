/* SPDX-License-Identifier: Apache-2.0 */
#include "dns_acmedns.h"

#include "dns_api.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define JSON_DEPTH 8

cm_status acmedns_load(const char *file, struct json_object **ret, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf text = CM_BUF_SECRET(ACMEDNS_FILE_MAX);
    struct json_object *all = NULL;
    cm_status rc = cm_read_private_file(file, &text, err);

    if (rc == CM_OK)
        rc = cm_json_read(cm_buf_span(&text), JSON_DEPTH, &all, err);
    if (rc == CM_OK && !json_object_is_type(all, json_type_object))
        rc = cm_fail(err, CM_E_PARSE, "no object with a member for each name");
    if (rc != CM_OK) {
        json_object_put(all);
        return rc == CM_E_PARSE ? cm_wrap(err, rc, "accounts of acme-dns in '%s'", file) : rc;
    }
    *ret = all;
    return CM_OK;
}

static bool take(struct json_object *o, const char *name, const char *ok, char *ret, size_t size)
{
    const char *s = dns_api_text(o, name, size - 1);

    if (s == NULL || strspn(s, ok) != strlen(s))
        return false;
    (void)snprintf(ret, size, "%s", s);
    return true;
}

cm_status acmedns_read(struct json_object *o, struct acmedns_account *ret, struct cm_err *err)
{
    static const char name[] = "abcdefghijklmnopqrstuvwxyz0123456789-_.";
    static const char word[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.";
    static const char url[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
                              "-_.~:/[]%";
    struct acmedns_account a = { .server_url = "" };
    const char *bad = NULL;

    if (!json_object_is_type(o, json_type_object))
        return cm_fail(err, CM_E_PARSE, "no object");
    if (!take(o, "fulldomain", name, a.fulldomain, sizeof a.fulldomain))
        bad = "fulldomain";
    else if (!take(o, "subdomain", name, a.subdomain, sizeof a.subdomain))
        bad = "subdomain";
    else if (!take(o, "username", word, a.username, sizeof a.username))
        bad = "username";
    else if (!take(o, "password", word, a.password, sizeof a.password))
        bad = "password";
    (void)take(o, "server_url", url, a.server_url, sizeof a.server_url);
    if (bad != NULL) {
        cm_wipe(&a, sizeof a);
        return cm_fail(err, CM_E_PARSE, "'%s' is missing or odd", bad);
    }
    *ret = a;
    cm_wipe(&a, sizeof a);
    return CM_OK;
}

cm_status acmedns_find(struct json_object *all, const struct cm_dns_record *rec,
                       struct acmedns_account *ret, struct cm_err *err)
{
    struct json_object_iterator it;
    struct json_object_iterator end;
    struct json_object *found = NULL;
    const char *name = rec->ident;
    cm_status rc;

    it = json_object_iter_begin(all);
    end = json_object_iter_end(all);
    for (; !json_object_iter_equal(&it, &end); json_object_iter_next(&it)) {
        struct json_object *value = json_object_iter_peek_value(&it);
        const char *full = json_object_is_type(value, json_type_object)
                               ? dns_api_text(value, "fulldomain", 253)
                               : NULL;

        if (full != NULL && strcmp(full, rec->fqdn) == 0) {
            found = value;
            name = json_object_iter_peek_name(&it);
        }
    }
    if (found == NULL && !json_object_object_get_ex(all, rec->ident, &found))
        return cm_fail(err, CM_E_NOTFOUND, "no account for %s", rec->ident);
    rc = acmedns_read(found, ret, err);
    return rc == CM_OK ? rc : cm_wrap(err, rc, "account for %.100s", name);
}

static bool put(struct json_object *o, const char *name, const char *value)
{
    return json_object_object_add(o, name, json_object_new_string(value)) == 0;
}

static cm_status write_all(int fd, const char *text, size_t len, const char *file,
                           struct cm_err *err)
{
    while (len > 0) {
        ssize_t n = write(fd, text, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return cm_fail_errno(err, "write '%s'", file);
        text += n;
        len -= (size_t)n;
    }
    return fsync(fd) == 0 ? CM_OK : cm_fail_errno(err, "write '%s'", file);
}

/* What it costs to lose the file is a CNAME to be set anew for each name: never half of it. */
static cm_status replace(const char *file, const char *text, struct cm_err *err)
{
    CM_AUTO_FREE char *fresh = cm_asprintf("%s.new", file);
    CM_AUTO_CLOSE int fd = -1;
    cm_status rc;

    if (fresh == NULL)
        return cm_fail_nomem(err);
    (void)unlink(fresh);
    fd = open(fresh, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return cm_fail_errno(err, "make '%s'", fresh);
    rc = write_all(fd, text, strlen(text), fresh, err);
    if (rc == CM_OK && rename(fresh, file) != 0)
        rc = cm_fail_errno(err, "rename '%s'", fresh);
    if (rc != CM_OK)
        (void)unlink(fresh);
    return rc;
}

cm_status acmedns_save(const char *file, struct json_object *all, const char *name,
                       const struct acmedns_account *a, struct cm_err *err)
{
    struct json_object *o = json_object_new_object();
    const char *text;

    if (o == NULL || !put(o, "fulldomain", a->fulldomain) || !put(o, "subdomain", a->subdomain) ||
        !put(o, "username", a->username) || !put(o, "password", a->password) ||
        !put(o, "server_url", a->server_url) || json_object_object_add(all, name, o) != 0) {
        json_object_put(o);
        return cm_fail_nomem(err);
    }
    text = json_object_to_json_string_ext(all,
                                          JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE);
    return text != NULL ? replace(file, text, err) : cm_fail_nomem(err);
}

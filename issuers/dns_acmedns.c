/* SPDX-License-Identifier: Apache-2.0 */
#include "dns_acmedns.h"

#include "dns_api.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>

/* "acme-dns:URL?accounts=FILE&register=yes": a server that does nothing but answer for
 * _acme-challenge names that lead to it by a CNAME. It keeps the last two values of a name and
 * takes none down. */

#define LOCK_LOOK_NS (100 * CM_NS_PER_MS)

struct acmedns {
    struct cm_dns_provider base;
    struct cm_log log;
    struct dns_api api;
    char *file;
    char *description;
    bool may_register;
};

static struct acmedns *self(struct cm_dns_provider *p)
{
    return CM_CONTAINER_OF(p, struct acmedns, base);
}

/* ------------------------------------------------------------------ register */

static cm_status ask_for_account(struct acmedns *p, const struct cm_op *op,
                                 struct acmedns_account *ret, struct cm_err *err)
{
    const struct dns_api_call call = { .method = "POST", .path = "/register", .once = true };
    struct dns_api_answer a = DNS_API_ANSWER_INIT;
    cm_status rc = dns_api_do(&p->api, op, &call, &a, err);

    if (rc == CM_OK && a.status != 201 && a.status != 200)
        rc = dns_api_refused(&p->api, &call, &a, dns_api_text(a.json, "error", 200), err);
    else if (rc == CM_OK)
        rc = acmedns_read(a.json, ret, err);
    if (rc == CM_OK)
        (void)snprintf(ret->server_url, sizeof ret->server_url, "%s", p->api.base);
    cm_wipe(a.text.data, a.text.len);
    dns_api_answer_free(&a);
    return rc == CM_E_PARSE ? cm_wrap(err, rc, "%s/register gave no account", p->api.base) : rc;
}

/* Others, threads and processes, may register with the same file. */
static cm_status lock_file(const struct acmedns *p, const struct cm_op *op, int *ret,
                           struct cm_err *err)
{
    CM_AUTO_FREE char *path = cm_asprintf("%s.lock", p->file);
    CM_AUTO_CLOSE int fd = -1;
    cm_status rc = CM_OK;

    if (path == NULL)
        return cm_fail_nomem(err);
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return cm_fail_errno(err, "make '%s'", path);
    while (rc == CM_OK && flock(fd, LOCK_EX | LOCK_NB) != 0)
        rc = errno == EWOULDBLOCK || errno == EINTR ? cm_op_wait(op, LOCK_LOOK_NS, err)
                                                    : cm_fail_errno(err, "lock '%s'", path);
    if (rc == CM_OK) {
        *ret = fd;
        fd = -1;
    }
    return rc;
}

/* CM_E_STATE when it went well: somebody has to set the CNAME now. */
static cm_status register_name(struct acmedns *p, const struct cm_op *op,
                               const struct cm_dns_record *rec, struct cm_err *err)
{
    const struct cm_log_field fields[] = { { "name", rec->ident }, { "file", p->file } };
    struct acmedns_account a = { .server_url = "" };
    struct json_object *all = NULL;
    CM_AUTO_CLOSE int lock = -1;
    cm_status rc = lock_file(p, op, &lock, err);

    if (rc == CM_OK)
        rc = acmedns_load(p->file, &all, err);
    if (rc == CM_E_NOTFOUND) {
        all = json_object_new_object();
        rc = all != NULL ? CM_OK : cm_fail_nomem(err);
    }
    if (rc == CM_OK)
        rc = acmedns_find(all, rec, &a, err); /* meanwhile, by another? */
    if (rc == CM_E_NOTFOUND) {
        rc = ask_for_account(p, op, &a, err);
        if (rc == CM_OK)
            rc = acmedns_save(p->file, all, rec->ident, &a, err);
        if (rc == CM_OK)
            cm_logf(&p->log, CM_LOG_INFO, "acme_dns_registered", fields, CM_ARRAY_LEN(fields),
                    "acme-dns has an account for %s now", rec->ident);
    }
    if (rc == CM_OK)
        rc =
            cm_fail(err, CM_E_STATE,
                    "an account was made and is kept in '%s'; now put this into the zone of %s and "
                    "try again: %s. CNAME %s.",
                    p->file, rec->ident, rec->challenge_name, a.fulldomain);
    json_object_put(all);
    cm_wipe(&a, sizeof a);
    return rc;
}

/* -------------------------------------------------------------------- update */

static cm_status check_account(const struct acmedns *p, const struct cm_dns_record *rec,
                               const struct acmedns_account *a, struct cm_err *err)
{
    if (a->server_url[0] != '\0' && !cm_url_same_origin(a->server_url, p->api.base))
        return cm_fail(err, CM_E_POLICY,
                       "the account for %s is one of %s: its password is not sent elsewhere",
                       rec->ident, a->server_url);
    if (strcmp(rec->fqdn, a->fulldomain) == 0)
        return CM_OK;
    if (strcmp(rec->fqdn, rec->challenge_name) == 0)
        return cm_fail(err, CM_E_STATE,
                       "%s does not lead to acme-dns yet; put this into the zone of %s: %s. CNAME "
                       "%s.",
                       rec->challenge_name, rec->ident, rec->challenge_name, a->fulldomain);
    return cm_fail(err, CM_E_STATE,
                   "%s leads to %s, but the account in '%s' is for %s: change the CNAME or the "
                   "account",
                   rec->challenge_name, rec->fqdn, p->file, a->fulldomain);
}

static cm_status update(struct acmedns *p, const struct cm_op *op, const struct cm_dns_record *rec,
                        const struct acmedns_account *a, struct cm_err *err)
{
    char user[sizeof a->username + 16];
    char key[sizeof a->password + 16];
    const char *const headers[] = { user, key, NULL };
    const char *const secrets[] = { a->password, NULL };
    struct json_object *body = json_object_new_object();
    const struct dns_api_call call = {
        .method = "POST", .path = "/update", .headers = headers, .body = body, .secrets = secrets
    };
    struct dns_api_answer answer = DNS_API_ANSWER_INIT;
    cm_status rc;

    if (body == NULL ||
        json_object_object_add(body, "subdomain", json_object_new_string(a->subdomain)) != 0 ||
        json_object_object_add(body, "txt", json_object_new_string(rec->value)) != 0) {
        json_object_put(body);
        return cm_fail_nomem(err);
    }
    (void)snprintf(user, sizeof user, "X-Api-User: %s", a->username);
    (void)snprintf(key, sizeof key, "X-Api-Key: %s", a->password);
    rc = dns_api_do(&p->api, op, &call, &answer, err);
    if (rc == CM_OK && answer.status != 200)
        rc = dns_api_refused(&p->api, &call, &answer, dns_api_text(answer.json, "error", 200), err);
    dns_api_answer_free(&answer);
    json_object_put(body);
    cm_wipe(key, sizeof key);
    return rc;
}

static cm_status append_record(struct cm_dns_provider *base, const struct cm_op *op,
                               const struct cm_dns_record *rec, struct cm_err *err)
{
    struct acmedns *p = self(base);
    struct acmedns_account a = { .server_url = "" };
    struct json_object *all = NULL;
    cm_status rc = acmedns_load(p->file, &all, err);

    if (rc == CM_OK)
        rc = acmedns_find(all, rec, &a, err);
    json_object_put(all);
    if (rc == CM_E_NOTFOUND && p->may_register)
        return register_name(p, op, rec, err);
    if (rc == CM_E_NOTFOUND)
        return cm_fail(
            err, rc,
            "there is no account for %s in '%s': add register=yes to have one made, then "
            "set the CNAME that you are told",
            rec->ident, p->file);
    if (rc == CM_OK)
        rc = check_account(p, rec, &a, err);
    if (rc == CM_OK)
        rc = update(p, op, rec, &a, err);
    cm_wipe(&a, sizeof a);
    return rc;
}

/* The next two values push it out; alone it proves nothing, as challenges are used once. */
static cm_status remove_record(struct cm_dns_provider *base, const struct cm_op *op,
                               const struct cm_dns_record *rec, struct cm_err *err)
{
    (void)base;
    (void)op;
    (void)rec;
    (void)err;
    return CM_OK;
}

/* ---------------------------------------------------------------------- open */

static const char *describe(struct cm_dns_provider *p)
{
    return self(p)->description;
}

static void destroy(struct cm_dns_provider *base)
{
    struct acmedns *p = self(base);

    dns_api_close(&p->api);
    free(p->file);
    free(p->description);
    free(p);
}

static const struct cm_dns_provider_ops acmedns_ops = {
    .abi = CM_SPI_ABI,
    .size = sizeof acmedns_ops,
    .name = "acme-dns",
    .append = append_record,
    .remove = remove_record,
    .describe = describe,
    .destroy = destroy,
};

static cm_status fill(struct acmedns *p, const char *rest, const char *yes, const char *ca_file,
                      const struct cm_dns_provider_options *opts, struct cm_err *err)
{
    struct json_object *all = NULL;
    cm_status rc;

    if (p->file == NULL)
        return cm_fail(err, CM_E_INVAL, "accounts=FILE is missing");
    if (yes != NULL && strcmp(yes, "yes") != 0 && strcmp(yes, "no") != 0)
        return cm_fail(err, CM_E_INVAL, "register is yes or no");
    p->may_register = yes != NULL && yes[0] == 'y';
    rc = dns_api_open(rest, strcspn(rest, "?"), ca_file, opts, &p->api, err);
    if (rc == CM_OK) /* what is wrong with it is said before the first order */
        rc = acmedns_load(p->file, &all, err);
    json_object_put(all);
    if (rc == CM_E_NOTFOUND && p->may_register)
        rc = CM_OK;
    if (rc != CM_OK)
        return rc;
    p->description = cm_asprintf("acme-dns:%s", p->api.base);
    return p->description != NULL ? CM_OK : cm_fail_nomem(err);
}

cm_status dns_acmedns_open(const char *rest, const struct cm_dns_provider_options *opts,
                           struct cm_dns_provider **ret, struct cm_err *err)
{
    struct acmedns *p = cm_calloc(1, sizeof *p);
    char *yes = NULL;
    char *ca_file = NULL;
    const char *query = strchr(rest, '?');
    cm_status rc;

    if (p == NULL)
        return cm_fail_nomem(err);
    p->base.ops = &acmedns_ops;
    p->log = opts->log;
    const struct dns_param params[] = { { "accounts", &p->file },
                                        { "register", &yes },
                                        { "ca-file", &ca_file } };
    rc = dns_read_params(query != NULL ? query + 1 : NULL, params, CM_ARRAY_LEN(params), err);
    if (rc == CM_OK)
        rc = fill(p, rest, yes, ca_file, opts, err);
    free(yes);
    free(ca_file);
    if (rc != CM_OK) {
        destroy(&p->base);
        return rc;
    }
    *ret = &p->base;
    return CM_OK;
}

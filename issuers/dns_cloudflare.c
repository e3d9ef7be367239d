/* SPDX-License-Identifier: Apache-2.0 */
#include "dns_api.h"

#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

/* "cloudflare:[URL]?token-file=&zone-id=": Cloudflare's API v4, with a token that may edit the DNS
 * of the zone (Zone:DNS:Edit) and, unless the zone's id is given, list zones (Zone:Zone:Read).
 * Nothing is remembered between calls: another process may have put a record up. */

#define API_URL         "https://api.cloudflare.com/client/v4"
#define TOKEN_MAX       1024u
#define ID_MAX          64u
#define TTL_MIN         60u
#define TTL_MAX         86400u
#define PER_PAGE        100
#define PAGES_MAX       50
#define RECORDS_MAX     16u /* of one name and value; there should be one */
#define ALREADY_THERE   81058
#define ALREADY_THERE_2 81057

struct cloudflare {
    struct cm_dns_provider base;
    struct dns_api api;
    char *zone_id; /* NULL: looked for */
    char *description;
    struct cm_buf token;
    struct cm_buf auth;     /* the header line */
    const char *headers[2]; /* auth */
    const char *secrets[2]; /* token */
};

static struct cloudflare *self(struct cm_dns_provider *p)
{
    return CM_CONTAINER_OF(p, struct cloudflare, base);
}

/* --------------------------------------------------------------- its answers */

static bool said_yes(const struct dns_api_answer *a)
{
    struct json_object *v = NULL;

    return a->status >= 200 && a->status < 300 && a->json != NULL &&
           json_object_object_get_ex(a->json, "success", &v) &&
           json_object_is_type(v, json_type_boolean) && json_object_get_boolean(v);
}

static struct json_object *error_at(const struct dns_api_answer *a, size_t i)
{
    struct json_object *list = NULL;

    if (a->json == NULL || !json_object_object_get_ex(a->json, "errors", &list) ||
        !json_object_is_type(list, json_type_array) || i >= json_object_array_length(list))
        return NULL;
    return json_object_array_get_idx(list, i);
}

static int64_t code_of(struct json_object *error)
{
    struct json_object *v = NULL;

    return json_object_is_type(error, json_type_object) &&
                   json_object_object_get_ex(error, "code", &v)
               ? json_object_get_int64(v)
               : 0;
}

/* "10000 Authentication error; ..." and the first of what is chained to each. */
static cm_status refused(struct cloudflare *p, const struct dns_api_call *call,
                         const struct dns_api_answer *a, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf why = CM_BUF_INIT(2048);
    struct json_object *error;

    for (size_t i = 0; i < 4 && (error = error_at(a, i)) != NULL; i++) {
        const char *text = dns_api_text(error, "message", 512);
        struct json_object *chain = NULL;
        struct json_object *cause = NULL;

        if (json_object_is_type(error, json_type_object) &&
            json_object_object_get_ex(error, "error_chain", &chain) &&
            json_object_is_type(chain, json_type_array) && json_object_array_length(chain) > 0)
            cause = json_object_array_get_idx(chain, 0);
        if (cm_buf_printf(&why, NULL, "%s%lld %s", i > 0 ? "; " : "", (long long)code_of(error),
                          text != NULL ? text : "") != CM_OK)
            break;
        text = cause != NULL ? dns_api_text(cause, "message", 512) : NULL;
        if (text != NULL && cm_buf_printf(&why, NULL, " (%s)", text) != CM_OK)
            break;
    }
    return dns_api_refused(&p->api, call, a, why.len > 0 ? cm_buf_str(&why) : NULL, err);
}

static cm_status call_api(struct cloudflare *p, const struct cm_op *op, const char *method,
                          const char *path, struct json_object *body, struct dns_api_answer *ret,
                          struct cm_err *err)
{
    const struct dns_api_call call = {
        .method = method, .path = path, .headers = p->headers, .body = body, .secrets = p->secrets
    };
    cm_status rc = dns_api_do(&p->api, op, &call, ret, err);

    if (rc != CM_OK || said_yes(ret))
        return rc;
    rc = refused(p, &call, ret, err);
    return rc;
}

/* It goes into URLs. */
static const char *id_of(struct json_object *o)
{
    static const char ok[] = "abcdefghijklmnopqrstuvwxyz0123456789";
    const char *id =
        json_object_is_type(o, json_type_object) ? dns_api_text(o, "id", ID_MAX) : NULL;

    return id != NULL && strspn(id, ok) == strlen(id) ? id : NULL;
}

static struct json_object *result_of(const struct dns_api_answer *a, json_type type)
{
    struct json_object *v = NULL;

    return a->json != NULL && json_object_object_get_ex(a->json, "result", &v) &&
                   json_object_is_type(v, type)
               ? v
               : NULL;
}

/* --------------------------------------------------------------------- zones */

static cm_status ask_for_zone(struct cloudflare *p, const struct cm_op *op, const char *name,
                              char ret[ID_MAX + 1], struct cm_err *err)
{
    struct dns_api_answer a = DNS_API_ANSWER_INIT;
    CM_AUTO_FREE char *path = cm_asprintf("/zones?name=%s&per_page=50", name);
    struct json_object *list;
    cm_status rc;

    if (path == NULL)
        return cm_fail_nomem(err);
    rc = call_api(p, op, "GET", path, NULL, &a, err);
    if (rc == CM_OK) {
        list = result_of(&a, json_type_array);
        rc = CM_E_NOTFOUND;
        for (size_t i = 0; list != NULL && rc != CM_OK && i < json_object_array_length(list); i++) {
            struct json_object *zone = json_object_array_get_idx(list, i);
            const char *id = id_of(zone);
            const char *called = id != NULL ? dns_api_text(zone, "name", 253) : NULL;

            if (called != NULL && strcmp(called, name) == 0) {
                (void)snprintf(ret, ID_MAX + 1, "%s", id);
                rc = CM_OK;
            }
        }
        if (rc != CM_OK)
            (void)cm_fail(err, rc, "no zone %s", name);
    }
    dns_api_answer_free(&a);
    return rc;
}

/* The zone that we are told of, else the longest that the token sees. */
static cm_status find_zone(struct cloudflare *p, const struct cm_op *op,
                           const struct cm_dns_record *rec, char ret[ID_MAX + 1],
                           struct cm_err *err)
{
    const char *name = rec->zone != NULL ? rec->zone : rec->fqdn;
    cm_status rc = CM_E_NOTFOUND;

    if (p->zone_id != NULL) {
        (void)snprintf(ret, ID_MAX + 1, "%s", p->zone_id);
        return CM_OK;
    }
    /* Never a top level domain: nobody has one there. */
    while (name != NULL && strchr(name, '.') != NULL) {
        rc = ask_for_zone(p, op, name, ret, err);
        if (rc != CM_E_NOTFOUND || rec->zone != NULL)
            break;
        name = strchr(name, '.') + 1;
    }
    if (rc != CM_E_NOTFOUND)
        return rc;
    return cm_fail(err, rc,
                   "the token sees no zone for %s at Cloudflare: it needs the permissions "
                   "Zone:Read and DNS:Edit on that zone, or give zone-id=",
                   rec->zone != NULL ? rec->zone : rec->fqdn);
}

/* ------------------------------------------------------------------- records */

/* The API gives TXT with quotes or without, as they were put in. */
static bool is_value(const char *content, const char *value)
{
    size_t len = strlen(value);

    if (content == NULL)
        return false;
    if (strcmp(content, value) == 0)
        return true;
    return strlen(content) == len + 2 && content[0] == '"' && content[len + 1] == '"' &&
           strncmp(content + 1, value, len) == 0;
}

static bool is_last_page(const struct dns_api_answer *a, int page)
{
    struct json_object *info = NULL;
    struct json_object *pages = NULL;

    return a->json == NULL || !json_object_object_get_ex(a->json, "result_info", &info) ||
           !json_object_is_type(info, json_type_object) ||
           !json_object_object_get_ex(info, "total_pages", &pages) ||
           json_object_get_int64(pages) <= page;
}

/* The ids of all records that are @rec, at most RECORDS_MAX. */
static cm_status find_records(struct cloudflare *p, const struct cm_op *op, const char *zone,
                              const struct cm_dns_record *rec, char ret[][ID_MAX + 1],
                              size_t *ret_n, struct cm_err *err)
{
    size_t n = 0;
    bool more = true;

    for (int page = 1; more && n < RECORDS_MAX; page++) {
        struct dns_api_answer a = DNS_API_ANSWER_INIT;
        CM_AUTO_FREE char *path =
            cm_asprintf("/zones/%s/dns_records?type=TXT&name=%s&per_page=%d&page=%d", zone,
                        rec->fqdn, PER_PAGE, page);
        struct json_object *list;
        cm_status rc;

        if (path == NULL)
            return cm_fail_nomem(err);
        if (page > PAGES_MAX)
            return cm_fail(err, CM_E_LIMIT, "more than %d pages of records", PAGES_MAX);
        rc = call_api(p, op, "GET", path, NULL, &a, err);
        list = result_of(&a, json_type_array);
        for (size_t i = 0;
             rc == CM_OK && list != NULL && i < json_object_array_length(list) && n < RECORDS_MAX;
             i++) {
            struct json_object *record = json_object_array_get_idx(list, i);
            const char *id = id_of(record);

            if (id != NULL && is_value(dns_api_text(record, "content", 2048), rec->value))
                (void)snprintf(ret[n++], ID_MAX + 1, "%s", id);
        }
        more = !is_last_page(&a, page);
        dns_api_answer_free(&a);
        if (rc != CM_OK)
            return rc;
    }
    *ret_n = n;
    return CM_OK;
}

static struct json_object *record_json(const struct cm_dns_record *rec)
{
    CM_AUTO_FREE char *quoted = cm_asprintf("\"%s\"", rec->value);
    uint32_t ttl = rec->ttl < TTL_MIN ? TTL_MIN : rec->ttl > TTL_MAX ? TTL_MAX : rec->ttl;
    struct json_object *o = json_object_new_object();

    if (o == NULL || quoted == NULL ||
        json_object_object_add(o, "type", json_object_new_string("TXT")) != 0 ||
        json_object_object_add(o, "name", json_object_new_string(rec->fqdn)) != 0 ||
        json_object_object_add(o, "content", json_object_new_string(quoted)) != 0 ||
        json_object_object_add(o, "ttl", json_object_new_int64(ttl)) != 0) {
        json_object_put(o);
        return NULL;
    }
    return o;
}

static bool is_already_there(const struct dns_api_answer *a)
{
    struct json_object *error;

    for (size_t i = 0; (error = error_at(a, i)) != NULL; i++)
        if (code_of(error) == ALREADY_THERE || code_of(error) == ALREADY_THERE_2)
            return true;
    return false;
}

static cm_status append_record(struct cm_dns_provider *base, const struct cm_op *op,
                               const struct cm_dns_record *rec, struct cm_err *err)
{
    struct cloudflare *p = self(base);
    struct dns_api_answer a = DNS_API_ANSWER_INIT;
    struct json_object *body;
    char zone[ID_MAX + 1];
    char path[128];
    cm_status rc;

    /* It would have to be escaped between the quotes. */
    if (strpbrk(rec->value, "\"\\") != NULL)
        return cm_fail(err, CM_E_INVAL, "a value with quotes cannot be handed over");
    rc = find_zone(p, op, rec, zone, err);
    if (rc != CM_OK)
        return rc;
    body = record_json(rec);
    if (body == NULL)
        return cm_fail_nomem(err);
    (void)snprintf(path, sizeof path, "/zones/%s/dns_records", zone);
    rc = call_api(p, op, "POST", path, body, &a, err);
    if (rc != CM_OK && is_already_there(&a))
        rc = CM_OK;
    dns_api_answer_free(&a);
    json_object_put(body);
    return rc;
}

static cm_status remove_record(struct cm_dns_provider *base, const struct cm_op *op,
                               const struct cm_dns_record *rec, struct cm_err *err)
{
    struct cloudflare *p = self(base);
    char ids[RECORDS_MAX][ID_MAX + 1];
    char zone[ID_MAX + 1];
    char path[256];
    size_t n = 0;
    cm_status rc = find_zone(p, op, rec, zone, err);

    if (rc == CM_OK)
        rc = find_records(p, op, zone, rec, ids, &n, err);
    for (size_t i = 0; rc == CM_OK && i < n; i++) {
        struct dns_api_answer a = DNS_API_ANSWER_INIT;

        (void)snprintf(path, sizeof path, "/zones/%s/dns_records/%.64s", zone, ids[i]);
        rc = call_api(p, op, "DELETE", path, NULL, &a, err);
        if (rc == CM_E_NOTFOUND) /* somebody else was quicker */
            rc = CM_OK;
        dns_api_answer_free(&a);
    }
    return rc;
}

/* ---------------------------------------------------------------------- open */

static const char *describe(struct cm_dns_provider *p)
{
    return self(p)->description;
}

static void destroy(struct cm_dns_provider *base)
{
    struct cloudflare *p = self(base);

    dns_api_close(&p->api);
    cm_buf_free(&p->token);
    cm_buf_free(&p->auth);
    free(p->zone_id);
    free(p->description);
    free(p);
}

static const struct cm_dns_provider_ops cloudflare_ops = {
    .abi = CM_SPI_ABI,
    .size = sizeof cloudflare_ops,
    .name = "cloudflare",
    .append = append_record,
    .remove = remove_record,
    .describe = describe,
    .destroy = destroy,
};

/* From the file that is named, else as lego and others take it. */
static cm_status read_token(struct cloudflare *p, const char *file, struct cm_err *err)
{
    const char *value = getenv("CF_DNS_API_TOKEN");
    cm_status rc;

    if (file == NULL && value == NULL)
        file = getenv("CF_DNS_API_TOKEN_FILE");
    if (file == NULL && value == NULL)
        return cm_fail(err, CM_E_INVAL,
                       "it needs a token: token-file=FILE, or $CF_DNS_API_TOKEN_FILE or "
                       "$CF_DNS_API_TOKEN");
    rc = file != NULL ? cm_read_private_file(file, &p->token, err)
                      : cm_buf_puts(&p->token, value, err);
    if (rc != CM_OK)
        return rc;
    while (p->token.len > 0 && strchr(" \t\r\n", p->token.data[p->token.len - 1]) != NULL)
        p->token.data[--p->token.len] = '\0';
    for (size_t i = 0; i < p->token.len; i++)
        if (p->token.data[i] <= 0x20 || p->token.data[i] >= 0x7f)
            return cm_fail(err, CM_E_INVAL, "%s holds no API token",
                           file != NULL ? file : "$CF_DNS_API_TOKEN");
    if (p->token.len == 0)
        return cm_fail(err, CM_E_INVAL, "the API token is empty");
    p->headers[0] = NULL;
    rc = cm_buf_printf(&p->auth, err, "Authorization: Bearer %s", cm_buf_str(&p->token));
    p->headers[0] = cm_buf_str(&p->auth);
    p->secrets[0] = cm_buf_str(&p->token);
    return rc;
}

static cm_status fill(struct cloudflare *p, const char *rest, const char *token_file,
                      const struct cm_dns_provider_options *opts, const char *ca_file,
                      struct cm_err *err)
{
    static const char ok[] = "abcdefghijklmnopqrstuvwxyz0123456789";
    size_t len = strcspn(rest, "?");
    const char *url = len > 0 ? rest : API_URL;
    cm_status rc;

    if (p->zone_id != NULL &&
        (strlen(p->zone_id) > ID_MAX || strspn(p->zone_id, ok) != strlen(p->zone_id)))
        return cm_fail(err, CM_E_INVAL, "zone-id is no id of a zone");
    rc = read_token(p, token_file, err);
    if (rc == CM_OK)
        rc = dns_api_open(url, len > 0 ? len : strlen(url), ca_file, opts, &p->api, err);
    if (rc != CM_OK)
        return rc;
    p->description =
        cm_asprintf("cloudflare:%.*s%s%s", (int)len, rest, p->zone_id != NULL ? "?zone-id=" : "",
                    p->zone_id != NULL ? p->zone_id : "");
    return p->description != NULL ? CM_OK : cm_fail_nomem(err);
}

cm_status dns_cloudflare_open(const char *rest, const struct cm_dns_provider_options *opts,
                              struct cm_dns_provider **ret, struct cm_err *err)
{
    struct cloudflare *p = cm_calloc(1, sizeof *p);
    char *token_file = NULL;
    char *ca_file = NULL;
    const char *query = strchr(rest, '?');
    cm_status rc;

    if (p == NULL)
        return cm_fail_nomem(err);
    p->base.ops = &cloudflare_ops;
    p->token = (struct cm_buf)CM_BUF_SECRET(TOKEN_MAX);
    p->auth = (struct cm_buf)CM_BUF_SECRET(TOKEN_MAX + 64);
    const struct dns_param params[] = { { "token-file", &token_file },
                                        { "zone-id", &p->zone_id },
                                        { "ca-file", &ca_file } };
    rc = dns_read_params(query != NULL ? query + 1 : NULL, params, CM_ARRAY_LEN(params), err);
    if (rc == CM_OK)
        rc = fill(p, rest, token_file, opts, ca_file, err);
    free(token_file);
    free(ca_file);
    if (rc != CM_OK) {
        destroy(&p->base);
        return rc;
    }
    *ret = &p->base;
    return CM_OK;
}

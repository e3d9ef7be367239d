/* SPDX-License-Identifier: Apache-2.0 */
#include "dns_record.h"

#include "pki.h"

#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#define NOTES       "certmesh/dns"
#define NOTE_MAX    (8u * 1024)
#define ID_BYTES    16u
#define SWEEP_MAX   256u /* notes looked at in one go */
#define REMOVE_NS   (20 * CM_NS_PER_S)
#define FORGET_NS   (7 * 86400 * CM_NS_PER_S)
#define DNS_TTL_MAX 86400

/* ------------------------------------------------------------------- record */

static void name_it(struct dns_record *r)
{
    static const char hex[] = "0123456789abcdef";
    uint8_t digest[CM_SHA256_LEN];
    char text[1024], id[2 * ID_BYTES + 1];

    (void)snprintf(text, sizeof text, "%s %s", r->fqdn, r->value);
    cm_sha256(cm_span_str(text), digest);
    for (size_t i = 0; i < ID_BYTES; i++) {
        id[2 * i] = hex[digest[i] >> 4];
        id[2 * i + 1] = hex[digest[i] & 15];
    }
    id[2 * ID_BYTES] = '\0';
    (void)snprintf(r->key, sizeof r->key, NOTES "/%s", id);
}

static void publish(struct dns_record *r)
{
    r->pub.size = (uint32_t)sizeof r->pub;
    r->pub.zone = r->zone;
    r->pub.fqdn = r->fqdn;
    r->pub.type = "TXT";
    r->pub.value = r->value;
    r->pub.ident = r->ident;
    r->pub.challenge_name = r->challenge_name;
    r->pub.token = r->token;
    r->pub.key_authorization = r->key_authorization;
    name_it(r);
}

void dns_record_free(struct dns_record *r)
{
    if (r == NULL)
        return;
    dns_holder_put(r->holder);
    free(r->zone);
    free(r->fqdn);
    free(r->value);
    free(r->ident);
    free(r->challenge_name);
    free(r->token);
    free(r->key_authorization);
    free(r->provider);
    free(r);
}

/* RFC 8555 8.4 */
static cm_status value_of(const char *key_authorization, char **ret, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf text = CM_BUF_INIT(64);
    uint8_t digest[CM_SHA256_LEN];

    cm_sha256(cm_span_str(key_authorization), digest);
    cm_status rc = cm_b64url_encode((struct cm_span){ digest, sizeof digest }, &text, err);
    if (rc != CM_OK)
        return rc;
    *ret = cm_strdup(cm_buf_str(&text));
    return *ret == NULL ? cm_fail_nomem(err) : CM_OK;
}

cm_status dns_record_new(const struct cm_challenge *ch, const char *provider,
                         const char *challenge_name, const char *fqdn, const char *zone,
                         uint32_t ttl, struct dns_record **ret, struct cm_err *err)
{
    struct dns_record *r = cm_calloc(1, sizeof *r);

    if (r == NULL)
        return cm_fail_nomem(err);
    r->zone = cm_strdup(zone);
    r->fqdn = cm_strdup(fqdn);
    r->ident = cm_strdup(ch->ident);
    r->challenge_name = cm_strdup(challenge_name);
    r->token = cm_strdup(ch->token);
    r->key_authorization = cm_strdup(ch->key_authorization);
    r->provider = cm_strdup(provider);
    r->pub.ttl = ttl;
    cm_status rc = (zone != NULL && r->zone == NULL) || r->fqdn == NULL || r->ident == NULL ||
                           r->challenge_name == NULL || r->token == NULL ||
                           r->key_authorization == NULL || r->provider == NULL
                       ? cm_fail_nomem(err)
                       : value_of(ch->key_authorization, &r->value, err);
    if (rc != CM_OK) {
        dns_record_free(r);
        return rc;
    }
    publish(r);
    *ret = r;
    return CM_OK;
}

/* --------------------------------------------------------------------- note */

static bool add(struct json_object *o, const char *name, const char *value)
{
    struct json_object *text = json_object_new_string(value);

    if (text != NULL && json_object_object_add(o, name, text) == 0)
        return true;
    json_object_put(text);
    return false;
}

static bool add_number(struct json_object *o, const char *name, int64_t value)
{
    struct json_object *number = json_object_new_int64(value);

    if (number != NULL && json_object_object_add(o, name, number) == 0)
        return true;
    json_object_put(number);
    return false;
}

static cm_status to_json(const struct dns_record *r, struct cm_buf *out, struct cm_err *err)
{
    struct json_object *o = json_object_new_object();
    const char *text = NULL;

    if (o != NULL && add(o, "provider", r->provider) && add(o, "fqdn", r->fqdn) &&
        add(o, "value", r->value) && (r->zone == NULL || add(o, "zone", r->zone)) &&
        add(o, "identifier", r->ident) && add(o, "challenge_name", r->challenge_name) &&
        add(o, "token", r->token) && add(o, "key_authorization", r->key_authorization) &&
        add_number(o, "ttl", r->pub.ttl) && add_number(o, "slot", r->slot) &&
        add_number(o, "fence", (int64_t)r->fence))
        text = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN |
                                                     JSON_C_TO_STRING_NOSLASHESCAPE);
    cm_status rc = text == NULL ? cm_fail_nomem(err) : cm_buf_puts(out, text, err);
    json_object_put(o);
    return rc;
}

static bool take(struct json_object *o, const char *name, bool optional, char **ret, bool *nomem)
{
    struct json_object *text = NULL;

    if (!json_object_object_get_ex(o, name, &text))
        return optional;
    if (!json_object_is_type(text, json_type_string) || json_object_get_string_len(text) > 1024 ||
        strlen(json_object_get_string(text)) != (size_t)json_object_get_string_len(text))
        return false;
    *ret = cm_strdup(json_object_get_string(text));
    *nomem |= *ret == NULL;
    return *ret != NULL;
}

/* 0 for what is no number, or too large. */
static int64_t number(struct json_object *o, const char *name, int64_t max)
{
    struct json_object *value = NULL;
    int64_t n = json_object_object_get_ex(o, name, &value) ? json_object_get_int64(value) : 0;

    return n >= 0 && n <= max ? n : 0;
}

cm_status dns_record_parse(struct cm_span json, struct dns_record **ret, struct cm_err *err)
{
    struct dns_record *r = cm_calloc(1, sizeof *r);
    struct json_object *o = NULL;
    bool nomem = false;

    if (r == NULL)
        return cm_fail_nomem(err);
    cm_status rc = cm_json_read_max(json, 4, NOTE_MAX, &o, err);
    if (rc == CM_OK &&
        !(json_object_is_type(o, json_type_object) &&
          take(o, "provider", false, &r->provider, &nomem) &&
          take(o, "fqdn", false, &r->fqdn, &nomem) && strlen(r->fqdn) <= CM_NAME_MAX &&
          take(o, "value", false, &r->value, &nomem) && strlen(r->value) <= 255 &&
          take(o, "zone", true, &r->zone, &nomem) &&
          take(o, "identifier", false, &r->ident, &nomem) &&
          take(o, "challenge_name", false, &r->challenge_name, &nomem) &&
          take(o, "token", false, &r->token, &nomem) &&
          take(o, "key_authorization", false, &r->key_authorization, &nomem)))
        rc = nomem ? cm_fail_nomem(err) : cm_fail(err, CM_E_PARSE, "not the note of a DNS record");
    if (rc == CM_OK) {
        r->pub.ttl = (uint32_t)number(o, "ttl", DNS_TTL_MAX);
        r->slot = (unsigned)number(o, "slot", DNS_SLOTS - 1);
        r->fence = (uint64_t)number(o, "fence", INT64_MAX);
    }
    json_object_put(o);
    if (rc != CM_OK) {
        dns_record_free(r);
        return rc;
    }
    publish(r);
    *ret = r;
    return CM_OK;
}

cm_status dns_record_note(struct dns_record *r, struct dns_holder *holder, struct cm_storage *st,
                          const struct cm_op *op, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf json = CM_BUF_INIT(NOTE_MAX);

    r->holder = holder;
    r->slot = dns_holder_slot(holder);
    r->fence = dns_holder_fence(holder);
    cm_status rc = to_json(r, &json, err);
    if (rc == CM_OK)
        rc = cm_storage_store(st, op, r->key, cm_buf_span(&json), err);
    return rc == CM_OK ? rc : cm_wrap(err, rc, "note the DNS record for %s", r->ident);
}

cm_status dns_record_forget(struct dns_record *r, struct cm_storage *st, const struct cm_op *op,
                            struct cm_err *err)
{
    return cm_storage_remove(st, op, r->key, err);
}

/* -------------------------------------------------------------------- sweep */

struct keys {
    char *at[SWEEP_MAX];
    int64_t modified_ns[SWEEP_MAX];
    size_t n;
};

static cm_status take_key(void *user, const struct cm_key_info *info, struct cm_err *err)
{
    struct keys *k = user;

    (void)err;
    if (!info->terminal || k->n == SWEEP_MAX)
        return CM_OK;
    k->at[k->n] = cm_strdup(info->key);
    k->modified_ns[k->n] = info->modified_ns;
    if (k->at[k->n] != NULL)
        k->n++;
    return CM_OK;
}

static cm_status load(struct cm_storage *st, const struct cm_op *op, const char *key,
                      struct dns_record **ret)
{
    CM_AUTO_BUF struct cm_buf json = CM_BUF_INIT(NOTE_MAX);
    cm_status rc = cm_storage_load(st, op, key, &json, NULL);

    if (rc == CM_OK)
        rc = dns_record_parse(cm_buf_span(&json), ret, NULL);
    return rc;
}

/* Does its process live? If not, *ret is its lock now, or NULL when that is our own. */
static bool is_wanted(const struct dns_record *r, const struct dns_holder *self,
                      struct cm_storage *st, const struct cm_op *op, const struct cm_log *log,
                      struct cm_lease **ret)
{
    if (r->slot == dns_holder_slot(self))
        return r->fence == dns_holder_fence(self);
    return dns_holder_try(st, op, r->slot, log, ret, NULL) != CM_OK;
}

/* A record that cannot be taken down for so long that nobody will any more is forgotten. */
static bool take_down(struct cm_dns_provider *p, struct cm_storage *st, const struct cm_op *op,
                      const struct cm_log *log, struct dns_record *r, bool old)
{
    struct cm_err why = CM_ERR_INIT;
    cm_status rc = cm_dns_provider_remove(p, op, &r->pub, &why);

    if (rc == CM_OK)
        rc = dns_record_forget(r, st, op, &why);
    else if (old)
        (void)!dns_record_forget(r, st, op, NULL);
    const struct cm_log_field f[] = { { "record", r->fqdn }, { "error", why.msg } };
    if (rc == CM_OK)
        cm_logf(log, CM_LOG_INFO, "dns_record_swept", f, 1,
                "took down the TXT record %s, which a process that died had left", r->fqdn);
    else
        cm_logf(log, CM_LOG_WARN, "dns_record_left", f, CM_ARRAY_LEN(f),
                "a TXT record that a process left cannot be taken down: %s", why.msg);
    return rc == CM_OK;
}

static bool sweep_one(struct cm_dns_provider *p, const struct dns_holder *self,
                      struct cm_storage *st, const struct cm_op *op, const struct cm_log *log,
                      const char *key, int64_t modified_ns)
{
    bool old = cm_op_env(op)->wall_ns(cm_op_env(op)) - modified_ns > FORGET_NS;
    struct cm_op within = cm_op_within(op, REMOVE_NS);
    struct dns_record *r = NULL, *still = NULL;
    struct cm_lease *lease = NULL;
    bool done = true;

    if (load(st, &within, key, &r) != CM_OK)
        return true;
    if (strcmp(r->provider, p->ops->describe(p)) == 0 && strcmp(r->key, key) == 0) {
        bool own = r->slot == dns_holder_slot(self) && r->fence == dns_holder_fence(self);
        if (is_wanted(r, self, st, &within, log, &lease))
            done = own;
        else if (load(st, &within, key, &still) == CM_OK && still->slot == r->slot &&
                 still->fence == r->fence) /* nobody has taken it up, or down, just now */
            done = take_down(p, st, &within, log, r, old);
    }
    cm_lease_release(lease);
    dns_record_free(still);
    dns_record_free(r);
    return done;
}

bool dns_record_sweep(struct cm_dns_provider *p, const struct dns_holder *self,
                      struct cm_storage *st, const struct cm_op *op, const struct cm_log *log)
{
    struct keys *k = cm_calloc(1, sizeof *k);
    bool done = true;

    if (k == NULL)
        return false;
    if (cm_storage_list(st, op, NOTES, false, take_key, k, NULL) == CM_OK)
        for (size_t i = 0; i < k->n && cm_op_check(op, NULL) == CM_OK; i++)
            done = sweep_one(p, self, st, op, log, k->at[i], k->modified_ns[i]) && done;
    for (size_t i = 0; i < k->n; i++)
        free(k->at[i]);
    free(k);
    return done;
}

static cm_status count_key(void *user, const struct cm_key_info *info, struct cm_err *err)
{
    size_t *n = user;

    (void)err;
    *n += info->terminal && *n < SWEEP_MAX;
    return CM_OK;
}

cm_status dns_record_count(struct cm_storage *st, const struct cm_op *op, size_t *ret,
                           struct cm_err *err)
{
    size_t n = 0;
    cm_status rc = cm_storage_list(st, op, NOTES, false, count_key, &n, err);

    if (rc != CM_OK && rc != CM_E_NOTFOUND)
        return rc;
    *ret = n;
    return CM_OK;
}

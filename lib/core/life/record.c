/* SPDX-License-Identifier: Apache-2.0 */
#include "record.h"

#include <json-c/json.h>
#include <limits.h>
#include <string.h>

#define STORE_NS  (10 * CM_NS_PER_S)
#define ONCE_NS   (24 * 3600 * CM_NS_PER_S)
#define TEXT_MAX  512u
#define TIME_LAST INT64_C(9000000000) /* what fits into ns */

/* ---- writing ---- */

void cm_record_begin(struct cm_record *r)
{
    r->text = (struct cm_buf)CM_BUF_INIT(CM_RECORD_MAX);
    r->rc = CM_OK;
}

static void put_name(struct cm_record *r, const char *name)
{
    if (r->rc == CM_OK)
        r->rc = cm_buf_printf(&r->text, NULL, "%c\n  \"%s\": ", r->text.len == 0 ? '{' : ',', name);
}

void cm_record_text(struct cm_record *r, const char *name, const char *value)
{
    char ascii[TEXT_MAX];

    if (value[0] == '\0')
        return;
    put_name(r, name);
    if (r->rc == CM_OK)
        r->rc = cm_json_quote(cm_escape(value, strlen(value), ascii, sizeof ascii), &r->text, NULL);
}

void cm_record_time(struct cm_record *r, const char *name, int64_t s)
{
    char text[CM_TIME_TEXT];

    if (s <= 0 || s > TIME_LAST)
        return;
    cm_time_format_rfc3339(s * CM_NS_PER_S, false, text);
    cm_record_text(r, name, text);
}

void cm_record_number(struct cm_record *r, const char *name, unsigned n)
{
    put_name(r, name);
    if (r->rc == CM_OK)
        r->rc = cm_buf_printf(&r->text, NULL, "%u", n);
}

void cm_record_flag(struct cm_record *r, const char *name, bool value)
{
    put_name(r, name);
    if (r->rc == CM_OK)
        r->rc = cm_buf_puts(&r->text, value ? "true" : "false", NULL);
}

struct cm_op cm_record_op(const struct cm_config *cfg, const struct cm_op *op)
{
    struct cm_op own = { cfg->env, 0, NULL };

    if (op != NULL)
        own = *op;
    if (own.env == NULL)
        own.env = cfg->env;
    if (cm_op_check(&own, NULL) != CM_OK)
        own = (struct cm_op){ cfg->env, 0, cfg->stop };
    return cm_op_within(&own, STORE_NS);
}

/* Has this not been said for a day? */
static bool is_new(struct cm_config *cfg, const char *what, const char *key)
{
    if (cm_probes_wait_ns(cfg->probes, what, key) > 0)
        return false;
    cm_probes_note(cfg->probes, what, key, ONCE_NS);
    return true;
}

static cm_status finish(struct cm_record *r, const char *key, struct cm_err *err)
{
    cm_status rc = r->rc == CM_OK ? cm_buf_puts(&r->text, "\n}\n", NULL) : r->rc;

    return rc == CM_OK ? rc : cm_fail(err, rc, "the text of '%s': %s", key, cm_status_text(rc));
}

cm_status cm_record_commit(struct cm_lease *lease, const struct cm_op *op, const char *key,
                           struct cm_record *r, struct cm_err *err)
{
    struct cm_commit_item item = { key, { NULL, 0 }, false };

    cm_status rc = finish(r, key, err);
    item.value = cm_buf_span(&r->text);
    if (rc == CM_OK)
        rc = cm_lease_commit(lease, op, &item, 1, err);
    cm_buf_free(&r->text);
    return rc;
}

cm_status cm_record_store(struct cm_config *cfg, const struct cm_op *op, const char *key,
                          struct cm_record *r, struct cm_err *err)
{
    struct cm_op own = cm_record_op(cfg, op);
    struct cm_err why = CM_ERR_INIT;

    cm_status rc = finish(r, key, &why);
    if (rc == CM_OK)
        rc = cm_storage_store(cfg->storage, &own, key, cm_buf_span(&r->text), &why);
    cm_buf_free(&r->text);
    if (rc != CM_OK && is_new(cfg, "note lost", ""))
        cm_logf(&cfg->log, CM_LOG_WARN, "note_not_stored", NULL, 0,
                "other nodes are not told '%s' (nor others that cannot be stored): %s", key,
                why.msg);
    if (rc != CM_OK && err != NULL)
        *err = why;
    return rc;
}

cm_status cm_record_remove(struct cm_config *cfg, const struct cm_op *op, const char *key,
                           struct cm_err *err)
{
    struct cm_op own = cm_record_op(cfg, op);
    struct cm_key_info info;

    cm_status rc = cm_storage_stat(cfg->storage, &own, key, &info, err);
    if (rc == CM_E_NOTFOUND)
        return CM_OK;
    /* Removing a directory would take all below it along, which is not ours. */
    return rc == CM_OK && info.terminal ? cm_storage_remove(cfg->storage, &own, key, err) : rc;
}

/* ---- reading ---- */

cm_status cm_record_is_damaged(struct cm_config *cfg, const char *key, const char *why,
                               struct cm_err *err)
{
    if (is_new(cfg, "note damaged", key))
        cm_logf(&cfg->log, CM_LOG_WARN, "note_damaged", NULL, 0,
                "'%s' in storage is of no use and left out of account: %s", key, why);
    return cm_fail(err, CM_E_NOTFOUND, "'%s' cannot be used: %s", key, why);
}

cm_status cm_record_load(struct cm_config *cfg, const struct cm_op *op, const char *key,
                         struct json_object **ret, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf text = CM_BUF_INIT(CM_RECORD_MAX);
    struct json_object *o = NULL;
    struct cm_err why = CM_ERR_INIT;

    cm_status rc = cm_storage_load(cfg->storage, op, key, &text, &why);
    if (rc == CM_OK)
        rc = cm_json_parse(cm_buf_span(&text), &o, &why);
    if (rc == CM_OK && !json_object_is_type(o, json_type_object))
        rc = cm_fail(&why, CM_E_PARSE, "it is no JSON object");
    if (rc == CM_OK) {
        *ret = o;
        return rc;
    }
    (void)json_object_put(o);
    if (rc == CM_E_PARSE || rc == CM_E_LIMIT)
        return cm_record_is_damaged(cfg, key, why.msg, err);
    if (err != NULL)
        *err = why;
    return rc;
}

static struct json_object *member(struct json_object *o, const char *name)
{
    struct json_object *v = NULL;

    return json_object_object_get_ex(o, name, &v) ? v : NULL;
}

bool cm_record_get_text(struct json_object *o, const char *name, char *ret, size_t size)
{
    ret[0] = '\0';
    return member(o, name) == NULL || cm_json_text(o, name, ret, size);
}

bool cm_record_get_time(struct json_object *o, const char *name, int64_t *ret_s)
{
    char text[CM_TIME_TEXT];
    int64_t ns = 0;

    *ret_s = 0;
    if (!cm_record_get_text(o, name, text, sizeof text))
        return false;
    if (text[0] == '\0')
        return true;
    if (cm_time_parse_rfc3339(text, strlen(text), &ns, NULL) != CM_OK || ns <= 0)
        return false;
    *ret_s = ns / CM_NS_PER_S;
    return true;
}

bool cm_record_get_number(struct json_object *o, const char *name, unsigned *ret)
{
    struct json_object *v = member(o, name);

    *ret = 0;
    if (v == NULL)
        return true;
    if (!json_object_is_type(v, json_type_int))
        return false;
    int64_t n = json_object_get_int64(v);
    if (n < 0 || n > INT_MAX)
        return false;
    *ret = (unsigned)n;
    return true;
}

bool cm_record_get_flag(struct json_object *o, const char *name, bool *ret)
{
    struct json_object *v = member(o, name);

    *ret = false;
    if (v == NULL)
        return true;
    if (!json_object_is_type(v, json_type_boolean))
        return false;
    *ret = json_object_get_boolean(v);
    return true;
}

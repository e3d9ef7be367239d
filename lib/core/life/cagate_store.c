/* SPDX-License-Identifier: Apache-2.0 */
#include "cagate.h"
#include "record.h"

#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

/* What one node has learnt of a CA, for all. Read and written seldom; nothing depends on it. */

#define CA_DIR "certmesh/gates"

static cm_status path_of(const char *issuer_key, char ret[CM_KEY_BUF], struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf safe = CM_BUF_INIT(CM_KEY_BUF);

    cm_status rc = cm_safe_name(issuer_key, &safe, err);
    if (rc != CM_OK)
        return rc;
    int n = snprintf(ret, CM_KEY_BUF, CA_DIR "/%s", cm_buf_str(&safe));
    if (n < 0 || n >= (int)CM_KEY_BUF)
        return cm_fail(err, CM_E_INVAL, "no storage key for '%s': it is too long", issuer_key);
    return CM_OK;
}

bool cm_ca_note_equal(const struct cm_ca_note *a, const struct cm_ca_note *b)
{
    return a->paused_until_s == b->paused_until_s && a->open_since_s == b->open_since_s &&
           a->next_probe_s == b->next_probe_s && a->updated_s == b->updated_s &&
           a->failures == b->failures;
}

static int64_t left_s(int64_t until_s, int64_t updated_s, int64_t now_s, int64_t most_s)
{
    int64_t from_s = now_s > updated_s ? now_s : updated_s; /* the clock went back since */
    int64_t left = until_s - from_s;

    if (left > most_s)
        left = most_s;
    return left > 0 ? left : 0;
}

int64_t cm_ca_note_pause_left_s(const struct cm_ca_note *n, int64_t now_s)
{
    return left_s(n->paused_until_s, n->updated_s, now_s, CM_CA_PAUSE_MAX_S);
}

int64_t cm_ca_note_probe_left_s(const struct cm_ca_note *n, int64_t now_s)
{
    return left_s(n->next_probe_s, n->updated_s, now_s, CM_CA_PROBE_MAX_S);
}

/* ---- reading ---- */

static bool parse(struct json_object *o, struct cm_ca_note *n)
{
    return cm_record_get_time(o, "paused_until", &n->paused_until_s) &&
           cm_record_get_time(o, "open_since", &n->open_since_s) &&
           cm_record_get_time(o, "next_probe", &n->next_probe_s) &&
           cm_record_get_time(o, "updated", &n->updated_s) && n->updated_s > 0 &&
           cm_record_get_number(o, "failures", &n->failures) &&
           cm_record_get_text(o, "reason", n->reason, sizeof n->reason);
}

cm_status cm_ca_note_load(struct cm_config *cfg, const struct cm_op *op, const char *issuer_key,
                          struct cm_ca_note *ret, struct cm_err *err)
{
    struct json_object *o = NULL;
    char key[CM_KEY_BUF];
    struct cm_ca_note n;

    memset(&n, 0, sizeof n);
    cm_status rc = path_of(issuer_key, key, err);
    if (rc == CM_OK)
        rc = cm_record_load(cfg, op, key, &o, err);
    if (rc == CM_OK && !parse(o, &n)) {
        rc = cm_record_is_damaged(cfg, key, "it lacks something or has it in a wrong form", err);
        memset(&n, 0, sizeof n);
    }
    (void)json_object_put(o);
    if (rc != CM_OK && rc != CM_E_NOTFOUND)
        return rc;
    *ret = n;
    return CM_OK;
}

cm_status cm_ca_state_load(struct cm_config *cfg, const struct cm_op *op, const char *issuer_key,
                           struct cm_ca_state *ret, struct cm_err *err)
{
    int64_t now_s = cm_env_wall_s(cfg->env);
    struct cm_ca_note n;

    cm_status rc = cm_ca_note_load(cfg, op, issuer_key, &n, err);
    if (rc != CM_OK)
        return rc;
    int64_t pause_s = cm_ca_note_pause_left_s(&n, now_s);
    if (pause_s == 0 && n.open_since_s == 0)
        return cm_fail(err, CM_E_NOTFOUND, "nothing bad is known of '%s'", issuer_key);
    memset(ret, 0, sizeof *ret);
    ret->paused_until_s = pause_s > 0 ? now_s + pause_s : 0;
    if (n.open_since_s != 0) {
        ret->open_since_s = n.open_since_s < now_s ? n.open_since_s : now_s;
        ret->next_probe_s = now_s + cm_ca_note_probe_left_s(&n, now_s);
        ret->failures = n.failures;
    }
    memcpy(ret->reason, n.reason, sizeof ret->reason);
    return CM_OK;
}

/* ---- writing ---- */

static void format(const struct cm_ca_note *n, struct cm_record *rec)
{
    cm_record_begin(rec);
    cm_record_time(rec, "paused_until", n->paused_until_s);
    cm_record_time(rec, "open_since", n->open_since_s);
    cm_record_time(rec, "next_probe", n->next_probe_s);
    cm_record_number(rec, "failures", n->failures);
    cm_record_text(rec, "reason", n->reason);
    cm_record_time(rec, "updated", n->updated_s);
}

cm_status cm_ca_note_store(struct cm_config *cfg, const struct cm_op *op, const char *issuer_key,
                           const struct cm_ca_note *n)
{
    struct cm_record rec;
    char key[CM_KEY_BUF];

    cm_status rc = path_of(issuer_key, key, NULL);
    if (rc != CM_OK)
        return rc;
    if (n->updated_s == 0)
        return cm_record_remove(cfg, op, key, NULL);
    format(n, &rec);
    return cm_record_store(cfg, op, key, &rec, NULL);
}

/* ---- the probe ---- */

/* Under the lease: is it still as it was when the probe seemed due, or due by what is there now? */
static cm_status claim(struct cm_config *cfg, const struct cm_op *op, struct cm_lease *lease,
                       const char *issuer_key, const struct cm_ca_note *seen, struct cm_ca_note *io,
                       bool *ret_mine, struct cm_err *err)
{
    struct cm_ca_note stored;
    struct cm_record rec;
    char key[CM_KEY_BUF];

    cm_status rc = cm_ca_note_load(cfg, op, issuer_key, &stored, err);
    if (rc == CM_OK)
        rc = path_of(issuer_key, key, err);
    if (rc != CM_OK)
        return rc;
    if (!cm_ca_note_equal(&stored, seen) &&
        (stored.open_since_s == 0 || cm_ca_note_probe_left_s(&stored, io->updated_s) > 0)) {
        *io = stored;
        *ret_mine = false;
        return CM_OK;
    }
    format(io, &rec);
    rc = cm_record_commit(lease, op, key, &rec, err);
    if (rc == CM_OK)
        *ret_mine = true;
    return rc;
}

cm_status cm_ca_note_claim(struct cm_config *cfg, const struct cm_op *op, const char *issuer_key,
                           const struct cm_ca_note *seen, struct cm_ca_note *io, bool *ret_mine,
                           struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf name = CM_BUF_INIT(CM_LOCK_NAME_MAX);
    struct cm_lease_options lo = CM_LEASE_OPTIONS_INIT;
    struct cm_op own = cm_record_op(cfg, op);
    struct cm_lease *lease = NULL;

    lo.try_only = true;
    lo.log = cfg->log;
    cm_status rc = cm_buf_puts(&name, "ca_", err);
    if (rc == CM_OK)
        rc = cm_safe_name(issuer_key, &name, err);
    if (rc == CM_OK)
        rc = cm_lease_acquire(cfg->storage, &own, cm_buf_str(&name), &lo, &lease, err);
    if (rc != CM_OK)
        return rc;
    rc = claim(cfg, &own, lease, issuer_key, seen, io, ret_mine, err);
    cm_lease_release(lease);
    return rc;
}

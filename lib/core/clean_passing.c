/* SPDX-License-Identifier: Apache-2.0 */
#include "clean.h"

#include <string.h>

/* What was meant to be of use for moments or days, and outlived that: answers to challenges, what
 * certmagic's self-test of storage leaves behind when it crashes, staples. */

#define STAPLE_DIR "ocsp"
#define STAPLE_MAX (1024u * 1024) /* what peers accept from a responder */
#define NO_NEXT_S  (12 * 3600)    /* a response without an end is good for that long */
#define CLOCKS_S   3600           /* by which clocks of hosts may differ */

static bool is_digits(const char *s)
{
    return *s != '\0' && s[strspn(s, "0123456789")] == '\0';
}

/* ---- challenge tokens ---- */

static cm_status clean_token_dir(struct cm_sweep *w, const char *dir, struct cm_err *err)
{
    struct cm_children tokens;

    cm_status rc = cm_children_list(w->cfg, w->op, dir, &tokens, err);
    if (rc != CM_OK)
        return rc;
    for (size_t i = 0; i < tokens.n && rc == CM_OK; i++) {
        CM_AUTO_FREE char *key = cm_asprintf("%s/%s", dir, tokens.at[i].name);

        if (key == NULL)
            rc = cm_fail_nomem(err);
        else if (tokens.at[i].terminal)
            rc = cm_sweep_aged(w, key, tokens.at[i].modified_ns, CM_CLEAN_PASSING_S,
                               "challenge long over", err);
    }
    cm_children_free(&tokens);
    return rc;
}

static cm_status clean_tokens(struct cm_sweep *w, struct cm_err *err)
{
    struct cm_children cas;

    cm_status rc = cm_children_list(w->cfg, w->op, "acme", &cas, err);
    if (rc != CM_OK)
        return rc;
    for (size_t i = 0; i < cas.n && rc == CM_OK; i++) {
        CM_AUTO_FREE char *dir = cm_asprintf("acme/%s/challenge_tokens", cas.at[i].name);

        if (dir == NULL)
            rc = cm_fail_nomem(err);
        else if (!cas.at[i].terminal)
            rc = clean_token_dir(w, dir, err);
    }
    cm_children_free(&cas);
    return rc == CM_OK ? clean_token_dir(w, "zerossl/challenge_tokens", err) : rc;
}

/* ---- self-tests ---- */

static bool is_self_test(const struct cm_child *at)
{
    static const char prefix[] = "rw_test_";
    size_t n = sizeof prefix - 1;

    return at->terminal && strncmp(at->name, prefix, n) == 0 && is_digits(at->name + n);
}

static cm_status clean_self_tests(struct cm_sweep *w, struct cm_err *err)
{
    struct cm_children top;

    cm_status rc = cm_children_list(w->cfg, w->op, "", &top, err);
    if (rc != CM_OK)
        return rc;
    for (size_t i = 0; i < top.n && rc == CM_OK; i++)
        if (is_self_test(&top.at[i]))
            rc = cm_sweep_aged(w, top.at[i].name, top.at[i].modified_ns, CM_CLEAN_PASSING_S,
                               "left by a self-test", err);
    cm_children_free(&top);
    return rc;
}

cm_status cm_sweep_passing(struct cm_sweep *w, struct cm_err *err)
{
    cm_status rc = clean_tokens(w, err);

    return rc == CM_OK ? clean_self_tests(w, err) : rc;
}

/* ---- staples ---- */

/* Why the staple should go; NULL: it should not. */
static const char *why_not(const struct cm_sweep *w, struct cm_span der)
{
    struct cm_ocsp_peek p;
    int64_t end_s;

    if (!cm_ocsp_peek(der, &p))
        return "no OCSP response";
    end_s = p.next_update_s != 0 ? p.next_update_s : p.this_update_s + NO_NEXT_S;
    return end_s + CLOCKS_S < w->now_s ? "expired staple" : NULL;
}

static cm_status clean_staple(struct cm_sweep *w, const char *key, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf der = CM_BUF_INIT(STAPLE_MAX);
    struct cm_err why = CM_ERR_INIT;
    const char *reason = NULL;

    cm_status rc = cm_storage_load(w->cfg->storage, w->op, key, &der, &why);
    if (rc == CM_E_NOTFOUND)
        return CM_OK;
    w->report.examined++;
    if (rc == CM_OK)
        reason = why_not(w, cm_buf_span(&der));
    if (reason != NULL)
        rc = cm_sweep_remove(w, key, reason, &why);
    return rc == CM_OK ? rc : cm_sweep_skip(w, key, rc, &why, err);
}

/* Peers with file storage write here under a name of digits, or with a dot, before they rename; to
 * take that away would make them fail. */
static cm_status clean_in_staples(struct cm_sweep *w, const struct cm_child *at, struct cm_err *err)
{
    CM_AUTO_FREE char *key = cm_asprintf(STAPLE_DIR "/%s", at->name);

    if (key == NULL)
        return cm_fail_nomem(err);
    if (!at->terminal || at->name[0] == '.')
        return CM_OK;
    if (is_digits(at->name))
        return cm_sweep_aged(w, key, at->modified_ns, CM_CLEAN_DAY_S, "left by a crash", err);
    return clean_staple(w, key, err);
}

cm_status cm_sweep_staples(struct cm_sweep *w, struct cm_err *err)
{
    struct cm_children names;

    cm_status rc = cm_children_list(w->cfg, w->op, STAPLE_DIR, &names, err);
    if (rc != CM_OK)
        return rc;
    for (size_t i = 0; i < names.n && rc == CM_OK; i++) {
        rc = cm_op_check(w->op, err);
        if (rc == CM_OK)
            rc = clean_in_staples(w, &names.at[i], err);
    }
    cm_children_free(&names);
    return rc;
}

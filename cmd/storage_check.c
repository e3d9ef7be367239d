/* SPDX-License-Identifier: Apache-2.0 */
#include "storage.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* `certmesh storage check`: what is damaged, what lies where nobody looks, what is left over. Each
 * finding names the object, what is wrong, and what to do. */

#define ASIDE     "certmesh/damaged"
#define PARTS_MAX 16u
#define HALF_NS   (300 * CM_NS_PER_MS) /* a peer stores one half and then the other */

struct check {
    struct cli *c;
    struct cm_storage *st;
    const struct cm_op *op;
    struct cm_config *cfg;
    struct cli_json json;
    struct cm_buf value;
    const char *kind; /* of what is found now */
    uint64_t looked, found, repaired, left;
};

static void tell(struct check *k, const char *key, const char *what, bool repaired)
{
    char text[CM_STORAGE_KEY_MAX + 1], words[640];

    k->found++;
    k->repaired += repaired;
    if (k->c->o.json) {
        cli_json_open(&k->json, NULL, '{');
        cli_json_text(&k->json, "kind", k->kind);
        cli_json_text(&k->json, "key", key);
        cli_json_text(&k->json, "what", what);
        cli_json_bool(&k->json, "repaired", repaired);
        cli_json_close(&k->json, '}');
        return;
    }
    printf("%-9s %s: %s%s\n", k->kind,
           cli_printable(key != NULL ? key : cm_storage_describe(k->st), text, sizeof text),
           cli_printable(what, words, sizeof words), repaired ? " (done)" : "");
}

static void tell_backend(void *user, const char *key, const char *what, bool repaired)
{
    tell(user, key, what, repaired);
}

/* -------------------------------------------------------------- certificates */

struct parts {
    struct check *k;
    char keys[PARTS_MAX][CM_STORAGE_KEY_MAX + 1];
    size_t n;
};

static cm_status part_one(void *user, const struct cm_key_info *info, struct cm_err *err)
{
    struct parts *p = user;

    if (p->n == PARTS_MAX)
        return cm_fail(err, CM_E_LIMIT, "too many values lie there");
    (void)snprintf(p->keys[p->n++], sizeof p->keys[0], "%s", info->key);
    return CM_OK;
}

static cm_status still(void *user, const struct cm_stored_cert *sc, struct cm_err *err)
{
    (void)err;
    *(bool *)user = sc->problem != NULL;
    return CM_OK;
}

/* Everything in the directory at once, under the lock of whoever would replace it, to where nobody
 * reads it. *ret_damaged: it still is, now that nobody else can be at it. */
static cm_status put_aside(struct check *k, const char *dir, const struct cm_stored_cert *sc,
                           bool *ret_damaged, struct cm_err *err)
{
    const struct cm_span none = { NULL, 0 };
    struct cm_commit_item items[2 * PARTS_MAX];
    struct cm_buf values[PARTS_MAX];
    char to[PARTS_MAX][CM_STORAGE_KEY_MAX + sizeof ASIDE + 1];
    struct parts p = { .k = k };
    struct cm_lease *lease = NULL;
    size_t n = 0;
    cm_status rc = cli_site_lock(k->st, k->op, dir, none, none, &lease, err);

    if (rc == CM_OK)
        rc = cm_storage_cert(k->cfg, k->op, sc->issuer_key, sc->name, still, ret_damaged, err);
    if (rc == CM_OK && *ret_damaged)
        rc = cm_storage_list(k->st, k->op, dir, true, part_one, &p, err);
    for (size_t i = 0; i < p.n && rc == CM_OK; i++) {
        (void)snprintf(to[i], sizeof to[i], ASIDE "/%s", p.keys[i]);
        values[i] = (struct cm_buf)CM_BUF_SECRET(CM_STORAGE_VALUE_MAX);
        n = i + 1;
        rc = cm_storage_load(k->st, k->op, p.keys[i], &values[i], err);
        items[2 * i] = (struct cm_commit_item){ to[i], cm_buf_span(&values[i]), false };
        items[2 * i + 1] = (struct cm_commit_item){ .key = p.keys[i], .remove = true };
    }
    if (rc == CM_OK && n > 0)
        rc = cm_lease_commit(lease, k->op, items, 2 * n, err);
    for (size_t i = 0; i < n; i++)
        cm_buf_free(&values[i]);
    cm_lease_release(lease);
    return rc;
}

static cm_status check_cert(void *user, const struct cm_stored_cert *sc, struct cm_err *err)
{
    struct check *k = user;
    struct cm_err why = CM_ERR_INIT;
    char dir[CM_STORAGE_KEY_MAX + 1], what[900];
    bool repaired = false;
    bool damaged = true;

    if (sc->problem == NULL)
        return CM_OK;
    k->kind = "damaged";
    (void)snprintf(dir, sizeof dir, "certificates/%s/%s", sc->issuer_key, sc->name);
    if (k->c->o.repair) {
        repaired = put_aside(k, dir, sc, &damaged, &why) == CM_OK;
        if (!damaged) /* somebody has put a good one there meanwhile */
            return CM_OK;
        if (repaired)
            (void)snprintf(what, sizeof what, "%.400s; put aside to " ASIDE "/%.300s", sc->problem,
                           dir);
        else
            (void)snprintf(what, sizeof what, "%.400s; not put aside: %.300s", sc->problem,
                           why.msg);
    } else {
        (void)snprintf(what, sizeof what,
                       "%.400s; whoever serves or renews it gets a new one, --repair puts it aside",
                       sc->problem);
    }
    tell(k, dir, what, repaired);
    return cm_op_check(k->op, err);
}

/* -------------------------------------------------------------------- values */

static bool starts_with(const char *s, const char *head)
{
    return strncmp(s, head, strlen(head)) == 0;
}

static bool ends_with(const char *s, const char *tail)
{
    size_t len = strlen(s), n = strlen(tail);

    return len >= n && strcmp(s + len - n, tail) == 0;
}

/* certificates/ISSUER/NAME/NAME.EXT, and nothing else, is looked for. */
static bool is_part_of_site(const char *key)
{
    static const char *const endings[] = { ".crt", ".key", ".json", ".key.compromised" };
    size_t site = cli_site_len(key);
    const char *file = key + site + 1;
    const char *name = NULL;
    size_t name_len = 0;

    if (site == 0)
        return false;
    name = memrchr(key, '/', site);
    if (name == NULL)
        return false;
    name++;
    name_len = (size_t)(key + site - name);
    if (strncmp(file, name, name_len) != 0)
        return false;
    for (size_t i = 0; i < sizeof endings / sizeof endings[0]; i++)
        if (strcmp(file + name_len, endings[i]) == 0)
            return true;
    return false;
}

static bool is_json(const char *key)
{
    return (ends_with(key, ".json") &&
            (starts_with(key, "certificates/") || starts_with(key, "acme/"))) ||
           strcmp(key, "last_clean.json") == 0 || starts_with(key, "certmesh/retry/") ||
           starts_with(key, "certmesh/gates/");
}

/* Of an account acme/CA/users/EMAIL/NAME.json and .key, the one is of no use without the other; nor
 * is, for CertMagic, a certificate without its metadata. */
static void check_other_half(struct check *k, const char *key)
{
    const struct {
        const char *head, *middle, *has, *lacks, *what;
    } pairs[] = {
        { "acme/", "/users/", ".json", ".key",
          "the key of this account is not there, so it is of no use: bring it back from a copy, or "
          "remove this; the next order makes a new account" },
        { "acme/", "/users/", ".key", ".json",
          "this key is without its account, which counts as none: bring it back from a copy, or "
          "remove this; the next order makes a new account" },
        { "certificates/", "/", ".crt", ".json",
          "its metadata is not there, so CertMagic does not load it; the next renewal writes it" },
        { "certificates/", "/", ".json", ".crt",
          "this metadata is without its certificate: whoever needs one gets a new one" },
    };

    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        char other[CM_STORAGE_KEY_MAX + 8];
        struct cm_key_info info;

        if (!starts_with(key, pairs[i].head) || strstr(key, pairs[i].middle) == NULL ||
            !ends_with(key, pairs[i].has))
            continue;
        (void)snprintf(other, sizeof other, "%.*s%s", (int)(strlen(key) - strlen(pairs[i].has)),
                       key, pairs[i].lacks);
        /* it may be between the two: looked at once more, the other way round */
        if (cm_storage_stat(k->st, k->op, other, &info, NULL) != CM_E_NOTFOUND ||
            cm_op_wait(k->op, HALF_NS, NULL) != CM_OK ||
            cm_storage_stat(k->st, k->op, other, &info, NULL) != CM_E_NOTFOUND ||
            cm_storage_stat(k->st, k->op, key, &info, NULL) != CM_OK)
            continue;
        k->kind = "orphan";
        tell(k, key, pairs[i].what, false);
    }
}

static cm_status check_value(void *user, const struct cm_key_info *info, struct cm_err *err)
{
    struct check *k = user;
    struct cm_err why = CM_ERR_INIT;
    cm_status rc;

    if (++k->looked % 500 == 0)
        cli_ui_count("%" PRIu64 " values, %" PRIu64 " findings", k->looked, k->found);
    if (starts_with(info->key, "certificates/") && !is_part_of_site(info->key)) {
        k->kind = "misplaced";
        tell(k, info->key,
             "nobody looks for it there: a part of a certificate is called as its directory, with "
             ".crt, .key or .json; move it away",
             false);
    }
    if (!starts_with(info->key, "certificates/") || is_part_of_site(info->key))
        check_other_half(k, info->key);
    if (!is_json(info->key))
        return CM_OK;
    cm_buf_reset(&k->value);
    rc = cm_storage_load(k->st, k->op, info->key, &k->value, &why);
    if (rc == CM_E_NOTFOUND)
        return CM_OK;
    k->kind = "damaged";
    if (rc != CM_OK && cm_op_check(k->op, err) != CM_OK)
        return err != NULL ? err->status : rc;
    if (rc != CM_OK)
        tell(k, info->key, why.msg, false);
    else if (!cli_json_valid(cm_buf_span(&k->value)))
        tell(k, info->key,
             "no valid JSON; it is written anew by the next one who has to, and counts as absent "
             "until then",
             false);
    return CM_OK;
}

/* ----------------------------------------------------------------- left over */

static void left_over(void *user, const char *key, const char *why)
{
    struct check *k = user;
    char what[256];

    (void)snprintf(what, sizeof what, "%s; %s", why,
                   k->c->o.repair ? "removed" : "certmesh clean or --repair removes it");
    k->left++;
    tell(k, key, what, k->c->o.repair);
}

static cm_status check_left_over(struct check *k, struct cm_err *err)
{
    struct cm_clean_options o = { .size = (uint32_t)sizeof o };
    struct cm_clean_report report = { .size = (uint32_t)sizeof report };

    k->kind = "left over";
    o.dry_run = !k->c->o.repair;
    o.each = left_over;
    o.user = k;
    return cm_storage_clean(k->cfg, k->op, &o, &report, err);
}

/* ----------------------------------------------------------------------- all */

/* The storage itself first: what it puts right can be listed then. */
static cm_status check_all(struct check *k, struct cm_err *err)
{
    cm_status rc;

    k->kind = "storage";
    rc = cm_storage_check(k->st, k->op, k->c->o.repair, tell_backend, k, err);
    if (rc == CM_OK || rc == CM_E_UNSUPPORTED)
        rc = cm_storage_list(k->st, k->op, "", true, check_value, k, err);
    if (rc == CM_OK)
        rc = cm_storage_certs(k->cfg, k->op, check_cert, k, err);
    return rc == CM_OK ? check_left_over(k, err) : rc;
}

static void open_json(struct check *k)
{
    cli_json_start(&k->json, stdout);
    cli_json_open(&k->json, NULL, '{');
    cli_json_text(&k->json, "storage", cm_storage_describe(k->st));
    cli_json_open(&k->json, "findings", '[');
}

static void close_json(struct check *k, const struct cm_err *err)
{
    cli_json_close(&k->json, ']');
    cli_json_int(&k->json, "n_values", (int64_t)k->looked);
    cli_json_int(&k->json, "n_found", (int64_t)k->found);
    cli_json_int(&k->json, "n_repaired", (int64_t)k->repaired);
    if (err != NULL)
        cli_json_err(&k->json, "error", err);
    cli_json_close(&k->json, '}');
    cli_json_finish(&k->json);
}

int cli_storage_check(struct cli *c, struct cm_storage *st, const struct cm_op *op)
{
    struct check k = { .c = c, .st = st, .op = op, .value = CM_BUF_SECRET(CM_STORAGE_VALUE_MAX) };
    struct cm_config_options o = CM_CONFIG_OPTIONS_INIT;
    struct cm_err err = CM_ERR_INIT;
    cm_status rc;

    o.storage_object = st;
    o.internal = true; /* no CA is asked for anything */
    o.log = cli_log(c);
    rc = cm_config_new(&o, &k.cfg, &err);
    if (rc == CM_OK) {
        if (c->o.json)
            open_json(&k);
        rc = check_all(&k, &err);
        cli_ui_count("%s", "");
        if (c->o.json)
            close_json(&k, rc != CM_OK ? &err : NULL);
        else if (!c->o.quiet)
            printf("%" PRIu64 " values, %" PRIu64 " findings, %" PRIu64 " repaired\n", k.looked,
                   k.found, k.repaired);
    }
    cm_config_free(k.cfg);
    cm_buf_free(&k.value);
    if (rc != CM_OK)
        return cli_storage_fail(c, NULL, &err);
    /* what cleaning removes in time is nothing that anybody has to look at */
    return k.found - k.repaired > (c->o.repair ? 0 : k.left) ? CLI_FAILED : CLI_OK;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd.h"

#include <stdlib.h>
#include <string.h>

#define WILDCARD_DIR "wildcard_."

struct collector {
    struct cli_stored_list *list;
    const char *const *names;
    char (*normal)[256];
    size_t n;
};

static bool matches(const struct collector *k, const struct cm_stored_cert *sc)
{
    for (size_t i = 0; i < k->n; i++) {
        if (strcmp(k->names[i], sc->name) == 0 || strcmp(k->normal[i], sc->name) == 0)
            return true;
        for (size_t s = 0; sc->cert != NULL && s < cm_cert_name_count(sc->cert); s++)
            if (strcmp(k->normal[i], cm_cert_name(sc->cert, s)) == 0)
                return true;
    }
    return k->n == 0;
}

static cm_status collect_one(void *user, const struct cm_stored_cert *sc, struct cm_err *err)
{
    struct collector *k = user;
    struct cli_stored_list *list = k->list;
    struct cli_stored *s = NULL;

    if (!matches(k, sc))
        return CM_OK;
    if (list->n == list->cap) {
        size_t cap = list->cap == 0 ? 32 : list->cap * 2;
        struct cli_stored *items = realloc(list->items, cap * sizeof *items);

        if (items == NULL)
            return cm_fail(err, CM_E_NOMEM, "out of memory");
        list->items = items;
        list->cap = cap;
    }
    s = &list->items[list->n++];
    memset(s, 0, sizeof *s);
    s->dir = strdup(sc->name);
    s->issuer_key = strdup(sc->issuer_key);
    s->cert = cm_cert_ref(sc->cert);
    if (sc->problem != NULL)
        s->problem = strdup(sc->problem);
    if (s->dir == NULL || s->issuer_key == NULL || (sc->problem != NULL && s->problem == NULL))
        return cm_fail(err, CM_E_NOMEM, "out of memory");
    return CM_OK;
}

static int by_name(const void *a, const void *b)
{
    const struct cli_stored *x = a, *y = b;
    int order = strcmp(x->dir, y->dir);
    int64_t nx = x->cert != NULL ? cm_cert_not_before_s(x->cert) : INT64_MIN;
    int64_t ny = y->cert != NULL ? cm_cert_not_before_s(y->cert) : INT64_MIN;

    return order != 0 ? order : nx < ny ? 1 : nx > ny ? -1 : strcmp(x->issuer_key, y->issuer_key);
}

cm_status cli_stored_collect(struct cli *c, const struct cm_op *op, const char *const *names,
                             size_t n, struct cli_stored_list *ret, struct cm_err *err)
{
    struct collector k = { ret, names, NULL, n };
    cm_status rc = CM_OK;

    memset(ret, 0, sizeof *ret);
    k.normal = calloc(n + 1, sizeof *k.normal);
    if (k.normal == NULL)
        return cm_fail(err, CM_E_NOMEM, "out of memory");
    for (size_t i = 0; i < n; i++)
        if (cm_normalize_name(names[i], k.normal[i], NULL) != CM_OK)
            k.normal[i][0] = '\0'; /* then it can only be a directory as list shows it */
    rc = cm_storage_certs(c->cfg, op, collect_one, &k, err);
    free(k.normal);
    if (rc != CM_OK) {
        cli_stored_free(ret);
        return rc;
    }
    if (ret->n > 1)
        qsort(ret->items, ret->n, sizeof *ret->items, by_name);
    return CM_OK;
}

void cli_stored_free(struct cli_stored_list *list)
{
    for (size_t i = 0; i < list->n; i++) {
        cm_cert_unref(list->items[i].cert);
        free(list->items[i].dir);
        free(list->items[i].issuer_key);
        free(list->items[i].problem);
    }
    free(list->items);
    memset(list, 0, sizeof *list);
}

const char *cli_stored_name(const struct cli_stored *s, char *out, size_t out_size)
{
    size_t n = s->cert != NULL ? cm_cert_name_count(s->cert) : 0;
    char first[256];

    if (n > 0) {
        (void)cli_printable(cm_cert_name(s->cert, 0), first, sizeof first);
        if (n > 1)
            (void)snprintf(out, out_size, "%s +%zu", first, n - 1);
        else
            (void)snprintf(out, out_size, "%s", first);
    } else if (strncmp(s->dir, WILDCARD_DIR, strlen(WILDCARD_DIR)) == 0) {
        (void)cli_printable(s->dir + strlen(WILDCARD_DIR) - 1, first, sizeof first);
        (void)snprintf(out, out_size, "*%s", first);
    } else {
        (void)cli_printable(s->dir, out, out_size);
    }
    return out;
}

static const char *stored_key(struct cm_issuer *is)
{
    const char *prefix = cm_issuer_challenge_prefix(is, 0);

    /* the prefix of the challenge tokens ends in the stored form of the issuer's key */
    if (prefix != NULL && strrchr(prefix, '/') != NULL)
        return strrchr(prefix, '/') + 1;
    return cm_issuer_key(is);
}

bool cli_stored_is_ours(const struct cli *c, const struct cli_stored *s)
{
    struct cm_issuer *is = NULL;

    for (size_t i = 0; (is = cm_config_issuer(c->cfg, i)) != NULL; i++)
        if (strcmp(stored_key(is), s->issuer_key) == 0)
            return true;
    return false;
}

void cli_say_where_else(struct cli *c, const char *name)
{
    struct cli_stored_list list;
    struct cm_op op = cli_op(c, 10);

    if (cli_stored_collect(c, &op, &name, 1, &list, NULL) != CM_OK)
        return;
    for (size_t i = 0; i < list.n; i++) {
        char label[128];

        (void)cli_issuer_label(list.items[i].issuer_key, label, sizeof label);
        if (!cli_stored_is_ours(c, &list.items[i]))
            cli_complain("  Storage has one issued by '%s'; name that CA with --ca.", label);
        else if (list.items[i].problem != NULL)
            cli_complain("  Storage has one that cannot be used: %s", list.items[i].problem);
    }
    cli_stored_free(&list);
}

void cli_stored_json(struct cli *c, struct cli_json *j, const struct cli_stored *s)
{
    cli_json_text(j, "name", s->dir);
    cli_json_text(j, "issuer_key", s->issuer_key);
    if (s->cert != NULL) {
        int64_t renew = cm_cert_renew_at_s(s->cert, c->cfg);

        cli_json_open(j, "names", '[');
        for (size_t i = 0; i < cm_cert_name_count(s->cert); i++)
            cli_json_text(j, NULL, cm_cert_name(s->cert, i));
        cli_json_close(j, ']');
        cli_json_text(j, "issuer_cn", cm_cert_issuer_cn(s->cert));
        cli_json_text(j, "serial", cm_cert_serial(s->cert));
        cli_json_text(j, "key_type", cm_key_type_name(cm_cert_key_type(s->cert)));
        cli_json_time(j, "not_before", cm_cert_not_before_s(s->cert));
        cli_json_time(j, "not_after", cm_cert_not_after_s(s->cert));
        cli_json_time(j, "renew_at", renew);
        cli_json_bool(j, "due", renew <= cli_now_s());
        cli_json_bool(j, "expired", cm_cert_not_after_s(s->cert) < cli_now_s());
    }
    cli_json_text(j, "problem", s->problem);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "seal.h"

#include <stdio.h>
#include <string.h>

/* Reading what is in a sealed storage, and the check: all that the storage inside finds, and then
 * each value, whether it can be opened and with which key. */

cm_status seal_read(const struct seal_place *p, const char *key, struct cm_span stored,
                    struct cm_buf *out, struct cm_err *err)
{
    if (seal_is_sealed(stored))
        return seal_open(p->keys, key, stored, out, err);
    if (p->refuse_plain)
        return cm_fail(err, CM_E_PERM,
                       "the value at '%s' is not sealed, and plain=refuse is set: somebody put it "
                       "there who has no storage key",
                       key);
    return cm_buf_append(out, stored.data, stored.len, err);
}

#define CHECK_KEYS 64u

/* What is sealed with a key that only opens; the last one: with none at all. */
struct behind {
    char id[SEAL_ID_MAX + 1];
    char key[CM_STORAGE_KEY_MAX + 1]; /* the first one of them */
    uint64_t n;
};

struct check {
    const struct seal_place *place;
    const struct cm_op *op;
    cm_check_fn each;
    void *user;
    char (*keys)[CM_STORAGE_KEY_MAX + 1]; /* CHECK_KEYS of them */
    size_t n;
    struct cm_buf plain;
    struct behind behind[SEAL_KEYS_MAX + 1];
    size_t n_behind;
};

static void note_behind(struct check *c, const char *id, const char *key)
{
    size_t i = 0;

    while (i < c->n_behind && strcmp(c->behind[i].id, id) != 0)
        i++;
    if (i == CM_ARRAY_LEN(c->behind))
        return;
    if (i == c->n_behind) {
        (void)snprintf(c->behind[i].id, sizeof c->behind[i].id, "%s", id);
        (void)snprintf(c->behind[i].key, sizeof c->behind[i].key, "%s", key);
        c->n_behind++;
    }
    c->behind[i].n++;
}

static cm_status check_one(void *user, size_t index, cm_status status, struct cm_span value,
                           const struct cm_err *why, struct cm_err *err)
{
    struct check *c = user;
    const char *key = c->keys[index];
    struct cm_err own = CM_ERR_INIT;
    char id[SEAL_ID_MAX + 1] = "";
    char what[640];

    if (status == CM_E_NOTFOUND)
        return CM_OK;
    if (status != CM_OK) { /* the storage inside tells of it, if it can tell of anything */
        (void)snprintf(what, sizeof what, "it cannot be loaded: %.500s", why->msg);
        c->each(c->user, key, what, false);
        return cm_op_check(c->op, err);
    }
    cm_buf_reset(&c->plain);
    status = seal_read(c->place, key, value, &c->plain, &own);
    if (status == CM_E_NOMEM)
        return cm_fail_nomem(err);
    if (status != CM_OK) {
        (void)snprintf(what, sizeof what,
                       "%.500s; name the key that it was sealed with, or bring the value back from "
                       "a copy",
                       own.msg);
        c->each(c->user, key, what, false);
    } else if (!seal_is_sealed(value)) {
        note_behind(c, "", key);
    } else if (!seal_is_current(c->place->keys, value)) {
        memcpy(id, value.data + strlen(SEAL_MAGIC), SEAL_ID_MAX);
        note_behind(c, id, key);
    }
    return cm_op_check(c->op, err);
}

static cm_status check_some(struct check *c, struct cm_err *err)
{
    const char *keys[CHECK_KEYS];
    size_t n = c->n;

    for (size_t i = 0; i < n; i++)
        keys[i] = c->keys[i];
    c->n = 0;
    return cm_storage_load_many(c->place->inner, c->op, keys, n, check_one, c, err);
}

static cm_status check_listed(void *user, const struct cm_key_info *info, struct cm_err *err)
{
    struct check *c = user;

    (void)snprintf(c->keys[c->n++], sizeof c->keys[0], "%s", info->key);
    return c->n == CHECK_KEYS ? check_some(c, err) : CM_OK;
}

/* One finding for each key: after a new one was put first there are as many values as there are. */
static void tell_behind(const struct check *c)
{
    char what[400];

    for (size_t i = 0; i < c->n_behind; i++) {
        const struct behind *b = &c->behind[i];

        if (b->id[0] == '\0')
            (void)snprintf(what, sizeof what,
                           "this and %llu other values are not sealed: certmesh storage reseal "
                           "seals them",
                           (unsigned long long)b->n - 1);
        else
            (void)snprintf(what, sizeof what,
                           "this and %llu other values are sealed with the old key '%s', which has "
                           "to stay until certmesh storage reseal has exchanged it",
                           (unsigned long long)b->n - 1, b->id);
        c->each(c->user, b->key, what, false);
    }
}

cm_status seal_check(const struct seal_place *place, const struct cm_op *op, bool repair,
                     cm_check_fn each, void *user, struct cm_err *err)
{
    struct check *c = cm_calloc(1, sizeof *c);
    cm_status rc;

    if (c == NULL)
        return cm_fail_nomem(err);
    *c = (struct check){ .place = place, .op = op, .each = each, .user = user };
    c->plain = (struct cm_buf)CM_BUF_SECRET(CM_STORAGE_VALUE_MAX);
    c->keys = cm_calloc(CHECK_KEYS, sizeof *c->keys);
    rc = c->keys != NULL ? cm_storage_check(place->inner, op, repair, each, user, err)
                         : cm_fail_nomem(err);
    if (rc == CM_OK || rc == CM_E_UNSUPPORTED)
        rc = cm_storage_list(place->inner, op, "", true, check_listed, c, err);
    if (rc == CM_OK && c->n > 0)
        rc = check_some(c, err);
    if (rc == CM_OK)
        tell_behind(c);
    cm_buf_free(&c->plain);
    free(c->keys);
    free(c);
    return rc;
}

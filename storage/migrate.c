/* SPDX-License-Identifier: Apache-2.0 */
#include "storage.h"

#include <string.h>

/* Two storages as one, for a fleet that moves from one to the other while it works; how it is used
 * is told in docs/migration.md.
 *
 * One of the two is read, and what it says of a change decides: the old one as long as nodes use
 * that alone, the new one (read=to) later. The other one gets every change after it. When that
 * fails the log says so, and `certmesh storage migrate` copies it once more. A lock is only held
 * while it is held in both, the old one first: so nodes that use either alone are kept out, too. */

#define MARK         "certmesh/migration"
#define MARK_BEGUN   "begun"
#define MARK_EQUAL   "equal"
#define OPEN_WAIT_NS (30 * CM_NS_PER_S)

struct migrate {
    struct cm_storage base;
    struct cm_storage *from;
    struct cm_storage *to;
    struct cm_storage *first;  /* is read, and decides */
    struct cm_storage *second; /* follows */
    struct cm_log log;
    char *url;
};

/* Behind cm_grant.state; never changes after the grant but by the backends' own refresh. */
struct both {
    struct cm_grant from;
    struct cm_grant to;
};

static struct migrate *migrate_of(struct cm_storage *st)
{
    return CM_CONTAINER_OF(st, struct migrate, base);
}

/* ------------------------------------------------------------------ changes */

/* The change is made where it counts. */
static void follow(const struct migrate *m, const char *key, cm_status rc, const struct cm_err *why)
{
    const struct cm_log_field fields[] = { { "key", key }, { "error", why->msg } };

    if (rc != CM_OK)
        cm_logf(&m->log, CM_LOG_WARN, "migration_behind", fields, CM_ARRAY_LEN(fields),
                "%s has not got a change; run certmesh storage migrate once more before nodes are "
                "switched",
                cm_storage_describe(m->second));
}

static cm_status migrate_store(struct cm_storage *st, const struct cm_op *op, const char *key,
                               struct cm_span value, struct cm_err *err)
{
    const struct migrate *m = migrate_of(st);
    struct cm_err why = CM_ERR_INIT;
    cm_status rc = cm_storage_store(m->first, op, key, value, err);

    if (rc == CM_OK)
        follow(m, key, cm_storage_store(m->second, op, key, value, &why), &why);
    return rc;
}

static cm_status migrate_remove(struct cm_storage *st, const struct cm_op *op, const char *key,
                                struct cm_err *err)
{
    const struct migrate *m = migrate_of(st);
    struct cm_err why = CM_ERR_INIT;
    cm_status rc = cm_storage_remove(m->first, op, key, err);

    if (rc == CM_OK)
        follow(m, key, cm_storage_remove(m->second, op, key, &why), &why);
    return rc;
}

static cm_status lost(const struct cm_grant *grant, struct cm_err *err)
{
    return cm_fail(err, CM_E_LOCK_LOST, "lock '%s' (fence %llu) is not held any more", grant->name,
                   (unsigned long long)grant->fence);
}

static cm_status migrate_commit(struct cm_storage *st, const struct cm_op *op,
                                const struct cm_grant *grant, const struct cm_commit_item *items,
                                size_t n, struct cm_err *err)
{
    const struct migrate *m = migrate_of(st);
    const struct both *b = grant != NULL ? grant->state : NULL;
    const struct cm_grant *from = b != NULL ? &b->from : NULL;
    const struct cm_grant *to = b != NULL ? &b->to : NULL;
    bool old_first = m->first == m->from;
    struct cm_err why = CM_ERR_INIT;
    cm_status rc;

    if (grant != NULL && b == NULL)
        return lost(grant, err);
    rc = cm_storage_commit(m->first, op, old_first ? from : to, items, n, err);
    if (rc == CM_OK)
        follow(m, items[0].key,
               cm_storage_commit(m->second, op, old_first ? to : from, items, n, &why), &why);
    return rc;
}

/* ------------------------------------------------------------------ reading */

static cm_status migrate_load(struct cm_storage *st, const struct cm_op *op, const char *key,
                              struct cm_buf *ret, struct cm_err *err)
{
    return cm_storage_load(migrate_of(st)->first, op, key, ret, err);
}

static cm_status migrate_stat(struct cm_storage *st, const struct cm_op *op, const char *key,
                              struct cm_key_info *ret, struct cm_err *err)
{
    return cm_storage_stat(migrate_of(st)->first, op, key, ret, err);
}

static cm_status migrate_list(struct cm_storage *st, const struct cm_op *op, const char *prefix,
                              bool recursive, cm_list_fn each, void *user, struct cm_err *err)
{
    return cm_storage_list(migrate_of(st)->first, op, prefix, recursive, each, user, err);
}

static cm_status migrate_list_after(struct cm_storage *st, const struct cm_op *op,
                                    const char *prefix, const char *after, bool recursive,
                                    cm_list_fn each, void *user, struct cm_err *err)
{
    return cm_storage_list_after(migrate_of(st)->first, op, prefix, after, recursive, each, user,
                                 err);
}

static cm_status migrate_load_many(struct cm_storage *st, const struct cm_op *op,
                                   const char *const *keys, size_t n, cm_load_fn each, void *user,
                                   struct cm_err *err)
{
    return cm_storage_load_many(migrate_of(st)->first, op, keys, n, each, user, err);
}

static cm_status migrate_watch(struct cm_storage *st, cm_change_fn fn, void *user,
                               struct cm_watch **ret, struct cm_err *err)
{
    return cm_storage_watch(migrate_of(st)->first, fn, user, ret, err);
}

static void migrate_unwatch(struct cm_storage *st, struct cm_watch *watch)
{
    cm_storage_unwatch(migrate_of(st)->first, watch);
}

struct side {
    const char *name;
    cm_check_fn each;
    void *user;
};

static void tell_side(void *user, const char *key, const char *what, bool repaired)
{
    const struct side *s = user;
    CM_AUTO_FREE char *text = cm_asprintf("in %s: %s", s->name, what);

    s->each(s->user, key, text != NULL ? text : what, repaired);
}

/* Both, the one that is read first. */
static cm_status migrate_check(struct cm_storage *st, const struct cm_op *op, bool repair,
                               cm_check_fn each, void *user, struct cm_err *err)
{
    const struct migrate *m = migrate_of(st);
    struct side side = { cm_storage_describe(m->first), each, user };
    cm_status first = cm_storage_check(m->first, op, repair, tell_side, &side, err);
    cm_status second;

    if (first != CM_OK && first != CM_E_UNSUPPORTED)
        return first;
    side.name = cm_storage_describe(m->second);
    second = cm_storage_check(m->second, op, repair, tell_side, &side, err);
    return second == CM_E_UNSUPPORTED ? first : second;
}

/* -------------------------------------------------------------------- locks */

static cm_status migrate_lock_info(struct cm_storage *st, const struct cm_op *op, const char *name,
                                   struct cm_lock_info *ret, struct cm_err *err)
{
    return cm_storage_lock_info(migrate_of(st)->first, op, name, ret, err);
}

static cm_status migrate_try_lock(struct cm_storage *st, const struct cm_op *op, const char *name,
                                  int64_t ttl_ns, struct cm_grant *ret, int64_t *ret_wait_ns,
                                  struct cm_err *err)
{
    const struct migrate *m = migrate_of(st);
    struct cm_lock_info unused = { .size = (uint32_t)sizeof unused };
    struct both *b = cm_calloc(1, sizeof *b);
    cm_status rc;

    if (b == NULL)
        return cm_fail_nomem(err);
    rc = cm_storage_try_lock(m->from, op, name, ttl_ns, &b->from, ret_wait_ns, err);
    /* A backend may have to watch a lock before it takes it for abandoned. If this one is, so is
     * the other: watch it from now on, not only when this one has been got. */
    if (rc == CM_E_BUSY && cm_storage_lock_info(m->to, op, name, &unused, NULL) == CM_E_NOMEM)
        rc = cm_fail_nomem(err);
    if (rc == CM_OK) {
        rc = cm_storage_try_lock(m->to, op, name, ttl_ns, &b->to, ret_wait_ns, err);
        /* what cannot be given back now ends with its lease */
        if (rc != CM_OK && cm_storage_unlock(m->from, op, &b->from, NULL) != CM_OK)
            cm_storage_drop(m->from, &b->from);
    }
    if (rc != CM_OK) {
        free(b);
        return rc;
    }
    memcpy(ret->token, b->from.token, sizeof ret->token);
    ret->fence = b->from.fence; /* as nodes count that use the old storage alone */
    ret->ttl_ns = b->from.ttl_ns < b->to.ttl_ns ? b->from.ttl_ns : b->to.ttl_ns;
    ret->state = b;
    return CM_OK;
}

static cm_status migrate_refresh(struct cm_storage *st, const struct cm_op *op,
                                 struct cm_grant *grant, struct cm_err *err)
{
    const struct migrate *m = migrate_of(st);
    struct both *b = grant->state;
    cm_status rc;

    if (b == NULL)
        return lost(grant, err);
    rc = cm_storage_refresh(m->from, op, &b->from, err);
    return rc == CM_OK ? cm_storage_refresh(m->to, op, &b->to, err) : rc;
}

static cm_status migrate_unlock(struct cm_storage *st, const struct cm_op *op,
                                struct cm_grant *grant, struct cm_err *err)
{
    const struct migrate *m = migrate_of(st);
    struct both *b = grant->state;
    struct cm_err why = CM_ERR_INIT;
    cm_status rc, rc_to;
    cm_status *follower = m->second == m->to ? &rc_to : &rc;

    if (b == NULL)
        return lost(grant, err);
    /* the old one last: as long as it is held nobody else has got both */
    rc_to = cm_storage_unlock(m->to, op, &b->to, &why);
    rc = cm_storage_unlock(m->from, op, &b->from, err);
    /* The one that decides whether a commit goes through decides here as well; a lease that only
     * the other one has ended is nothing to give back. */
    if (*follower == CM_E_LOCK_LOST)
        *follower = CM_OK;
    if (rc == CM_OK && rc_to != CM_OK)
        rc = cm_fail(err, rc_to, "%s", why.msg);
    free(b);
    return rc;
}

static void migrate_drop(struct cm_storage *st, struct cm_grant *grant)
{
    const struct migrate *m = migrate_of(st);
    struct both *b = grant->state;

    if (b == NULL)
        return;
    cm_storage_drop(m->from, &b->from);
    cm_storage_drop(m->to, &b->to);
    free(b);
}

/* ----------------------------------------------------------------- instance */

static const char *migrate_describe(struct cm_storage *st)
{
    return migrate_of(st)->url;
}

static void migrate_destroy(struct cm_storage *st)
{
    struct migrate *m = migrate_of(st);

    cm_storage_close(m->from);
    cm_storage_close(m->to);
    free(m->url);
    free(m);
}

static const struct cm_storage_ops migrate_ops = {
    .abi = CM_SPI_ABI,
    .size = sizeof(struct cm_storage_ops),
    .name = "migrate",
    .store = migrate_store,
    .load = migrate_load,
    .remove = migrate_remove,
    .stat = migrate_stat,
    .list = migrate_list,
    .list_after = migrate_list_after,
    .try_lock = migrate_try_lock,
    .refresh = migrate_refresh,
    .unlock = migrate_unlock,
    .drop = migrate_drop,
    .commit = migrate_commit,
    .describe = migrate_describe,
    .destroy = migrate_destroy,
    .lock_info = migrate_lock_info,
    .load_many = migrate_load_many,
    .watch = migrate_watch,
    .unwatch = migrate_unwatch,
    .check = migrate_check,
};

static cm_status any_key(void *user, const struct cm_key_info *info, struct cm_err *err)
{
    (void)info;
    *(bool *)user = false;
    return cm_fail(err, CM_E_EXISTS, "not empty");
}

/* The new storage says how far it is: nobody may mix the fleet's values with others by accident,
 * and nobody may read from it before everything is there. */
static cm_status check_mark(const struct migrate *m, const struct cm_op *op, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf mark = CM_BUF_INIT(256);
    bool empty = true;
    cm_status rc = cm_storage_load(m->to, op, MARK, &mark, err);

    if (rc == CM_OK && m->first == m->to && strncmp(cm_buf_str(&mark), MARK_EQUAL, 5) != 0)
        rc = cm_fail(err, CM_E_STATE,
                     "read=to: not everything is in %s yet; certmesh storage migrate copies it and "
                     "says when",
                     cm_storage_describe(m->to));
    if (rc != CM_E_NOTFOUND)
        return rc;
    if (m->first == m->to)
        return cm_fail(err, CM_E_STATE,
                       "read=to: nothing was migrated to %s yet; run certmesh storage migrate",
                       cm_storage_describe(m->to));
    rc = cm_storage_list(m->to, op, "", false, any_key, &empty, err);
    if (!empty)
        return cm_fail(err, CM_E_STATE,
                       "%s is not empty, and no migration into it has begun: choose another place, "
                       "or run certmesh storage migrate --force, which removes what the old "
                       "storage does not have",
                       cm_storage_describe(m->to));
    return rc == CM_OK ? cm_storage_store(m->to, op, MARK, cm_span_str(MARK_BEGUN), err) : rc;
}

struct parameters {
    char *from, *to, *read;
};

static cm_status parse(char *text, struct parameters *ret, struct cm_err *err)
{
    char *save = NULL;

    for (char *at = strtok_r(text, "&", &save); at != NULL; at = strtok_r(NULL, "&", &save)) {
        char *equals = strchr(at, '=');
        char shown[48];
        char **slot = NULL;

        if (equals != NULL)
            *equals++ = '\0';
        slot = strcmp(at, "from") == 0   ? &ret->from
               : strcmp(at, "to") == 0   ? &ret->to
               : strcmp(at, "read") == 0 ? &ret->read
                                         : NULL;
        if (slot == NULL || equals == NULL || *slot != NULL)
            return cm_fail(err, CM_E_INVAL,
                           "migrate storage: parameter '%s' is not known, has no value or stands "
                           "twice; there are from, to and read",
                           cm_escape(at, strlen(at), shown, sizeof shown));
        if (!storage_url_decode(equals))
            return cm_fail(err, CM_E_INVAL, "migrate storage: '%s' has a bad %%-escape", at);
        *slot = equals;
    }
    if (ret->from == NULL || ret->to == NULL || ret->from[0] == '\0' || ret->to[0] == '\0')
        return cm_fail(err, CM_E_INVAL,
                       "migrate storage needs both ends: migrate:?from=URL&to=URL, each "
                       "percent-encoded");
    if (ret->read != NULL && strcmp(ret->read, "from") != 0 && strcmp(ret->read, "to") != 0)
        return cm_fail(err, CM_E_INVAL, "migrate storage: read is from (default) or to");
    return CM_OK;
}

static cm_status open_both(struct migrate *m, const struct parameters *p,
                           const struct cm_storage_open_options *opts, struct cm_err *err)
{
    struct cm_op op = { .env = opts != NULL ? opts->env : NULL };
    cm_status rc = cm_storage_open(p->from, opts, &m->from, err);

    if (rc != CM_OK)
        return cm_wrap(err, rc, "from");
    rc = cm_storage_open(p->to, opts, &m->to, err);
    if (rc != CM_OK)
        return cm_wrap(err, rc, "to");
    if (strcmp(cm_storage_describe(m->from), cm_storage_describe(m->to)) == 0)
        return cm_fail(err, CM_E_INVAL, "migrate storage: from and to are both %s",
                       cm_storage_describe(m->to));
    m->first = p->read != NULL && strcmp(p->read, "to") == 0 ? m->to : m->from;
    m->second = m->first == m->from ? m->to : m->from;
    m->url =
        cm_asprintf("migrate: %s to %s (%s is read)", cm_storage_describe(m->from),
                    cm_storage_describe(m->to), m->first == m->from ? "the first" : "the second");
    if (m->url == NULL)
        return cm_fail_nomem(err);
    op = cm_op_within(&op, OPEN_WAIT_NS);
    return check_mark(m, &op, err);
}

cm_status cm_storage_migrate_open(const char *rest, const struct cm_storage_open_options *opts,
                                  struct cm_storage **ret, struct cm_err *err)
{
    CM_AUTO_FREE char *text = cm_strdup(rest[0] == '?' ? rest + 1 : "");
    struct migrate *m = cm_calloc(1, sizeof *m);
    struct parameters p = { NULL, NULL, NULL };
    cm_status rc;

    if (text == NULL || m == NULL) {
        free(m);
        return cm_fail_nomem(err);
    }
    m->base.ops = &migrate_ops;
    if (opts != NULL)
        m->log = opts->log;
    rc = parse(text, &p, err);
    if (rc == CM_OK)
        rc = open_both(m, &p, opts, err);
    if (rc == CM_OK)
        *ret = &m->base;
    else
        migrate_destroy(&m->base);
    return rc;
}

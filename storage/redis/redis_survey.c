/* SPDX-License-Identifier: Apache-2.0 */
#include "redis_data.h"

#include <stdio.h>
#include <string.h>

/* The check: every name below the prefix is looked at as it comes out of SCAN, a page at a time,
 * and from each index each member. Nothing is remembered but the places where index and values
 * differ, and these only until they were looked at once more, a moment later. */

#define PAUSE_NS      CM_NS_PER_S
#define DRIFTS_MAX    1000u
#define TOLD_MAX      4096u /* findings that are not told again when a scan shows a name twice */
#define MEMBERS       "500"
#define STEPS         1000000u
#define LOCK_LEFT_MS  "60000" /* a living holder starts it anew long before */
#define FENCE_KEPT_MS "2592000000"

struct survey {
    struct redis_storage *rs;
    const struct cm_op *op;
    bool repair;
    cm_check_fn each;
    void *user;
    size_t prefix_len; /* of what stands before a key, '/' included */
    struct rds_drift *drifts;
    size_t n_drifts;
    uint64_t told[2 * TOLD_MAX];
    size_t n_told;
};

/* ------------------------------------------------------------------ telling */

static const char *key_of(const struct survey *s, const char *name)
{
    size_t len = strlen(name);

    return len > s->prefix_len ? name + s->prefix_len : NULL;
}

static bool is_told(struct survey *s, const char *key, const char *what)
{
    uint64_t h = cm_fnv1a64(CM_FNV1A64, key != NULL ? key : "", key != NULL ? strlen(key) : 0);
    size_t at;

    h = cm_fnv1a64(h, what, strlen(what)) | 1;
    for (at = h % CM_ARRAY_LEN(s->told); s->told[at] != 0; at = (at + 1) % CM_ARRAY_LEN(s->told))
        if (s->told[at] == h)
            return true;
    if (s->n_told < TOLD_MAX) {
        s->told[at] = h;
        s->n_told++;
    }
    return false;
}

static void tell(struct survey *s, const char *name, bool repaired, const char *fmt, ...)
    CM_PRINTF(4, 5);
static void tell(struct survey *s, const char *name, bool repaired, const char *fmt, ...)
{
    const char *key = key_of(s, name);
    char what[640];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    if (!is_told(s, key, what))
        s->each(s->user, key, what, repaired);
}

/* -------------------------------------------------------------------- drift */

static void drifts_clear(struct survey *s)
{
    for (size_t i = 0; i < s->n_drifts; i++) {
        free(s->drifts[i].name);
        free(s->drifts[i].member);
    }
    s->n_drifts = 0;
}

static const char *words_of(const struct rds_drift *d)
{
    if (!d->stale)
        return d->directory ? "this directory is not in the index of the one above, so no list "
                              "shows what lies in it"
                            : "this value is not in the index of its directory, so no list shows "
                              "it";
    if (d->member != NULL)
        return "a member of this index can be no name";
    return d->directory ? "the index names this directory, but nothing lies in it"
                        : "the index names this value, but there is none";
}

static cm_status settle_one(struct survey *s, const struct rds_drift *d, struct cm_err *err)
{
    const char *why = NULL;
    char shown[96];
    bool is_so = false;
    bool done = false;
    cm_status rc = rds_drift_look(s->rs, s->op, d, &is_so, err);

    if (rc == CM_OK && is_so && s->repair)
        rc = rds_drift_mend(s->rs, s->op, d, &done, &why, err);
    if (rc != CM_OK || !is_so || (s->repair && !done && why == NULL))
        return rc;
    tell(s, d->name, done, "%s%s%s%s%s", words_of(d), d->member != NULL ? " " : "",
         d->member != NULL ? cm_escape(d->member, strlen(d->member), shown, sizeof shown) : "",
         done ? "" : "; ",
         done          ? ""
         : why != NULL ? why
                       : "--repair puts it right");
    return CM_OK;
}

/* What a peer was just at is right by now. What is missing comes first: a directory that seems to
 * be empty may just have lost its index. */
static cm_status settle(struct survey *s, struct cm_err *err)
{
    cm_status rc = s->n_drifts > 0 ? cm_op_wait(s->op, PAUSE_NS, err) : CM_OK;

    for (int stale = 0; stale < 2; stale++)
        for (size_t i = 0; i < s->n_drifts && rc == CM_OK; i++)
            if (s->drifts[i].stale == (stale == 1))
                rc = settle_one(s, &s->drifts[i], err);
    drifts_clear(s);
    return rc;
}

static cm_status suspect(struct survey *s, const char *name, const char *member, bool directory,
                         bool stale, struct cm_err *err)
{
    struct rds_drift *d;
    cm_status rc = s->n_drifts == DRIFTS_MAX ? settle(s, err) : CM_OK;

    if (rc != CM_OK)
        return rc;
    d = &s->drifts[s->n_drifts];
    *d = (struct rds_drift){ cm_strdup(name), member != NULL ? cm_strdup(member) : NULL, directory,
                             stale };
    s->n_drifts++;
    return d->name != NULL && (member == NULL || d->member != NULL) ? CM_OK : cm_fail_nomem(err);
}

/* Is @name in the index of what it lies in? */
static cm_status check_entered(struct survey *s, const char *name, bool directory,
                               struct cm_err *err)
{
    struct rds_drift d = { (char *)(uintptr_t)name, NULL, directory, false };
    bool missing = false;
    cm_status rc = rds_drift_look(s->rs, s->op, &d, &missing, err);

    return rc == CM_OK && missing ? suspect(s, name, NULL, directory, false, err) : rc;
}

/* ------------------------------------------------------------------ members */

static cm_status check_member(struct survey *s, const char *dir, const redisReply *m,
                              struct cm_err *err)
{
    CM_AUTO_FREE char *name = NULL;
    struct rds_drift d = { NULL, NULL, false, true };
    size_t len = m->len;
    bool stale = false;
    cm_status rc;

    d.directory = len > 0 && m->str[len - 1] == '/';
    len -= d.directory ? 1 : 0;
    if (memchr(m->str, '\0', m->len) != NULL) {
        tell(s, dir, false, "a member of this index has a NUL in it: nobody can use it, ZREM it");
        return CM_OK;
    }
    if (!rds_is_component(m->str, len)) {
        name = cm_asprintf("%s/?", dir);
        return name != NULL ? suspect(s, name, m->str, d.directory, true, err) : cm_fail_nomem(err);
    }
    name = cm_asprintf("%s/%.*s", dir, (int)len, m->str);
    if (name == NULL)
        return cm_fail_nomem(err);
    if (strlen(name) >= RDS_NAME_MAX - 2) {
        tell(s, dir, false, "a member of this index is too long for a name: ZREM it");
        return CM_OK;
    }
    d.name = name;
    rc = rds_drift_look(s->rs, s->op, &d, &stale, err);
    return rc == CM_OK && stale ? suspect(s, name, NULL, d.directory, true, err) : rc;
}

static cm_status check_members(struct survey *s, const char *dir, struct cm_err *err)
{
    char cursor[24] = "0";

    for (unsigned i = 0; i < STEPS; i++) {
        struct rds_args a = { .n = 0 };
        redisReply *r = NULL;
        cm_status rc;

        rds_arg(&a, "ZSCAN");
        rds_arg(&a, dir);
        rds_arg(&a, cursor);
        rds_arg(&a, "COUNT");
        rds_arg(&a, MEMBERS);
        struct redis_command c = rds_command(&a);
        rc = redis_call(s->rs->link, s->op, dir, true, &c, 1, &r, err);
        if (rc != CM_OK)
            return rc;
        if (rds_is_error(r, "WRONGTYPE")) { /* it is no index any more */
            freeReplyObject(r);
            return CM_OK;
        }
        if (r->type == REDIS_REPLY_ERROR)
            rc = rds_refused(r, "ZSCAN", err);
        else if (r->type != REDIS_REPLY_ARRAY || r->elements != 2 ||
                 r->element[0]->type != REDIS_REPLY_STRING || r->element[0]->len >= sizeof cursor ||
                 r->element[1]->type != REDIS_REPLY_ARRAY)
            rc = rds_odd("ZSCAN", err);
        for (size_t k = 0; rc == CM_OK && k + 1 < r->element[1]->elements; k += 2)
            rc = r->element[1]->element[k]->type == REDIS_REPLY_STRING
                     ? check_member(s, dir, r->element[1]->element[k], err)
                     : rds_odd("ZSCAN", err);
        if (rc == CM_OK)
            memcpy(cursor, r->element[0]->str, r->element[0]->len + 1);
        freeReplyObject(r);
        if (rc != CM_OK || strcmp(cursor, "0") == 0)
            return rc;
    }
    return cm_fail(err, CM_E_PARSE, "ZSCAN of '%s' does not end", dir);
}

/* -------------------------------------------------------------------- names */

struct facts {
    char type[16];
    long long ttl_ms; /* -1: for ever */
    long long bytes;  /* of a string */
};

static cm_status look(struct survey *s, const char *name, struct facts *ret, struct cm_err *err)
{
    static const char *const verbs[] = { "TYPE", "PTTL", "STRLEN" };
    struct rds_args a[3] = { { .n = 0 }, { .n = 0 }, { .n = 0 } };
    struct redis_command c[3];
    redisReply *r[3] = { NULL, NULL, NULL };
    cm_status rc;

    for (size_t i = 0; i < CM_ARRAY_LEN(verbs); i++) {
        rds_arg(&a[i], verbs[i]);
        rds_arg(&a[i], name);
        c[i] = rds_command(&a[i]);
    }
    rc = redis_call(s->rs->link, s->op, name, true, c, 3, r, err);
    if (rc != CM_OK)
        return rc;
    if (r[0]->type == REDIS_REPLY_ERROR || r[1]->type == REDIS_REPLY_ERROR)
        rc = rds_refused(r[r[0]->type == REDIS_REPLY_ERROR ? 0 : 1], "check", err);
    else if (r[0]->type != REDIS_REPLY_STATUS || r[1]->type != REDIS_REPLY_INTEGER)
        rc = rds_odd("TYPE", err);
    if (rc == CM_OK) {
        (void)snprintf(ret->type, sizeof ret->type, "%s", r[0]->str);
        ret->ttl_ms = r[1]->integer;
        ret->bytes = r[2]->type == REDIS_REPLY_INTEGER ? r[2]->integer : 0;
    }
    for (size_t i = 0; i < CM_ARRAY_LEN(r); i++)
        freeReplyObject(r[i]);
    return rc;
}

static cm_status check_form(struct survey *s, const char *name, bool *ret_good, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf value = CM_BUF_SECRET(CM_STORAGE_VALUE_MAX);
    struct cm_err why = CM_ERR_INIT;
    struct rds_args a = { .n = 0 };
    redisReply *r = NULL;
    cm_status rc;

    rds_arg(&a, "GET");
    rds_arg(&a, name);
    struct redis_command c = rds_command(&a);
    rc = redis_call(s->rs->link, s->op, name, true, &c, 1, &r, err);
    if (rc != CM_OK)
        return rc;
    if (r->type == REDIS_REPLY_STRING) {
        rc = rds_value_decode(&s->rs->codec, key_of(s, name),
                              (struct cm_span){ (const uint8_t *)r->str, r->len }, &value, &why);
        if (rc == CM_E_NOMEM && err != NULL)
            *err = why;
        *ret_good = rc == CM_OK || rc == CM_E_PERM;
        if (rc == CM_E_PERM)
            tell(s, name, false, "%s: name the right encryption_key_file", why.msg);
        else if (rc != CM_OK && rc != CM_E_NOMEM)
            tell(s, name, false,
                 "%s: whoever loads it fails; bring it back from a copy, or remove it", why.msg);
    }
    rds_reply_free(r);
    return rc == CM_E_NOMEM ? rc : CM_OK;
}

static cm_status check_ttl(struct survey *s, const char *name, const struct facts *f,
                           struct cm_err *err)
{
    struct rds_args a = { .n = 0 };
    redisReply *r = NULL;
    cm_status rc = CM_OK;

    if (f->ttl_ms < 0)
        return CM_OK;
    if (s->repair) {
        rds_arg(&a, "PERSIST");
        rds_arg(&a, name);
        rc = rds_ask(s->rs, s->op, name, &a, &r, err);
        if (rc == CM_OK)
            freeReplyObject(r);
    }
    if (rc == CM_OK)
        tell(s, name, s->repair, "this value has a time to live and is gone when it ends%s",
             s->repair ? "" : "; --repair takes it off");
    return rc;
}

static cm_status check_value(struct survey *s, const char *name, const struct facts *f,
                             struct cm_err *err)
{
    struct cm_err why = CM_ERR_INIT;
    bool good = false;
    cm_status rc;

    if (cm_storage_key_check(key_of(s, name), false, &why) != CM_OK) {
        tell(s, name, false, "%s, so nobody can load it: RENAME or DEL it", why.msg);
        return CM_OK;
    }
    if (f->bytes > (long long)RDS_STORED_MAX) {
        tell(s, name, false, "it has %lld bytes in Redis, more than a value can have: DEL it",
             f->bytes);
        return CM_OK;
    }
    rc = check_form(s, name, &good, err);
    if (rc == CM_OK && good) /* others' matters are not entered */
        rc = check_entered(s, name, false, err);
    return rc == CM_OK && good ? check_ttl(s, name, f, err) : rc;
}

/* What ends by itself, if somebody has not taken that off it, or brought it back without. */
static cm_status check_passing(struct survey *s, const char *name, const struct facts *f,
                               bool is_lock, struct cm_err *err)
{
    bool done = false;
    cm_status rc = CM_OK;

    if (strcmp(f->type, "string") != 0)
        tell(s, name, false, "a Redis %s where certmesh keeps %s: DEL it", f->type,
             is_lock ? "locks" : "fences");
    else if (f->ttl_ms == -1) {
        if (s->repair)
            rc = rds_expire(s->rs, s->op, name, is_lock ? LOCK_LEFT_MS : FENCE_KEPT_MS, &done, err);
        if (rc == CM_OK && (done || !s->repair))
            tell(s, name, done, "%s%s",
                 is_lock ? "this lock has no time to live, so it stays when its holder has died"
                         : "this fence has no time to live, so it stays for ever",
                 done ? "; it has one now, which a living holder renews"
                      : "; --repair gives it one, which a living holder renews");
    }
    return rc;
}

static bool begins(const char *key, const char *head)
{
    return key != NULL && strncmp(key, head, strlen(head)) == 0;
}

static cm_status check_name(struct survey *s, const char *name, struct cm_err *err)
{
    const char *key = key_of(s, name);
    struct facts f = { .ttl_ms = -1 };
    cm_status rc = cm_op_check(s->op, err);

    if (rc == CM_OK)
        rc = look(s, name, &f, err);
    if (rc != CM_OK || strcmp(f.type, "none") == 0) /* gone since */
        return rc;
    if (begins(key, "locks/") || begins(key, "certmesh/locks/"))
        return check_passing(s, name, &f, begins(key, "locks/"), err);
    if (strcmp(f.type, "zset") == 0) {
        rc = check_entered(s, name, true, err);
        if (rc == CM_OK)
            rc = check_ttl(s, name, &f, err);
        return rc == CM_OK ? check_members(s, name, err) : rc;
    }
    if (key == NULL || strcmp(f.type, "string") != 0) {
        tell(s, name, false,
             "a Redis %s, which is neither a value nor an index: another program's? Give that "
             "another prefix, or DEL it",
             f.type);
        return CM_OK;
    }
    return check_value(s, name, &f, err);
}

static cm_status check_page(void *user, const redisReply *names, struct cm_err *err)
{
    struct survey *s = user;
    cm_status rc = CM_OK;

    for (size_t i = 0; i < names->elements && rc == CM_OK; i++) {
        const redisReply *n = names->element[i];
        char shown[200];

        if (memchr(n->str, '\0', n->len) == NULL && n->len < RDS_NAME_MAX - 2)
            rc = check_name(s, n->str, err);
        else
            tell(s, "", false, "a name in Redis is too long or has a NUL in it: %s; DEL it",
                 cm_escape(n->str, n->len, shown, sizeof shown));
    }
    return rc;
}

/* ---------------------------------------------------------------------- all */

/* "prefix" and what is behind it, letter by letter. */
static cm_status make_glob(const char *prefix, struct cm_buf *out, struct cm_err *err)
{
    cm_status rc = CM_OK;

    for (const char *c = prefix; *c != '\0' && rc == CM_OK; c++)
        rc = cm_buf_printf(out, err, strchr("*?[]\\^-", *c) != NULL ? "\\%c" : "%c", *c);
    return rc == CM_OK ? cm_buf_puts(out, prefix[0] != '\0' ? "/*" : "*", err) : rc;
}

/* The index of the prefix, and those above it, of which only the way down is ours. */
static cm_status check_top(struct survey *s, const char *prefix, struct cm_err *err)
{
    char at[RDS_NAME_MAX];
    size_t len = strlen(prefix);
    cm_status rc = CM_OK;

    if (len == 0)
        return CM_OK;
    (void)snprintf(at, sizeof at, "%s", prefix);
    rc = check_name(s, at, err);
    for (len = rds_dir_len(at, len); len > 0 && rc == CM_OK; len = rds_dir_len(at, len)) {
        at[len] = '\0';
        rc = check_entered(s, at, true, err);
    }
    return rc;
}

cm_status rds_check(struct cm_storage *st, const struct cm_op *op, bool repair, cm_check_fn each,
                    void *user, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf glob = CM_BUF_INIT(2 * RDS_NAME_MAX);
    struct redis_storage *rs = rds_of(st);
    const char *prefix = rs->o.prefix != NULL ? rs->o.prefix : "";
    struct survey *s = cm_calloc(1, sizeof *s);
    cm_status rc;

    if (s == NULL)
        return cm_fail_nomem(err);
    *s = (struct survey){ .rs = rs, .op = op, .repair = repair, .each = each, .user = user };
    s->prefix_len = prefix[0] != '\0' ? strlen(prefix) + 1 : 0;
    s->drifts = cm_calloc(DRIFTS_MAX, sizeof *s->drifts);
    rc = s->drifts != NULL ? make_glob(prefix, &glob, err) : cm_fail_nomem(err);
    if (rc == CM_OK)
        rc = check_top(s, prefix, err);
    if (rc == CM_OK)
        rc = redis_scan(rs->link, op, cm_buf_str(&glob), check_page, s, err);
    if (rc == CM_OK)
        rc = settle(s, err);
    if (s->drifts != NULL)
        drifts_clear(s);
    free(s->drifts);
    free(s);
    return rc;
}

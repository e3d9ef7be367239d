/* SPDX-License-Identifier: Apache-2.0 */
#include "link.h"

#include <string.h>

/* The first words on a connection, in one round trip: who we are, which database, is this the
 * master. Also how commands are written. */

#define CLIENT_NAME "certmesh"
#define FULL        "max number of clients" /* part of what Redis says then */

/* "$12\r\n"; there are so many of these that printf would show. */
static cm_status put_count(struct cm_buf *out, char type, size_t n, struct cm_err *err)
{
    char text[24];
    char *at = text + sizeof text;

    *--at = '\n';
    *--at = '\r';
    do
        *--at = (char)('0' + n % 10);
    while ((n /= 10) > 0);
    *--at = type;
    return cm_buf_append(out, at, (size_t)(text + sizeof text - at), err);
}

cm_status redis_put_command(struct cm_buf *out, const struct redis_command *cmd, struct cm_err *err)
{
    cm_status rc = put_count(out, '*', cmd->argc, err);

    for (size_t i = 0; i < cmd->argc && rc == CM_OK; i++) {
        size_t len = cmd->argv_len != NULL ? cmd->argv_len[i] : strlen(cmd->argv[i]);

        rc = put_count(out, '$', len, err);
        if (rc == CM_OK)
            rc = cm_buf_append(out, cmd->argv[i], len, err);
        if (rc == CM_OK)
            rc = cm_buf_append(out, "\r\n", 2, err);
    }
    return rc;
}

cm_status redis_put_words(struct cm_buf *out, struct cm_err *err, const char *first, ...)
{
    const char *argv[8] = { first };
    struct redis_command cmd = { 1, argv, NULL };
    va_list ap;

    va_start(ap, first);
    for (const char *s = va_arg(ap, const char *); s != NULL; s = va_arg(ap, const char *)) {
        CM_ASSERT(cmd.argc < CM_ARRAY_LEN(argv));
        argv[cmd.argc++] = s;
    }
    va_end(ap);
    return redis_put_command(out, &cmd, err);
}

enum step { STEP_AUTH, STEP_SELECT, STEP_NAME, STEP_ROLE, STEP_N };

static cm_status put_login(const struct redis_login *login, struct cm_buf *out, enum step *steps,
                           size_t *n, struct cm_err *err)
{
    char db[16];
    cm_status rc = CM_OK;

    *n = 0;
    if (login->password != NULL) {
        steps[(*n)++] = STEP_AUTH;
        /* Without a user, as servers before Redis 6 know none. */
        rc = login->username != NULL
                 ? redis_put_words(out, err, "AUTH", login->username, login->password, NULL)
                 : redis_put_words(out, err, "AUTH", login->password, NULL);
    }
    if (rc == CM_OK && login->db != 0) {
        steps[(*n)++] = STEP_SELECT;
        (void)snprintf(db, sizeof db, "%u", login->db);
        rc = redis_put_words(out, err, "SELECT", db, NULL);
    }
    if (rc == CM_OK) {
        steps[(*n)++] = STEP_NAME;
        rc = redis_put_words(out, err, "CLIENT", "SETNAME", CLIENT_NAME, NULL);
    }
    if (rc == CM_OK && login->want_master) {
        steps[(*n)++] = STEP_ROLE;
        rc = redis_put_words(out, err, "ROLE", NULL);
    }
    return rc;
}

static cm_status too_many(const struct redis_conn *c, struct cm_err *err)
{
    return cm_fail(err, CM_E_AGAIN,
                   "Redis at %s takes no more clients: raise its maxclients or lower 'pool'",
                   c->name);
}

static cm_status refused(const struct redis_conn *c, const struct redis_login *login,
                         const redisReply *r, struct cm_err *err)
{
    const char *what = login->is_sentinel ? "sentinel_password_file" : "password_file";
    char shown[200];

    if (redis_is_error(r, "NOAUTH"))
        return cm_fail(err, CM_E_PERM, "Redis at %s wants a password: name it with '%s'%s", c->name,
                       what, login->is_sentinel ? "" : ", or user:password@ in the URL");
    if (redis_is_error(r, "WRONGPASS") || strstr(r->str, "invalid password") != NULL)
        return cm_fail(err, CM_E_PERM,
                       "Redis at %s does not take this user and password: look at '%s' or the "
                       "URL, and at the server's ACL LIST",
                       c->name, what);
    if (redis_is_error(r, "NOPERM"))
        return cm_fail(err, CM_E_PERM, "Redis at %s: %s; the ACL of this user has to allow it",
                       c->name, redis_shown(r, shown, sizeof shown));
    if (strstr(r->str, "without any password configured") != NULL)
        return cm_fail(err, CM_E_PERM,
                       "Redis at %s has no password for this user, the URL has one: is it the "
                       "right server?",
                       c->name);
    if (strstr(r->str, FULL) != NULL)
        return too_many(c, err);
    if (redis_is_error(r, "LOADING") || redis_is_error(r, "BUSY") ||
        redis_is_error(r, "MASTERDOWN"))
        return cm_fail(err, CM_E_AGAIN, "Redis at %s: %s", c->name,
                       redis_shown(r, shown, sizeof shown));
    return cm_fail(err, CM_E_NET, "Redis at %s refuses: %s", c->name,
                   redis_shown(r, shown, sizeof shown));
}

static cm_status check_role(const struct redis_conn *c, const redisReply *r, struct cm_err *err)
{
    const redisReply *role;

    if (r->type != REDIS_REPLY_ARRAY || r->elements < 1)
        return cm_fail(err, CM_E_PARSE, "Redis at %s: the answer to ROLE is none", c->name);
    role = r->element[0];
    if (role->type != REDIS_REPLY_STRING)
        return cm_fail(err, CM_E_PARSE, "Redis at %s: the answer to ROLE is none", c->name);
    if (strcmp(role->str, "master") != 0)
        return cm_fail(err, CM_E_AGAIN, "Redis at %s is a replica, not the master", c->name);
    return CM_OK;
}

static cm_status check_step(const struct redis_conn *c, const struct redis_login *login,
                            enum step step, const redisReply *r, struct cm_err *err)
{
    bool is_error = r->type == REDIS_REPLY_ERROR;

    /* A name is for people who look at CLIENT LIST; an ACL may forbid it, and ROLE. */
    if (is_error && (step == STEP_NAME || step == STEP_ROLE) &&
        (redis_is_error(r, "NOPERM") || redis_is_error(r, "ERR")) && strstr(r->str, FULL) == NULL)
        return CM_OK;
    if (is_error && step == STEP_SELECT && redis_is_error(r, "ERR"))
        return cm_fail(err, CM_E_INVAL, "Redis at %s has no database %u", c->name, login->db);
    if (is_error)
        return refused(c, login, r, err);
    return step == STEP_ROLE ? check_role(c, r, err) : CM_OK;
}

cm_status redis_login(struct redis_conn *c, const struct redis_login *login, const struct cm_op *op,
                      struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf out = CM_BUF_SECRET(16384);
    redisReply *replies[STEP_N] = { NULL };
    enum step steps[STEP_N];
    bool sent;
    struct cm_err why = CM_ERR_INIT;
    size_t n;
    cm_status rc = put_login(login, &out, steps, &n, &why);

    if (rc == CM_OK)
        rc = redis_conn_exchange(c, op, cm_buf_span(&out), n, replies, &sent, &why);
    if (rc != CM_OK && strstr(why.msg, FULL) != NULL)
        rc = too_many(c, &why);
    if (rc != CM_OK && err != NULL)
        *err = why;
    for (size_t i = 0; i < n && rc == CM_OK; i++)
        rc = check_step(c, login, steps[i], replies[i], err);
    redis_free_replies(replies, STEP_N);
    return rc;
}

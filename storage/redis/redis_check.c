/* SPDX-License-Identifier: Apache-2.0 */
#include "redis_data.h"

#include <string.h>

/* Once per storage, behind the first call that was answered: is this server set up to keep things?
 * A cache that throws keys away will one day throw a private key away, or a lock that somebody
 * holds. Whoever may not ask (INFO is a permission of its own) is not told, and all else goes on.
 */

#define ASK_NS (2 * CM_NS_PER_S)

/* The value of "name:" in the text of INFO; NULL if it is not there. */
static const char *field(const char *info, const char *name, char *ret, size_t size)
{
    size_t n = strlen(name);

    for (const char *at = info; at != NULL; at = strchr(at, '\n')) {
        at += *at == '\n' ? 1 : 0;
        if (strncmp(at, name, n) != 0 || at[n] != ':')
            continue;
        size_t len = strcspn(at + n + 1, "\r\n");
        if (len >= size)
            return NULL;
        memcpy(ret, at + n + 1, len);
        ret[len] = '\0';
        return ret;
    }
    return NULL;
}

static void judge(const struct redis_storage *rs, const char *info)
{
    char policy[32];
    char memory[32];
    char aof[8];

    if (field(info, "maxmemory_policy", policy, sizeof policy) != NULL &&
        strcmp(policy, "noeviction") != 0)
        cm_logf(&rs->log, CM_LOG_WARN, "redis_eviction", NULL, 0,
                "%s drops %s when its memory (maxmemory %s) is used up (maxmemory-policy %s): set "
                "noeviction",
                rs->o.shown,
                strncmp(policy, "allkeys-", 8) == 0 ? "certificates, keys and locks" : "locks",
                field(info, "maxmemory_human", memory, sizeof memory) != NULL ? memory : "?",
                policy);
    if (field(info, "aof_enabled", aof, sizeof aof) != NULL && strcmp(aof, "0") == 0)
        cm_logf(&rs->log, CM_LOG_WARN, "redis_persistence", NULL, 0,
                "%s has no append-only file: when it restarts, the last changes and the locks that "
                "are held are gone; set appendonly yes",
                rs->o.shown);
}

void rds_check_server(struct redis_storage *rs, const struct cm_op *op)
{
    struct cm_op within;
    struct rds_args a = { .n = 0 };
    redisReply *r = NULL;
    bool no = false;

    if (atomic_load(&rs->checked) || !atomic_compare_exchange_strong(&rs->checked, &no, true))
        return;
    within = cm_op_within(op, ASK_NS);
    rds_arg(&a, "INFO");
    cm_status rc = rds_ask(rs, &within, NULL, &a, &r, NULL);
    if (rc == CM_E_NET || rc == CM_E_TIMEOUT || rc == CM_E_TLS || rc == CM_E_CANCELED)
        atomic_store(&rs->checked, false); /* the next one asks again */
    if (rc != CM_OK)
        return;
    if (r->type == REDIS_REPLY_STRING)
        judge(rs, r->str);
    freeReplyObject(r);
}

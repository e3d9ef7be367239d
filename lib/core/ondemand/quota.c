/* SPDX-License-Identifier: Apache-2.0 */
#include "ondemand.h"

#include <stdio.h>
#include <string.h>

/* The orders of a window, one line each: when, for which registered domain, for which client, the
 * latter two as hashes, which is enough to count. There are never more lines than orders in all are
 * allowed, so the note stays small; it is written once per order, under a lock. One that is damaged
 * says nothing and begins anew: the CA has limits, too. */

#define LOCK     "ondemand_orders"
#define NOTE_MAX (64u * 1024)
#define TAKE_NS  (10 * CM_NS_PER_S)
#define AHEAD_S  300 /* what another's clock may be ahead */

struct order {
    int64_t at_s;
    unsigned domain, client;
};

static unsigned short_hash(const char *text)
{
    uint64_t h = cm_fnv1a64(CM_FNV1A64, text, strlen(text));

    return (unsigned)(h ^ h >> 32) & 0xffffffffu;
}

/* Up to @max digits of @base, 10 or 16, at *@at, which moves on; false if there is none. */
static bool parse_digits(const char **at, const char *end, unsigned base, size_t max, uint64_t *ret)
{
    const char *from = *at;
    uint64_t v = 0;

    for (; *at < end && (size_t)(*at - from) < max; ++*at) {
        int d = cm_hex_digit(**at);

        if (d < 0 || (unsigned)d >= base)
            break;
        v = v * base + (unsigned)d;
    }
    *ret = v;
    return *at > from;
}

/* "TIME DOMAIN CLIENT"; false when the line is no such. By hand: a thousand lines are read for each
 * order. */
static bool parse_line(const char *line, size_t len, struct order *ret)
{
    const char *end = line + len;
    uint64_t at = 0, domain = 0, client = 0;

    if (!parse_digits(&line, end, 10, 15, &at) || line == end || *line++ != ' ' ||
        !parse_digits(&line, end, 16, 8, &domain) || line == end || *line++ != ' ' ||
        !parse_digits(&line, end, 16, 8, &client) || line != end)
        return false;
    *ret = (struct order){ (int64_t)at, (unsigned)domain, (unsigned)client };
    return true;
}

struct tally {
    unsigned total, domain, client;
    int64_t oldest_s, oldest_domain_s, oldest_client_s; /* of those counted */
};

static void count(unsigned *n, int64_t *oldest_s, int64_t at_s)
{
    if (*n == 0 || at_s < *oldest_s)
        *oldest_s = at_s;
    ++*n;
}

/* Those of the window go into @keep. */
static cm_status tally_up(const struct cm_buf *note, const struct cm_quota *q, int64_t now_s,
                          const struct order *mine, struct tally *t, struct cm_buf *keep,
                          struct cm_err *err)
{
    const char *at = cm_buf_str(note);
    cm_status rc = CM_OK;

    while (rc == CM_OK && *at != '\0') {
        size_t len = strcspn(at, "\n");
        struct order o;

        if (parse_line(at, len, &o) && o.at_s > now_s - q->window_s && o.at_s <= now_s + AHEAD_S) {
            count(&t->total, &t->oldest_s, o.at_s);
            if (o.domain == mine->domain)
                count(&t->domain, &t->oldest_domain_s, o.at_s);
            if (o.client == mine->client)
                count(&t->client, &t->oldest_client_s, o.at_s);
            rc = cm_buf_append(keep, at, len, err);
            if (rc == CM_OK)
                rc = cm_buf_append(keep, "\n", 1, err);
        }
        at += len + (at[len] == '\n');
    }
    return rc;
}

static cm_status used_up(const struct cm_quota *q, int64_t now_s, int64_t oldest_s, unsigned limit,
                         const char *of, struct cm_err *err)
{
    int64_t wait_s = oldest_s + q->window_s - now_s;

    (void)cm_fail(err, CM_E_RATELIMITED,
                  "%u certificates on demand were ordered for %s within "
                  "%lld s, which is the limit",
                  limit, of, (long long)q->window_s);
    if (err != NULL)
        err->retry_after_s = wait_s > 0 ? wait_s : 1;
    return CM_E_RATELIMITED;
}

static cm_status judge(const struct cm_quota *q, int64_t now_s, const struct tally *t,
                       const char *domain, const char *client, struct cm_err *err)
{
    if (t->total >= q->total)
        return used_up(q, now_s, t->oldest_s, q->total, "all names", err);
    if (t->domain >= q->per_domain)
        return used_up(q, now_s, t->oldest_domain_s, q->per_domain, domain, err);
    if (t->client >= q->per_client)
        return used_up(q, now_s, t->oldest_client_s, q->per_client, client, err);
    return CM_OK;
}

static cm_status take(struct cm_config *cfg, const struct cm_op *op, struct cm_lease *lease,
                      const struct cm_quota *q, const char *name, const char *client,
                      struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf note = CM_BUF_INIT(NOTE_MAX);
    CM_AUTO_BUF struct cm_buf keep = CM_BUF_INIT(NOTE_MAX);
    const struct order mine = { cm_env_wall_s(cfg->env), short_hash(cm_domain_of(name)),
                                short_hash(client) };
    struct tally t = { .total = 0 };
    char line[64];

    cm_status rc = cm_storage_load(cfg->storage, op, CM_QUOTA_KEY, &note, err);
    if (rc != CM_OK && rc != CM_E_NOTFOUND && !cm_status_is_damage(rc))
        return rc;
    if (rc != CM_OK)
        note.len = 0;
    rc = tally_up(&note, q, mine.at_s, &mine, &t, &keep, err);
    if (rc == CM_OK)
        rc = judge(q, mine.at_s, &t, cm_domain_of(name), client, err);
    (void)snprintf(line, sizeof line, "%lld %08x %08x\n", (long long)mine.at_s, mine.domain,
                   mine.client);
    if (rc == CM_OK)
        rc = cm_buf_puts(&keep, line, err);
    if (rc != CM_OK)
        return rc;
    const struct cm_commit_item item = { CM_QUOTA_KEY, cm_buf_span(&keep), false };
    return cm_lease_commit(lease, op, &item, 1, err);
}

cm_status cm_quota_take(struct cm_config *cfg, const struct cm_op *op, const struct cm_quota *q,
                        const char *name, const char *client, struct cm_err *err)
{
    struct cm_lease_options lo = CM_LEASE_OPTIONS_INIT;
    const struct cm_op own = cm_op_within(op, TAKE_NS);
    struct cm_lease *lease = NULL;

    lo.log = cfg->log;
    cm_status rc = cm_lease_acquire(cfg->storage, &own, LOCK, &lo, &lease, err);
    if (rc == CM_OK)
        rc = take(cfg, &own, lease, q, name, client, err);
    cm_lease_release(lease);
    return rc == CM_OK || rc == CM_E_RATELIMITED
               ? rc
               : cm_wrap(err, rc, "orders on demand cannot be counted");
}

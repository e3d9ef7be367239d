/* SPDX-License-Identifier: Apache-2.0 */
#include "redis_data.h"

#include <string.h>

/* The change feed: each change that certmesh makes is published in its own script, on one channel
 * per prefix, as "v <key>" (a value) or "u <name>" (a lock given back). Peers publish nothing, and
 * what is published while nobody listens is lost: hints, no more. */

struct cm_watch {
    struct redis_feed *feed;
    cm_change_fn fn;
    void *user;
};

static void on_message(void *user, struct cm_span message)
{
    struct cm_watch *w = user;
    struct cm_change change = { .size = (uint32_t)sizeof change };
    char text[CM_STORAGE_KEY_MAX + 1];

    if (message.len < 3 || message.len - 2 > CM_STORAGE_KEY_MAX || message.data[1] != ' ' ||
        memchr(message.data, 0, message.len) != NULL)
        return;
    memcpy(text, message.data + 2, message.len - 2);
    text[message.len - 2] = '\0';
    change.key = text;
    if (message.data[0] == 'v' && cm_storage_key_check(text, false, NULL) == CM_OK)
        change.kind = CM_CHANGE_VALUE;
    else if (message.data[0] == 'u')
        change.kind = CM_CHANGE_UNLOCKED;
    else
        return;
    w->fn(w->user, &change);
}

static void on_gap(void *user, bool over)
{
    struct cm_watch *w = user;
    struct cm_change change = { (uint32_t)sizeof change, over ? CM_CHANGE_MISSED : CM_CHANGE_LOST,
                                NULL };

    w->fn(w->user, &change);
}

cm_status rds_watch(struct cm_storage *st, cm_change_fn fn, void *user, struct cm_watch **ret,
                    struct cm_err *err)
{
    struct redis_storage *rs = rds_of(st);
    struct cm_watch *w = cm_calloc(1, sizeof *w);

    if (w == NULL)
        return cm_fail_nomem(err);
    w->fn = fn;
    w->user = user;
    cm_status rc = redis_feed_new(rs->link, rs->channel, on_message, on_gap, w, &w->feed, err);
    if (rc != CM_OK) {
        free(w);
        return rc;
    }
    *ret = w;
    return CM_OK;
}

void rds_unwatch(struct cm_storage *st, struct cm_watch *watch)
{
    (void)st;
    redis_feed_free(watch->feed);
    free(watch);
}
_Static_assert(CM_LOCK_NAME_MAX <= CM_STORAGE_KEY_MAX, "a message holds either");

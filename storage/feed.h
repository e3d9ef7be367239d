/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_STORAGE_FEED_H
#define CM_STORAGE_FEED_H

/* Who watches a place, for backends that learn of changes in the process itself. Each watch has a
 * thread and a queue, so that whoever makes a change waits for nobody and may hold what he likes
 * but a lock that a watcher takes. A queue that is full is emptied: CM_CHANGE_MISSED stands for all
 * that was in it. */

#include "storage.h"

#define FEED_QUEUE_MAX 1024u

struct feed {
    pthread_mutex_t mutex;
    struct cm_watch *first;
};

void feed_init(struct feed *f);
void feed_end(struct feed *f); /* nobody watches any more */

/* Contracts as of watch and unwatch of a storage. */
CM_MUST_CHECK cm_status feed_watch(struct feed *f, cm_change_fn fn, void *user,
                                   struct cm_watch **ret, struct cm_err *err);
void feed_unwatch(struct feed *f, struct cm_watch *w);

/* Tell all who watch. Never blocks for long, never fails: without memory a change is missed. @key
 * is copied. */
void feed_tell(struct feed *f, enum cm_change_kind kind, const char *key);

#endif

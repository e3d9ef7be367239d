/* SPDX-License-Identifier: Apache-2.0 */
#include "autocert.h"

#include <stdio.h>
#include <string.h>

/* Names whose order failed just now. A table of fixed size: who asks for many names that fail makes
 * others be forgotten early, and no more. */

#define KEEP_NS (60 * CM_NS_PER_S)

static struct autocert_failure *find_locked(struct cm_autocert *m, const char *host, bool rsa)
{
    for (size_t i = 0; i < FAILURES_MAX; i++)
        if (m->failures[i].rsa == rsa && strcmp(m->failures[i].host, host) == 0)
            return &m->failures[i];
    return NULL;
}

cm_status autocert_failed_lately(struct cm_autocert *m, const char *host, bool rsa,
                                 struct cm_err *err)
{
    int64_t now = m->env->mono_ns(m->env);
    cm_status rc = CM_OK;

    cm_mutex_lock(&m->lock);
    struct autocert_failure *f = find_locked(m, host, rsa);
    if (f != NULL && now < f->until_ns) {
        rc = f->err.status;
        if (err != NULL)
            *err = f->err;
    } else if (f != NULL) {
        f->host[0] = '\0';
    }
    cm_mutex_unlock(&m->lock);
    return rc;
}

void autocert_note_failure(struct cm_autocert *m, const char *host, bool rsa,
                           const struct cm_err *why)
{
    struct autocert_failure *f;

    cm_mutex_lock(&m->lock);
    f = find_locked(m, host, rsa);
    for (size_t i = 0; i < FAILURES_MAX && f == NULL; i++)
        if (m->failures[i].host[0] == '\0')
            f = &m->failures[i];
    if (f == NULL) { /* the oldest makes room */
        f = &m->failures[0];
        for (size_t i = 1; i < FAILURES_MAX; i++)
            if (m->failures[i].until_ns < f->until_ns)
                f = &m->failures[i];
    }
    (void)snprintf(f->host, sizeof f->host, "%s", host);
    f->rsa = rsa;
    f->until_ns = m->env->mono_ns(m->env) + KEEP_NS;
    f->err = *why;
    cm_mutex_unlock(&m->lock);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "staple.h"

#include <string.h>

#define PLACES        64u
#define HOST_BUF      256u
#define FAILURES_OPEN 3u
#define PROBE_NS      (60 * CM_NS_PER_S)

struct place {
    char host[HOST_BUF]; /* "" = free */
    unsigned failures;
    int64_t probe_ns; /* monotonic: the next try, once it is open */
};

struct cm_responders {
    pthread_mutex_t lock; /* a leaf */
    const struct cm_env *env;
    struct place at[PLACES];
};

cm_status cm_responders_new(const struct cm_env *env, struct cm_responders **ret,
                            struct cm_err *err)
{
    struct cm_responders *r = cm_calloc(1, sizeof *r);

    if (r == NULL)
        return cm_fail_nomem(err);
    r->env = env;
    cm_mutex_init(&r->lock);
    *ret = r;
    return CM_OK;
}

void cm_responders_free(struct cm_responders *r)
{
    if (r == NULL)
        return;
    (void)pthread_mutex_destroy(&r->lock);
    free(r);
}

/* Host and port of a URL, in lower case. */
static void host_of(const char *url, char out[HOST_BUF])
{
    const char *at = strstr(url, "://");
    size_t len;

    at = at != NULL ? at + 3 : url;
    len = strcspn(at, "/?#");
    if (len >= HOST_BUF)
        len = HOST_BUF - 1;
    for (size_t i = 0; i < len; i++)
        out[i] = (char)(at[i] >= 'A' && at[i] <= 'Z' ? at[i] + ('a' - 'A') : at[i]);
    out[len] = '\0';
}

static struct place *find_locked(struct cm_responders *r, const char *host)
{
    for (size_t i = 0; i < PLACES; i++)
        if (strcmp(r->at[i].host, host) == 0)
            return &r->at[i];
    return NULL;
}

/* A free place, else the one that would be asked first anyway. */
static struct place *make_locked(struct cm_responders *r, const char *host)
{
    struct place *best = &r->at[0];

    for (size_t i = 0; i < PLACES && best->host[0] != '\0'; i++)
        if (r->at[i].host[0] == '\0' || r->at[i].probe_ns < best->probe_ns)
            best = &r->at[i];
    memset(best, 0, sizeof *best);
    memcpy(best->host, host, strlen(host) + 1);
    return best;
}

static int64_t wait_s(struct cm_responders *r, const char *url, bool take)
{
    int64_t now_ns = r->env->mono_ns(r->env);
    int64_t left_ns = 0;
    char host[HOST_BUF];

    host_of(url, host);
    cm_mutex_lock(&r->lock);
    struct place *p = host[0] != '\0' ? find_locked(r, host) : NULL;
    if (p != NULL && p->failures >= FAILURES_OPEN) {
        left_ns = p->probe_ns > now_ns ? p->probe_ns - now_ns : 0;
        if (left_ns == 0 && take)
            p->probe_ns = now_ns + PROBE_NS;
    }
    cm_mutex_unlock(&r->lock);
    return (left_ns + CM_NS_PER_S - 1) / CM_NS_PER_S;
}

int64_t cm_responders_wait_s(struct cm_responders *r, const char *url)
{
    return wait_s(r, url, false);
}

int64_t cm_responders_admit(struct cm_responders *r, const char *url)
{
    return wait_s(r, url, true);
}

void cm_responders_note(struct cm_responders *r, const struct cm_log *log, const char *url, bool ok,
                        const char *why)
{
    int64_t now_ns = r->env->mono_ns(r->env);
    unsigned before = 0;
    unsigned after = 0;
    char host[HOST_BUF];

    host_of(url, host);
    if (host[0] == '\0')
        return;
    cm_mutex_lock(&r->lock);
    struct place *p = find_locked(r, host);
    if (p == NULL && !ok)
        p = make_locked(r, host);
    if (p != NULL) {
        before = p->failures;
        after = ok ? 0 : before + (before < UINT32_MAX);
        p->failures = after;
        p->probe_ns = now_ns + PROBE_NS;
        if (ok)
            p->host[0] = '\0';
    }
    cm_mutex_unlock(&r->lock);
    if (before < FAILURES_OPEN && after == FAILURES_OPEN)
        cm_logf(log, CM_LOG_WARN, "responder_failing", NULL, 0,
                "'%s' failed %u times in a row, last: %s; it is asked once a minute until it "
                "answers",
                host, after, why);
    else if (before >= FAILURES_OPEN && after == 0)
        cm_logf(log, CM_LOG_INFO, "responder_back", NULL, 0, "'%s' answers again", host);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "link.h"

#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* getaddrinfo() knows no deadline. So it runs on a thread of its own, which is left alone when
 * nobody waits any more; what both look at goes with the last of the two. */

#define LOOKUPS_MAX 16u /* at once in the process: behind a dead resolver they pile up */

struct lookup {
    atomic_uint refs;
    atomic_bool done; /* rc and found are there */
    int done_fd;
    char *host;
    char service[8];
    int rc;
    struct addrinfo *found;
};

static atomic_uint running;

static int ask(const char *host, const char *service, int flags, struct addrinfo **ret)
{
    struct addrinfo hints = { .ai_family = AF_UNSPEC,
                              .ai_socktype = SOCK_STREAM,
                              .ai_flags = flags | AI_NUMERICSERV };

    return getaddrinfo(host, service, &hints, ret);
}

static void lookup_put(struct lookup *k)
{
    if (atomic_fetch_sub(&k->refs, 1) != 1)
        return;
    if (k->found != NULL)
        freeaddrinfo(k->found);
    if (k->done_fd >= 0)
        (void)close(k->done_fd);
    free(k->host);
    free(k);
}

static void *lookup_run(void *arg)
{
    const uint64_t one = 1;
    struct lookup *k = arg;

    k->rc = ask(k->host, k->service, AI_ADDRCONFIG, &k->found);
    if (k->rc != 0)
        k->found = NULL;
    atomic_fetch_sub(&running, 1);
    atomic_store(&k->done, true);
    CM_ASSERT(write(k->done_fd, &one, sizeof one) == (ssize_t)sizeof one);
    lookup_put(k);
    return NULL;
}

static cm_status lookup_new(const char *host, const char *service, struct lookup **ret,
                            struct cm_err *err)
{
    struct lookup *k = cm_calloc(1, sizeof *k);
    cm_status rc = CM_OK;

    if (k == NULL)
        return cm_fail_nomem(err);
    atomic_init(&k->refs, 1);
    atomic_init(&k->done, false);
    k->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (k->done_fd < 0)
        rc = cm_fail_errno(err, "create a descriptor for the lookup of '%s'", host);
    k->host = cm_strdup(host);
    if (rc == CM_OK && k->host == NULL)
        rc = cm_fail_nomem(err);
    memcpy(k->service, service, sizeof k->service);
    if (rc != CM_OK)
        lookup_put(k);
    else
        *ret = k;
    return rc;
}

static cm_status not_found(const char *host, int e, struct cm_err *err)
{
    if (e == EAI_MEMORY)
        return cm_fail_nomem(err);
    return cm_fail(err, CM_E_NET, "look up '%s': %s", host, gai_strerror(e));
}

static cm_status lookup(const char *host, const char *service, const struct cm_op *op,
                        struct addrinfo **ret, struct cm_err *err)
{
    struct lookup *k = NULL;
    pthread_t thread;
    cm_status rc;

    if (atomic_fetch_add(&running, 1) >= LOOKUPS_MAX) {
        atomic_fetch_sub(&running, 1);
        return cm_fail(err, CM_E_NET, "look up '%s': the resolver has not answered %u others yet",
                       host, LOOKUPS_MAX);
    }
    rc = lookup_new(host, service, &k, err);
    if (rc == CM_OK) {
        atomic_fetch_add(&k->refs, 1);
        rc = cm_thread_start(&thread, "cm-lookup", lookup_run, k, err);
        if (rc != CM_OK) {
            lookup_put(k);
            lookup_put(k);
        }
    }
    if (rc != CM_OK) {
        atomic_fetch_sub(&running, 1);
        return rc;
    }
    (void)pthread_detach(thread);
    rc = redis_poll(k->done_fd, POLLIN, op, err);
    if (rc != CM_OK) {
        lookup_put(k);
        return cm_wrap(err, rc, "look up '%s'", host);
    }
    CM_ASSERT(atomic_load(&k->done));
    rc = k->rc == 0 ? CM_OK : not_found(host, k->rc, err);
    if (rc == CM_OK) {
        *ret = k->found;
        k->found = NULL;
    }
    lookup_put(k);
    return rc;
}

cm_status redis_resolve(const char *host, uint16_t port, const struct cm_op *op,
                        struct addrinfo **ret, struct cm_err *err)
{
    char service[8];
    int e;

    (void)snprintf(service, sizeof service, "%u", (unsigned)port);
    e = ask(host, service, AI_NUMERICHOST, ret);
    if (e == 0)
        return CM_OK;
    if (e != EAI_NONAME)
        return not_found(host, e, err);
    return lookup(host, service, op, ret, err);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "base.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Firing must be possible from a signal handler, so it takes no lock and walks no list: it sets a
 * flag and writes to an eventfd. A child looks upwards instead. Its flag is "mine or that of any
 * ancestor"; its descriptor is an epoll set over its own eventfd and those of all ancestors (flat,
 * as the kernel limits the depth of nested sets), readable as soon as one of them is. Ancestors
 * are reference counted, so what a child looks at stays. */
struct cm_cancel {
    struct cm_cancel *parent;
    _Atomic unsigned refs;
    atomic_bool fired;
    int event_fd;
    int epoll_fd; /* -1 without parent */
};

static void cancel_destroy(struct cm_cancel *c)
{
    if (c->epoll_fd >= 0)
        (void)close(c->epoll_fd);
    if (c->event_fd >= 0)
        (void)close(c->event_fd);
    free(c);
}

static cm_status cancel_watch(struct cm_cancel *c, struct cm_err *err)
{
    c->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (c->epoll_fd < 0)
        return cm_fail_errno(err, "create epoll set of a cancel token");
    for (const struct cm_cancel *a = c; a != NULL; a = a->parent) {
        struct epoll_event ev = { .events = EPOLLIN };

        if (epoll_ctl(c->epoll_fd, EPOLL_CTL_ADD, a->event_fd, &ev) != 0)
            return cm_fail_errno(err, "watch the parent of a cancel token");
    }
    return CM_OK;
}

cm_status cm_cancel_new(struct cm_cancel *parent, struct cm_cancel **ret, struct cm_err *err)
{
    struct cm_cancel *c = cm_calloc(1, sizeof *c);
    cm_status rc = CM_OK;

    if (c == NULL)
        return cm_fail_nomem(err);
    atomic_init(&c->refs, 1);
    atomic_init(&c->fired, false);
    c->parent = parent;
    c->epoll_fd = -1;
    c->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (c->event_fd < 0)
        rc = cm_fail_errno(err, "create descriptor of a cancel token");
    if (rc == CM_OK && parent != NULL)
        rc = cancel_watch(c, err);
    if (rc != CM_OK) {
        cancel_destroy(c);
        return rc;
    }
    if (parent != NULL)
        atomic_fetch_add(&parent->refs, 1);
    *ret = c;
    return CM_OK;
}

void cm_cancel_free(struct cm_cancel *c)
{
    while (c != NULL && atomic_fetch_sub(&c->refs, 1) == 1) {
        struct cm_cancel *parent = c->parent;

        cancel_destroy(c);
        c = parent;
    }
}

void cm_cancel_fire(struct cm_cancel *c)
{
    const uint64_t one = 1;
    int saved = errno;

    /* One write in all: the counter of an eventfd cannot overflow and so never blocks. */
    if (c != NULL && !atomic_exchange(&c->fired, true)) {
        ssize_t n = write(c->event_fd, &one, sizeof one);

        (void)n;
    }
    errno = saved;
}

bool cm_cancel_is_fired(const struct cm_cancel *c)
{
    for (; c != NULL; c = c->parent)
        if (atomic_load(&c->fired))
            return true;
    return false;
}

int cm_cancel_fd(const struct cm_cancel *c)
{
    if (c == NULL)
        return -1;
    return c->epoll_fd >= 0 ? c->epoll_fd : c->event_fd;
}

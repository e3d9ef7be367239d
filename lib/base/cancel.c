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
 * are reference counted, so what a child looks at stays. A few have two parents (cm_cancel_join).
 */
struct cm_cancel {
    struct cm_cancel *parent;
    struct cm_cancel *other; /* the second parent, or NULL */
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

/* @a and all above it, by either parent; one that can be reached twice is in the set once. */
static cm_status watch_from(int epoll_fd, const struct cm_cancel *a, struct cm_err *err)
{
    cm_status rc = CM_OK;

    for (; a != NULL && rc == CM_OK; a = a->parent) {
        struct epoll_event ev = { .events = EPOLLIN };

        if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, a->event_fd, &ev) != 0 && errno != EEXIST)
            rc = cm_fail_errno(err, "watch the parent of a cancel token");
        if (rc == CM_OK && a->other != NULL)
            rc = watch_from(epoll_fd, a->other, err);
    }
    return rc;
}

static cm_status cancel_watch(struct cm_cancel *c, struct cm_err *err)
{
    c->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (c->epoll_fd < 0)
        return cm_fail_errno(err, "create epoll set of a cancel token");
    return watch_from(c->epoll_fd, c, err);
}

cm_status cm_cancel_new(struct cm_cancel *parent, struct cm_cancel **ret, struct cm_err *err)
{
    return cm_cancel_join(parent, NULL, ret, err);
}

struct cm_cancel *cm_cancel_ref(struct cm_cancel *c)
{
    if (c != NULL)
        atomic_fetch_add(&c->refs, 1);
    return c;
}

cm_status cm_cancel_join(struct cm_cancel *parent, struct cm_cancel *other, struct cm_cancel **ret,
                         struct cm_err *err)
{
    struct cm_cancel *c = cm_calloc(1, sizeof *c);
    cm_status rc = CM_OK;

    if (c == NULL)
        return cm_fail_nomem(err);
    atomic_init(&c->refs, 1);
    atomic_init(&c->fired, false);
    c->parent = parent;
    c->other = other;
    c->epoll_fd = -1;
    c->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (c->event_fd < 0)
        rc = cm_fail_errno(err, "create descriptor of a cancel token");
    if (rc == CM_OK && (parent != NULL || other != NULL))
        rc = cancel_watch(c, err);
    if (rc != CM_OK) {
        cancel_destroy(c);
        return rc;
    }
    (void)cm_cancel_ref(parent);
    (void)cm_cancel_ref(other);
    *ret = c;
    return CM_OK;
}

void cm_cancel_free(struct cm_cancel *c)
{
    while (c != NULL && atomic_fetch_sub(&c->refs, 1) == 1) {
        struct cm_cancel *parent = c->parent;

        cm_cancel_free(c->other);
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
        if (atomic_load(&c->fired) || (c->other != NULL && cm_cancel_is_fired(c->other)))
            return true;
    return false;
}

int cm_cancel_fd(const struct cm_cancel *c)
{
    if (c == NULL)
        return -1;
    return c->epoll_fd >= 0 ? c->epoll_fd : c->event_fd;
}

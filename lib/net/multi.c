/* SPDX-License-Identifier: Apache-2.0 */
#include "net_internal.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* One thread per cm_http drives one multi handle. libcurl allows neither two threads in one multi
 * handle nor connections shared between threads; one driver gives us both, connection reuse and
 * HTTP/2 multiplexing across callers, without either.
 *
 * A caller prepares a transfer, queues it and sleeps in poll() on the transfer's eventfd and its
 * cancel token's descriptor: it wakes at once for either, whatever the driver is busy with. When
 * it leaves early, the transfer stays with the driver (abandoned), which removes and recycles it.
 *
 * Lock order: cm_http.lock is a leaf; it is never held over a call into libcurl.
 *
 * The driver is woken by a descriptor of our own. libcurl has curl_multi_wakeup() for that, but
 * when a process runs short of descriptors its handle comes without, and says so to nobody. */

#define WAKE_TRIES 3

/* Without a running transfer nothing but a wake-up can happen; libcurl shortens this by itself
 * when it has a timer of its own. */
#define POLL_MS 60000

/* A deadline on a simulated clock cannot be slept for; look again this often. */
#define SIMULATED_SLICE_NS (10 * CM_NS_PER_MS)
#define REAL_SLICE_NS      (10 * CM_NS_PER_S)

/* There may be a password among them. */
static void free_lines(struct transfer *t)
{
    for (struct curl_slist *l = t->lines; l != NULL; l = l->next)
        cm_wipe(l->data, strlen(l->data));
    curl_slist_free_all(t->lines);
    t->lines = NULL;
}

static void transfer_free(struct transfer *t)
{
    if (t == NULL)
        return;
    if (t->easy != NULL)
        curl_easy_cleanup(t->easy);
    if (t->done_fd >= 0)
        (void)close(t->done_fd);
    free_lines(t);
    cm_buf_free(&t->post);
    cm_buf_free(&t->body);
    cm_buf_free(&t->headers);
    free(t);
}

static cm_status transfer_new(struct transfer **ret, struct cm_err *err)
{
    struct transfer *t = cm_calloc(1, sizeof *t);

    if (t == NULL)
        return cm_fail_nomem(err);
    t->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (t->done_fd < 0) {
        cm_status rc = cm_fail_errno(err, "create descriptor of a request");

        transfer_free(t);
        return rc;
    }
    t->easy = curl_easy_init();
    if (t->easy == NULL) {
        transfer_free(t);
        return cm_fail_nomem(err);
    }
    *ret = t;
    return CM_OK;
}

/* Ready for the next request; keeps the easy handle, which keeps nothing of the last request but
 * its memory. */
static void transfer_clear(struct transfer *t)
{
    uint64_t drained;
    ssize_t n = read(t->done_fd, &drained, sizeof drained);

    (void)n; /* EAGAIN: it was not signalled */
    curl_easy_reset(t->easy);
    free_lines(t);
    cm_buf_free(&t->post);
    cm_buf_free(&t->body);
    cm_buf_free(&t->headers);
    t->next = NULL;
    t->prev = NULL;
    t->state = TRANSFER_IDLE;
    t->abandoned = false;
    t->error_text[0] = '\0';
    t->post_sent = 0;
    t->header_bytes = 0;
    t->header_lines = 0;
    t->header_ended = false;
    t->body_begun = false;
    t->refuse_local = false;
    t->stop_rc = CM_OK;
    t->stop_why = NULL;
    t->result = CURLE_OK;
    t->status = 0;
}

cm_status cm__net_transfer_get(struct cm_http *h, struct transfer **ret, struct cm_err *err)
{
    struct transfer *t;

    cm_mutex_lock(&h->lock);
    t = h->idle;
    if (t != NULL) {
        h->idle = t->next;
        h->n_idle--;
    }
    cm_mutex_unlock(&h->lock);
    if (t == NULL)
        return transfer_new(ret, err);
    t->next = NULL;
    *ret = t;
    return CM_OK;
}

void cm__net_transfer_recycle(struct cm_http *h, struct transfer *t)
{
    transfer_clear(t);
    cm_mutex_lock(&h->lock);
    if (h->n_idle < CM_NET_IDLE_MAX && !h->stop) {
        t->next = h->idle;
        h->idle = t;
        h->n_idle++;
        t = NULL;
    }
    cm_mutex_unlock(&h->lock);
    transfer_free(t);
}

/* ------------------------------------------------------------ driving thread */

/* Stubborn: a request that nobody looks at would stand still for a minute. */
static void wake(struct cm_http *h)
{
    const uint64_t one = 1;

    for (int try = 0; try < WAKE_TRIES; try++)
        if (write(h->wake_fd, &one, sizeof one) > 0)
            return;
}

static void sleep_until_woken(struct cm_http *h)
{
    struct curl_waitfd wake_up = { .fd = h->wake_fd, .events = CURL_WAIT_POLLIN };
    uint64_t drained;
    ssize_t n;

    (void)curl_multi_poll(h->multi, &wake_up, 1, POLL_MS, NULL);
    n = read(h->wake_fd, &drained, sizeof drained);
    (void)n; /* EAGAIN: it was something else */
}

static void running_add_locked(struct cm_http *h, struct transfer *t)
{
    t->prev = NULL;
    t->next = h->running;
    if (h->running != NULL)
        h->running->prev = t;
    h->running = t;
    t->state = TRANSFER_RUNNING;
}

static void running_remove_locked(struct cm_http *h, struct transfer *t)
{
    if (t->prev != NULL)
        t->prev->next = t->next;
    else
        h->running = t->next;
    if (t->next != NULL)
        t->next->prev = t->prev;
    t->next = NULL;
    t->prev = NULL;
}

/* The transfer is out of the multi handle: tell its caller, or clear up behind it. */
static void finish(struct cm_http *h, struct transfer *t, CURLcode result)
{
    const uint64_t one = 1;
    bool left;

    if (result == CURLE_OK)
        (void)curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &t->status);
    t->result = result;

    cm_mutex_lock(&h->lock);
    running_remove_locked(h, t);
    left = t->abandoned;
    if (left) {
        h->n_abandoned--;
    } else {
        ssize_t n;

        /* Under the lock: after it, the caller may have recycled the transfer. */
        t->state = TRANSFER_DONE;
        n = write(t->done_fd, &one, sizeof one);
        (void)n;
    }
    cm_mutex_unlock(&h->lock);
    if (left)
        cm__net_transfer_recycle(h, t);
}

static void start_queued(struct cm_http *h)
{
    for (;;) {
        struct transfer *t;

        cm_mutex_lock(&h->lock);
        t = h->stop ? NULL : h->queue_head;
        if (t != NULL) {
            h->queue_head = t->next;
            if (h->queue_head == NULL)
                h->queue_tail = NULL;
            running_add_locked(h, t);
        }
        cm_mutex_unlock(&h->lock);
        if (t == NULL)
            return;
        if (curl_multi_add_handle(h->multi, t->easy) != CURLM_OK)
            finish(h, t, CURLE_OUT_OF_MEMORY);
    }
}

static void drop_abandoned(struct cm_http *h)
{
    for (;;) {
        struct transfer *t = NULL;

        cm_mutex_lock(&h->lock);
        if (h->n_abandoned > 0)
            for (t = h->running; t != NULL && !t->abandoned; t = t->next)
                ;
        cm_mutex_unlock(&h->lock);
        if (t == NULL)
            return;
        (void)curl_multi_remove_handle(h->multi, t->easy);
        finish(h, t, CURLE_ABORTED_BY_CALLBACK);
    }
}

static void reap_finished(struct cm_http *h)
{
    CURLMsg *m;
    int more;

    while ((m = curl_multi_info_read(h->multi, &more)) != NULL) {
        struct transfer *t = NULL;
        CURLcode result = m->data.result;

        if (m->msg != CURLMSG_DONE)
            continue;
        (void)curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&t);
        CM_ASSERT(t != NULL);
        (void)curl_multi_remove_handle(h->multi, t->easy);
        finish(h, t, result);
    }
}

static bool should_stop(struct cm_http *h)
{
    bool stop;

    cm_mutex_lock(&h->lock);
    stop = h->stop;
    cm_mutex_unlock(&h->lock);
    return stop;
}

static void *drive(void *arg)
{
    struct cm_http *h = arg;
    struct transfer *t;

    while (!should_stop(h)) {
        int n;

        drop_abandoned(h);
        start_queued(h);
        (void)curl_multi_perform(h->multi, &n);
        reap_finished(h);
        sleep_until_woken(h);
    }
    /* Whoever still waits has broken the contract of cm_http_free(); let it go all the same. */
    for (;;) {
        cm_mutex_lock(&h->lock);
        t = h->running;
        cm_mutex_unlock(&h->lock);
        if (t == NULL)
            return NULL;
        (void)curl_multi_remove_handle(h->multi, t->easy);
        finish(h, t, CURLE_ABORTED_BY_CALLBACK);
    }
}

static cm_status start_thread_locked(struct cm_http *h, struct cm_err *err)
{
    cm_status rc = cm_thread_start(&h->thread, "cm-net", drive, h, err);

    h->started = rc == CM_OK;
    return rc;
}

/* ------------------------------------------------------------------- callers */

static void unqueue_locked(struct cm_http *h, struct transfer *t)
{
    struct transfer **at = &h->queue_head;
    struct transfer *before = NULL;

    while (*at != t) {
        before = *at;
        at = &before->next;
    }
    *at = t->next;
    if (h->queue_tail == t)
        h->queue_tail = before;
    t->next = NULL;
    t->state = TRANSFER_IDLE;
}

/* The caller gives up with @rc, unless the answer came in this very moment. */
static cm_status leave(struct cm_http *h, struct transfer *t, cm_status rc)
{
    bool running = false;
    bool recycle = false;

    cm_mutex_lock(&h->lock);
    switch (t->state) {
    case TRANSFER_DONE:
        rc = CM_OK;
        break;
    case TRANSFER_QUEUED:
        unqueue_locked(h, t);
        recycle = true;
        break;
    case TRANSFER_RUNNING:
        t->abandoned = true;
        h->n_abandoned++;
        running = true;
        break;
    case TRANSFER_IDLE:
        CM_ASSERT(false);
    }
    cm_mutex_unlock(&h->lock);
    if (recycle)
        cm__net_transfer_recycle(h, t);
    if (running)
        wake(h);
    return rc;
}

static bool is_done(struct cm_http *h, const struct transfer *t)
{
    bool done;

    cm_mutex_lock(&h->lock);
    done = t->state == TRANSFER_DONE;
    cm_mutex_unlock(&h->lock);
    return done;
}

cm_status cm__net_transfer_run(struct cm_http *h, const struct cm_op *op, struct transfer *t,
                               struct cm_err *err)
{
    int64_t slice = cm_op_env(op) == cm_env_system() ? REAL_SLICE_NS : SIMULATED_SLICE_NS;
    struct pollfd fds[2] = { { .fd = t->done_fd, .events = POLLIN },
                             { .fd = cm_cancel_fd(op != NULL ? op->cancel : NULL),
                               .events = POLLIN } };
    cm_status rc = CM_OK;

    cm_mutex_lock(&h->lock);
    if (h->stop)
        rc = cm_fail(err, CM_E_STATE, "the HTTP client is being closed");
    else if (!h->started)
        rc = start_thread_locked(h, err);
    if (rc == CM_OK) {
        t->next = NULL;
        if (h->queue_tail != NULL)
            h->queue_tail->next = t;
        else
            h->queue_head = t;
        h->queue_tail = t;
        t->state = TRANSFER_QUEUED;
    }
    cm_mutex_unlock(&h->lock);
    if (rc != CM_OK) {
        cm__net_transfer_recycle(h, t);
        return rc;
    }
    wake(h);

    while (!is_done(h, t)) {
        int64_t ns;

        rc = cm_op_check(op, err);
        if (rc != CM_OK)
            return leave(h, t, rc);
        ns = cm_op_remaining_ns(op, slice);
        (void)poll(fds, 2, (int)((ns + CM_NS_PER_MS - 1) / CM_NS_PER_MS));
    }
    return CM_OK;
}

/* --------------------------------------------------------------- begin, end */

static pthread_once_t curl_once = PTHREAD_ONCE_INIT;
static CURLcode curl_once_rc;

/* Never undone: other parts of the program may use libcurl too. */
static void curl_begin(void)
{
    curl_once_rc = curl_global_init(CURL_GLOBAL_DEFAULT);
}

cm_status cm__net_multi_init(struct cm_http *h, struct cm_err *err)
{
    CM_ASSERT(pthread_once(&curl_once, curl_begin) == 0);
    if (curl_once_rc != CURLE_OK)
        return cm_fail(err, CM_E_INTERNAL, "libcurl does not start: %s",
                       curl_easy_strerror(curl_once_rc));
    h->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (h->wake_fd < 0)
        return cm_fail_errno(err, "create descriptor of the HTTP client");
    h->multi = curl_multi_init();
    if (h->multi == NULL) {
        (void)close(h->wake_fd);
        return cm_fail_nomem(err);
    }
    (void)curl_multi_setopt(h->multi, CURLMOPT_PIPELINING, CURLPIPE_MULTIPLEX);
    /* For peers without HTTP/2; requests past this wait for a connection. */
    (void)curl_multi_setopt(h->multi, CURLMOPT_MAX_HOST_CONNECTIONS, 16L);
    (void)curl_multi_setopt(h->multi, CURLMOPT_MAXCONNECTS, 16L);
    return CM_OK;
}

void cm__net_multi_end(struct cm_http *h)
{
    struct transfer *t;
    bool started;

    cm_mutex_lock(&h->lock);
    h->stop = true;
    started = h->started;
    cm_mutex_unlock(&h->lock);
    if (started) {
        wake(h);
        CM_ASSERT(pthread_join(h->thread, NULL) == 0);
    }
    while ((t = h->idle) != NULL) {
        h->idle = t->next;
        transfer_free(t);
    }
    if (h->multi != NULL)
        (void)curl_multi_cleanup(h->multi);
    (void)close(h->wake_fd);
}

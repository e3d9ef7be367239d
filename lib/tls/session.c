/* SPDX-License-Identifier: Apache-2.0 */
#include "tls.h"

#include <pthread.h>
#include <string.h>

/* How a GnuTLS session finds its state, and how the state finds its end.
 *
 * The end comes from GnuTLS: data of a session extension has a destructor that gnutls_deinit()
 * calls, and it leaves session, transport and database pointers to the application. The finding is
 * our own: the extension's number is from the private range and an application may use the same
 * one for its own, in which case asking GnuTLS for "the data of extension 65000" would hand us a
 * pointer to we know not what. So a sharded map keyed by the session's address answers, and the
 * extension's number may be any that is free. */

#define SHARDS       64u
#define HEADS        64u
#define EXT_ID_FIRST 0xFDE8 /* private use, RFC 8447 7 */
#define EXT_ID_TRIES 16

struct shard {
    pthread_mutex_t lock;
    struct cm_tls_session *head[HEADS];
};

static struct shard shards[SHARDS];
static pthread_once_t shards_once = PTHREAD_ONCE_INIT;

static void shards_init(void)
{
    for (size_t i = 0; i < SHARDS; i++)
        cm_mutex_init(&shards[i].lock);
}

static struct shard *shard_of(gnutls_session_t session, size_t *ret_head)
{
    /* Fibonacci hashing: the low bits of an address are always zero. */
    uint64_t h = (uint64_t)(uintptr_t)session * UINT64_C(0x9E3779B97F4A7C15);

    (void)pthread_once(&shards_once, shards_init);
    *ret_head = (size_t)(h >> 52) % HEADS;
    return &shards[(size_t)(h >> 58) % SHARDS];
}

static struct cm_tls_session *find_locked(struct shard *s, size_t head, gnutls_session_t session)
{
    struct cm_tls_session *st = s->head[head];

    while (st != NULL && st->session != session)
        st = st->map_next;
    return st;
}

struct cm_tls_session *cm_tls_session_of(gnutls_session_t session)
{
    struct cm_tls_session *st;
    struct shard *s;
    size_t head;

    if (session == NULL)
        return NULL;
    s = shard_of(session, &head);
    cm_mutex_lock(&s->lock);
    st = find_locked(s, head, session);
    cm_mutex_unlock(&s->lock);
    return st;
}

static void map_add(struct cm_tls_session *st)
{
    size_t head;
    struct shard *s = shard_of(st->session, &head);

    cm_mutex_lock(&s->lock);
    st->map_next = s->head[head];
    s->head[head] = st;
    cm_mutex_unlock(&s->lock);
}

static void map_remove(struct cm_tls_session *st)
{
    size_t head;
    struct shard *s = shard_of(st->session, &head);
    struct cm_tls_session **at;

    cm_mutex_lock(&s->lock);
    for (at = &s->head[head]; *at != NULL; at = &(*at)->map_next) {
        if (*at == st) {
            *at = st->map_next;
            break;
        }
    }
    cm_mutex_unlock(&s->lock);
}

static void session_free(struct cm_tls_session *st)
{
    if (st == NULL)
        return;
    cm_pending_free(st->pending);
    cm_cert_unref(st->cert);
    cm_staple_unref(st->staple);
    cm_record_scan_free(&st->scan);
    cm_buf_free(&st->raw);
    free(st->refusal);
    free(st);
}

/* Called by GnuTLS in gnutls_deinit(): the references to certificate and staple live exactly as
 * long as GnuTLS may look at what was made from them. */
static void ext_destroy(gnutls_ext_priv_data_t data)
{
    struct cm_tls_session *st = data;

    map_remove(st);
    session_free(st);
}

/* The extension is never sent, and ignored when received. */
static int ext_recv(gnutls_session_t session, const unsigned char *data, size_t len)
{
    (void)session;
    (void)data;
    (void)len;
    return 0;
}

static int ext_send(gnutls_session_t session, gnutls_buffer_t extdata)
{
    (void)session;
    (void)extdata;
    return 0;
}

static cm_status tie(struct cm_tls_session *st, struct cm_err *err)
{
    int rc = GNUTLS_E_ALREADY_REGISTERED;
    int id = EXT_ID_FIRST;

    for (int i = 0; i < EXT_ID_TRIES && rc == GNUTLS_E_ALREADY_REGISTERED; i++) {
        id = EXT_ID_FIRST + i;
        rc = gnutls_session_ext_register(st->session, "certmesh", id, GNUTLS_EXT_TLS, ext_recv,
                                         ext_send, ext_destroy, NULL, NULL, 0);
    }
    if (rc < 0)
        return cm_fail(err, CM_E_TLS, "register the session with GnuTLS: %s", gnutls_strerror(rc));
    map_add(st);
    gnutls_ext_set_data(st->session, (unsigned)id, st);
    return CM_OK;
}

cm_status cm_tls_session_new(gnutls_session_t session, struct cm_config *cfg, int fd,
                             struct cm_tls_session **ret, struct cm_err *err)
{
    struct cm_tls_session *st;
    cm_status rc;

    if (cm_tls_session_of(session) != NULL)
        return cm_fail(err, CM_E_STATE, "this TLS session was set up already");
    st = cm_calloc(1, sizeof *st);
    if (st == NULL)
        return cm_fail_nomem(err);
    st->session = session;
    st->cfg = cfg;
    st->fd = fd;
    st->gate = fd >= 0 ? CM_GATE_COLLECT : CM_GATE_OFF;
    st->raw.max = CM_TLS_RAW_MAX;
    rc = tie(st, err);
    if (rc != CM_OK) {
        session_free(st);
        return rc;
    }
    *ret = st;
    return CM_OK;
}

/* --------------------------------------------------------------- public views */

int cm_tls_wait_fd(gnutls_session_t session)
{
    struct cm_tls_session *st = cm_tls_session_of(session);

    if (st == NULL)
        return -1;
    if (st->gate == CM_GATE_PENDING && st->pending != NULL)
        return cm_pending_fd(st->pending);
    return st->fd;
}

bool cm_tls_is_challenge(gnutls_session_t session)
{
    struct cm_tls_session *st = cm_tls_session_of(session);

    return st != NULL && st->challenge;
}

cm_status cm_tls_refusal(gnutls_session_t session, struct cm_err *err)
{
    struct cm_tls_session *st = cm_tls_session_of(session);

    if (st == NULL)
        return cm_fail(err, CM_E_STATE, "this TLS session was not set up by certmesh");
    if (!st->refused)
        return CM_OK;
    if (err != NULL) {
        if (st->refusal != NULL)
            *err = *st->refusal;
        else
            (void)cm_fail(err, st->refusal_rc, "handshake refused");
        err->tls_alert = st->refusal_alert;
    }
    return st->refusal_rc;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "postgres.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

/* One question, until there is an answer that counts. */

#define BROKEN_MAX    4  /* connections that may break, or hosts that may refuse, per question */
#define CONFLICTS_MAX 20 /* transactions that may have to give way */
#define EPOCH_S       INT64_C(946684800) /* PostgreSQL counts from 2000-01-01 */

/* --------------------------------------------------------------- parameters */

static int add(struct pg_args *a, const char *value, size_t len, int format)
{
    CM_ASSERT(a->n < (int)PG_ARGS_MAX && len <= CM_STORAGE_VALUE_MAX * 2);
    a->values[a->n] = value;
    a->lengths[a->n] = (int)len;
    a->formats[a->n] = format;
    return ++a->n;
}

int pg_arg_text(struct pg_args *a, const char *text)
{
    return add(a, text, 0, 0);
}

int pg_arg_bytes(struct pg_args *a, struct cm_span bytes)
{
    /* No pointer would be NULL, not empty. */
    return add(a, bytes.data != NULL ? (const char *)bytes.data : "", bytes.len, 1);
}

int pg_arg_number(struct pg_args *a, int64_t number)
{
    char *text = a->numbers[a->n_numbers];

    CM_ASSERT(a->n_numbers < (int)CM_ARRAY_LEN(a->numbers));
    a->n_numbers++;
    (void)snprintf(text, sizeof a->numbers[0], "%" PRId64, number);
    return add(a, text, 0, 0);
}

cm_status pg_array(const char *const *texts, size_t n, struct cm_buf *out, struct cm_err *err)
{
    cm_status rc = cm_buf_puts(out, "{", err);

    for (size_t i = 0; i < n && rc == CM_OK; i++) {
        const char *at = texts[i];

        rc = cm_buf_puts(out, i > 0 ? ",\"" : "\"", err);
        while (rc == CM_OK && *at != '\0') {
            size_t len = strcspn(at, "\"\\");

            rc = cm_buf_append(out, at, len, err);
            at += len;
            if (rc == CM_OK && *at != '\0') {
                rc = cm_buf_puts(out, "\\", err);
                if (rc == CM_OK)
                    rc = cm_buf_append(out, at++, 1, err);
            }
        }
        if (rc == CM_OK)
            rc = cm_buf_puts(out, "\"", err);
    }
    return rc == CM_OK ? cm_buf_puts(out, "}", err) : rc;
}

cm_status pg_sql(const struct pg_storage *s, const char *text, struct cm_buf *out,
                 struct cm_err *err)
{
    cm_status rc = CM_OK;

    while (rc == CM_OK && *text != '\0') {
        size_t len = strcspn(text, "@");

        rc = cm_buf_append(out, text, len, err);
        text += len;
        if (rc != CM_OK || *text == '\0')
            break;
        if (text[1] == 'd')
            rc = cm_buf_puts(out, s->data, err);
        else if (text[1] == 'l')
            rc = cm_buf_puts(out, s->locks, err);
        else if (text[1] == 'o')
            rc = cm_buf_puts(out, s->own, err);
        else if (text[1] == 'i')
            rc = cm_buf_puts(out, s->index, err);
        else if (text[1] == 't')
            rc = cm_buf_puts(out, "translate(key, '/', E'\\x01') COLLATE \"C\"", err);
        else if (s->options.feed)
            rc = cm_buf_printf(out, err, "pg_notify('%s', ", s->channel);
        else
            rc = cm_buf_puts(out, "(", err);
        text += 2;
    }
    return rc;
}

/* ------------------------------------------------------------------ results */

static uint64_t big_endian(const char *bytes)
{
    uint64_t value = 0;

    for (int i = 0; i < 8; i++)
        value = value << 8 | (unsigned char)bytes[i];
    return value;
}

int64_t pg_int(const PGresult *res, int row, int column)
{
    if (PQgetisnull(res, row, column) || PQgetlength(res, row, column) != 8)
        return 0;
    return (int64_t)big_endian(PQgetvalue(res, row, column));
}

uint64_t pg_size(const PGresult *res, int row, int column)
{
    int64_t size = pg_int(res, row, column);

    return size > 0 ? (uint64_t)size : 0;
}

bool pg_bool(const PGresult *res, int row, int column)
{
    return !PQgetisnull(res, row, column) && PQgetlength(res, row, column) == 1 &&
           PQgetvalue(res, row, column)[0] != 0;
}

int64_t pg_time_ns(const PGresult *res, int row, int column)
{
    int64_t us = pg_int(res, row, column);
    int64_t ns;

    if (PQgetisnull(res, row, column))
        return 0;
    if (__builtin_add_overflow(us, EPOCH_S * 1000000, &us) || __builtin_mul_overflow(us, 1000, &ns))
        return us > 0 ? INT64_MAX : INT64_MIN; /* "infinity" is one of those */
    return ns;
}

struct cm_span pg_bytes(const PGresult *res, int row, int column)
{
    struct cm_span span = { NULL, 0 };

    if (!PQgetisnull(res, row, column)) {
        span.data = (const uint8_t *)PQgetvalue(res, row, column);
        span.len = (size_t)PQgetlength(res, row, column);
    }
    return span;
}

void pg_result_free(PGresult *res)
{
    for (int row = 0; row < PQntuples(res); row++)
        for (int column = 0; column < PQnfields(res); column++)
            if (!PQgetisnull(res, row, column))
                cm_wipe(PQgetvalue(res, row, column), (size_t)PQgetlength(res, row, column));
    PQclear(res);
}

void pg_auto_result(PGresult **res)
{
    pg_result_free(*res);
}

/* ------------------------------------------------------------ one connection */

static cm_status broken(PGconn *conn, struct cm_err *err)
{
    char shown[PG_SAID];

    return cm_fail(err, CM_E_NET, "the connection to PostgreSQL broke: %s",
                   pg_said(PQerrorMessage(conn), shown, sizeof shown));
}

static cm_status flush(PGconn *conn, const struct pg_wait *w, uint64_t before, struct cm_err *err)
{
    int left = PQflush(conn);

    while (left > 0) {
        /* Who does not read what comes meanwhile may wait for a server that waits for him. */
        cm_status rc = pg_wait_fd(w, PQsocket(conn), POLLIN | POLLOUT, err);

        if (rc == CM_OK)
            rc = pg_check_received(PQsocket(conn), before, PG_ANSWER_MAX, err);
        if (rc != CM_OK)
            return rc;
        if (PQconsumeInput(conn) != 1)
            return broken(conn, err);
        left = PQflush(conn);
    }
    return left == 0 ? CM_OK : broken(conn, err);
}

/* The next result; *ret NULL: there is no more. @before: what had come before the question. Who was
 * stopped for longer than he had time finds the time over and the answer there: so at the end one
 * more look. */
static cm_status next_result(PGconn *conn, const struct pg_wait *w, uint64_t before, PGresult **ret,
                             struct cm_err *err)
{
    while (PQisBusy(conn)) {
        cm_status rc = pg_wait_fd(w, PQsocket(conn), POLLIN, err);

        if (rc == CM_OK)
            rc = pg_check_received(PQsocket(conn), before, PG_ANSWER_MAX, err);
        if (rc != CM_OK && rc != CM_E_TIMEOUT)
            return rc;
        if (PQconsumeInput(conn) != 1)
            return broken(conn, err);
        if (rc != CM_OK && PQisBusy(conn))
            return rc;
    }
    *ret = PQgetResult(conn);
    return CM_OK;
}

static bool is_error(const PGresult *res)
{
    return PQresultStatus(res) == PGRES_FATAL_ERROR || PQresultStatus(res) == PGRES_BAD_RESPONSE;
}

cm_status pg_conn_ask(PGconn *conn, const struct pg_wait *w, const char *sql,
                      const struct pg_args *args, PGresult **ret, bool *ret_sent,
                      struct cm_err *err)
{
    uint64_t before = pg_received(PQsocket(conn));
    PGresult *kept = NULL;
    PGresult *res = NULL;
    int64_t given = pg_given(PQsocket(conn));
    cm_status rc;
    int ok;

    *ret_sent = false;
    /* Without parameters several statements may stand in one text: one transaction. */
    if (args == NULL)
        ok = PQsendQuery(conn, sql);
    else
        ok = PQsendQueryParams(conn, sql, args->n, NULL, args->values, args->lengths, args->formats,
                               1);
    if (ok != 1)
        return broken(conn, err);
    *ret_sent = true;
    rc = flush(conn, w, before, err);
    if (rc == CM_OK && given >= 0 && pg_given(PQsocket(conn)) == given)
        rc = cm_fail(err, CM_E_NET, "the connection to PostgreSQL broke: nothing could be sent");
    while (rc == CM_OK) {
        rc = next_result(conn, w, before, &res, err);
        if (rc != CM_OK || res == NULL)
            break;
        /* Of several statements the one that failed tells, else the last. */
        if (kept != NULL && is_error(kept)) {
            PQclear(res);
            continue;
        }
        pg_result_free(kept);
        kept = res;
    }
    if (rc == CM_OK && kept == NULL)
        rc = broken(conn, err);
    if (rc == CM_OK && PQstatus(conn) != CONNECTION_OK &&
        PQresultErrorField(kept, PG_DIAG_SQLSTATE) == NULL)
        rc = broken(conn, err);
    if (rc == CM_OK)
        *ret = kept;
    else
        pg_result_free(kept);
    return rc;
}

/* ------------------------------------------------------------------ verdicts */

enum verdict {
    ANSWERED,
    FAILED,   /* and will fail again */
    CONFLICT, /* undone for the sake of another transaction */
    NO_TABLE,
    BROKEN,    /* ask on another connection */
    READ_ONLY, /* ask another host */
    OVER,      /* no time left, or canceled */
};

static bool starts(const char *state, const char *class)
{
    return strncmp(state, class, strlen(class)) == 0;
}

static enum verdict judge_state(const char *state, cm_status *ret)
{
    static const struct {
        const char *state; /* or its beginning */
        enum verdict verdict;
        cm_status rc;
    } known[] = {
        { "40001", CONFLICT, CM_E_BUSY },  { "40P01", CONFLICT, CM_E_BUSY },
        { "55P03", CONFLICT, CM_E_BUSY },  { "42P01", NO_TABLE, CM_E_STATE },
        { "3F000", NO_TABLE, CM_E_STATE }, { "42703", FAILED, CM_E_STATE },
        { "25006", READ_ONLY, CM_E_NET },  { "08", BROKEN, CM_E_NET },
        { "53300", BROKEN, CM_E_NET },     { "57P", BROKEN, CM_E_NET },
        { "57014", FAILED, CM_E_TIMEOUT }, { "42501", FAILED, CM_E_PERM },
        { "28", FAILED, CM_E_PERM },       { "22021", FAILED, CM_E_INVAL },
        { "53200", FAILED, CM_E_NOMEM },   { "53", FAILED, CM_E_IO },
        { "54", FAILED, CM_E_LIMIT },
    };

    for (size_t i = 0; i < CM_ARRAY_LEN(known); i++)
        if (starts(state, known[i].state)) {
            *ret = known[i].rc;
            return known[i].verdict;
        }
    *ret = CM_E_IO;
    return FAILED;
}

static enum verdict judge(const PGresult *res, cm_status *ret, struct cm_err *err)
{
    const char *state = PQresultErrorField(res, PG_DIAG_SQLSTATE);
    enum verdict v = FAILED;
    char shown[PG_SAID];

    *ret = CM_OK;
    if (!is_error(res))
        return ANSWERED;
    *ret = CM_E_IO;
    if (state != NULL)
        v = judge_state(state, ret);
    *ret = cm_fail(err, *ret, "PostgreSQL%s: %s (%s)",
                   state != NULL && strcmp(state, "53100") == 0 ? " has no room on its disk" : "",
                   pg_said(PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY), shown, sizeof shown),
                   state != NULL ? state : "no code");
    return v;
}

/* One attempt. *ret_unknown is set when nobody knows what came of it. */
static enum verdict attempt(struct pg_storage *s, const struct pg_wait *w,
                            const struct pg_question *q, const char *sql, bool *made,
                            PGresult **ret, bool *ret_unknown, cm_status *rc, struct cm_err *err)
{
    PGconn *conn = NULL;
    PGresult *res = NULL;
    bool sent = false;
    enum verdict v;

    *rc = pg_pool_get(s, w, &conn, err);
    if (*rc != CM_OK)
        return *rc == CM_E_NET                               ? BROKEN
               : *rc == CM_E_TIMEOUT || *rc == CM_E_CANCELED ? OVER
                                                             : FAILED;
    *rc = pg_conn_ask(conn, w, sql, q->args, &res, &sent, err);
    if (*rc != CM_OK) {
        bool over = *rc == CM_E_TIMEOUT || *rc == CM_E_CANCELED;

        *ret_unknown = *ret_unknown || sent;
        pg_pool_drop(s, conn, over, !over);
        return over ? OVER : *rc == CM_E_LIMIT ? FAILED : BROKEN;
    }
    v = judge(res, rc, err);
    if (v == NO_TABLE && !*made) {
        *made = true;
        *rc = pg_schema_make(s, w, conn, PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY), err);
        v = *rc == CM_OK ? CONFLICT : FAILED;
    }
    /* Told to go away while it may just have been done. */
    if (v == BROKEN)
        *ret_unknown = true;
    if (v == READ_ONLY)
        pg_connect_elsewhere(s);
    if (v == ANSWERED)
        *ret = res;
    else
        PQclear(res);
    if (v == BROKEN || v == READ_ONLY || PQstatus(conn) != CONNECTION_OK ||
        PQtransactionStatus(conn) != PQTRANS_IDLE)
        pg_pool_drop(s, conn, false, v == BROKEN || v == READ_ONLY);
    else
        pg_pool_put(s, conn);
    return v;
}

/* A breath before the next attempt, longer each time, never past the end. CM_OK: go on. */
static cm_status pause_before(const struct pg_storage *s, const struct pg_wait *w, unsigned nth,
                              int64_t unit_ns)
{
    int64_t most = unit_ns << (nth < 5 ? nth : 5);
    const struct cm_env *real = cm_env_system();
    int64_t ns = most / 2 + (int64_t)cm_random_below(s->env, (uint64_t)most / 2 + 1);

    if (real->mono_ns(real) + ns >= w->until_ns || cm_op_remaining_ns(w->op, ns + 1) <= ns)
        return CM_E_TIMEOUT;
    return cm_op_wait(w->op, ns, NULL);
}

cm_status pg_ask(struct pg_storage *s, const struct cm_op *op, const struct pg_question *q,
                 PGresult **ret, bool *ret_unknown, struct cm_err *err)
{
    struct pg_wait w = pg_wait_begin(op, s->options.timeout_ns);
    CM_AUTO_BUF struct cm_buf sql = CM_BUF_INIT(65536);
    unsigned broke = 0;
    unsigned conflicts = 0;
    bool unknown = false;
    bool made = false;
    cm_status rc = pg_sql(s, q->sql, &sql, err);

    while (rc == CM_OK) {
        enum verdict v = attempt(s, &w, q, cm_buf_str(&sql), &made, ret, &unknown, &rc, err);

        if (v == ANSWERED)
            break;
        if (v == CONFLICT && ++conflicts <= CONFLICTS_MAX &&
            pause_before(s, &w, conflicts, 2 * CM_NS_PER_MS) == CM_OK)
            rc = CM_OK;
        else if ((v == BROKEN || v == READ_ONLY) && (q->again || !unknown) &&
                 ++broke < BROKEN_MAX && pause_before(s, &w, broke, 25 * CM_NS_PER_MS) == CM_OK)
            rc = CM_OK;
        else if (rc == CM_OK)
            rc = cm_fail(err, CM_E_BUSY, "other transactions were in the way too often");
    }
    if (ret_unknown != NULL)
        *ret_unknown = unknown;
    return rc == CM_OK ? CM_OK : cm_wrap(err, rc, "%s '%s'", q->what, q->name);
}

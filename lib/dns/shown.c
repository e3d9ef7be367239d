/* SPDX-License-Identifier: Apache-2.0 */
#include "wire.h"

#include <stdio.h>
#include <string.h>

/* Does the record show? The CA asks any of the zone's servers, so all of them are asked here, and
 * directly: what a resolver has may be older, or may be "no such name", which it would keep. */

#define NS_MAX       16u
#define POLL_GROWTH  8
#define ASK_AGAIN_NS (250 * CM_NS_PER_MS)
#define TEXT_MAX     1024u
#define SILENT_LOOKS 4u /* a server that did not answer so often is not waited for any more */

struct ns {
    char name[DNS_NAME_BUF];
    struct dns_server servers[DNS_SERVERS_MAX];
    size_t n;
    bool shows;
    bool answered;
    unsigned silent;
    char says[96];
};

struct wanted {
    const struct dns_resolver *r;
    const char *name;
    const char *value; /* NULL: what @why_not says */
    dns_why_not_fn why_not;
    void *user;
};

struct watch {
    struct wanted want;
    char zone[DNS_NAME_BUF];
    struct ns ns[NS_MAX];
    size_t n;
    struct cm_buf answer;
};

/* By name, as servers give them in another order each time. */
static void insert(struct watch *w, const char *name)
{
    size_t at = w->n++;

    for (; at > 0 && strcmp(w->ns[at - 1].name, name) > 0; at--)
        memcpy(w->ns[at].name, w->ns[at - 1].name, DNS_NAME_BUF);
    memcpy(w->ns[at].name, name, DNS_NAME_BUF);
}

static void take_servers(struct watch *w, const struct dns_message *m)
{
    struct dns_walk walk = { .m = m };
    struct dns_rr rr;
    char name[DNS_NAME_BUF];

    while (w->n < NS_MAX && dns_next(&walk, &rr)) {
        size_t at = rr.rdata;
        if (rr.section == DNS_ANSWER && rr.type == DNS_NS && rr.class == DNS_IN &&
            strcmp(rr.name, w->zone) == 0 && dns_read_name(m->msg, &at, name) && dns_is_name(name))
            insert(w, name);
    }
}

static cm_status find_servers(struct watch *w, const struct cm_op *op, struct cm_err *err)
{
    struct dns_message m;
    cm_status rc = dns_look_up(w->want.r, op, w->zone, DNS_NS, &w->answer, &m, err);

    if (rc != CM_OK)
        return cm_wrap(err, rc, "find the servers of zone %s", w->zone);
    take_servers(w, &m);
    if (w->n == 0)
        return cm_fail(err, CM_E_NOTFOUND, "zone %s has no name servers", w->zone);
    return CM_OK;
}

/* NULL when it is what is waited for. */
static const char *fault_of(const struct watch *w, const struct dns_message *m,
                            const struct dns_rr *rr)
{
    char text[TEXT_MAX];

    if (w->want.value != NULL)
        return dns_txt_is(m, rr, w->want.value) ? NULL : "";
    return dns_txt_text(m, rr, text, sizeof text) ? w->want.why_not(w->want.user, text) : "";
}

static void look_at(struct watch *w, const struct cm_op *op, struct ns *ns)
{
    struct cm_err why = CM_ERR_INIT;
    struct dns_message m;
    struct dns_rr rr;
    unsigned others = 0;
    const char *why_so = "", *fault = NULL;
    cm_status rc = CM_OK;

    if (ns->n == 0)
        rc = dns_addresses(w->want.r, op, ns->name, dns_zone_port(w->want.r), ns->servers, &ns->n,
                           &why);
    if (rc == CM_OK)
        rc = dns_ask(ns->servers, ns->n, 1, op, w->want.name, DNS_TXT, false, &w->answer, &m, &why);
    if (rc != CM_OK) {
        if (cm_op_check(op, NULL) == CM_OK)
            ns->silent++;
        if (ns->says[0] == '\0' || cm_op_check(op, NULL) == CM_OK)
            (void)snprintf(ns->says, sizeof ns->says, "%.95s",
                           rc == CM_E_TIMEOUT ? "does not answer" : why.msg);
        return;
    }
    ns->silent = 0;
    ns->answered = true;
    struct dns_walk walk = { .m = &m };
    while (!ns->shows && dns_next(&walk, &rr)) {
        if (rr.section != DNS_ANSWER || rr.type != DNS_TXT || rr.class != DNS_IN ||
            strcmp(rr.name, w->want.name) != 0)
            continue;
        fault = fault_of(w, &m, &rr);
        ns->shows = fault == NULL;
        if (fault != NULL && fault[0] != '\0')
            why_so = fault;
        others++;
    }
    if (ns->shows)
        (void)snprintf(ns->says, sizeof ns->says, "shows it");
    else if (why_so[0] != '\0')
        (void)snprintf(ns->says, sizeof ns->says, "has a record that %s", why_so);
    else if (others > 0)
        (void)snprintf(ns->says, sizeof ns->says, "has %u other value%s there", others,
                       others == 1 ? "" : "s");
    else
        (void)snprintf(ns->says, sizeof ns->says, "has no such record");
}

/* Everything that can be said in one sentence: which server says what. */
static cm_status not_shown(const struct watch *w, cm_status rc, struct cm_err *err)
{
    char text[360] = "";
    size_t used = 0;

    for (size_t i = 0; i < w->n && used < sizeof text - 1; i++) {
        int n = snprintf(text + used, sizeof text - used, "%s%s %s", i == 0 ? "" : "; ",
                         w->ns[i].name, w->ns[i].says[0] == '\0' ? "was not asked" : w->ns[i].says);
        if (n < 0)
            break;
        used += (size_t)n;
    }
    return cm_fail(err, rc, "not all servers of zone %s show the TXT record: %s", w->zone, text);
}

/* True when there is nothing to wait for. */
static bool look(struct watch *w, const struct cm_op *op, bool *ret_silent)
{
    size_t shown = 0, given_up = 0;

    for (size_t i = 0; i < w->n; i++) {
        struct ns *ns = &w->ns[i];
        if (!ns->shows && ns->silent < SILENT_LOOKS && cm_op_check(op, NULL) == CM_OK)
            look_at(w, op, ns);
        shown += ns->shows;
        given_up += !ns->shows && ns->silent >= SILENT_LOOKS;
    }
    *ret_silent = given_up > 0;
    if (shown > 0)
        return shown + given_up == w->n;
    /* Nobody answers at all: perhaps the way there is what is broken. */
    for (size_t i = 0; given_up == w->n && i < w->n; i++)
        w->ns[i].silent = 0;
    return false;
}

static bool is_asking(const struct watch *w)
{
    for (size_t i = 0; i < w->n; i++)
        if (!w->ns[i].shows && w->ns[i].silent > 0 && w->ns[i].silent < SILENT_LOOKS)
            return true;
    return false;
}

static bool has_answer(const struct watch *w)
{
    for (size_t i = 0; i < w->n; i++)
        if (w->ns[i].answered)
            return true;
    return false;
}

static cm_status wait_shown(struct watch *w, const struct cm_op *op, int64_t poll_ns,
                            bool *ret_silent, struct cm_err *err)
{
    int64_t pause_ns = poll_ns == 0 ? ASK_AGAIN_NS : poll_ns;

    while (!look(w, op, ret_silent)) {
        if (poll_ns == 0 && !is_asking(w))
            return not_shown(w, has_answer(w) ? CM_E_NOTFOUND : CM_E_TIMEOUT, err);
        cm_status rc = cm_op_wait(op, pause_ns, err);
        if (rc == CM_E_TIMEOUT)
            return not_shown(w, CM_E_TIMEOUT, err);
        if (rc != CM_OK)
            return rc;
        if (pause_ns < POLL_GROWTH * poll_ns)
            pause_ns += pause_ns / 2;
    }
    return CM_OK;
}

static cm_status watch(const struct wanted *want, const struct cm_op *op, const char *zone,
                       int64_t poll_ns, bool *ret_silent, struct cm_err *err)
{
    static const struct cm_buf empty = CM_BUF_INIT(DNS_MESSAGE_MAX);
    struct watch *w = cm_calloc(1, sizeof *w);
    bool silent = false;
    cm_status rc = CM_OK;

    if (w == NULL)
        return cm_fail_nomem(err);
    w->want = *want;
    w->answer = empty;
    if (zone != NULL)
        (void)snprintf(w->zone, sizeof w->zone, "%s", zone);
    else
        rc = dns_zone_of(w->want.r, op, w->want.name, w->zone, err);
    if (rc == CM_OK)
        rc = find_servers(w, op, err);
    if (rc == CM_OK)
        rc = wait_shown(w, op, poll_ns, &silent, err);
    if (rc == CM_OK && ret_silent != NULL)
        *ret_silent = silent;
    cm_buf_free(&w->answer);
    free(w);
    return rc;
}

cm_status dns_wait_shown(const struct dns_resolver *r, const struct cm_op *op, const char *zone,
                         const char *name, const char *value, int64_t poll_ns, bool *ret_silent,
                         struct cm_err *err)
{
    const struct wanted want = { .r = r, .name = name, .value = value };

    return watch(&want, op, zone, poll_ns, ret_silent, err);
}

cm_status dns_wait_fitting(const struct dns_resolver *r, const struct cm_op *op, const char *zone,
                           const char *name, dns_why_not_fn why_not, void *user, int64_t poll_ns,
                           bool *ret_silent, struct cm_err *err)
{
    const struct wanted want = { .r = r, .name = name, .why_not = why_not, .user = user };

    return watch(&want, op, zone, poll_ns, ret_silent, err);
}

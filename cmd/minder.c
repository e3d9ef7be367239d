/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* Beside the server: says when a name is up or renewed, and when it failed and is tried again. What
 * there is to do about it the library does by itself. */

#define LOOK_FAST_NS (100 * CM_NS_PER_MS) /* while names are on their way */
#define LOOK_SLOW_NS CM_NS_PER_S

struct minded {
    const char *name;
    char normal[256];
    char serial[64];    /* of what was said to be up; "" before */
    bool hopeless;      /* trying again without a change cannot succeed */
    unsigned attempts;  /* said */
    int64_t next_try_s; /* said */
    bool failed;        /* said */
    int exit_code;
};

struct cli_minder {
    struct cli *cli;
    uint16_t tls_port;
    struct minded *names;
    pthread_t thread;
    int exit_code;
};

static bool newest(void *user, struct cm_cert *cert)
{
    struct cm_cert **slot = user;

    *slot = cm_cert_ref(cert);
    return false;
}

static void say_up(const struct cli_minder *m, struct minded *x, const struct cm_cert *cert)
{
    char port[8] = "", when[CLI_TIME_SIZE];
    bool ip6 = strchr(x->name, ':') != NULL;

    if (m->tls_port != 443)
        (void)snprintf(port, sizeof port, ":%u", m->tls_port);
    cli_say("certmesh: https://%s%s%s%s/ is %s, certificate by %s until %s", ip6 ? "[" : "",
            x->name, ip6 ? "]" : "", port, x->serial[0] != '\0' ? "renewed" : "up",
            cm_cert_issuer_cn(cert), cli_time_human(cm_cert_not_after_s(cert), when));
    (void)snprintf(x->serial, sizeof x->serial, "%s", cm_cert_serial(cert));
}

static void say_failed(const struct cli_minder *m, struct minded *x, const struct cm_name_state *st)
{
    char span[CLI_TIME_SIZE];

    if (x->failed && x->attempts == st->attempts && x->next_try_s == st->next_try_s)
        return;
    x->failed = true;
    x->attempts = st->attempts;
    x->next_try_s = st->next_try_s;
    x->hopeless = st->next_try_s == INT64_MAX || st->last.no_retry;
    x->exit_code = cli_exit_of(&st->last);
    cli_hint(m->cli, x->name, &st->last); /* the failure itself was logged */
    if (!x->hopeless && st->next_try_s > cli_now_s())
        cli_say("certmesh: %s: next try %s", x->name,
                cli_relative(st->next_try_s - cli_now_s(), span));
}

/* Is it on its way? */
static bool look_at(const struct cli_minder *m, struct minded *x)
{
    struct cm_name_state st = { .size = (uint32_t)sizeof st };
    struct cm_cert *cert = NULL;

    if (cm_name_state(m->cli->cfg, x->name, &st, NULL) != CM_OK)
        return true;
    if (st.served)
        cm_cache_match(cm_config_cache(m->cli->cfg), x->normal, newest, &cert);
    if (cert != NULL && strcmp(x->serial, cm_cert_serial(cert)) != 0)
        say_up(m, x, cert);
    cm_cert_unref(cert);
    if (!st.busy && st.last.status != CM_OK && st.last.status != CM_E_CANCELED)
        say_failed(m, x, &st);
    else if (!st.busy)
        x->failed = x->hopeless = false;
    return st.busy;
}

static void *mind(void *user)
{
    struct cli_minder *m = user;
    struct cli *c = m->cli;
    struct cm_op op = { NULL, 0, c->cancel };
    bool told_all = false;
    int64_t pause_ns = LOOK_FAST_NS;

    do {
        size_t n_up = 0, n_hopeless = 0, n_open = 0;

        for (size_t i = 0; i < c->n_names; i++) {
            struct minded *x = &m->names[i];

            n_open += look_at(m, x) ? 1u : 0u;
            n_up += x->serial[0] != '\0' ? 1u : 0u;
            n_hopeless += x->hopeless && x->serial[0] == '\0' ? 1u : 0u;
        }
        if (n_up == c->n_names && n_up > 1 && !told_all) {
            told_all = true;
            cli_say("certmesh: all %zu names are up", n_up);
        }
        if (n_hopeless == c->n_names) { /* a server that can serve nothing is no server */
            m->exit_code = m->names[0].exit_code;
            cm_cancel_fire(c->cancel);
            break;
        }
        pause_ns = n_open > 0 ? LOOK_FAST_NS : LOOK_SLOW_NS;
    } while (cm_op_wait(&op, pause_ns, NULL) == CM_OK);
    return NULL;
}

struct cli_minder *cli_minder_start(struct cli *c, uint16_t tls_port)
{
    struct cli_minder *m = calloc(1, sizeof *m);

    if (m == NULL)
        return NULL;
    m->cli = c;
    m->tls_port = tls_port;
    m->names = calloc(c->n_names, sizeof *m->names);
    if (m->names == NULL) {
        free(m);
        return NULL;
    }
    for (size_t i = 0; i < c->n_names; i++) {
        m->names[i].name = c->names[i];
        if (cm_normalize_name(c->names[i], m->names[i].normal, NULL) != CM_OK)
            m->names[i].normal[0] = '\0';
    }
    if (pthread_create(&m->thread, NULL, mind, m) != 0) {
        free(m->names);
        free(m);
        return NULL;
    }
    return m;
}

int cli_minder_stop(struct cli_minder *m)
{
    int code = CLI_OK;

    if (m == NULL)
        return CLI_OK;
    (void)pthread_join(m->thread, NULL);
    code = m->exit_code;
    free(m->names);
    free(m);
    return code;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* Beside the server: says when a name is up, asks for it again after a failure, and has it renewed
 * when that is due. */

#define LOOK_FAST_NS   (100 * CM_NS_PER_MS) /* while names are on their way */
#define LOOK_SLOW_NS   CM_NS_PER_S
#define AGAIN_FIRST_NS (60 * CM_NS_PER_S)
#define AGAIN_CAP_NS   (3600 * CM_NS_PER_S)
#define BETWEEN_NS     (5 * CM_NS_PER_S)    /* at least, between two requests for one name */
#define NOT_YET_NS     (3600 * CM_NS_PER_S) /* when what is due is not to be renewed yet */

struct minded {
    const char *name;
    char normal[256];
    bool up;         /* said so */
    bool was_up;     /* before it was renewed */
    bool hopeless;   /* trying again without a change cannot succeed */
    bool asked;      /* and its outcome not seen yet */
    unsigned fails;  /* in a row */
    int64_t next_ns; /* not before */
    int exit_code;
};

struct cli_minder {
    struct cli *cli;
    uint16_t tls_port;
    struct minded *names;
    pthread_t thread;
    int exit_code;
};

static int64_t mono_ns(void)
{
    const struct cm_env *env = cm_env_system();

    return env->mono_ns(env);
}

static bool newest(void *user, struct cm_cert *cert)
{
    struct cm_cert **slot = user;

    *slot = cm_cert_ref(cert);
    return false;
}

static void say_up(const struct cli_minder *m, const struct minded *x, const struct cm_cert *cert)
{
    char port[8] = "", when[CLI_TIME_SIZE];
    bool ip6 = strchr(x->name, ':') != NULL;

    if (m->tls_port != 443)
        (void)snprintf(port, sizeof port, ":%u", m->tls_port);
    cli_say("certmesh: https://%s%s%s%s/ is %s%s%s%s%s", ip6 ? "[" : "", x->name, ip6 ? "]" : "",
            port, x->was_up ? "renewed" : "up", cert != NULL ? ", certificate by " : "",
            cert != NULL ? cm_cert_issuer_cn(cert) : "", cert != NULL ? " until " : "",
            cert != NULL ? cli_time_human(cm_cert_not_after_s(cert), when) : "");
}

/* A failure that was not seen before: what to do about it, and when to try again. */
static void note_failure(struct minded *x, const struct cm_err *why)
{
    int64_t wait_ns = AGAIN_FIRST_NS;
    char span[CLI_TIME_SIZE];

    x->asked = false;
    x->hopeless = why->no_retry || why->status == CM_E_POLICY || why->status == CM_E_INVAL;
    x->exit_code = cli_exit_of(why);
    for (unsigned i = 0; i < x->fails && wait_ns < AGAIN_CAP_NS; i++)
        wait_ns *= 2;
    x->fails++;
    if (why->retry_after_s > 0 && why->retry_after_s < INT64_MAX / CM_NS_PER_S &&
        why->retry_after_s * CM_NS_PER_S > wait_ns)
        wait_ns = why->retry_after_s * CM_NS_PER_S;
    else if (wait_ns > AGAIN_CAP_NS)
        wait_ns = AGAIN_CAP_NS;
    x->next_ns = mono_ns() + wait_ns;
    if (!x->hopeless)
        cli_say("certmesh: %s: next try %s", x->name, cli_relative(wait_ns / CM_NS_PER_S, span));
}

static void ask(const struct cli_minder *m, struct minded *x)
{
    struct cm_err err = CM_ERR_INIT;

    x->asked = true;
    x->next_ns = mono_ns() + BETWEEN_NS;
    if (cm_manage_async(m->cli->cfg, &x->name, 1, &err) != CM_OK) {
        (void)cli_report(m->cli, x->name, &err);
        note_failure(x, &err);
    }
}

/* Into storage, or found there because a peer was faster. Then the old one makes room: a name that
 * is managed and not in the cache is loaded, and handshakes wait that long. */
static void renew(const struct cli_minder *m, struct minded *x, struct cm_cert *old)
{
    struct cm_obtain_result result = { .size = (uint32_t)sizeof result };
    struct cm_err err = CM_ERR_INIT;
    struct cm_op op = cli_op(m->cli, 300);

    x->next_ns = mono_ns() + BETWEEN_NS;
    cm_status rc = cm_renew(m->cli->cfg, &op, x->name, false, &result, &err);
    if (rc == CM_E_NOTFOUND) /* gone from storage while we served it from memory */
        rc = cm_obtain(m->cli->cfg, &op, &x->name, 1, &result, &err);
    if (rc == CM_OK && result.already_there && result.not_after_s == cm_cert_not_after_s(old)) {
        x->next_ns = mono_ns() + NOT_YET_NS;
    } else if (rc == CM_OK) {
        (void)cm_cache_remove(cm_config_cache(m->cli->cfg), old);
        x->up = false;
        ask(m, x);
    } else if (cli_signals_exit() == 0) {
        (void)cli_report(m->cli, x->name, &err);
        note_failure(x, &err);
        x->hopeless = false; /* what is served now still counts */
    }
}

static void look_at(const struct cli_minder *m, struct minded *x)
{
    struct cm_name_state st = { .size = (uint32_t)sizeof st };
    struct cm_cert *cert = NULL;
    bool failed = false;

    if (cm_name_state(m->cli->cfg, x->name, &st, NULL) != CM_OK)
        return;
    failed = !st.busy && st.last.status != CM_OK;
    if (st.served)
        cm_cache_match(cm_config_cache(m->cli->cfg), x->normal, newest, &cert);
    if (st.served && !x->up) {
        x->up = true;
        say_up(m, x, cert);
        x->was_up = true;
    }
    if (failed && x->asked) {
        cli_hint(m->cli, x->name, &st.last); /* the failure itself was logged */
        note_failure(x, &st.last);
    } else if (!failed && !st.busy && x->asked) {
        x->asked = false;
        x->hopeless = false;
        x->fails = 0;
    }
    if (!st.busy && mono_ns() >= x->next_ns && !x->hopeless) {
        if (cert != NULL && cm_cert_renew_at_s(cert, m->cli->cfg) <= cli_now_s())
            renew(m, x, cert);
        else if (failed)
            ask(m, x);
    }
    cm_cert_unref(cert);
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

            look_at(m, x);
            n_up += x->up ? 1u : 0u;
            n_hopeless += x->hopeless && !x->up ? 1u : 0u;
            n_open += x->asked ? 1u : 0u;
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
        m->names[i].asked = true; /* by cm_https() */
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

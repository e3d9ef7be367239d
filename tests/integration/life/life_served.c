/* SPDX-License-Identifier: Apache-2.0 */
#include <certmesh/cm.h>

#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* A server with what the command has no options for: a responder on loopback, short intervals, and
 * every event but those of handshakes as a line on stdout. Through the public interface only.
 *
 *   life_served --storage URL --ca URL --ca-root FILE --http-port P --tls-port P OPTION... NAME...
 *
 *   --no-ocsp, --no-ari
 *   --interval S   the maintenance looks at least so often
 *   --clean S      storage is cleaned so often
 *   --grace S      what expired so long ago goes
 *   --reuse-key    keys are kept over renewals
 *   --ratio R      certificates are renewed when less than that part of their life is left
 *   --on-demand    names are no managed ones: the first client to ask gets each; with --once there
 * is one for each
 *   --once         no server and no thread: names are loaded or obtained, then what is due is done,
 *                  once. For sweeps, which want the same calls in the same order each time
 *
 * SIGUSR1: do what is due now. SIGUSR2: print the metrics. SIGTERM, SIGINT: end; the exit code is 0
 * when all went well. stdout begins with "ready". Failures and remarks are on stderr. */

struct settings {
    struct cm_config_options config;
    struct cm_cache_options cache;
    struct cm_ondemand_options ondemand;
    bool once;
};

struct served {
    struct cm_config *cfg;
    struct cm_cancel *stop;
};

static void say(const char *line)
{
    (void)fputs(line, stdout);
    (void)fflush(stdout);
}

/* Seconds of the wall clock, for who has to compare what several of them did. */
static double now_s(void)
{
    struct timespec t = { 0, 0 };

    (void)clock_gettime(CLOCK_REALTIME, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* ---- what happens, for the tests to read */

static cm_status on_event(void *user, const struct cm_event *ev, struct cm_err *err)
{
    char line[2048];
    const char *name = ev->identifier;

    (void)user;
    (void)err;
    if (ev->type == CM_EVENT_TLS_GET_CERTIFICATE)
        return CM_OK; /* one for each connection */
    if (name == NULL && ev->cert != NULL)
        name = cm_cert_name(ev->cert, 0);
    (void)snprintf(line, sizeof line,
                   "%s name=%s renewal=%d reason=%d tier=%u serial=%s at=%.3f error=%s\n", ev->name,
                   name != NULL ? name : "-", ev->renewal, ev->reason, ev->tier,
                   ev->cert != NULL ? cm_cert_serial(ev->cert) : "-", now_s(),
                   ev->error != NULL ? ev->error->msg : "-");
    say(line);
    return CM_OK;
}

static cm_status print_piece(void *user, struct cm_span text, struct cm_err *err)
{
    (void)user;
    (void)err;
    (void)fwrite(text.data, 1, text.len, stdout);
    return CM_OK;
}

/* ---- signals, taken by a thread of their own */

static void *mind_signals(void *user)
{
    struct served *s = user;
    struct cm_err err = CM_ERR_INIT;
    cm_status rc;
    sigset_t set;
    int number = 0;

    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGUSR1);
    (void)sigaddset(&set, SIGUSR2);
    while (sigwait(&set, &number) == 0) {
        switch (number) {
        case SIGUSR1:
            rc = cm_cache_maintain_now(cm_config_cache(s->cfg), true, &err);
            if (rc != CM_OK)
                (void)fprintf(stderr, "maintain now: %s\n", err.msg);
            say(rc == CM_OK ? "maintained\n" : "not maintained\n");
            break;
        case SIGUSR2:
            if (cm_metrics_write(s->cfg, print_piece, NULL, &err) != CM_OK)
                (void)fprintf(stderr, "metrics: %s\n", err.msg);
            say("# end of metrics\n");
            break;
        default:
            cm_cancel_fire(s->stop);
            return NULL;
        }
    }
    return NULL;
}

static void block_signals(void)
{
    sigset_t set;

    (void)sigfillset(&set);
    (void)pthread_sigmask(SIG_BLOCK, &set, NULL);
}

/* ---- the server */

static void are_ready(void *user, uint16_t http_port, uint16_t tls_port)
{
    (void)user;
    (void)http_port;
    (void)tls_port;
    say("ready\n");
}

static void handle(void *user, struct cm_http_exchange *x)
{
    struct cm_err err = CM_ERR_INIT;

    (void)user;
    if (cm_http_reply(x, 200, "text/plain", cm_span_str("served\n"), &err) != CM_OK)
        (void)fprintf(stderr, "answer: %s\n", err.msg);
}

static void log_line(void *user, enum cm_log_level level, const char *event, const char *msg,
                     const struct cm_log_field *fields, size_t n)
{
    (void)user;
    (void)level;
    (void)fields;
    (void)n;
    (void)fprintf(stderr, "%.3f %s: %s\n", now_s(), event, msg);
}

static int fail(const char *what, const struct cm_err *err)
{
    (void)fprintf(stderr, "life_served: %s: %s\n", what, err->msg);
    return 1;
}

static int serve(struct served *s, char *const *names, size_t n)
{
    struct cm_https_options o = CM_HTTPS_OPTIONS_INIT;
    struct cm_err err = CM_ERR_INIT;

    o.cfg = s->cfg;
    o.host = "127.0.0.1";
    o.stop = s->stop;
    o.ready = are_ready;
    cm_status rc = cm_https((const char *const *)names, n, handle, NULL, &o, &err);
    return rc == CM_OK || rc == CM_E_CANCELED ? 0 : fail("serve", &err);
}

/* What the maintenance does some time after a start. */
static int clean_once(struct served *s, const struct settings *set, const struct cm_op *op)
{
    struct cm_clean_options o = { .size = (uint32_t)sizeof o };
    struct cm_clean_report report = { .size = (uint32_t)sizeof report };
    struct cm_err err = CM_ERR_INIT;

    o.grace_s = set->config.clean_grace_s;
    o.interval_s = set->config.clean_interval_s;
    return cm_storage_clean(s->cfg, op, &o, &report, &err) == CM_OK ? 0 : fail("clean", &err);
}

static int tend_once(struct served *s, const struct settings *set, char *const *names, size_t n)
{
    struct cm_err err = CM_ERR_INIT;
    struct cm_op op = { NULL, 0, s->stop };

    if (cm_manage(s->cfg, &op, (const char *const *)names, n, &err) != CM_OK)
        return fail("manage", &err);
    say("ready\n");
    if (cm_cache_maintain_now(cm_config_cache(s->cfg), false, &err) != CM_OK)
        return fail("maintain", &err);
    say("maintained\n");
    return set->config.clean_storage ? clean_once(s, set, &op) : 0;
}

/* As a handshake does it. */
static int ask_once(struct served *s, char *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct cm_hello hello = { .peer_ip = "127.0.0.1" };
        struct cm_op op = { NULL, 0, s->stop };
        struct cm_err err = CM_ERR_INIT;
        struct cm_pending *p = NULL;
        struct cm_cert *cert = NULL;

        (void)snprintf(hello.server_name, sizeof hello.server_name, "%s", names[i]);
        cm_status rc = cm_get_certificate(s->cfg, &hello, &cert, &p, &err);
        if (rc == CM_E_AGAIN)
            rc = cm_pending_wait(p, &op, &cert, &err);
        cm_pending_free(p);
        cm_cert_unref(cert);
        if (rc != CM_OK)
            return fail(names[i], &err);
    }
    return 0;
}

static int run(const struct settings *set, char *const *names, size_t n)
{
    struct cm_config_options o = set->config;
    struct served s = { NULL, NULL };
    struct cm_err err = CM_ERR_INIT;
    pthread_t minder;
    int code = 1;

    if (!set->once)
        block_signals(); /* before there is any other thread */
    if (cm_cancel_new(NULL, &s.stop, &err) != CM_OK ||
        cm_cache_new(&set->cache, &o.cache, &err) != CM_OK) {
        cm_cancel_free(s.stop);
        return fail("start", &err);
    }
    if (cm_config_new(&o, &s.cfg, &err) != CM_OK) {
        (void)fail("start", &err);
    } else if (set->once) {
        code = o.on_demand != NULL ? ask_once(&s, names, n) : tend_once(&s, set, names, n);
    } else if (pthread_create(&minder, NULL, mind_signals, &s) == 0) {
        code = serve(&s, names, o.on_demand != NULL ? 0 : n);
        (void)pthread_kill(minder, SIGTERM); /* it may be waiting yet */
        (void)pthread_join(minder, NULL);
    }
    cm_config_free(s.cfg);
    cm_cache_free(o.cache);
    cm_cancel_free(s.stop);
    return code;
}

/* ---- options */

enum option_id {
    OPT_STORAGE = 1,
    OPT_CA,
    OPT_CA_ROOT,
    OPT_HTTP_PORT,
    OPT_TLS_PORT,
    OPT_NO_OCSP,
    OPT_NO_ARI,
    OPT_INTERVAL,
    OPT_CLEAN,
    OPT_GRACE,
    OPT_REUSE_KEY,
    OPT_RATIO,
    OPT_ON_DEMAND,
    OPT_ONCE
};

static const struct option options[] = {
    { "storage", required_argument, NULL, OPT_STORAGE },
    { "ca", required_argument, NULL, OPT_CA },
    { "ca-root", required_argument, NULL, OPT_CA_ROOT },
    { "http-port", required_argument, NULL, OPT_HTTP_PORT },
    { "tls-port", required_argument, NULL, OPT_TLS_PORT },
    { "no-ocsp", no_argument, NULL, OPT_NO_OCSP },
    { "no-ari", no_argument, NULL, OPT_NO_ARI },
    { "interval", required_argument, NULL, OPT_INTERVAL },
    { "clean", required_argument, NULL, OPT_CLEAN },
    { "grace", required_argument, NULL, OPT_GRACE },
    { "reuse-key", no_argument, NULL, OPT_REUSE_KEY },
    { "ratio", required_argument, NULL, OPT_RATIO },
    { "on-demand", no_argument, NULL, OPT_ON_DEMAND },
    { "once", no_argument, NULL, OPT_ONCE },
    { NULL, 0, NULL, 0 },
};

static void set_option(struct settings *set, int id, const char *value)
{
    struct cm_config_options *o = &set->config;
    long number = value != NULL ? strtol(value, NULL, 10) : 0;

    switch (id) {
    case OPT_STORAGE:
        o->storage = value;
        break;
    case OPT_CA:
        o->acme.directory_url = value;
        break;
    case OPT_CA_ROOT:
        o->acme.ca_root_file = value;
        break;
    case OPT_HTTP_PORT:
        o->http_port = (uint16_t)number;
        break;
    case OPT_TLS_PORT:
        o->tls_port = (uint16_t)number;
        break;
    case OPT_NO_OCSP:
        o->disable_ocsp = true;
        break;
    case OPT_NO_ARI:
        o->acme.disable_ari = true;
        break;
    case OPT_INTERVAL:
        set->cache.renew_check_interval_s = number;
        break;
    case OPT_CLEAN:
        o->clean_storage = true;
        o->clean_interval_s = number;
        break;
    case OPT_GRACE:
        o->clean_grace_s = number;
        break;
    case OPT_REUSE_KEY:
        o->reuse_key = true;
        break;
    case OPT_RATIO:
        o->renew_ratio = strtod(value, NULL);
        break;
    case OPT_ON_DEMAND:
        o->on_demand = &set->ondemand;
        break;
    case OPT_ONCE:
        set->once = true;
        set->cache.no_thread = true;
        break;
    default:
        exit(2);
    }
}

int main(int argc, char **argv)
{
    struct settings set = { CM_CONFIG_OPTIONS_INIT,
                            { .size = (uint32_t)sizeof set.cache },
                            CM_ONDEMAND_OPTIONS_INIT,
                            false };
    int id = 0;

    set.config.acme.agreed = true;
    set.config.listen_host = "127.0.0.1";
    set.config.fetch_local = true;
    set.config.log = (struct cm_log){ log_line, NULL, CM_LOG_INFO };
    set.config.on_event = on_event;
    while ((id = getopt_long(argc, argv, "", options, NULL)) != -1)
        set_option(&set, id, optarg);
    if (optind == argc) {
        (void)fputs("usage: life_served --storage URL --ca URL [OPTION...] NAME...\n", stderr);
        return 2;
    }
    set.ondemand.names = (const char *const *)(argv + optind);
    set.ondemand.n_names = (size_t)(argc - optind);
    return run(&set, argv + optind, (size_t)(argc - optind));
}

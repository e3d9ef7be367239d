/* SPDX-License-Identifier: Apache-2.0 */

/* What a program may take into its own hands of the life of its certificates: when maintenance
 * runs, where keys come from, how the network is asked, what is told of it all.
 *
 *   life [--root DIR] [--cert FILE --key FILE] NAME...
 *
 * It has certificates made by the local CA, follows a pair of files that somebody else replaces,
 * shows what there is, and ends. A server would go on at "the loop". */

#include <certmesh/cm.h>

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int fail(const char *what, const struct cm_err *err)
{
    fprintf(stderr, "%s: %s\n", what, err->msg);
    return 1;
}

/* ------------------------------------------------------------------------- events */

static cm_status on_event(void *user, const struct cm_event *ev, struct cm_err *err)
{
    const char *refused = user;

    if (ev->type == CM_EVENT_CERT_OBTAINING && refused != NULL &&
        strcmp(ev->identifier, refused) == 0)
        return cm_fail(err, CM_E_POLICY, "%s is not ours", refused); /* a veto */
    if (ev->identifier != NULL)
        printf("event %s: %s\n", ev->name, ev->identifier);
    return CM_OK;
}

/* --------------------------------------------------------------------- key source */

/* Stands for a key service: here GnuTLS makes what the service would hand out. */
static cm_status new_key(struct cm_key_source *ks, const struct cm_op *op, int type,
                         const char *const *names, size_t n, struct cm_buf *ret_pem,
                         struct cm_err *err)
{
    gnutls_x509_privkey_t key = NULL;
    gnutls_datum_t pem = { NULL, 0 };
    cm_status rc = CM_E_KEY;

    (void)ks;
    (void)op;
    if (type != CM_KEY_P256)
        return cm_fail(err, CM_E_UNSUPPORTED, "key service: only P-256");
    if (gnutls_x509_privkey_init(&key) < 0)
        return cm_fail(err, CM_E_NOMEM, "key service: out of memory");
    if (gnutls_x509_privkey_generate(key, GNUTLS_PK_ECDSA,
                                     GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0) >= 0 &&
        gnutls_x509_privkey_export2(key, GNUTLS_X509_FMT_PEM, &pem) >= 0)
        rc = cm_buf_append(ret_pem, pem.data, pem.size, err);
    else
        (void)cm_fail(err, rc, "key service: no key");
    if (rc == CM_OK)
        printf("key for %s%s\n", names[0], n > 1 ? " and others" : "");
    if (pem.data != NULL)
        cm_wipe(pem.data, pem.size);
    gnutls_free(pem.data);
    gnutls_x509_privkey_deinit(key);
    return rc;
}

static const struct cm_key_source_ops key_ops = {
    .abi = CM_SPI_ABI, .size = sizeof key_ops, .name = "key-service", .new_key = new_key
};

/* ------------------------------------------------------------------------ fetcher */

/* The built-in one, with a limit before it. */
struct polite {
    struct cm_fetcher base; /* first: what certmesh hands back is this */
    struct cm_fetcher *http;
    struct cm_ring_limiter *limit;
};

static cm_status fetch(struct cm_fetcher *f, const struct cm_op *op, const struct cm_fetch *req,
                       int *ret_http_status, struct cm_buf *ret_body, struct cm_err *err)
{
    struct polite *p = (struct polite *)f;
    cm_status rc = cm_ring_limiter_wait(p->limit, op, err);

    return rc == CM_OK ? cm_fetcher_fetch(p->http, op, req, ret_http_status, ret_body, err) : rc;
}

static const struct cm_fetcher_ops fetch_ops = {
    .abi = CM_SPI_ABI, .size = sizeof fetch_ops, .name = "polite", .fetch = fetch
};

static cm_status polite_start(struct polite *p, struct cm_err *err)
{
    const struct cm_http_fetcher_options o = { .size = sizeof o };
    cm_status rc = cm_http_fetcher_new(&o, &p->http, err);

    p->base.ops = &fetch_ops;
    if (rc == CM_OK) /* twenty in any second */
        rc = cm_ring_limiter_new(20, CM_NS_PER_S, NULL, &p->limit, err);
    return rc;
}

static void polite_end(struct polite *p)
{
    cm_ring_limiter_free(p->limit);
    if (p->http != NULL)
        cm_fetcher_destroy(p->http);
}

/* ------------------------------------------------------------------ what there is */

static cm_status show(void *user, const struct cm_life_status *st, struct cm_err *err)
{
    (void)user;
    (void)err;
    printf("status %s: %s, next %s\n", st->name, cm_life_state_text(st->state), st->next_action);
    return CM_OK;
}

static void say(void *user, const char *line)
{
    (void)user;
    printf("why %s\n", line);
}

static cm_status write_text(void *user, struct cm_span text, struct cm_err *err)
{
    (void)err;
    return fwrite(text.data, 1, text.len, user) == text.len ? CM_OK : CM_E_IO;
}

static cm_status show_all(struct cm_config *cfg, const struct cm_op *op, const char *name,
                          struct cm_err *err)
{
    cm_status rc = cm_status_each(cfg, op, show, NULL, err);

    if (rc == CM_OK)
        rc = cm_status_why(cfg, op, name, say, NULL, err);
    return rc == CM_OK ? cm_metrics_write(cfg, write_text, stdout, err) : rc;
}

/* ----------------------------------------------------------------------- the loop */

/* All that is due is done in this thread's time. A server would wait for its sockets at most until
 * cm_cache_next_due_s(), and call cm_cache_maintain_now() then. */
static cm_status live(struct cm_config *cfg, const struct cm_op *op, const char *const *names,
                      size_t n, struct cm_err *err)
{
    cm_status rc = cm_manage_async(cfg, names, n, err);

    for (size_t i = 0; rc == CM_OK && i < n;) {
        struct cm_name_state st = { .size = sizeof st };

        rc = cm_cache_maintain_now(cm_config_cache(cfg), false, err);
        if (rc == CM_OK)
            rc = cm_name_state(cfg, names[i], &st, err);
        if (rc == CM_OK && st.served)
            i++;
        else if (rc == CM_OK && !st.busy && st.last.status != CM_OK)
            rc = cm_fail(err, st.last.status, "%s: %s", names[i], st.last.msg);
        else if (rc == CM_OK)
            rc = cm_op_wait(op, 10 * CM_NS_PER_MS, err);
    }
    return rc;
}

static int run(struct cm_config_options *o, const char *cert, const char *key, char **argv, int n)
{
    const struct cm_cache_options co = { .size = sizeof co, .no_thread = true };
    struct cm_op op = cm_op_within(NULL, 60 * CM_NS_PER_S);
    struct cm_key_source keys = { &key_ops };
    struct polite polite = { .http = NULL };
    struct cm_err err = CM_ERR_INIT;
    struct cm_config *cfg = NULL;

    cm_status rc = polite_start(&polite, &err);
    if (rc == CM_OK)
        rc = cm_cache_new(&co, &o->cache, &err);
    o->key_source = &keys;
    o->fetcher = &polite.base;
    if (rc == CM_OK)
        rc = cm_config_new(o, &cfg, &err);
    if (rc == CM_OK && cert != NULL)
        rc = cm_cache_watch_files(o->cache, cert, key, NULL, &err);
    if (rc == CM_OK)
        rc = live(cfg, &op, (const char *const *)argv, (size_t)n, &err);
    if (rc == CM_OK)
        rc = show_all(cfg, &op, argv[0], &err);
    cm_config_free(cfg); /* before what it borrows */
    cm_cache_free(o->cache);
    polite_end(&polite);
    return rc == CM_OK ? 0 : fail("life", &err);
}

int main(int argc, char **argv)
{
    static const struct option longs[] = {
        { "root", required_argument, NULL, 'r' },
        { "cert", required_argument, NULL, 'c' },
        { "key", required_argument, NULL, 'k' },
        { NULL, 0, NULL, 0 },
    };
    struct cm_config_options o = CM_CONFIG_OPTIONS_INIT;
    const char *cert = NULL, *key = NULL;
    char url[4096];
    int got;

    o.internal = true;
    o.on_event = on_event;
    o.event_user = getenv("LIFE_REFUSES"); /* a name that is vetoed */
    while ((got = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        if (got == 'r') {
            (void)snprintf(url, sizeof url, "file:%s", optarg);
            o.storage = url;
        } else if (got == 'c') {
            cert = optarg;
        } else if (got == 'k') {
            key = optarg;
        } else {
            return 2;
        }
    }
    if (optind == argc || (cert != NULL) != (key != NULL)) {
        fprintf(stderr, "usage: life [--root DIR] [--cert FILE --key FILE] NAME...\n");
        return 2;
    }
    return run(&o, cert, key, argv + optind, argc - optind);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "tls.h"

#include <string.h>

/* A listener and a config for it. That there is no port 80 is the listener's decision, so it is
 * its config that knows: nothing else in the process changes. */

static cm_status take_config(const struct cm_config_options *given, struct cm_config_options *c,
                             struct cm_acme_extra *x, struct cm_err *err)
{
    *c = (struct cm_config_options)CM_CONFIG_OPTIONS_INIT;
    *x = (struct cm_acme_extra)CM_ACME_EXTRA_INIT;
    if (given == NULL) {
        c->acme.agreed = true;
    } else {
        if (given->size == 0 || given->size > 64u * 1024)
            return cm_fail(err, CM_E_INVAL, "cm_listen_names: a config without its size");
        memcpy(c, given, given->size < sizeof *c ? given->size : sizeof *c);
    }
    if (c->acme.extra != NULL) {
        if (c->acme.extra->size == 0 || c->acme.extra->size > 64u * 1024)
            return cm_fail(err, CM_E_INVAL, "cm_acme_extra: size is not set");
        memcpy(x, c->acme.extra, c->acme.extra->size < sizeof *x ? c->acme.extra->size : sizeof *x);
    }
    c->size = (uint32_t)sizeof *c;
    x->size = (uint32_t)sizeof *x;
    x->never_challenges |= CM_CHALLENGE_HTTP01;
    c->acme.extra = x;
    return CM_OK;
}

static cm_status listen_with(struct cm_config *cfg, const char *const *names, size_t n,
                             const struct cm_listen_options *o, struct cm_listener **ret,
                             struct cm_err *err)
{
    struct cm_listener *l = NULL;
    cm_status rc = o->sockets != NULL ? cm_listen_on(cfg, o->sockets, &l, err)
                                      : cm_listen(cfg, o->host, o->port, &l, err);

    /* The port is ours before anything is ordered, or a challenge would open it. */
    if (rc == CM_OK)
        rc = cm_manage_async(cfg, names, n, err);
    if (rc != CM_OK) {
        cm_listener_free(l);
        return rc;
    }
    cm_listener_own(l, cfg);
    *ret = l;
    return CM_OK;
}

cm_status cm_listen_names(const char *const *names, size_t n, const struct cm_listen_options *opts,
                          struct cm_listener **ret, struct cm_err *err)
{
    struct cm_listen_options o = CM_LISTEN_OPTIONS_INIT;
    struct cm_config_options c;
    struct cm_acme_extra extra;
    struct cm_config *cfg = NULL;

    if (names == NULL || n == 0 || ret == NULL)
        return cm_fail(err, CM_E_INVAL, "cm_listen_names: no names, or no place for the listener");
    if (opts != NULL) {
        if (opts->size == 0 || opts->size > 64u * 1024)
            return cm_fail(err, CM_E_INVAL, "cm_listen_names: options without their size");
        memcpy(&o, opts, opts->size < sizeof o ? opts->size : sizeof o);
    }
    cm_status rc = take_config(o.config, &c, &extra, err);
    if (rc == CM_OK)
        rc = cm_config_new(&c, &cfg, err);
    if (rc == CM_OK)
        rc = listen_with(cfg, names, n, &o, ret, err);
    if (rc != CM_OK)
        cm_config_free(cfg);
    return rc;
}

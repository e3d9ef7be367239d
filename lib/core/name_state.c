/* SPDX-License-Identifier: Apache-2.0 */
#include "names.h"

#include <string.h>

/* How a name is doing in this process. */

cm_status cm_names_state(struct cm_config *cfg, const char *key, const char *host, bool exact,
                         struct cm_name_state *ret, struct cm_err *err)
{
    struct cm_name_state full = { .size = (uint32_t)sizeof full, .last = CM_ERR_INIT };
    struct cm_cert *certs[CM_CANDIDATES_MAX];
    size_t size;
    size_t n = cm_cache_find(cfg->cache, host, strlen(host), certs);

    for (size_t i = 0; i < n; i++)
        cm_cert_unref(certs[i]);
    cm_mutex_lock(&cfg->names->lock);
    const struct cm_managed *m = cm_names_find_locked(cfg->names, key);
    if (exact && m != NULL && strcmp(m->name, key) != 0)
        m = NULL;
    if (m != NULL) {
        bool ended = m->token != NULL && !m->busy && !m->served && m->interest == 0 &&
                     cm_cancel_is_fired(m->token);

        full.managed = true;
        full.load_only = m->load_only;
        full.on_demand = m->ondemand;
        full.served = n > 0;
        full.busy =
            m->lined || (m->busy && m->stage != CM_STAGE_TEND && m->stage != CM_STAGE_FETCH);
        full.phase = (enum cm_phase)m->phase;
        if (m->last != NULL) {
            full.last = m->last->err;
            full.attempts = m->last->attempts;
            full.next_try_s = m->last->next_try_s;
        }
        if (ended) { /* when its turn comes, nothing is done any more */
            full.busy = false;
            full.phase = CM_PHASE_FAILED;
            full.next_try_s = 0;
            (void)cm_fail(&full.last, CM_E_CANCELED, "'%s': canceled before it began", key);
        }
    }
    cm_mutex_unlock(&cfg->names->lock);
    if (!full.managed)
        return cm_fail(err, CM_E_NOTFOUND, "'%s' is not managed", key);
    size = ret->size > 0 && ret->size < sizeof full ? ret->size : sizeof full;
    full.size = (uint32_t)size;
    memcpy(ret, &full, size);
    return CM_OK;
}

cm_status cm_name_state(struct cm_config *cfg, const char *name, struct cm_name_state *ret,
                        struct cm_err *err)
{
    char normal[CM_NAME_BUF];

    if (cfg == NULL || ret == NULL)
        return cm_fail(err, CM_E_INVAL, "no configuration, or no place for the state");
    cm_status rc = cm_normalize_name(name, normal, err);
    return rc == CM_OK ? cm_names_state(cfg, normal, normal, false, ret, err) : rc;
}

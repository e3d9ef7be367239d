/* SPDX-License-Identifier: Apache-2.0 */
#include "clean.h"

#include <json-c/json.h>
#include <string.h>

/* {"tls":{"timestamp":"2026-08-29T18:20:01.123456789Z","instance_id":"web-3"}}
 *
 * Peers only show the instance to people, so ours is the name of the host. */

#define STAMP_KEY "last_clean.json"
#define STAMP_MAX (64u * 1024)

static bool read_stamp(struct cm_span text, int64_t *ret_s)
{
    struct json_object *top = NULL;
    struct json_object *tls = NULL;
    char when[64];
    int64_t ns = 0;
    bool ok;

    if (cm_json_parse(text, &top, NULL) != CM_OK)
        return false;
    ok = cm_json_find(top, "tls", &tls) && cm_json_text(tls, "timestamp", when, sizeof when) &&
         cm_time_parse_rfc3339(when, strlen(when), &ns, NULL) == CM_OK;
    (void)json_object_put(top);
    if (ok)
        *ret_s = ns > 0 ? ns / CM_NS_PER_S : 0; /* Go's zero time is year 1 */
    return ok;
}

cm_status cm_clean_stamp_load(struct cm_config *cfg, const struct cm_op *op, int64_t *ret_s,
                              struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf text = CM_BUF_INIT(STAMP_MAX);

    cm_status rc = cm_storage_load(cfg->storage, op, STAMP_KEY, &text, err);
    if (rc != CM_OK && rc != CM_E_NOTFOUND)
        return rc;
    if (rc == CM_E_NOTFOUND || !read_stamp(cm_buf_span(&text), ret_s)) {
        if (rc == CM_OK)
            cm_logf(&cfg->log, CM_LOG_WARN, "clean_stamp_malformed", NULL, 0,
                    "'" STAMP_KEY "' in storage cannot be read; it is written anew");
        *ret_s = 0;
    }
    return CM_OK;
}

cm_status cm_clean_stamp_store(struct cm_config *cfg, const struct cm_op *op,
                               struct cm_lease *lease, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf text = CM_BUF_INIT(1024);
    struct cm_commit_item item = { STAMP_KEY, { NULL, 0 }, false };
    char when[CM_TIME_TEXT];
    char host[CM_HOST_NAME_BUF];

    cm_time_format_rfc3339(cfg->env->wall_ns(cfg->env), false, when);
    cm_host_name(host);
    cm_status rc = cm_buf_printf(
        &text, err, "{\"tls\":{\"timestamp\":\"%s\",\"instance_id\":\"%s\"}}", when, host);
    if (rc != CM_OK)
        return rc;
    item.value = cm_buf_span(&text);
    return cm_lease_commit(lease, op, &item, 1, err);
}

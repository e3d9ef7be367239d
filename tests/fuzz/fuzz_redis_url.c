/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz.h"
#include "redis/redis.h"

#include <string.h>

/* URLs of Redis. What is taken can be shown, and what is shown is the same place, without secrets;
 * what is refused is told why. */

static void check(const struct redis_options *o)
{
    struct redis_options again;
    struct cm_err err = CM_ERR_INIT;

    CM_ASSERT(o->n_addresses >= 1 && o->prefix != NULL && o->pool_max >= 1 && o->timeout_ns > 0);
    CM_ASSERT(strchr(o->shown, '\n') == NULL && strncmp(o->prefix, "/", 1) != 0);
    CM_ASSERT(redis_options_parse(o->shown, &again, &err) == CM_OK);
    CM_ASSERT(strcmp(again.shown, o->shown) == 0 && again.n_addresses == o->n_addresses);
    CM_ASSERT(again.topology == o->topology && again.db == o->db && again.tls == o->tls);
    CM_ASSERT(again.password == NULL && again.username == NULL);
    CM_ASSERT(strcmp(again.prefix, o->prefix) == 0);
    for (size_t i = 0; i < o->n_addresses; i++) {
        const struct redis_address *a = &o->addresses[i], *b = &again.addresses[i];

        CM_ASSERT(a->port == b->port && (a->host == NULL) == (b->host == NULL));
        CM_ASSERT(
            strcmp(a->host != NULL ? a->host : a->path, b->host != NULL ? b->host : b->path) == 0);
    }
    redis_options_clear(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *url = cm_strndup(size > 0 ? (const char *)data : "", size);
    struct cm_err err = CM_ERR_INIT;
    struct redis_options o;
    cm_status rc;

    CM_ASSERT(url != NULL);
    /* What files and variables hold is no matter of the URL. */
    if (strstr(url, "_file") == NULL && strstr(url, "_env") == NULL) {
        rc = redis_options_parse(url, &o, &err);
        CM_ASSERT(rc == CM_OK || rc == CM_E_INVAL);
        if (rc == CM_OK) {
            fuzz_reached();
            check(&o);
            redis_options_clear(&o);
        } else {
            CM_ASSERT(err.msg[0] != '\0');
        }
    }
    free(url);
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "redis_data.h"

#include <stdio.h>
#include <string.h>

/* From certmesh's keys to the names in Redis. */

static cm_status join(const struct redis_storage *rs, const char *middle, const char *last,
                      char ret[RDS_NAME_MAX], struct cm_err *err)
{
    const char *prefix = rs->o.prefix != NULL ? rs->o.prefix : "";
    int n = snprintf(ret, RDS_NAME_MAX, "%s%s%s%s", prefix,
                     prefix[0] != '\0' && (middle[0] != '\0' || last[0] != '\0') ? "/" : "", middle,
                     last);

    if (n < 0 || (size_t)n >= RDS_NAME_MAX)
        return cm_fail(err, CM_E_LIMIT, "'%s' with the prefix of this storage is too long", last);
    return CM_OK;
}

cm_status rds_name(const struct redis_storage *rs, const char *key, char ret[RDS_NAME_MAX],
                   struct cm_err *err)
{
    return join(rs, "", key, ret, err);
}

cm_status rds_lock_name(const struct redis_storage *rs, const char *lock, char ret[RDS_NAME_MAX],
                        struct cm_err *err)
{
    return join(rs, "locks/", lock, ret, err);
}

/* What stands in the first braces decides about the slot; whoever has none is put into them whole.
 * That does not work for all names (one that has a '}' alone), so the slots are compared. */
bool rds_side_name(const struct redis_storage *rs, char kind, const char *name,
                   char ret[RDS_NAME_MAX])
{
    char middle[] = "certmesh/locks/x/";
    char braced[RDS_NAME_MAX];
    size_t len = strlen(name);

    middle[15] = kind;
    if (join(rs, middle, name, ret, NULL) != CM_OK)
        return false;
    if (!redis_link_is_cluster(rs->link) || redis_slot(ret, strlen(ret)) == redis_slot(name, len))
        return true;
    int n = snprintf(braced, sizeof braced, "{%s}", name);
    if (n < 0 || (size_t)n >= sizeof braced || join(rs, middle, braced, ret, NULL) != CM_OK)
        return false;
    return redis_slot(ret, strlen(ret)) == redis_slot(name, len);
}

size_t rds_dir_len(const char *name, size_t len)
{
    while (len > 0 && name[len - 1] != '/')
        len--;
    return len > 0 ? len - 1 : 0;
}

void rds_score(const struct redis_storage *rs, char ret[24])
{
    (void)snprintf(ret, 24, "%lld", (long long)cm_env_wall_s(rs->env));
}

cm_status rds_in_the_way(const struct redis_storage *rs, const char *key, const char *name,
                         struct cm_err *err)
{
    char own[RDS_NAME_MAX];
    char shown[CM_STORAGE_KEY_MAX];

    if (rds_name(rs, key, own, NULL) == CM_OK && strcmp(own, name) == 0)
        return cm_fail(err, CM_E_EXISTS, "cannot store '%s': it is a directory", key);
    return cm_fail(err, CM_E_EXISTS, "cannot store '%s': '%s' is a value in Redis", key,
                   cm_escape(name, strlen(name), shown, sizeof shown));
}

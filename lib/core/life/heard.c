/* SPDX-License-Identifier: Apache-2.0 */
#include "names.h"

#include <string.h>

/* Names of which something was heard: they are marked, and due. What is being worked on is marked,
 * too, and looked at again when that is over; many marks make one look. */

static struct cm_managed *is_dir_of_locked(struct cm_names *t, const char *name, const char *dir)
{
    CM_AUTO_BUF struct cm_buf safe = CM_BUF_INIT(CM_KEY_BUF);
    struct cm_managed *m = cm_names_find_locked(t, name);

    if (m == NULL || m->group != NULL || cm_safe_name(name, &safe, NULL) != CM_OK ||
        strcmp(cm_buf_str(&safe), dir) != 0)
        return NULL;
    return m;
}

/* Safe() cannot be turned round, but of names that are in their normal form only a star and the
 * colons of an address are written differently. */
static struct cm_managed *find_dir_locked(struct cm_names *t, const char *dir)
{
    static const char wildcard[] = "wildcard_";
    struct cm_managed *m = is_dir_of_locked(t, dir, dir);

    if (m == NULL)
        m = cm_group_find_dir_locked(t, dir);
    char name[CM_NAME_BUF];
    size_t len = strlen(dir);

    if (m != NULL || len >= sizeof name)
        return m;
    if (strncmp(dir, wildcard, sizeof wildcard - 1) == 0) {
        name[0] = '*';
        memcpy(name + 1, dir + sizeof wildcard - 1, len + 1 - (sizeof wildcard - 1));
        return is_dir_of_locked(t, name, dir);
    }
    for (size_t i = 0; i <= len; i++)
        name[i] = (char)(dir[i] == '-' ? ':' : dir[i]);
    return is_dir_of_locked(t, name, dir);
}

void cm_managed_news_locked(struct cm_managed *m, uint8_t news)
{
    bool served_only = (news & ~(CM_NEWS_STAPLE | CM_NEWS_RETRY | CM_NEWS_CRL)) == 0;

    if (served_only && !m->served && !m->busy)
        return;
    m->news |= news;
    if (!m->busy)
        cm_maint_by(cm_cache_maint(m->cfg->cache), &m->task, cm_wall_ms(m->cfg->env));
}

void cm_names_news(struct cm_config *cfg, const char *dir, uint8_t news)
{
    struct cm_names *t = cfg->names;

    cm_mutex_lock(&t->lock);
    struct cm_managed *m = find_dir_locked(t, dir);
    if (m != NULL)
        cm_managed_news_locked(m, news);
    cm_mutex_unlock(&t->lock);
}

int64_t cm_managed_news_at_ms_locked(const struct cm_managed *m)
{
    return m->news != 0 ? cm_wall_ms(m->cfg->env) : INT64_MAX;
}

uint8_t cm_managed_take_news(struct cm_managed *m)
{
    struct cm_names *t = m->cfg->names;

    cm_mutex_lock(&t->lock);
    uint8_t news = m->news;
    m->news = 0;
    cm_mutex_unlock(&t->lock);
    return news;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "testd_names.h"

#include <string.h>

static char *texts[64];
static size_t n_texts;

static char *own(char *s)
{
    texts[n_texts++] = s;
    return s;
}

void testd_add_name(struct cm_config *cfg, const char *spec)
{
    const char *eq = strchr(spec, '=');
    const char *at = strchr(spec, '@');
    const char *end = eq != NULL ? eq : at != NULL ? at : spec + strlen(spec);
    enum cm_pk type = CM_PK_P256;
    struct fake_name *e;

    if (spec[0] == '+') {
        (void)fake_add_challenge(cfg, own(cm_strdup(spec + 1)));
        return;
    }
    if (spec[0] == '!') {
        const char *slash = strchr(spec, '/');

        (void)fake_add_refusal(cfg, own(cm_strndup(spec + 1, (size_t)(end - spec - 1))),
                               (cm_status)strtol(eq + 1, NULL, 10),
                               (int)strtol(slash + 1, NULL, 10));
        return;
    }
    if (eq != NULL) {
        char *t = own(cm_strndup(eq + 1, at != NULL ? (size_t)(at - eq - 1) : strlen(eq + 1)));

        if (cm_pk_parse(t, &type, NULL) != CM_OK)
            abort();
    }
    e = fake_add(cfg, own(cm_strndup(spec, (size_t)(end - spec))), type);
    if (at != NULL)
        e->delay_ms = (int)strtol(at + 1, NULL, 10);
}

void testd_names_free(void)
{
    while (n_texts > 0)
        free(texts[--n_texts]);
}

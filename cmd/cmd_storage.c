/* SPDX-License-Identifier: Apache-2.0 */
#include "storage.h"

#include <inttypes.h>
#include <string.h>

/* `certmesh storage WORD`: the words, and those that only look or remove. */

#define SHORT_S 300
#define LONG_S  INT64_C(86400)

int cli_storage_fail(const struct cli *c, const char *object, const struct cm_err *err)
{
    char what[CM_STORAGE_KEY_MAX + 32];

    (void)snprintf(what, sizeof what, "%s%s%.500s", c->names[0], object != NULL ? " " : "",
                   object != NULL ? object : "");
    return cli_report(c, what, err);
}

/* ----------------------------------------------------------------------- ls */

struct ls {
    struct cli *c;
    struct cli_json json;
};

static cm_status ls_one(void *user, const struct cm_key_info *info, struct cm_err *err)
{
    struct ls *l = user;
    char text[CM_STORAGE_KEY_MAX + 1];

    if (l->c->o.json) {
        cli_json_open(&l->json, NULL, '{');
        cli_json_text(&l->json, "key", info->key);
        cli_json_bool(&l->json, "directory", !info->terminal);
        if (info->terminal) {
            cli_json_int(&l->json, "size", (int64_t)info->size);
            cli_json_time(&l->json, "modified", info->modified_ns / CM_NS_PER_S);
        }
        cli_json_close(&l->json, '}');
    } else {
        printf("%s%s\n", cli_printable(info->key, text, sizeof text), info->terminal ? "" : "/");
    }
    return ferror(stdout) == 0 ? CM_OK : cm_fail(err, CM_E_IO, "cannot write the results");
}

static int run_ls(struct cli *c, struct cm_storage *st, const struct cm_op *op)
{
    const char *prefix = c->n_names > 1 ? c->names[1] : "";
    struct cm_err err = CM_ERR_INIT;
    struct cm_key_info info = { .terminal = false };
    struct ls l = { c, { 0 } };
    cm_status rc = CM_OK;

    if (prefix[0] != '\0')
        rc = cm_storage_stat(st, op, prefix, &info, &err);
    if (rc == CM_OK && c->o.json) {
        cli_json_start(&l.json, stdout);
        cli_json_open(&l.json, NULL, '{');
        cli_json_text(&l.json, "storage", cm_storage_describe(st));
        cli_json_open(&l.json, "keys", '[');
    }
    if (rc == CM_OK && info.terminal)
        rc = ls_one(&l, &info, &err);
    else if (rc == CM_OK)
        rc = cm_storage_list(st, op, prefix, c->o.recursive, ls_one, &l, &err);
    if (rc == CM_OK && c->o.json) {
        cli_json_close(&l.json, ']');
        cli_json_close(&l.json, '}');
        cli_json_finish(&l.json);
    }
    return rc == CM_OK ? CLI_OK : cli_storage_fail(c, prefix[0] != '\0' ? prefix : NULL, &err);
}

/* --------------------------------------------------------------------- stat */

static int run_stat(struct cli *c, struct cm_storage *st, const struct cm_op *op)
{
    struct cm_err err = CM_ERR_INIT;
    struct cm_key_info info;
    char when[CLI_TIME_SIZE], text[CM_STORAGE_KEY_MAX + 1];

    if (cm_storage_stat(st, op, c->names[1], &info, &err) != CM_OK)
        return cli_storage_fail(c, c->names[1], &err);
    if (c->o.json) {
        struct cli_json j;

        cli_json_start(&j, stdout);
        cli_json_open(&j, NULL, '{');
        cli_json_text(&j, "key", c->names[1]);
        cli_json_bool(&j, "directory", !info.terminal);
        if (info.terminal)
            cli_json_int(&j, "size", (int64_t)info.size);
        cli_json_time(&j, "modified", info.modified_ns / CM_NS_PER_S);
        cli_json_close(&j, '}');
        cli_json_finish(&j);
        return CLI_OK;
    }
    printf("Key       %s\n", cli_printable(c->names[1], text, sizeof text));
    if (info.terminal)
        printf("Size      %" PRIu64 " bytes\n", info.size);
    else
        printf("Size      a directory\n");
    printf("Modified  %s\n", cli_time_human(info.modified_ns / CM_NS_PER_S, when));
    return CLI_OK;
}

/* ----------------------------------------------------------------------- rm */

static int run_rm(struct cli *c, struct cm_storage *st, const struct cm_op *op)
{
    struct cm_commit_item item = { .key = c->names[1], .remove = true };
    struct cm_err err = CM_ERR_INIT;
    struct cm_key_info info;
    cm_status rc = cm_storage_stat(st, op, c->names[1], &info, &err);

    if (rc == CM_OK && !info.terminal && !c->o.recursive)
        return cli_usage(c, "rm '%.300s': it is a directory; -r removes everything below it",
                         c->names[1]);
    /* without -r never more than one value, whatever has become of it since */
    if (rc == CM_OK && c->o.recursive)
        rc = cm_storage_remove(st, op, c->names[1], &err);
    else if (rc == CM_OK)
        rc = cm_storage_commit(st, op, NULL, &item, 1, &err);
    return rc == CM_OK ? CLI_OK : cli_storage_fail(c, c->names[1], &err);
}

/* -------------------------------------------------------------------- words */

static const struct cli_storage_word words[] = {
    { "ls", run_ls, 0, 1, "[-r] [PREFIX]", true, SHORT_S },
    { "stat", run_stat, 1, 1, "KEY", true, SHORT_S },
    { "get", cli_storage_get, 1, 1, "KEY [-o FILE]", true, SHORT_S },
    { "put", cli_storage_put, 1, 2, "KEY [FILE|-]", true, SHORT_S },
    { "rm", run_rm, 1, 1, "[-r] KEY", true, SHORT_S },
    { "export", cli_storage_export, 0, 1, "[FILE|-]", true, LONG_S },
    { "import", cli_storage_import, 0, 1, "[FILE|-|--autocert DIR]", true, LONG_S },
    { "copy", cli_storage_copy, 0, 0, "--from URL --to URL", false, LONG_S },
    { "migrate", cli_storage_migrate, 0, 0, "--from URL --to URL", false, LONG_S },
    { "check", cli_storage_check, 0, 1, "[URL] [--repair]", true, LONG_S },
    { "reseal", cli_storage_reseal, 0, 0, "", true, LONG_S },
};
#define N_WORDS (sizeof words / sizeof words[0])

static const struct cli_storage_word *word_find(const char *name)
{
    for (size_t i = 0; i < N_WORDS; i++)
        if (strcmp(words[i].name, name) == 0)
            return &words[i];
    return NULL;
}

static int unknown_word(const struct cli *c)
{
    const char *names[N_WORDS + 1];
    const char *close = NULL;

    for (size_t i = 0; i < N_WORDS; i++)
        names[i] = words[i].name;
    names[N_WORDS] = NULL;
    close = cli_closest(c->names[0], names);
    if (close != NULL)
        return cli_usage(c, "there is no '%.80s'; did you mean %s?", c->names[0], close);
    return cli_usage(c, "there is no '%.80s'; certmesh help storage lists the words", c->names[0]);
}

/* Each option says in its help which words it is for. -1 to go on. */
static int check_options(const struct cli *c, const struct cli_storage_word *w)
{
    const struct {
        const char *option;
        bool given;
        const char *words;
    } rules[] = {
        { "recursive", c->o.recursive, " ls rm " },
        { "output", c->o.out != NULL, " get " },
        { "autocert", c->o.autocert != NULL, " import " },
        { "from", c->o.from != NULL, " copy migrate " },
        { "to", c->o.to != NULL, " copy migrate " },
        { "delete", c->o.remove_others, " copy " },
        { "repair", c->o.repair, " check " },
        { "dry-run", c->o.dry_run, " copy import " },
        { "force", c->o.force, " get copy import migrate " },
        { "json", c->o.json, " ls stat copy import check migrate " },
    };
    char padded[24];

    (void)snprintf(padded, sizeof padded, " %s ", w->name);
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++)
        if (rules[i].given && strstr(rules[i].words, padded) == NULL)
            return cli_usage(c, "option --%s does not belong to %s, but to:%s", rules[i].option,
                             w->name, rules[i].words);
    if (!w->opens && (c->o.from == NULL || c->o.to == NULL))
        return cli_usage(c, "%s needs --from URL and --to URL", w->name);
    return -1;
}

int cli_run_storage(struct cli *c)
{
    const struct cli_storage_word *w = NULL;
    const char *url = NULL;
    struct cm_storage *st = NULL;
    struct cm_err err = CM_ERR_INIT;
    struct cm_op op;
    int code = -1;

    if (c->n_names == 0)
        return cli_usage(c, "what is to be done? certmesh help storage lists the words");
    w = word_find(c->names[0]);
    if (w == NULL)
        return unknown_word(c);
    if (c->n_names - 1 < w->min_args || c->n_names - 1 > w->max_args)
        return cli_usage(c, "usage: certmesh storage %s %s", w->name, w->args);
    code = check_options(c, w);
    if (code >= 0)
        return code;
    c->op.cancel = c->cancel;
    op = cli_op(c, w->timeout_s);
    if (w->run == cli_storage_check && c->n_names > 1)
        url = c->names[1];
    if (w->opens && cli_open_storage(c, url, &st, &err) != CM_OK)
        return cli_report(c, NULL, &err);
    code = w->run(c, st, &op);
    cli_ui_count("%s", "");
    cm_storage_close(st);
    return code;
}

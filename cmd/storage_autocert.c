/* SPDX-License-Identifier: Apache-2.0 */
#include "storage.h"

#include <inttypes.h>

/* `certmesh storage import --autocert DIR`: what programs with Go's autocert have kept. */

struct take {
    struct cli *c;
    struct cli_json json;
};

static void each(void *user, const char *file, enum cm_autocert_import_kind what, const char *why)
{
    static const char *const words[] = { "stored", "account", "kept", "left" };
    struct take *t = user;
    char shown[512];
    char said[768];

    (void)cli_printable(file, shown, sizeof shown);
    (void)cli_printable(why, said, sizeof said);
    if (t->c->o.json) {
        cli_json_open(&t->json, NULL, '{');
        cli_json_text(&t->json, "file", shown);
        cli_json_text(&t->json, "what", words[what]);
        cli_json_text(&t->json, what <= CM_AUTOCERT_ACCOUNT ? "key" : "why", said);
        cli_json_close(&t->json, '}');
    } else if (what == CM_AUTOCERT_LEFT) {
        cli_say("certmesh: storage import: '%s' left out: %s", shown, said);
    } else if (t->c->o.verbose || t->c->o.dry_run) {
        printf("%s %s: %s\n",
               what == CM_AUTOCERT_KEPT ? "kept"
               : t->c->o.dry_run        ? "would store"
                                        : "stored",
               shown, said);
    }
}

int cli_storage_autocert(struct cli *c, struct cm_storage *st, const struct cm_op *op)
{
    struct take t = { c, { 0 } };
    struct cm_autocert_import_options o = {
        .size = sizeof o, .email = c->o.email, .dry_run = c->o.dry_run, .each = each, .user = &t
    };
    struct cm_autocert_import_report r = { .size = sizeof r };
    struct cm_err err = CM_ERR_INIT;

    if (c->n_names > 1)
        return cli_usage(c, "import takes an archive or --autocert DIR, not both");
    if (c->o.force)
        return cli_usage(c, "--force is for archives: what lasts longer is always kept here");
    if (cli_is_internal(c))
        return cli_usage(c, "the certificates of an autocert directory are from an ACME CA: --ca");
    o.directory_url = cli_ca_resolve(c->o.ca);
    if (c->o.json) {
        cli_json_start(&t.json, stdout);
        cli_json_open(&t.json, NULL, '{');
        cli_json_text(&t.json, "storage", cm_storage_describe(st));
        cli_json_open(&t.json, "files", '[');
    }
    cm_status rc = cm_autocert_import(c->o.autocert, st, op, &o, &r, &err);
    if (c->o.json) {
        cli_json_close(&t.json, ']');
        cli_json_int(&t.json, "n_certificates", (int64_t)r.certificates);
        cli_json_int(&t.json, "n_accounts", (int64_t)r.accounts);
        cli_json_int(&t.json, "n_kept", (int64_t)r.kept);
        cli_json_int(&t.json, "n_left", (int64_t)r.left);
        cli_json_close(&t.json, '}');
        cli_json_finish(&t.json);
    }
    if (rc != CM_OK)
        return cli_storage_fail(c, c->o.autocert, &err);
    if (!c->o.json && !c->o.quiet)
        printf("%s %" PRIu64 " certificates and %" PRIu64 " account keys; %" PRIu64
               " kept as they were, %" PRIu64 " files left out\n",
               c->o.dry_run ? "would store" : "stored", r.certificates, r.accounts, r.kept, r.left);
    return CLI_OK;
}

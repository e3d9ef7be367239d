/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd.h"

int cli_run_version(struct cli *c)
{
    if (c->o.json) {
        struct cli_json j;

        cli_json_start(&j, stdout);
        cli_json_open(&j, NULL, '{');
        cli_json_text(&j, "command", CM_VERSION);
        cli_json_text(&j, "library", cm_version());
        cli_json_text(&j, "gnutls", gnutls_check_version(NULL));
        cli_json_close(&j, '}');
        cli_json_finish(&j);
        return CLI_OK;
    }
    printf("certmesh %s (libcertmesh %s, GnuTLS %s)\n", CM_VERSION, cm_version(),
           gnutls_check_version(NULL));
    return CLI_OK;
}

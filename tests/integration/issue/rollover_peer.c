/* SPDX-License-Identifier: Apache-2.0 */
#include <certmesh/cm.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* rollover_peer STORAGE NAME...: a node that has the account in memory while another one changes
 * its key. Obtains the first name, has the key changed by the other node, obtains the second; the
 * key is changed once more while the third is being validated. Where the CA is comes in the
 * environment. Prints what went wrong. */

static struct cm_config *node, *other;
static const char *change_at; /* the name in whose validation the key is changed */
static int failed;

static void say(const char *what, const struct cm_err *err)
{
    printf("%s: %s\n", what, err->msg);
    failed = 1;
}

static void change(void)
{
    struct cm_err err = CM_ERR_INIT;
    struct cm_op op = cm_op_within(NULL, 60 * CM_NS_PER_S);

    if (cm_account_rollover(other, &op, NULL, NULL, &err) != CM_OK)
        say("rollover", &err);
}

static void on_progress(void *user, const char *name, enum cm_phase phase, const struct cm_err *err)
{
    (void)user;
    (void)err;
    if (change_at == NULL || phase != CM_PHASE_VALIDATING || strcmp(name, change_at) != 0)
        return;
    change_at = NULL;
    change();
}

static struct cm_config *open_node(const char *storage, bool watched)
{
    struct cm_config_options o = CM_CONFIG_OPTIONS_INIT;
    struct cm_err err = CM_ERR_INIT;
    struct cm_config *cfg = NULL;

    o.storage = storage;
    o.acme.directory_url = getenv("ACME_DIR");
    o.acme.ca_root_file = getenv("LAB_CA");
    o.acme.agreed = true;
    o.acme.email = "ops@a.test";
    o.listen_host = "127.0.0.1";
    o.http_port = (uint16_t)strtoul(getenv("HTTP01_PORT"), NULL, 10);
    o.tls_port = (uint16_t)strtoul(getenv("TLSALPN_PORT"), NULL, 10);
    if (watched)
        o.on_progress = on_progress;
    if (cm_config_new(&o, &cfg, &err) != CM_OK) {
        say("config", &err);
        exit(1);
    }
    return cfg;
}

static void obtain(const char *name)
{
    struct cm_err err = CM_ERR_INIT;
    struct cm_op op = cm_op_within(NULL, 120 * CM_NS_PER_S);

    if (cm_obtain(node, &op, &name, 1, NULL, &err) != CM_OK)
        say(name, &err);
}

int main(int argc, char **argv)
{
    if (argc != 5 || getenv("ACME_DIR") == NULL || getenv("LAB_CA") == NULL ||
        getenv("HTTP01_PORT") == NULL || getenv("TLSALPN_PORT") == NULL)
        return 2;
    node = open_node(argv[1], true);
    other = open_node(argv[1], false);
    obtain(argv[2]);
    change();
    obtain(argv[3]);
    change_at = argv[4];
    obtain(argv[4]);
    if (change_at != NULL) {
        puts("the third name was not validated");
        failed = 1;
    }
    cm_config_free(node);
    cm_config_free(other);
    return failed;
}

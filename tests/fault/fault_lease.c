/* SPDX-License-Identifier: Apache-2.0 */
#include "fault_tool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* fault_lease URL LOCK SECONDS KEY: wait so long for the lock, store something at KEY under it and
 * say "held"; or say "busy". When a line comes in (not if the input ends), say "ok" if the lease is
 * still good, can be committed under and KEY is what it was; else "lost" or "changed". Then give
 * the lock back. */

static void say(const char *word)
{
    (void)puts(word);
    (void)fflush(stdout);
}

static const char *judge(struct cm_storage *st, struct cm_lease *lease,
                         const struct cm_commit_item *item)
{
    struct cm_buf b = CM_BUF_INIT(CM_STORAGE_VALUE_MAX);
    struct cm_err err = CM_ERR_INIT;
    const char *word = "ok";

    if (cm_storage_load(st, NULL, item->key, &b, &err) != CM_OK || b.len != item->value.len ||
        memcmp(b.data, item->value.data, b.len) != 0)
        word = "changed";
    if (cm_lease_check(lease, &err) != CM_OK ||
        cm_lease_commit(lease, NULL, item, 1, &err) != CM_OK)
        word = "lost";
    cm_buf_free(&b);
    return word;
}

int main(int argc, char **argv)
{
    struct cm_err err = CM_ERR_INIT;
    struct cm_lease *lease = NULL;
    struct cm_commit_item item = { .value = cm_span_str("the successor's") };
    struct cm_storage *st;
    struct cm_op op;
    cm_status rc;
    char line[16];

    if (argc != 5)
        tool_die("usage: fault_lease URL LOCK SECONDS KEY");
    item.key = argv[4];
    st = tool_open(argv[1]);
    op = cm_op_within(NULL, (int64_t)tool_number(argv[3], "SECONDS") * 1000000000);
    rc = cm_lease_acquire(st, &op, argv[2], NULL, &lease, &err);
    if (rc == CM_E_TIMEOUT) {
        say("busy");
        cm_storage_close(st);
        return 0;
    }
    tool_must(rc, "lease", &err);
    tool_must(cm_lease_commit(lease, NULL, &item, 1, &err), "commit", &err);
    say("held");
    if (fgets(line, sizeof line, stdin) != NULL)
        say(judge(st, lease, &item));
    cm_lease_release(lease);
    cm_storage_close(st);
    return 0;
}

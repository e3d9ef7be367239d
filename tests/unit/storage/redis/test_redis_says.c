/* SPDX-License-Identifier: Apache-2.0 */
#include "run.h"
#include "fake_redis.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

/* What a server, or a proxy before it, may say to a script, and what becomes of a store then: asked
 * once, not again and again, and told as what it is. */

static struct cm_err err;

struct says {
    const char *reply; /* to a script by its digest */
    const char *text;  /* to a script by its text; NULL: the same */
    atomic_uint asked, by_text;
};

static void serve(struct fake_conn *c)
{
    struct says *s = c->user;

    while (fake_next_call(c)) {
        if (strncmp(c->words, "EVALSHA ", 8) == 0) {
            atomic_fetch_add(&s->asked, 1);
            fake_say(c, s->reply);
        } else if (strncmp(c->words, "EVAL ", 5) == 0) {
            atomic_fetch_add(&s->by_text, 1);
            fake_say(c, s->text != NULL ? s->text : s->reply);
        } else {
            fake_say(c, "-ERR unknown command\r\n");
        }
    }
}

static cm_status store_at(struct says *s)
{
    struct fake_redis *server = fake_redis_start(serve, s);
    struct cm_op op = cm_op_within(NULL, 10 * CM_NS_PER_S);
    struct cm_storage *st = NULL;
    char url[64];
    cm_status rc;

    err = (struct cm_err)CM_ERR_INIT;
    (void)snprintf(url, sizeof url, "redis://127.0.0.1:%u?pool=1&timeout=2s",
                   (unsigned)fake_redis_port(server));
    ck_assert_int_eq(cm_storage_redis_open(url, NULL, &st, &err), CM_OK);
    rc = cm_storage_store(st, &op, "a/b", cm_span_str("secret value"), &err);
    cm_storage_close(st);
    ck_assert_uint_eq(fake_redis_connections(server), 1);
    fake_redis_stop(server);
    return rc;
}

START_TEST(refusals_are_told_as_what_they_are)
{
    static const struct {
        const char *reply;
        cm_status rc;
        const char *names;
    } all[] = {
        { "-OOM command not allowed when used memory > 'maxmemory'.\r\n", CM_E_IO, "maxmemory" },
        { "-ERR Error running script (call to f_1): @user_script:1: -OOM command not allowed\r\n",
          CM_E_IO, "maxmemory" },
        { "-MISCONF Redis is configured to save RDB snapshots, but it's currently unable\r\n",
          CM_E_IO, "disk" },
        { "-MISCONF Errors writing to the AOF file: No space left on device\r\n", CM_E_IO, "disk" },
        { "-NOREPLICAS Not enough good replicas to write.\r\n", CM_E_IO, "replicas" },
        { "-NOPERM this user has no permissions to run the 'evalsha' command\r\n", CM_E_PERM,
          "permission" },
        { "-ERR The user executing the script can't run this command or subcommand script: 7\r\n",
          CM_E_PERM, "permission" },
        { "-EXECABORT Transaction discarded because of previous errors.\r\n", CM_E_IO,
          "EXECABORT" },
        { "-UNKILLABLE Sorry the script already executed write commands\r\n", CM_E_IO,
          "UNKILLABLE" },
        { "-ERR unknown command 'EVALSHA'\r\n", CM_E_IO, "EVALSHA" },
        { "-CROSSSLOT Keys in request don't hash to the same slot\r\n", CM_E_IO, "CROSSSLOT" },
        { "-NOAUTH Authentication required.\r\n", CM_E_PERM, "password_file" },
        { "-\r\n", CM_E_IO, "" },
        { "+OK\r\n", CM_E_PARSE, "" },
        { ":1\r\n", CM_E_PARSE, "" },
        { "$-1\r\n", CM_E_PARSE, "" },
        { "*0\r\n", CM_E_PARSE, "" },
        { "*1\r\n$5\r\nmaybe\r\n", CM_E_PARSE, "" },
        { "*1\r\n:7\r\n", CM_E_PARSE, "" },
        { "*2\r\n$6\r\nexists\r\n$1\r\n9\r\n", CM_E_PARSE, "" },
        { "*3\r\n$6\r\nexists\r\n$2\r\n99\r\n$1\r\nx\r\n", CM_E_PARSE, "" },
    };

    for (size_t i = 0; i < CM_ARRAY_LEN(all); i++) {
        struct says s = { .reply = all[i].reply };
        cm_status rc = store_at(&s);

        ck_assert_msg(rc == all[i].rc, "%s: %s: %s", all[i].reply, cm_status_name(rc), err.msg);
        ck_assert_msg(strstr(err.msg, all[i].names) != NULL, "%s", err.msg);
        ck_assert_msg(strstr(err.msg, "a/b") != NULL || rc == CM_E_PERM, "%s", err.msg);
        ck_assert_ptr_null(strstr(err.msg, "secret"));
        ck_assert_uint_eq(s.asked, 1);
        ck_assert_uint_eq(s.by_text, 0);
    }
}
END_TEST

START_TEST(a_script_that_is_not_known_is_sent_once)
{
    struct says known = { .reply = "-NOSCRIPT No matching script.\r\n",
                          .text = "*1\r\n$2\r\nok\r\n" };
    struct says never = { .reply = "-NOSCRIPT No matching script.\r\n" };

    ck_assert_msg(store_at(&known) == CM_OK, "%s", err.msg);
    ck_assert_uint_eq(known.asked, 1);
    ck_assert_uint_eq(known.by_text, 1);
    ck_assert_int_eq(store_at(&never), CM_E_IO);
    ck_assert_ptr_nonnull(strstr(err.msg, "NOSCRIPT"));
    ck_assert_uint_eq(never.asked, 1);
    ck_assert_uint_eq(never.by_text, 1);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        refusals_are_told_as_what_they_are,
        a_script_that_is_not_known_is_sent_once,
    };

    return run_tests("redis says", tests, sizeof tests / sizeof tests[0]);
}

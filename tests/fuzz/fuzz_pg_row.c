/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz.h"
#include "postgres.h"

#include <stdio.h>
#include <string.h>

/* Rows of PostgreSQL, with whatever a table that others write to, or a server that is no such one,
 * may put into them: any length, any type, NULL anywhere, rows too many and columns too few. In
 * place of pg_ask() (the linker sees to that) stands one that answers with the input.
 *
 * Input: what to call; how many columns; then cells, each a length (255: NULL) and so many bytes.
 */

#define ROWS_MAX 40
#define CELL     200
#define BIG      (CM_STORAGE_VALUE_MAX + 1)

cm_status __wrap_pg_ask(struct pg_storage *s, const struct cm_op *op, const struct pg_question *q,
                        PGresult **ret, bool *ret_unknown, struct cm_err *err);

static const uint8_t *in;
static size_t left;
static int columns;
static char *big;
static unsigned bigs;

static int byte(void)
{
    if (left == 0)
        return -1;
    left--;
    return *in++;
}

/* False: the input is used up. */
static bool put_cell(PGresult *res, int row, int column)
{
    int len = byte();
    char text[CELL + 1];

    if (len < 0)
        return false;
    if (len == 255)
        return PQsetvalue(res, row, column, NULL, -1) != 0;
    if (len == 254 && bigs++ < 2)
        return PQsetvalue(res, row, column, big, BIG) != 0; /* longer than any value may be */
    if (len > CELL || (size_t)len > left)
        len = left < CELL ? (int)left : CELL;
    if (len > 0)
        memcpy(text, in, (size_t)len);
    in += len;
    left -= (size_t)len;
    return PQsetvalue(res, row, column, text, len) != 0;
}

cm_status __wrap_pg_ask(struct pg_storage *s, const struct cm_op *op, const struct pg_question *q,
                        PGresult **ret, bool *ret_unknown, struct cm_err *err)
{
    static char name[] = "c";
    PGresAttDesc desc[8] = { { .name = name, .format = 1 } };
    PGresult *res = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);

    (void)s;
    (void)op;
    (void)q;
    (void)err;
    CM_ASSERT(res != NULL);
    for (int i = 1; i < columns; i++)
        desc[i] = desc[0];
    CM_ASSERT(PQsetResultAttrs(res, columns, desc) != 0);
    for (int row = 0; row < ROWS_MAX && left > 0; row++)
        for (int column = 0; column < columns; column++)
            if (!put_cell(res, row, column))
                break;
    if (ret_unknown != NULL)
        *ret_unknown = false;
    *ret = res;
    return CM_OK;
}

static cm_status see_key(void *user, const struct cm_key_info *info, struct cm_err *err)
{
    (void)user;
    (void)err;
    fuzz_reached();
    CM_ASSERT(strlen(info->key) <= CM_STORAGE_KEY_MAX && info->key[0] != '\0');
    CM_ASSERT(strncmp(info->key, "certmesh/locks/", 15) != 0);
    CM_ASSERT(info->terminal || info->size == 0);
    return CM_OK;
}

static cm_status see_value(void *user, size_t index, cm_status status, struct cm_span value,
                           const struct cm_err *why, struct cm_err *err)
{
    bool *seen = user;

    (void)err;
    CM_ASSERT(index < 3 && !seen[index]);
    seen[index] = true;
    CM_ASSERT(status == CM_OK || status == CM_E_NOTFOUND || status == CM_E_LIMIT);
    CM_ASSERT(status == CM_OK || why->msg[0] != '\0');
    CM_ASSERT(status != CM_OK || value.len <= CM_STORAGE_VALUE_MAX);
    return CM_OK;
}

static void take_lock(struct cm_storage *st)
{
    struct cm_grant grant = { .name = "l" };
    int64_t wait_ns = -1;
    cm_status rc = pg_try_lock(st, NULL, "l", CM_NS_PER_S, &grant, &wait_ns, NULL);

    CM_ASSERT(rc == CM_OK || rc == CM_E_BUSY);
    CM_ASSERT(rc == CM_OK ? grant.token[0] != '\0' : wait_ns > 0);
}

static void ask_lock(struct cm_storage *st)
{
    struct cm_lock_info info = { .size = sizeof info };

    if (pg_lock_info(st, NULL, "l", &info, NULL) != CM_OK)
        return;
    CM_ASSERT(memchr(info.holder, 0, sizeof info.holder) != NULL);
    for (const char *c = info.holder; *c != '\0'; c++)
        CM_ASSERT((unsigned char)*c >= 0x20 && *c != 0x7f);
}

static void load(struct cm_storage *st)
{
    CM_AUTO_BUF struct cm_buf value = CM_BUF_SECRET(CM_STORAGE_VALUE_MAX);
    cm_status rc = pg_load(st, NULL, "k", &value, NULL);

    CM_ASSERT(rc == CM_OK || rc == CM_E_NOTFOUND || rc == CM_E_LIMIT);
}

static void look(struct cm_storage *st)
{
    struct cm_key_info info = { .key = "k" };
    cm_status rc = pg_stat(st, NULL, "k", &info, NULL);

    CM_ASSERT(rc == CM_OK || rc == CM_E_NOTFOUND);
    CM_ASSERT(info.size <= INT64_MAX);
}

static void commit(struct cm_storage *st)
{
    const struct cm_commit_item items[] = { { .key = "a/b", .value = { (const uint8_t *)"x", 1 } },
                                            { .key = "a/c", .remove = true } };
    struct cm_grant grant = { .name = "l", .token = "t", .fence = 1 };
    cm_status rc = pg_commit(st, NULL, &grant, items, 2, NULL);

    CM_ASSERT(rc != CM_E_NOMEM && rc != CM_E_PARSE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const keys[] = { "a", "b", "c" };
    struct pg_storage s = { .env = cm_env_system() };
    bool seen[3] = { false };
    cm_status rc;

    if (big == NULL)
        CM_ASSERT((big = cm_calloc(1, BIG)) != NULL);
    if (size < 2)
        return 0;
    in = data + 2;
    left = size - 2;
    bigs = 0;
    columns = data[1] % 8 + 1;
    switch (data[0] % 8) {
    case 0:
        rc = pg_list(&s.base, NULL, "", true, see_key, NULL, NULL);
        CM_ASSERT(rc == CM_OK || rc == CM_E_PARSE);
        break;
    case 1:
        rc = pg_list(&s.base, NULL, "d", false, see_key, NULL, NULL);
        CM_ASSERT(rc == CM_OK || rc == CM_E_PARSE);
        break;
    case 2:
        load(&s.base);
        break;
    case 3:
        (void)pg_load_many(&s.base, NULL, keys, 3, see_value, seen, NULL);
        break;
    case 4:
        look(&s.base);
        break;
    case 5:
        take_lock(&s.base);
        break;
    case 6:
        ask_lock(&s.base);
        break;
    default:
        commit(&s.base);
        break;
    }
    return 0;
}

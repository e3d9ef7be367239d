/* SPDX-License-Identifier: Apache-2.0 */
#include "file.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* The record of a commit as text, one line per item:
 *
 *   certmesh-commit 1 F                     F = forwards, U = to be undone (one byte, in place)
 *   boot <boot id>
 *   lock <Safe(name)|/>                   the lock it was made under; "/" if none
 *   items <n>
 *   set <new> <inode> <old|-> <existed> <inode> <size> <mtime ns> <key>
 *   del - 0 <old|-> <existed> <inode> <size> <mtime ns> <key>
 *   end <FNV-1a of all between the first line and this one>
 *
 * <new> and <old> are names in certmesh/tmp; keys have no control bytes, so a line is a line. */

#define HEAD     "certmesh-commit 1 "
#define NO_LOCK  "/" /* no Safe() gives that */
#define STATE_AT (sizeof HEAD - 1)
#define BODY_AT  (STATE_AT + 2)

cm_status fst_redo_mark_undo(const struct fst_redo *r, struct cm_err *err)
{
    ssize_t n;

    do {
        n = pwrite(r->fd, "U", 1, (off_t)STATE_AT);
    } while (n < 0 && errno == EINTR);
    if (n != 1 || fst_sys_fsync(r->fd, r->name) != 0)
        return cm_fail_errno(err, "mark commit record '%s' as to be undone", r->name);
    return CM_OK;
}

cm_status fst_redo_text(const struct fst_redo *r, struct cm_buf *out, struct cm_err *err)
{
    cm_status rc =
        cm_buf_printf(out, err, HEAD "%c\nboot %s\nlock %s\nitems %zu\n", r->undo ? 'U' : 'F',
                      r->boot_id, r->lock[0] != '\0' ? r->lock : NO_LOCK, r->n);

    for (size_t i = 0; i < r->n && rc == CM_OK; i++) {
        const struct fst_redo_item *item = &r->items[i];

        rc = cm_buf_printf(
            out, err, "%s %s %llu %s %d %llu %llu %lld %s\n", item->remove ? "del" : "set",
            item->tmp, (unsigned long long)item->tmp_inode, item->old, item->before.exists,
            (unsigned long long)item->before.inode, (unsigned long long)item->before.size,
            (long long)item->before.modified_ns, item->key);
    }
    if (rc == CM_OK)
        rc = cm_buf_printf(
            out, err, "end %016llx\n",
            (unsigned long long)cm_fnv1a64(CM_FNV1A64, out->data + BODY_AT, out->len - BODY_AT));
    return rc;
}

/* A cursor over the text that only goes forward; after the first mistake nothing matches. */
struct cursor {
    const char *at;
    const char *end;
    bool ok;
};

static void expect(struct cursor *c, const char *text)
{
    size_t n = strlen(text);

    c->ok = c->ok && (size_t)(c->end - c->at) >= n && memcmp(c->at, text, n) == 0;
    if (c->ok)
        c->at += n;
}

/* Up to @stop, which is passed over. */
static void word(struct cursor *c, char stop, char *out, size_t size)
{
    const char *to = c->ok ? memchr(c->at, stop, (size_t)(c->end - c->at)) : NULL;
    size_t n = to != NULL ? (size_t)(to - c->at) : 0;

    c->ok = n > 0 && n < size && memchr(c->at, '\0', n) == NULL;
    if (!c->ok)
        return;
    memcpy(out, c->at, n);
    out[n] = '\0';
    c->at = to + 1;
}

/* The lock becomes part of a path: nothing that Safe() does not give. */
static void lock_name(struct cursor *c, char *out)
{
    word(c, '\n', out, FST_SAFE_MAX);
    if (c->ok && strcmp(out, NO_LOCK) == 0)
        out[0] = '\0';
    c->ok = c->ok && strchr(out, '/') == NULL;
}

static uint64_t number(struct cursor *c, char stop)
{
    char text[24] = "";
    uint64_t v = 0;

    word(c, stop, text, sizeof text);
    for (const char *p = text; c->ok && *p != '\0'; p++)
        c->ok = *p >= '0' && *p <= '9' && !__builtin_mul_overflow(v, 10, &v) &&
                !__builtin_add_overflow(v, (uint64_t)(*p - '0'), &v);
    return v;
}

static int64_t signed_number(struct cursor *c, char stop)
{
    bool minus = c->ok && c->at < c->end && *c->at == '-';
    uint64_t v;

    if (minus)
        c->at++;
    v = number(c, stop);
    c->ok = c->ok && v <= INT64_MAX;
    return !c->ok ? 0 : minus ? -(int64_t)v : (int64_t)v;
}

static void temp_name(struct cursor *c, char *out)
{
    word(c, ' ', out, FST_NAME_MAX);
    c->ok = c->ok && strchr(out, '/') == NULL && out[0] != '.';
}

static void parse_item(struct cursor *c, struct fst_redo_item *item)
{
    char kind[4] = "";

    word(c, ' ', kind, sizeof kind);
    item->remove = strcmp(kind, "del") == 0;
    c->ok = c->ok && (item->remove || strcmp(kind, "set") == 0);
    temp_name(c, item->tmp);
    item->tmp_inode = number(c, ' ');
    temp_name(c, item->old);
    item->before.exists = number(c, ' ') != 0;
    item->before.inode = number(c, ' ');
    item->before.size = number(c, ' ');
    item->before.modified_ns = signed_number(c, ' ');
    word(c, '\n', item->key, sizeof item->key);
    c->ok = c->ok && cm_storage_key_check(item->key, false, NULL) == CM_OK;
}

static bool checksum_matches(struct cm_span text, const char *end_line)
{
    struct cursor c = { end_line, (const char *)text.data + text.len, true };
    char want[20] = "";
    char hex[20];
    size_t body = (size_t)(end_line - (const char *)text.data) - BODY_AT;
    uint64_t sum = cm_fnv1a64(CM_FNV1A64, text.data + BODY_AT, body);

    expect(&c, "end ");
    word(&c, '\n', want, sizeof want);
    for (int i = 0; i < 16; i++)
        hex[i] = "0123456789abcdef"[(sum >> (60 - 4 * i)) & 0xF];
    hex[16] = '\0';
    return c.ok && c.at == c.end && strcmp(want, hex) == 0;
}

cm_status fst_redo_parse(struct cm_span text, struct fst_redo *ret, struct cm_err *err)
{
    struct cursor c = { (const char *)text.data, (const char *)text.data + text.len, true };
    char state[2] = "";
    uint64_t n;

    expect(&c, HEAD);
    word(&c, '\n', state, sizeof state);
    c.ok = c.ok && (state[0] == 'F' || state[0] == 'U');
    expect(&c, "boot ");
    word(&c, '\n', ret->boot_id, sizeof ret->boot_id);
    expect(&c, "lock ");
    lock_name(&c, ret->lock);
    expect(&c, "items ");
    n = number(&c, '\n');
    if (!c.ok || n == 0 || n > CM_COMMIT_MAX)
        return cm_fail(err, CM_E_PARSE, "commit record '%s' is damaged", ret->name);
    ret->items = cm_calloc((size_t)n, sizeof ret->items[0]);
    if (ret->items == NULL)
        return cm_fail_nomem(err);
    ret->n = (size_t)n;
    ret->undo = state[0] == 'U';
    for (size_t i = 0; i < ret->n && c.ok; i++)
        parse_item(&c, &ret->items[i]);
    if (!c.ok || !checksum_matches(text, c.at))
        return cm_fail(err, CM_E_PARSE, "commit record '%s' is damaged", ret->name);
    return CM_OK;
}

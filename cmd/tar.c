/* SPDX-License-Identifier: Apache-2.0 */
#include "tar.h"

#include <errno.h>
#include <string.h>

/* Offsets in a header block. */
enum {
    AT_NAME = 0,
    AT_MODE = 100,
    AT_UID = 108,
    AT_GID = 116,
    AT_SIZE = 124,
    AT_MTIME = 136,
    AT_SUM = 148,
    AT_TYPE = 156,
    AT_MAGIC = 257,
    AT_PREFIX = 345,
    LEN_NAME = 100,
    LEN_NUMBER = 8,
    LEN_LONG = 12,
    LEN_PREFIX = 155
};
#define OCTAL_MAX ((INT64_C(1) << 33) - 1) /* eleven digits */

/* ------------------------------------------------------------------ writing */

static void put_octal(uint8_t *at, size_t len, uint64_t value)
{
    at[--len] = '\0';
    while (len > 0) {
        at[--len] = (uint8_t)('0' + (value & 7));
        value >>= 3;
    }
}

static unsigned sum_of(const uint8_t *block)
{
    unsigned sum = 0;

    for (unsigned i = 0; i < TAR_BLOCK; i++)
        sum += i >= AT_SUM && i < AT_SUM + LEN_NUMBER ? ' ' : block[i];
    return sum;
}

static cm_status put_bytes(FILE *f, const void *data, size_t len, struct cm_err *err)
{
    if (len > 0 && fwrite(data, 1, len, f) != len)
        return cm_fail_errno(err, "write the archive");
    return CM_OK;
}

static cm_status put_padded(FILE *f, struct cm_span value, struct cm_err *err)
{
    static const uint8_t zeros[TAR_BLOCK];
    cm_status rc = put_bytes(f, value.data, value.len, err);

    if (rc == CM_OK && value.len % TAR_BLOCK != 0)
        rc = put_bytes(f, zeros, TAR_BLOCK - value.len % TAR_BLOCK, err);
    return rc;
}

/* @prefix_len bytes of @name go into the second field of names, and the '/' after them goes. */
static cm_status put_header(FILE *f, char type, const char *name, size_t prefix_len, size_t size,
                            int64_t mtime_s, struct cm_err *err)
{
    uint8_t block[TAR_BLOCK] = { 0 };
    const char *rest = prefix_len > 0 ? name + prefix_len + 1 : name;

    memcpy(block + AT_NAME, rest, strlen(rest) < LEN_NAME ? strlen(rest) : LEN_NAME);
    memcpy(block + AT_PREFIX, name, prefix_len);
    put_octal(block + AT_MODE, LEN_NUMBER, 0600);
    put_octal(block + AT_UID, LEN_NUMBER, 0);
    put_octal(block + AT_GID, LEN_NUMBER, 0);
    put_octal(block + AT_SIZE, LEN_LONG, size);
    put_octal(block + AT_MTIME, LEN_LONG,
              (uint64_t)(mtime_s < 0           ? 0
                         : mtime_s > OCTAL_MAX ? OCTAL_MAX
                                               : mtime_s));
    block[AT_TYPE] = (uint8_t)type;
    memcpy(block + AT_MAGIC,
           "ustar\0"
           "00",
           8);
    put_octal(block + AT_SUM, LEN_NUMBER - 1, sum_of(block));
    block[AT_SUM + LEN_NUMBER - 1] = ' ';
    return put_bytes(f, block, sizeof block, err);
}

/* Where a long name can be cut in two at a '/'; 0 = nowhere. */
static size_t prefix_of(const char *name)
{
    size_t len = strlen(name);

    for (size_t i = len < LEN_PREFIX ? len : LEN_PREFIX; i > 0; i--)
        if (name[i] == '/' && len - i - 1 <= LEN_NAME && i + 1 < len)
            return i;
    return 0;
}

/* "LEN path=NAME\n", where LEN counts itself. */
static cm_status put_pax_name(FILE *f, const char *name, int64_t mtime_s, struct cm_err *err)
{
    char record[TAR_NAME_MAX + 32];
    size_t body = strlen(" path=\n") + strlen(name);
    size_t len = body + 1;

    while (snprintf(NULL, 0, "%zu", len) + (int)body != (int)len)
        len++;
    (void)snprintf(record, sizeof record, "%zu path=%s\n", len, name);
    cm_status rc = put_header(f, 'x', "PaxHeader/long-name", 0, len, mtime_s, err);
    return rc == CM_OK ? put_padded(f, (struct cm_span){ (const uint8_t *)record, len }, err) : rc;
}

cm_status tar_write(FILE *f, const char *name, struct cm_span value, int64_t mtime_s,
                    struct cm_err *err)
{
    size_t prefix_len = 0;
    cm_status rc = CM_OK;

    if (strlen(name) > TAR_NAME_MAX || value.len > OCTAL_MAX)
        return cm_fail(err, CM_E_LIMIT, "'%.200s' does not fit into a tar archive", name);
    if (strlen(name) > LEN_NAME) {
        prefix_len = prefix_of(name);
        if (prefix_len == 0)
            rc = put_pax_name(f, name, mtime_s, err);
    }
    if (rc == CM_OK)
        rc = put_header(f, '0', name, prefix_len, value.len, mtime_s, err);
    return rc == CM_OK ? put_padded(f, value, err) : rc;
}

cm_status tar_write_end(FILE *f, struct cm_err *err)
{
    static const uint8_t zeros[2 * TAR_BLOCK];

    return put_bytes(f, zeros, sizeof zeros, err);
}

/* ------------------------------------------------------------------ reading */

void tar_reader_start(struct tar_reader *r, FILE *f)
{
    *r = (struct tar_reader){ f, 0, 0 };
}

static cm_status damaged(const struct tar_reader *r, const char *what, struct cm_err *err)
{
    return cm_fail(err, CM_E_PARSE, "no tar archive, or a damaged one: %s at byte %llu", what,
                   (unsigned long long)r->at);
}

static cm_status get_bytes(struct tar_reader *r, void *out, size_t len, struct cm_err *err)
{
    size_t got = fread(out, 1, len, r->f);

    r->at += got;
    if (got == len)
        return CM_OK;
    return ferror(r->f) != 0 ? cm_fail_errno(err, "read the archive")
                             : damaged(r, "it ends too early", err);
}

static cm_status pass_over(struct tar_reader *r, struct cm_err *err)
{
    uint8_t block[TAR_BLOCK];
    cm_status rc = CM_OK;

    while (rc == CM_OK && r->left > 0) {
        size_t n = r->left < sizeof block ? (size_t)r->left : sizeof block;

        rc = get_bytes(r, block, n, err);
        r->left -= n;
    }
    cm_wipe(block, sizeof block);
    return rc;
}

/* Octal digits with blanks around them, or base 256 as GNU tar has it for what is larger. */
static bool number_of(const uint8_t *at, size_t len, uint64_t *ret)
{
    uint64_t v = 0;
    size_t i = 0;

    if ((at[0] & 0x80) != 0) {
        v = at[0] & 0x7f;
        for (i = 1; i < len; i++) {
            if (v >> 55 != 0)
                return false;
            v = v << 8 | at[i];
        }
        *ret = v;
        return true;
    }
    while (i < len && at[i] == ' ')
        i++;
    for (; i < len && at[i] >= '0' && at[i] <= '7'; i++) {
        if (v >> 60 != 0)
            return false;
        v = v << 3 | (uint64_t)(at[i] - '0');
    }
    for (; i < len; i++)
        if (at[i] != ' ' && at[i] != '\0')
            return false;
    *ret = v;
    return true;
}

static size_t text_len(const uint8_t *at, size_t len)
{
    const uint8_t *end = memchr(at, '\0', len);

    return end != NULL ? (size_t)(end - at) : len;
}

/* What the headers before an entry say of it. */
struct extra {
    char name[TAR_NAME_MAX + 1];
    bool has_name;
    bool has_size;
    uint64_t size;
};

static cm_status take_name(struct tar_reader *r, struct extra *x, const uint8_t *name, size_t len,
                           struct cm_err *err)
{
    if (len == 0 || len > TAR_NAME_MAX || memchr(name, '\0', len) != NULL)
        return damaged(r, "a name that cannot be", err);
    memcpy(x->name, name, len);
    x->name[len] = '\0';
    x->has_name = true;
    return CM_OK;
}

/* "LEN KEY=VALUE\n" over and over. */
static cm_status take_pax(struct tar_reader *r, struct extra *x, const uint8_t *at, size_t len,
                          struct cm_err *err)
{
    static const char bad[] = "a malformed pax header";
    cm_status rc = CM_OK;

    while (len > 0 && rc == CM_OK) {
        size_t n = 0;
        size_t i = 0;

        for (; i < len && i < 8 && at[i] >= '0' && at[i] <= '9'; i++)
            n = n * 10 + (size_t)(at[i] - '0');
        if (i == 0 || i == len || at[i] != ' ' || n > len || n < i + 4 || at[n - 1] != '\n')
            return damaged(r, bad, err);
        const uint8_t *key = at + i + 1;
        const uint8_t *equals = memchr(key, '=', n - i - 2);
        if (equals == NULL)
            return damaged(r, bad, err);
        const uint8_t *value = equals + 1;
        size_t value_len = (size_t)(at + n - 1 - value);
        size_t key_len = (size_t)(equals - key);
        if (key_len == 4 && memcmp(key, "path", 4) == 0) {
            rc = take_name(r, x, value, value_len, err);
        } else if (key_len == 4 && memcmp(key, "size", 4) == 0) {
            x->size = 0;
            for (size_t k = 0; k < value_len; k++) {
                if (value[k] < '0' || value[k] > '9' || k >= 18)
                    return damaged(r, bad, err);
                x->size = x->size * 10 + (uint64_t)(value[k] - '0');
            }
            x->has_size = value_len > 0;
        } else if (key_len >= 10 && memcmp(key, "GNU.sparse", 10) == 0) {
            return cm_fail(err, CM_E_UNSUPPORTED, "the archive has a sparse file at byte %llu",
                           (unsigned long long)r->at);
        }
        at += n;
        len -= n;
    }
    return rc;
}

/* The body of a pax ('x') or long-name ('L') header; the one of a global header goes unread. */
static cm_status take_meta(struct tar_reader *r, char type, uint64_t size, struct extra *x,
                           struct cm_err *err)
{
    struct cm_buf body = CM_BUF_INIT(TAR_META_MAX);
    uint64_t left = r->left;
    cm_status rc = CM_OK;

    if (type != 'x' && type != 'L')
        return CM_OK;
    if (size > TAR_META_MAX)
        return cm_fail(err, CM_E_LIMIT, "the archive has a header of %llu bytes at byte %llu",
                       (unsigned long long)size, (unsigned long long)r->at);
    rc = cm_buf_reserve(&body, (size_t)size, err);
    if (rc == CM_OK && size > 0)
        rc = get_bytes(r, body.data, (size_t)size, err);
    r->left = left - size;
    if (rc == CM_OK && type == 'x')
        rc = take_pax(r, x, body.data, (size_t)size, err);
    else if (rc == CM_OK)
        rc = take_name(r, x, body.data, size > 0 ? text_len(body.data, (size_t)size) : 0, err);
    cm_buf_free(&body);
    return rc;
}

/* *ret_slash: it ends in '/', as directories did before there was a type for them. */
static cm_status set_name(struct tar_reader *r, const uint8_t *block, const struct extra *x,
                          struct tar_entry *ret, bool *ret_slash, struct cm_err *err)
{
    size_t prefix = 0;
    size_t len = text_len(block + AT_NAME, LEN_NAME);
    char *name = ret->name;

    if (x->has_name) {
        memcpy(name, x->name, strlen(x->name) + 1);
    } else {
        /* the older GNU format ("ustar  ") has other things in that place */
        if (memcmp(block + AT_MAGIC, "ustar\0", 6) == 0)
            prefix = text_len(block + AT_PREFIX, LEN_PREFIX);
        memcpy(name, block + AT_PREFIX, prefix);
        if (prefix > 0)
            name[prefix++] = '/';
        memcpy(name + prefix, block + AT_NAME, len);
        name[prefix + len] = '\0';
    }
    if (name[0] == '\0')
        return damaged(r, "an entry without a name", err);
    while (name[0] == '.' && name[1] == '/')
        memmove(name, name + 2, strlen(name + 2) + 1);
    len = strlen(name);
    *ret_slash = len == 0 || name[len - 1] == '/';
    if (len > 0 && *ret_slash)
        name[len - 1] = '\0';
    return CM_OK;
}

static cm_status set_kind(char type, bool slash, struct tar_entry *ret, struct cm_err *err)
{
    const char *what = "something else";

    switch (type) {
    case '0':
    case '7':
    case '\0':
        ret->kind = slash ? TAR_DIRECTORY : TAR_FILE;
        return CM_OK;
    case '5':
        ret->kind = TAR_DIRECTORY;
        return CM_OK;
    case '1':
    case '2':
        what = "a link";
        break;
    case '3':
    case '4':
    case '6':
        what = "a device or a pipe";
        break;
    case 'S':
        what = "a sparse file";
        break;
    default:
        break;
    }
    return cm_fail(err, CM_E_UNSUPPORTED,
                   "'%.200s' in the archive is %s: only plain files can become values", ret->name,
                   what);
}

cm_status tar_next(struct tar_reader *r, struct tar_entry *ret, struct cm_err *err)
{
    static const uint8_t zeros[TAR_BLOCK];
    struct extra x = { .has_name = false };
    uint8_t block[TAR_BLOCK];
    uint64_t size = 0;
    uint64_t sum = 0;
    uint64_t mtime = 0;
    bool slash = false;
    cm_status rc = CM_OK;

    for (;;) {
        rc = pass_over(r, err);
        if (rc == CM_OK)
            rc = get_bytes(r, block, sizeof block, err);
        if (rc != CM_OK)
            return rc;
        if (memcmp(block, zeros, sizeof block) == 0) {
            ret->kind = TAR_END;
            return x.has_name || x.has_size ? damaged(r, "a header without its file", err) : CM_OK;
        }
        if (!number_of(block + AT_SUM, LEN_NUMBER, &sum) || sum != sum_of(block))
            return damaged(r, "a header whose sum is wrong", err);
        if (!number_of(block + AT_SIZE, LEN_LONG, &size) ||
            !number_of(block + AT_MTIME, LEN_LONG, &mtime))
            return damaged(r, "a malformed number", err);
        char type = (char)block[AT_TYPE];
        if (strchr("xgLK", type) == NULL || type == '\0')
            break;
        r->left = (size + TAR_BLOCK - 1) / TAR_BLOCK * TAR_BLOCK;
        rc = take_meta(r, type, size, &x, err);
        if (rc != CM_OK)
            return rc;
    }
    if (x.has_size)
        size = x.size;
    rc = set_name(r, block, &x, ret, &slash, err);
    if (rc == CM_OK)
        rc = set_kind((char)block[AT_TYPE], slash, ret, err);
    ret->size = size;
    ret->mtime_s = mtime > INT64_MAX ? INT64_MAX : (int64_t)mtime;
    r->left = (size + TAR_BLOCK - 1) / TAR_BLOCK * TAR_BLOCK;
    return rc;
}

cm_status tar_read(struct tar_reader *r, const struct tar_entry *e, struct cm_buf *ret,
                   struct cm_err *err)
{
    size_t before = ret->len;
    cm_status rc = e->size > ret->max - before
                       ? cm_fail(err, CM_E_LIMIT, "'%.200s' in the archive has %llu bytes", e->name,
                                 (unsigned long long)e->size)
                       : cm_buf_reserve(ret, (size_t)e->size, err);

    if (rc != CM_OK)
        return rc;
    if (e->size == 0)
        return CM_OK;
    rc = get_bytes(r, ret->data + before, (size_t)e->size, err);
    if (rc != CM_OK)
        return rc;
    ret->len = before + (size_t)e->size;
    ret->data[ret->len] = '\0';
    r->left -= e->size;
    return CM_OK;
}

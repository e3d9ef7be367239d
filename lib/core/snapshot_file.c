/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC       "CMSNAP"
#define VERSION     1u
#define HEADER_LEN  24u
#define AAD_LEN     (HEADER_LEN + 8)
#define RECORD_MAX  (CM_PEM_FILE_MAX + CM_KEY_PEM_MAX + 4096)
#define RECORDS_MAX 10000000u
#define FLUSH_BYTES (64u * 1024)

static void put_be(uint8_t *out, uint64_t v, size_t len)
{
    for (size_t i = len; i-- > 0; v >>= 8)
        out[i] = (uint8_t)v;
}

static uint64_t get_be(const uint8_t *in, size_t len)
{
    uint64_t v = 0;

    for (size_t i = 0; i < len; i++)
        v = v << 8 | in[i];
    return v;
}

/* What both sides derive from the header. */
struct sealing {
    uint8_t header[HEADER_LEN];
    uint8_t key[CM_SEAL_KEY_LEN];
};

static cm_status derive(struct sealing *s, const uint8_t *master, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf mac = CM_BUF_SECRET(64);

    cm_status rc = cm_hmac(CM_HMAC_SHA256, (struct cm_span){ master, CM_SEAL_KEY_LEN },
                           (struct cm_span){ s->header, HEADER_LEN }, &mac, err);
    if (rc == CM_OK)
        memcpy(s->key, mac.data, sizeof s->key);
    return rc;
}

/* Nonce and additional data of record number @n. */
static void number(const struct sealing *s, uint64_t n, uint8_t nonce[CM_SEAL_NONCE_LEN],
                   uint8_t aad[AAD_LEN])
{
    memset(nonce, 0, CM_SEAL_NONCE_LEN);
    put_be(nonce + 4, n, 8);
    memcpy(aad, s->header, HEADER_LEN);
    put_be(aad + HEADER_LEN, n, 8);
}

/* ---- writing ---- */

struct cm_snapshot_writer {
    const struct cm_env *env;
    struct sealing s;
    uint64_t n;
    int fd;
    char *path;
    char *aside;
    struct cm_buf plain;
    struct cm_buf out;
};

static void writer_free(struct cm_snapshot_writer *w)
{
    if (w->fd >= 0)
        (void)close(w->fd);
    cm_buf_free(&w->plain);
    cm_buf_free(&w->out);
    cm_wipe(&w->s, sizeof w->s);
    free(w->path);
    free(w->aside);
    free(w);
}

void cm_snapshot_abandon(struct cm_snapshot_writer *w)
{
    if (w == NULL)
        return;
    if (w->fd >= 0)
        (void)unlink(w->aside);
    writer_free(w);
}

static cm_status flush(struct cm_snapshot_writer *w, struct cm_err *err)
{
    size_t done = 0;

    while (done < w->out.len) {
        ssize_t n = write(w->fd, w->out.data + done, w->out.len - done);

        if (n < 0 && errno != EINTR)
            return cm_fail_errno(err, "write '%s'", w->aside);
        done += n > 0 ? (size_t)n : 0;
    }
    cm_buf_recycle(&w->out, 2 * FLUSH_BYTES);
    return CM_OK;
}

cm_status cm_snapshot_create(const struct cm_env *env, const char *path, const uint8_t *key,
                             struct cm_snapshot_writer **ret, struct cm_err *err)
{
    struct cm_snapshot_writer *w = cm_calloc(1, sizeof *w);

    if (w == NULL)
        return cm_fail_nomem(err);
    w->env = env;
    w->fd = -1;
    w->plain = (struct cm_buf)CM_BUF_SECRET(RECORD_MAX);
    w->out = (struct cm_buf)CM_BUF_INIT(FLUSH_BYTES + 2 * RECORD_MAX);
    w->path = cm_strdup(path);
    w->aside = cm_asprintf("%s.new", path);
    memcpy(w->s.header, MAGIC, 6);
    put_be(w->s.header + 6, VERSION, 2);
    cm_status rc = w->path != NULL && w->aside != NULL
                       ? cm_env_random(env, w->s.header + 8, HEADER_LEN - 8, err)
                       : cm_fail_nomem(err);
    if (rc == CM_OK)
        rc = derive(&w->s, key, err);
    if (rc == CM_OK) {
        (void)unlink(w->aside);
        w->fd = open(w->aside, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (w->fd < 0)
            rc = cm_fail_errno(err, "create '%s'", w->aside);
    }
    if (rc == CM_OK)
        rc = cm_buf_append(&w->out, w->s.header, HEADER_LEN, err);
    if (rc != CM_OK) {
        cm_snapshot_abandon(w);
        return rc;
    }
    *ret = w;
    return CM_OK;
}

/* Seal what is in w->plain. */
static cm_status put_record(struct cm_snapshot_writer *w, struct cm_err *err)
{
    uint8_t nonce[CM_SEAL_NONCE_LEN];
    uint8_t aad[AAD_LEN];
    uint8_t len[4];

    number(&w->s, w->n, nonce, aad);
    put_be(len, w->plain.len + CM_SEAL_TAG_LEN, sizeof len);
    cm_status rc = cm_buf_append(&w->out, len, sizeof len, err);
    if (rc == CM_OK)
        rc = cm_seal((struct cm_span){ w->s.key, sizeof w->s.key }, nonce,
                     (struct cm_span){ aad, sizeof aad }, cm_buf_span(&w->plain), &w->out, err);
    cm_buf_recycle(&w->plain, FLUSH_BYTES);
    w->n++;
    return rc == CM_OK && w->out.len >= FLUSH_BYTES ? flush(w, err) : rc;
}

static cm_status put_part(struct cm_buf *out, struct cm_span part, struct cm_err *err)
{
    uint8_t len[4];

    put_be(len, part.len, sizeof len);
    cm_status rc = cm_buf_append(out, len, sizeof len, err);
    return rc == CM_OK ? cm_buf_append(out, part.data, part.len, err) : rc;
}

cm_status cm_snapshot_add(struct cm_snapshot_writer *w, const struct cm_snapshot_entry *e,
                          struct cm_err *err)
{
    const struct cm_span parts[] = { e->name, e->issuer_key, e->chain_pem, e->key_pem };

    cm_status rc = cm_buf_append(&w->plain, "C", 1, err);
    for (size_t i = 0; i < CM_ARRAY_LEN(parts) && rc == CM_OK; i++)
        rc = put_part(&w->plain, parts[i], err);
    return rc == CM_OK ? put_record(w, err) : rc;
}

/* The name of the new file has to survive, too. */
static cm_status flush_directory(const char *path, struct cm_err *err)
{
    const char *slash = strrchr(path, '/');
    CM_AUTO_FREE char *dir = slash == NULL   ? cm_strdup(".")
                             : slash == path ? cm_strdup("/")
                                             : cm_strndup(path, (size_t)(slash - path));
    CM_AUTO_CLOSE int fd = -1;

    if (dir == NULL)
        return cm_fail_nomem(err);
    fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) != 0)
        return cm_fail_errno(err, "flush directory '%s'", dir);
    return CM_OK;
}

static cm_status put_in_place(struct cm_snapshot_writer *w, struct cm_err *err)
{
    uint8_t end[9] = { 'E' };

    put_be(end + 1, (uint64_t)w->env->wall_ns(w->env), 8);
    cm_status rc = cm_buf_append(&w->plain, end, sizeof end, err);
    if (rc == CM_OK)
        rc = put_record(w, err);
    if (rc == CM_OK)
        rc = flush(w, err);
    if (rc == CM_OK && fsync(w->fd) != 0)
        rc = cm_fail_errno(err, "flush '%s'", w->aside);
    if (rc == CM_OK && rename(w->aside, w->path) != 0)
        rc = cm_fail_errno(err, "rename '%s' to '%s'", w->aside, w->path);
    return rc == CM_OK ? flush_directory(w->path, err) : rc;
}

cm_status cm_snapshot_commit(struct cm_snapshot_writer *w, struct cm_err *err)
{
    cm_status rc = put_in_place(w, err);

    if (rc == CM_OK)
        writer_free(w);
    else
        cm_snapshot_abandon(w);
    return rc;
}

/* ---- reading ---- */

struct place {
    uint64_t hash;
    uint64_t at;     /* of the length */
    uint64_t number; /* of the record */
};

struct cm_snapshot_reader {
    struct sealing s;
    int fd;
    char *path;
    struct place *places; /* by hash */
    size_t n;
    size_t cap;
    int64_t written_ns;
};

void cm_snapshot_reader_free(struct cm_snapshot_reader *r)
{
    if (r == NULL)
        return;
    if (r->fd >= 0)
        (void)close(r->fd);
    cm_wipe(&r->s, sizeof r->s);
    free(r->places);
    free(r->path);
    free(r);
}

size_t cm_snapshot_count(const struct cm_snapshot_reader *r)
{
    return r->n;
}

int64_t cm_snapshot_written_ns(const struct cm_snapshot_reader *r)
{
    return r->written_ns;
}

static cm_status damaged(const struct cm_snapshot_reader *r, const char *what, struct cm_err *err)
{
    return cm_fail(err, CM_E_PARSE, "snapshot '%s' %s", r->path, what);
}

/* @len bytes from @at; CM_E_PARSE when the file ends before. */
static cm_status read_at(const struct cm_snapshot_reader *r, uint64_t at, uint8_t *out, size_t len,
                         struct cm_err *err)
{
    size_t done = 0;

    while (done < len) {
        ssize_t n = pread(r->fd, out + done, len - done, (off_t)(at + done));

        if (n < 0 && errno != EINTR)
            return cm_fail_errno(err, "read '%s'", r->path);
        if (n == 0)
            return damaged(r, "is cut short", err);
        done += n > 0 ? (size_t)n : 0;
    }
    return CM_OK;
}

/* Record number @number, which begins at @at, into @plain; *ret_next is where the next one does. */
static cm_status open_record(const struct cm_snapshot_reader *r, uint64_t at, uint64_t n,
                             struct cm_buf *plain, uint64_t *ret_next, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf sealed = CM_BUF_INIT(RECORD_MAX + CM_SEAL_TAG_LEN);
    uint8_t nonce[CM_SEAL_NONCE_LEN];
    uint8_t aad[AAD_LEN];
    uint8_t len4[4];

    cm_status rc = read_at(r, at, len4, sizeof len4, err);
    if (rc != CM_OK)
        return rc;
    size_t len = (size_t)get_be(len4, sizeof len4);
    if (len < CM_SEAL_TAG_LEN || len > RECORD_MAX + CM_SEAL_TAG_LEN)
        return damaged(r, "is damaged", err);
    rc = cm_buf_reserve(&sealed, len, err);
    if (rc == CM_OK)
        rc = read_at(r, at + sizeof len4, sealed.data, len, err);
    if (rc != CM_OK)
        return rc;
    number(&r->s, n, nonce, aad);
    rc = cm_unseal((struct cm_span){ r->s.key, sizeof r->s.key }, nonce,
                   (struct cm_span){ aad, sizeof aad }, (struct cm_span){ sealed.data, len }, plain,
                   err);
    if (rc != CM_OK)
        return cm_wrap(err, rc, "snapshot '%s', record %llu", r->path, (unsigned long long)n);
    *ret_next = at + sizeof len4 + len;
    return CM_OK;
}

static bool take_part(struct cm_span *rest, struct cm_span *ret)
{
    size_t len;

    if (rest->len < 4)
        return false;
    len = (size_t)get_be(rest->data, 4);
    if (len > rest->len - 4)
        return false;
    *ret = (struct cm_span){ rest->data + 4, len };
    *rest = (struct cm_span){ rest->data + 4 + len, rest->len - 4 - len };
    return true;
}

static bool parse_entry(struct cm_span plain, struct cm_snapshot_entry *ret)
{
    struct cm_span *const parts[] = { &ret->name, &ret->issuer_key, &ret->chain_pem,
                                      &ret->key_pem };
    struct cm_span rest = { plain.data + 1, plain.len - 1 };

    for (size_t i = 0; i < CM_ARRAY_LEN(parts); i++)
        if (!take_part(&rest, parts[i]))
            return false;
    return rest.len == 0 && ret->name.len < CM_NAME_BUF;
}

static uint64_t hash_of(struct cm_span name)
{
    return cm_fnv1a64(CM_FNV1A64, name.data, name.len);
}

static cm_status note_place(struct cm_snapshot_reader *r, struct cm_span name, uint64_t at,
                            uint64_t n, struct cm_err *err)
{
    if (r->n >= RECORDS_MAX)
        return damaged(r, "has too many records", err);
    if (r->n == r->cap) {
        size_t cap = r->cap > 0 ? 2 * r->cap : 64;
        struct place *bigger = cm_realloc_array(r->places, cap, sizeof bigger[0]);

        if (bigger == NULL)
            return cm_fail_nomem(err);
        r->places = bigger;
        r->cap = cap;
    }
    r->places[r->n++] = (struct place){ hash_of(name), at, n };
    return CM_OK;
}

static int by_hash(const void *a, const void *b)
{
    const struct place *x = a;
    const struct place *y = b;

    return (x->hash > y->hash) - (x->hash < y->hash);
}

static cm_status read_all(struct cm_snapshot_reader *r, uint64_t size, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf plain = CM_BUF_SECRET(RECORD_MAX);
    uint64_t at = HEADER_LEN;
    uint64_t next = 0;
    bool ended = false;
    cm_status rc = CM_OK;

    for (uint64_t n = 0; !ended; n++, at = next) {
        struct cm_snapshot_entry e;

        rc = open_record(r, at, n, &plain, &next, err);
        if (rc != CM_OK)
            return rc;
        if (plain.len == 9 && plain.data[0] == 'E') {
            r->written_ns = (int64_t)get_be(plain.data + 1, 8);
            ended = true;
        } else if (plain.len > 0 && plain.data[0] == 'C' && parse_entry(cm_buf_span(&plain), &e)) {
            rc = note_place(r, e.name, at, n, err);
        } else {
            rc = damaged(r, "has a record that is none", err);
        }
        if (rc != CM_OK)
            return rc;
        cm_buf_recycle(&plain, FLUSH_BYTES);
    }
    if (at != size)
        return damaged(r, "goes on after its end", err);
    if (r->n > 1)
        qsort(r->places, r->n, sizeof r->places[0], by_hash);
    return CM_OK;
}

/* O_NONBLOCK: a FIFO must not hold us up. */
static cm_status open_file(struct cm_snapshot_reader *r, uint64_t *ret_size, struct cm_err *err)
{
    struct stat st;

    r->fd = open(r->path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (r->fd < 0 || fstat(r->fd, &st) != 0)
        return cm_fail_errno(err, "open snapshot '%s'", r->path);
    if (!S_ISREG(st.st_mode) || (st.st_uid != 0 && st.st_uid != geteuid()) ||
        (st.st_mode & 022) != 0)
        return cm_fail(err, CM_E_PERM,
                       "snapshot '%s' is no regular file of this user that only he can write",
                       r->path);
    *ret_size = (uint64_t)st.st_size;
    return CM_OK;
}

cm_status cm_snapshot_read(const char *path, const uint8_t *key, struct cm_snapshot_reader **ret,
                           struct cm_err *err)
{
    struct cm_snapshot_reader *r = cm_calloc(1, sizeof *r);
    uint64_t size = 0;

    if (r == NULL)
        return cm_fail_nomem(err);
    r->fd = -1;
    r->path = cm_strdup(path);
    cm_status rc = r->path != NULL ? open_file(r, &size, err) : cm_fail_nomem(err);
    if (rc == CM_OK)
        rc = read_at(r, 0, r->s.header, HEADER_LEN, err);
    if (rc == CM_OK && memcmp(r->s.header, MAGIC, 6) != 0)
        rc = damaged(r, "is no snapshot", err);
    if (rc == CM_OK && get_be(r->s.header + 6, 2) != VERSION)
        rc = cm_fail(err, CM_E_PARSE, "snapshot '%s' is of version %u, this program knows %u", path,
                     (unsigned)get_be(r->s.header + 6, 2), VERSION);
    if (rc == CM_OK)
        rc = derive(&r->s, key, err);
    if (rc == CM_OK)
        rc = read_all(r, size, err);
    if (rc != CM_OK) {
        cm_snapshot_reader_free(r);
        return rc;
    }
    *ret = r;
    return CM_OK;
}

/* First place with that hash. */
static size_t first_of(const struct cm_snapshot_reader *r, uint64_t hash)
{
    size_t lo = 0;
    size_t hi = r->n;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        if (r->places[mid].hash < hash)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

cm_status cm_snapshot_find(const struct cm_snapshot_reader *r, const char *name, struct cm_buf *buf,
                           struct cm_snapshot_entry *ret, struct cm_err *err)
{
    struct cm_span want = cm_span_str(name);
    uint64_t hash = hash_of(want);
    struct cm_snapshot_entry e;
    uint64_t next;

    CM_ASSERT(buf->secret);
    for (size_t i = first_of(r, hash); i < r->n && r->places[i].hash == hash; i++) {
        cm_buf_reset(buf);
        cm_status rc = open_record(r, r->places[i].at, r->places[i].number, buf, &next, err);

        if (rc != CM_OK)
            return rc;
        if (parse_entry(cm_buf_span(buf), &e) && e.name.len == want.len &&
            memcmp(e.name.data, want.data, want.len) == 0) {
            *ret = e;
            return CM_OK;
        }
    }
    return cm_fail(err, CM_E_NOTFOUND, "snapshot '%s' has nothing for '%s'", r->path, name);
}

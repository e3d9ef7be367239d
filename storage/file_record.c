/* SPDX-License-Identifier: Apache-2.0 */
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

/* The lock record that peers (certmagic) read and write, and when a lock counts as abandoned.
 *
 *   {"created":"2026-08-29T18:20:01.123456789Z","updated":"2026-08-29T18:20:01.123456789Z",
 *    "host":"web-3","pid":4711}\n                                         (all in one line)
 *
 * Peers skip the last two. Our stamps have a fixed width and the record is written over in place,
 * so a reader never finds half of one. Theirs have not and are not: a record that cannot be read is
 * judged by its age.
 *
 * Peers compare "updated" with the clock of whoever looks, which goes wrong as soon as two hosts
 * disagree by some seconds. Here a lock is abandoned
 *   - when its holder was one of us on this very kernel and is dead: the kernel says so; or
 *   - when it is older than its lease on the clock that stamps the files, and "updated" agrees; or
 *   - when we have watched it unchanged for a whole lease on our own monotonic clock. This one
 *     always comes true in the end: garbage or a date in the future block nobody for ever. */

#define RECORD_READ_MAX 1024u
#define JSON_DEPTH      8
#define LOOK_SOON_NS    (75 * CM_NS_PER_MS)
#define LOOK_LATER_NS   (400 * CM_NS_PER_MS)

cm_status fst_record_text(const char *created, int64_t updated_ns, const char *host, long pid,
                          struct cm_buf *out, struct cm_err *err)
{
    char updated[CM_TIME_TEXT];

    cm_time_format_rfc3339(updated_ns, true, updated);
    return cm_buf_printf(out, err,
                         "{\"created\":\"%s\",\"updated\":\"%s\",\"host\":\"%s\",\"pid\":%ld}\n",
                         created, updated, host, pid);
}

/* Names as Go's decoder takes them: whatever the case. */
static struct json_object *find(struct json_object *obj, const char *name, enum json_type type)
{
    struct json_object_iterator it = json_object_iter_begin(obj);
    struct json_object_iterator end = json_object_iter_end(obj);

    for (; !json_object_iter_equal(&it, &end); json_object_iter_next(&it)) {
        struct json_object *value = json_object_iter_peek_value(&it);

        if (strcasecmp(json_object_iter_peek_name(&it), name) == 0 &&
            json_object_is_type(value, type))
            return value;
    }
    return NULL;
}

static const char *member(struct json_object *obj, const char *name, size_t *len)
{
    struct json_object *value = find(obj, name, json_type_string);

    if (value == NULL)
        return NULL;
    *len = (size_t)json_object_get_string_len(value);
    return json_object_get_string(value);
}

/* For people only, so what is odd is left out. */
static void parse_holder(struct json_object *obj, struct fst_seen *seen)
{
    struct json_object *pid = find(obj, "pid", json_type_int);
    size_t len = 0;
    const char *host = member(obj, "host", &len);

    if (host != NULL && len < sizeof seen->host && strlen(host) == len)
        (void)cm_escape(host, len, seen->host, sizeof seen->host);
    if (pid != NULL && json_object_get_int64(pid) > 0)
        seen->pid = json_object_get_int64(pid);
}

static void parse_object(struct json_object *obj, struct fst_seen *seen)
{
    int64_t created_ns = 0;
    int64_t updated_ns = 0;
    size_t len = 0;
    const char *text = member(obj, "created", &len);

    if (text == NULL || cm_time_parse_rfc3339(text, len, &created_ns, NULL) != CM_OK)
        return;
    if (len < sizeof seen->created) {
        memcpy(seen->created, text, len);
        seen->created[len] = '\0';
    }
    text = member(obj, "updated", &len);
    if (text == NULL || cm_time_parse_rfc3339(text, len, &updated_ns, NULL) != CM_OK ||
        updated_ns == INT64_MIN)
        updated_ns = created_ns;
    seen->created_ns = created_ns;
    seen->updated_ns = updated_ns;
    seen->readable = true;
    parse_holder(obj, seen);
}

/* Only the first value counts: interleaved heartbeats of peers leave bytes behind it. */
void fst_record_parse(const char *text, size_t len, struct fst_seen *seen)
{
    struct json_tokener *tok = json_tokener_new_ex(JSON_DEPTH);
    struct json_object *obj;

    if (tok == NULL)
        return;
    obj = json_tokener_parse_ex(tok, text, (int)len);
    if (obj != NULL && json_object_is_type(obj, json_type_object))
        parse_object(obj, seen);
    json_object_put(obj);
    json_tokener_free(tok);
}

cm_status fst_look(int lock_dir, const char *file, struct fst_seen *ret, struct cm_err *err)
{
    const int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
    char text[RECORD_READ_MAX];
    size_t len = 0;
    struct stat st;

    memset(ret, 0, sizeof *ret);
    ret->fd = openat(lock_dir, file, flags);
    if (ret->fd < 0 && (errno == ENOENT || errno == ESTALE))
        return CM_OK;
    if (ret->fd < 0) {
        int saved = errno;

        if (fstatat(lock_dir, file, &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISREG(st.st_mode))
            return cm_fail(err, CM_E_PERM, "lock file '" FST_LOCK_DIR "/%s' is %s: remove it", file,
                           fst_type_name(st.st_mode));
        errno = saved;
        return cm_fail_errno(err, "open lock file '" FST_LOCK_DIR "/%s'", file);
    }
    if (fstat(ret->fd, &ret->st) == 0 && !S_ISREG(ret->st.st_mode)) {
        cm_status rc = cm_fail(err, CM_E_PERM, "lock file '" FST_LOCK_DIR "/%s' is %s: remove it",
                               file, fst_type_name(ret->st.st_mode));

        fst_seen_done(ret);
        return rc;
    }
    ret->exists = true;
    if (fst_sys_read(ret->fd, (uint8_t *)text, sizeof text, sizeof text, &len) == 0 && len > 0)
        fst_record_parse(text, len, ret);
    return CM_OK;
}

void fst_seen_done(struct fst_seen *seen)
{
    if (seen->fd >= 0)
        (void)close(seen->fd);
    seen->fd = -1;
    seen->exists = false;
}

/* ------------------------------------------------------------------- judge */

static uint64_t hash_name(const char *safe)
{
    uint64_t h = cm_fnv1a64(CM_FNV1A64, safe, strlen(safe));

    return h != 0 ? h : 1; /* 0 is a free slot */
}

static uint64_t hash_look(const struct fst_seen *seen)
{
    const uint64_t parts[] = { (uint64_t)seen->st.st_ino, (uint64_t)fst_ns(seen->st.st_mtim),
                               (uint64_t)seen->st.st_size, (uint64_t)seen->updated_ns };

    return cm_fnv1a64(CM_FNV1A64, parts, sizeof parts);
}

/* For how long this process has seen the lock as it is now. A table of fixed size: who floods it
 * only makes us wait for the other two signs. */
static int64_t unchanged_for_ns(struct file_storage *fs, const char *safe,
                                const struct fst_seen *seen, int64_t now_ns)
{
    uint64_t name = hash_name(safe);
    uint64_t look = hash_look(seen);
    struct fst_watch *w = NULL;
    int64_t since_ns;

    cm_mutex_lock(&fs->mutex);
    for (unsigned i = 0; i < 4; i++) {
        struct fst_watch *slot = &fs->watch[(name + i) % FST_WATCH_SLOTS];

        if (slot->name_hash == name) {
            w = slot;
            break;
        }
        if (w == NULL || slot->name_hash == 0 ||
            (w->name_hash != 0 && slot->since_ns < w->since_ns))
            w = slot;
    }
    if (w->name_hash != name || w->look_hash != look) {
        w->name_hash = name;
        w->look_hash = look;
        w->since_ns = now_ns;
    }
    since_ns = w->since_ns;
    cm_mutex_unlock(&fs->mutex);
    return now_ns - since_ns;
}

enum fst_verdict fst_judge(struct file_storage *fs, const char *safe, const struct fst_seen *seen,
                           const struct fst_guard_record *rec, const struct fst_guard *guard,
                           int64_t *ret_wait_ns)
{
    const enum fst_verdict yes = guard != NULL ? FST_STALE : FST_PERHAPS;
    bool ours = rec->created[0] != '\0' && strcmp(rec->created, seen->created) == 0;
    bool local = ours && fs->boot_id[0] != '-' && strcmp(rec->boot_id, fs->boot_id) == 0;
    int64_t limit_ns = ours ? rec->ttl_ns : FST_STALE_NS;
    int64_t wall_ns = fs->env->wall_ns(fs->env);
    int64_t unchanged = unchanged_for_ns(fs, safe, seen, fs->env->mono_ns(fs->env));
    int64_t now_ns;

    *ret_wait_ns = local ? LOOK_SOON_NS : LOOK_LATER_NS;
    if (local && !fst_ofd_is_held(seen->fd))
        return yes;
    if (unchanged > limit_ns)
        return yes;
    /* Without the guard the clock of the file system is not at hand; ours says whether it is worth
     * to enter. */
    now_ns = guard != NULL ? fst_guard_file_now_ns(guard) : wall_ns;
    if (now_ns > fst_ns(seen->st.st_mtim) && now_ns - fst_ns(seen->st.st_mtim) > limit_ns &&
        (!seen->readable || (wall_ns > seen->updated_ns && wall_ns - seen->updated_ns > limit_ns)))
        return yes;
    return FST_FRESH;
}

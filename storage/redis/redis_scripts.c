/* SPDX-License-Identifier: Apache-2.0 */
#include "redis_data.h"

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <stdio.h>
#include <string.h>

/* What Redis does in one step. A script checks everything that can be in the way before it changes
 * anything, since one that fails in the middle is not undone. The one failure that cannot be looked
 * for, no memory, the server reports before a script's first change.
 *
 * The index is the peers': each directory is a sorted set named like it, its members are the names
 * of values, and of directories with a '/' behind; the score is when in seconds. */

#define LUA_PATH                                                                                   \
    "local function dir(k) return string.match(k, '^(.*)/[^/]*$') end\n"                           \
    "local function base(k) return string.match(k, '[^/]*$') end\n"                                \
    "local function kind(k) return redis.call('TYPE', k)['ok'] end\n"

/* Upwards until a directory already was where it belongs. */
#define LUA_ADD                                                                                    \
    "local function add(k, score)\n"                                                               \
    "  local m, d = base(k), dir(k)\n"                                                             \
    "  while d and redis.call('ZADD', d, score, m) == 1 do\n"                                      \
    "    m, d = base(d) .. '/', dir(d)\n"                                                          \
    "  end\n"                                                                                      \
    "end\n"

/* Take member @m of the directory of @k away, and upwards each directory that ends by it. What is
 * no directory at all is not ours to change. */
#define LUA_DROP                                                                                   \
    "local function drop(k, m)\n"                                                                  \
    "  local d = dir(k)\n"                                                                         \
    "  while d do\n"                                                                               \
    "    redis.pcall('ZREM', d, m)\n"                                                              \
    "    if redis.call('EXISTS', d) == 1 then return end\n"                                        \
    "    m, d = base(d) .. '/', dir(d)\n"                                                          \
    "  end\n"                                                                                      \
    "end\n"

/* Who may write: the lock's value begins with the token and the fence. */
#define LUA_HELD                                                                                   \
    "local function held(k, head)\n"                                                               \
    "  local v = redis.call('GET', k)\n"                                                           \
    "  return v and string.sub(v, 1, #head) == head\n"                                             \
    "end\n"

/* A user who may not publish may store all the same. */
#define LUA_TELL "local function tell(channel, text) redis.pcall('PUBLISH', channel, text) end\n"

/* KEYS: the names of the items, then of the lock, if any. ARGV: the head of the lock's value or "",
 * score, channel; for each item "s" or "d", its key, its bytes. */
static const char commit_text[] = LUA_PATH LUA_ADD LUA_DROP LUA_HELD LUA_TELL
    "local n = (#ARGV - 3) / 3\n"
    "if ARGV[1] ~= '' and not held(KEYS[n + 1], ARGV[1]) then return {'lost'} end\n"
    "local values, dirs = {}, {}\n"
    "local function blocked(k)\n"
    "  local t = kind(k)\n"
    "  if dirs[k] or (t ~= 'none' and t ~= 'string') then return k end\n"
    "  values[k] = true\n"
    "  local d = dir(k)\n"
    "  while d do\n"
    "    t = kind(d)\n"
    "    if values[d] or (t ~= 'none' and t ~= 'zset') then return d end\n"
    "    dirs[d] = true\n"
    "    d = dir(d)\n"
    "  end\n"
    "end\n"
    "for i = 1, n do\n"
    "  if ARGV[3 * i + 1] == 's' then\n"
    "    local by = blocked(KEYS[i])\n"
    "    if by then return {'exists', tostring(i), by} end\n"
    "  end\n"
    "end\n"
    "for i = 1, n do\n"
    "  local k = KEYS[i]\n"
    "  if ARGV[3 * i + 1] == 's' then\n"
    "    add(k, ARGV[2])\n"
    "    redis.call('SET', k, ARGV[3 * i + 3])\n"
    "  else\n"
    "    local t = kind(k)\n"
    "    if t == 'string' or t == 'none' then\n"
    "      drop(k, base(k))\n"
    "      redis.call('DEL', k)\n"
    "    end\n"
    "  end\n"
    "end\n"
    "for i = 1, n do tell(ARGV[3], 'v ' .. ARGV[3 * i + 2]) end\n"
    "return {'ok'}\n";

/* KEYS: the name. ARGV: how many names at most, channel, the key. From below, so that what is left
 * when it says "more" is a whole tree. A member that nothing lies behind goes as well. */
static const char remove_text[] = LUA_PATH LUA_DROP LUA_TELL
    "local left = tonumber(ARGV[1])\n"
    "local function clear(d)\n"
    "  while left > 0 do\n"
    "    local page = redis.call('ZRANGE', d, 0, 99)\n"
    "    if #page == 0 then return true end\n"
    "    for _, m in ipairs(page) do\n"
    "      if left <= 0 then return false end\n"
    "      left = left - 1\n"
    "      local k = d .. '/' .. m\n"
    "      if string.sub(m, -1) == '/' then k = string.sub(k, 1, -2) end\n"
    "      local t = kind(k)\n"
    "      if t == 'zset' then\n"
    "        if not clear(k) then return false end\n"
    "      elseif string.sub(m, -1) ~= '/' then\n"
    "        redis.call('DEL', k)\n"
    "      end\n"
    "      redis.call('ZREM', d, m)\n"
    "    end\n"
    "  end\n"
    "  return redis.call('EXISTS', d) == 0\n"
    "end\n"
    "local k = KEYS[1]\n"
    "local t = kind(k)\n"
    "if t == 'zset' then\n"
    "  if not clear(k) then return {'more'} end\n"
    "  drop(k, base(k) .. '/')\n"
    "elseif t == 'string' or t == 'none' then\n"
    "  drop(k, base(k))\n"
    "  redis.call('DEL', k)\n"
    "else\n"
    "  return {'foreign'}\n"
    "end\n"
    "if t ~= 'none' then tell(ARGV[2], 'v ' .. ARGV[3]) end\n"
    "return {'ok'}\n";

/* KEYS: the lock, and where the last fence is kept (if there is such a place). ARGV: token, time to
 * live and how long the fence is kept, both in ms, holder. The clock is the server's. It may step
 * back, or another server may take over; then the last fence counts on. Asked twice with one token,
 * because an answer got lost, it gives the same lock. */
static const char try_lock_text[] =
    "local v = redis.call('GET', KEYS[1])\n"
    "if v then\n"
    "  local token, fence = string.match(v, '^([^:]*):(%d+):')\n"
    "  if token == ARGV[1] then\n"
    "    redis.call('PEXPIRE', KEYS[1], ARGV[2])\n"
    "    return {'ok', fence}\n"
    "  end\n"
    "  return {'busy', tostring(redis.call('PTTL', KEYS[1]))}\n"
    "end\n"
    "local t = redis.call('TIME')\n"
    "local now = t[1] .. string.format('%06d', t[2])\n"
    "local fence = tonumber(now)\n"
    "if KEYS[2] then\n"
    "  local last = tonumber(redis.call('GET', KEYS[2]) or '0') or 0\n"
    "  if fence <= last then fence = last + 1 end\n"
    "end\n"
    "fence = string.format('%.0f', fence)\n"
    "if KEYS[2] then redis.call('SET', KEYS[2], fence, 'PX', ARGV[3]) end\n"
    "redis.call('SET', KEYS[1], ARGV[1] .. ':' .. fence .. ':' .. now .. ':' .. ARGV[2] .. ':' .. "
    "ARGV[4], 'PX', ARGV[2])\n"
    "return {'ok', fence}\n";

/* KEYS: the lock. ARGV: head, time to live in ms. */
static const char refresh_text[] =
    LUA_HELD "if not held(KEYS[1], ARGV[1]) then return {'lost'} end\n"
             "redis.call('PEXPIRE', KEYS[1], ARGV[2])\n"
             "return {'ok'}\n";

/* KEYS: the lock. ARGV: head, channel, the lock's own name. */
static const char unlock_text[] =
    LUA_HELD LUA_TELL "if not held(KEYS[1], ARGV[1]) then\n"
                      "  return {redis.call('EXISTS', KEYS[1]) == 1 and 'lost' or 'gone'}\n"
                      "end\n"
                      "redis.call('DEL', KEYS[1])\n"
                      "tell(ARGV[2], 'u ' .. ARGV[3])\n"
                      "return {'ok'}\n";

/* KEYS: the lock. */
static const char lock_info_text[] =
    "local v = redis.call('GET', KEYS[1])\n"
    "if not v then return {'none'} end\n"
    "local t = redis.call('TIME')\n"
    "return {'held', v, tostring(redis.call('PTTL', KEYS[1])), t[1] .. string.format('%06d', "
    "t[2])}\n";

/* In a cluster. KEYS: the value, and what keeps the fence of its last writer. ARGV: fence, the lock
 * it counts for, how long it is kept in ms, the bytes. Fences of different locks say nothing about
 * each other. */
#define LUA_FENCED                                                                                 \
    "local fence, lock = string.match(redis.call('GET', KEYS[2]) or '', '^(%d+):(.*)$')\n"         \
    "if fence and lock == ARGV[2] and tonumber(fence) > tonumber(ARGV[1]) then\n"                  \
    "  return {'lost'}\n"                                                                          \
    "end\n"

static const char put_fenced_text[] =
    LUA_FENCED "redis.call('SET', KEYS[2], ARGV[1] .. ':' .. ARGV[2], 'PX', ARGV[3])\n"
               "redis.call('SET', KEYS[1], ARGV[4])\n"
               "return {'ok'}\n";

static const char del_fenced_text[] =
    LUA_FENCED "redis.call('SET', KEYS[2], ARGV[1] .. ':' .. ARGV[2], 'PX', ARGV[3])\n"
               "redis.call('DEL', KEYS[1])\n"
               "return {'ok'}\n";

/* For repairs. KEYS: a name. ARGV: what kind it must be of, score. Enters it into its directory,
 * and upwards. */
static const char enter_text[] =
    LUA_PATH "if kind(KEYS[1]) ~= ARGV[1] then return {'gone'} end\n"
             "local d = dir(KEYS[1])\n"
             "while d do\n"
             "  local t = kind(d)\n"
             "  if t ~= 'none' and t ~= 'zset' then return {'foreign', d} end\n"
             "  d = dir(d)\n"
             "end\n"
             "local m = base(KEYS[1])\n"
             "d = dir(KEYS[1])\n"
             "if ARGV[1] == 'zset' then m = m .. '/' end\n"
             "while d and redis.call('ZADD', d, ARGV[2], m) == 1 do\n"
             "  m, d = base(d) .. '/', dir(d)\n"
             "end\n"
             "return {'ok'}\n";

/* KEYS: a directory and, where it is on the same server, the name that a member stands for. ARGV:
 * the member, what kind the name would have to be of, seconds. A peer enters the member first and
 * stores the value then, each time anew: so a young member is left alone. */
static const char forget_text[] =
    LUA_PATH "local s = redis.pcall('ZSCORE', KEYS[1], ARGV[1])\n"
             "if not s or type(s) == 'table' then return {'gone'} end\n"
             "if KEYS[2] and kind(KEYS[2]) == ARGV[2] then return {'gone'} end\n"
             "if math.abs(tonumber(redis.call('TIME')[1]) - tonumber(s)) < tonumber(ARGV[3]) then\n"
             "  return {'fresh'}\n"
             "end\n"
             "redis.call('ZREM', KEYS[1], ARGV[1])\n"
             "return {redis.call('EXISTS', KEYS[1]) == 1 and 'ok' or 'empty'}\n";

/* KEYS: a name. ARGV: ms. What has no time to live gets that one; who holds a lock starts it anew.
 */
static const char expire_text[] = "if redis.call('PTTL', KEYS[1]) ~= -1 then return {'gone'} end\n"
                                  "redis.call('PEXPIRE', KEYS[1], ARGV[1])\n"
                                  "return {'ok'}\n";

static struct redis_script scripts[RDS_SCRIPTS] = {
    [RDS_COMMIT] = { .text = commit_text },         [RDS_REMOVE] = { .text = remove_text },
    [RDS_TRY_LOCK] = { .text = try_lock_text },     [RDS_REFRESH] = { .text = refresh_text },
    [RDS_UNLOCK] = { .text = unlock_text },         [RDS_LOCK_INFO] = { .text = lock_info_text },
    [RDS_PUT_FENCED] = { .text = put_fenced_text }, [RDS_DEL_FENCED] = { .text = del_fenced_text },
    [RDS_ENTER] = { .text = enter_text },           [RDS_FORGET] = { .text = forget_text },
    [RDS_EXPIRE] = { .text = expire_text },
};
static pthread_once_t scripts_once = PTHREAD_ONCE_INIT;

static void make_digests(void)
{
    for (size_t i = 0; i < RDS_SCRIPTS; i++) {
        uint8_t digest[20];

        if (gnutls_hash_fast(GNUTLS_DIG_SHA1, scripts[i].text, strlen(scripts[i].text), digest) !=
            0) {
            scripts[i].sha1[0] = '\0'; /* then always by text */
            continue;
        }
        for (size_t j = 0; j < sizeof digest; j++) {
            scripts[i].sha1[2 * j] = "0123456789abcdef"[digest[j] >> 4];
            scripts[i].sha1[2 * j + 1] = "0123456789abcdef"[digest[j] & 15u];
        }
    }
}

static cm_status send(struct redis_storage *rs, const struct cm_op *op, bool again, bool by_text,
                      const struct rds_call *call, const char **argv, size_t *len, redisReply **ret,
                      struct cm_err *err)
{
    const struct redis_script *s = &scripts[call->script];
    struct redis_command c = { call->n + 3, argv, len };

    argv[0] = by_text ? "EVAL" : "EVALSHA";
    len[0] = strlen(argv[0]);
    argv[1] = by_text ? s->text : s->sha1;
    len[1] = strlen(argv[1]);
    return redis_call(rs->link, op, call->argv[0], again, &c, 1, ret, err);
}

cm_status rds_eval(struct redis_storage *rs, const struct cm_op *op, bool again,
                   const struct rds_call *call, redisReply **ret, struct cm_err *err)
{
    CM_AUTO_FREE const char **argv = cm_calloc(call->n + 3, sizeof *argv);
    CM_AUTO_FREE size_t *len = cm_calloc(call->n + 3, sizeof *len);
    redisReply *reply = NULL;
    char n_keys[24];

    if (argv == NULL || len == NULL)
        return cm_fail_nomem(err);
    (void)pthread_once(&scripts_once, make_digests);
    (void)snprintf(n_keys, sizeof n_keys, "%zu", call->n_keys);
    argv[2] = n_keys;
    len[2] = strlen(argv[2]);
    for (size_t i = 0; i < call->n; i++) {
        argv[3 + i] = call->argv[i];
        len[3 + i] = call->len[i];
    }
    bool by_text = scripts[call->script].sha1[0] == '\0';
    cm_status rc = send(rs, op, again, by_text, call, argv, len, &reply, err);
    if (rc == CM_OK && !by_text && rds_is_error(reply, "NOSCRIPT")) {
        freeReplyObject(reply);
        reply = NULL;
        rc = send(rs, op, again, true, call, argv, len, &reply, err);
    }
    if (rc == CM_OK)
        *ret = reply;
    return rc;
}

cm_status rds_eval_texts(struct redis_storage *rs, const struct cm_op *op, bool again,
                         enum rds_script script, size_t n_keys, const struct rds_args *args,
                         redisReply **ret, struct cm_err *err)
{
    struct rds_call call = { script, n_keys, args->n, args->argv, args->len };

    return rds_eval(rs, op, again, &call, ret, err);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "seal.h"

#include <certmesh/cm_names.h>

#include <ctype.h>
#include <string.h>

/* From a URL to a backend. Messages name the scheme or the parameter, never the whole URL: it may
 * carry a password. */

static cm_status refuse_parameters(const char *scheme, const char *rest, struct cm_err *err)
{
    size_t at = strcspn(rest, "?#");
    char shown[48];
    size_t len;

    if (rest[at] == '\0')
        return CM_OK;
    len = strcspn(rest + at + 1, "=&#");
    return cm_fail(err, CM_E_INVAL,
                   "%s storage has no parameter '%s' (write %%3F for a '?' in a path)", scheme,
                   cm_escape(rest + at + 1, len < 40 ? len : 40, shown, sizeof shown));
}

static cm_status open_memory(const char *rest, const struct cm_storage_open_options *opts,
                             struct cm_storage **ret, struct cm_err *err)
{
    cm_status rc = refuse_parameters("memory", rest, err);

    return rc == CM_OK ? cm_storage_memory_open(rest, opts, ret, err) : rc;
}

bool storage_list_skips(const char *after, const char *key, bool directory, bool recursive)
{
    size_t n = strlen(key);

    if (cm_key_compare(key, after) > 0)
        return false;
    return !directory || !recursive || strncmp(after, key, n) != 0 ||
           (after[n] != '/' && after[n] != '\0');
}

bool storage_url_decode(char *s)
{
    char *out = s;

    for (; *s != '\0'; s++) {
        int hi = *s == '%' ? cm_hex_digit(s[1]) : 0;
        int lo = *s == '%' && hi >= 0 ? cm_hex_digit(s[2]) : 0;

        if (hi < 0 || lo < 0 || (*s == '%' && hi == 0 && lo == 0))
            return false;
        if (*s == '%') {
            *out++ = (char)(hi * 16 + lo);
            s += 2;
        } else {
            *out++ = *s;
        }
    }
    *out = '\0';
    return true;
}

/* "file:///abs", "file://localhost/abs", "file:/abs", "file:rel". */
static cm_status open_file(const char *rest, const struct cm_storage_open_options *opts,
                           struct cm_storage **ret, struct cm_err *err)
{
    CM_AUTO_FREE char *path = NULL;
    const char *from = rest;
    cm_status rc = refuse_parameters("file", rest, err);

    if (rc != CM_OK)
        return rc;
    if (strncmp(rest, "//", 2) == 0) {
        size_t host = strcspn(rest + 2, "/");

        if (host != 0 && (host != 9 || strncmp(rest + 2, "localhost", 9) != 0))
            return cm_fail(err, CM_E_INVAL,
                           "a file URL cannot name a host: write file:///absolute/path or "
                           "file:relative/path");
        from = rest + 2 + host;
    }
    path = cm_strdup(from);
    if (path == NULL)
        return cm_fail_nomem(err);
    if (!storage_url_decode(path))
        return cm_fail(err, CM_E_INVAL, "the file URL has a bad %%-escape");
    if (path[0] == '\0')
        return cm_fail(err, CM_E_INVAL, "the file URL has no path: write file:///absolute/path");
    return cm_storage_file_open(path, opts, ret, err);
}

/* Only these know URLs; a new backend adds its line. It is given what stands behind the colon, or
 * the URL from its beginning. */
static const struct {
    const char *scheme;
    cm_status (*open)(const char *rest, const struct cm_storage_open_options *opts,
                      struct cm_storage **ret, struct cm_err *err);
    bool whole;
} schemes[] = {
    { "file", open_file, false },
    { "memory", open_memory, false },
    { "migrate", cm_storage_migrate_open, false },
    { "sealed", cm_storage_sealed_open, false },
#ifdef CM_WITH_REDIS
    { "redis", cm_storage_redis_open, true },
    { "rediss", cm_storage_redis_open, true },
    { "redis+unix", cm_storage_redis_open, true },
    { "unix", cm_storage_redis_open, true },
    { "redis+sentinel", cm_storage_redis_open, true },
    { "rediss+sentinel", cm_storage_redis_open, true },
    { "redis+cluster", cm_storage_redis_open, true },
    { "rediss+cluster", cm_storage_redis_open, true },
#endif
#ifdef CM_WITH_POSTGRES
    { "postgres", cm_storage_postgres_open, true },
    { "postgresql", cm_storage_postgres_open, true },
#endif
};

/* Length of the scheme before ':', 0 if @url is a plain path. */
static size_t scheme_len(const char *url)
{
    size_t n = 0;

    if (!isalpha((unsigned char)url[0]))
        return 0;
    while (isalnum((unsigned char)url[n]) || (url[n] != '\0' && strchr("+.-", url[n]) != NULL))
        n++;
    return url[n] == ':' ? n : 0;
}

static cm_status unknown_scheme(const char *url, size_t len, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf known = CM_BUF_INIT(256);
    char shown[48];

    for (size_t i = 0; i < CM_ARRAY_LEN(schemes); i++)
        if (cm_buf_printf(&known, err, "%s%s:", i > 0 ? ", " : "", schemes[i].scheme) != CM_OK)
            break;
    return cm_fail(err, CM_E_INVAL,
                   "unknown storage scheme '%s:'; this build knows %s (a path that contains ':' is "
                   "written ./like:this)",
                   cm_escape(url, len < 40 ? len : 40, shown, sizeof shown), cm_buf_str(&known));
}

/* Where certmagic keeps its files when nobody says anything else. */
static char *default_path(void)
{
    const char *xdg = secure_getenv("XDG_DATA_HOME");
    const char *home = secure_getenv("HOME");

    if (xdg != NULL && xdg[0] != '\0')
        return cm_asprintf("%s/certmagic", xdg);
    return cm_asprintf("%s/.local/share/certmagic", home != NULL && home[0] != '\0' ? home : ".");
}

cm_status cm_storage_default_path(struct cm_buf *ret, struct cm_err *err)
{
    CM_AUTO_FREE char *path = default_path();

    if (ret == NULL)
        return cm_fail(err, CM_E_INVAL, "cm_storage_default_path: nowhere to put it");
    return path == NULL ? cm_fail_nomem(err) : cm_buf_puts(ret, path, err);
}

static cm_status open_default(const struct cm_storage_open_options *opts, struct cm_storage **ret,
                              struct cm_err *err)
{
    CM_AUTO_FREE char *path = default_path();

    if (path == NULL)
        return cm_fail_nomem(err);
    return cm_storage_file_open(path, opts, ret, err);
}

cm_status cm_storage_open(const char *url, const struct cm_storage_open_options *opts,
                          struct cm_storage **ret, struct cm_err *err)
{
    struct cm_storage_open_options full = CM_STORAGE_OPEN_OPTIONS_INIT;
    size_t len;

    if (ret == NULL)
        return cm_fail(err, CM_E_INVAL, "nowhere to put the storage");
    if (opts != NULL) {
        if (opts->size < sizeof opts->size)
            return cm_fail(err, CM_E_INVAL,
                           "storage options without size: use "
                           "CM_STORAGE_OPEN_OPTIONS_INIT");
        memcpy(&full, opts, opts->size < sizeof full ? opts->size : sizeof full);
    }
    if (url == NULL || url[0] == '\0')
        return open_default(&full, ret, err);
    len = scheme_len(url);
    if (len == 0)
        return cm_storage_file_open(url, &full, ret, err);
    for (size_t i = 0; i < CM_ARRAY_LEN(schemes); i++) {
        const char *scheme = schemes[i].scheme;

        if (strlen(scheme) != len || strncasecmp(scheme, url, len) != 0)
            continue;
        return schemes[i].open(schemes[i].whole ? url : url + len + 1, &full, ret, err);
    }
    return unknown_scheme(url, len, err);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "fault_tool.h"

#include <gnutls/crypto.h>
#include <gnutls/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Looks at a storage from outside, by its public interface:
 *
 *   fault_store pair URL NAME [ROOT]   exactly one whole pair is stored for NAME: the key fits the
 *                                      leaf, the leaf is for NAME, the chain leads to ROOT (a file;
 *                                      without it the root of the local CA in the storage), there
 *                                      is metadata; whether it is over does not matter. Prints
 *                                      the serial number.
 *   fault_store pairs URL ROOT NAME... the same for each NAME; prints how many
 *   fault_store absent URL NAME        no part of a pair is stored for NAME
 *   fault_store clean URL NAME...      nothing of a run is left: journal, challenge, registration;
 *                                      the lock of each NAME is free
 *   fault_store list URL               all keys
 *   fault_store age URL NAME           when the chain of NAME was stored: ms since 1970
 *   fault_store get URL KEY            print the value
 *   fault_store put URL KEY            store standard input
 *   fault_store remove URL KEY
 */

#define CHAIN_MAX 8u

static struct cm_storage *st;

static void load(const char *key, struct cm_buf *b)
{
    struct cm_err err = CM_ERR_INIT;

    tool_must(cm_storage_load(st, NULL, key, b, &err), "load", &err);
}

/* ------------------------------------------------------------------- pairs */

struct found {
    const char *name;
    unsigned parts;
    unsigned leaves;
    char crt[CM_STORAGE_KEY_MAX + 1];
};

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s);
    size_t m = strlen(end);

    return n >= m && strcmp(s + n - m, end) == 0;
}

static cm_status find_part(void *user, const struct cm_key_info *info, struct cm_err *err)
{
    struct found *f = user;
    char tail[CM_STORAGE_KEY_MAX + 1];

    (void)err;
    (void)snprintf(tail, sizeof tail, "/%s/%s.", f->name, f->name);
    /* A key that was put aside is no part of a pair. */
    if (strstr(info->key, tail) == NULL || ends_with(info->key, ".key.compromised"))
        return CM_OK;
    f->parts++;
    if (ends_with(info->key, ".crt")) {
        f->leaves++;
        (void)snprintf(f->crt, sizeof f->crt, "%s", info->key);
    }
    return CM_OK;
}

/* Below one issuer; without a look at the folders of all other names. */
static cm_status find_below(void *user, const struct cm_key_info *info, struct cm_err *err)
{
    char prefix[CM_STORAGE_KEY_MAX + 1];
    struct found *f = user;

    if (info->terminal)
        return CM_OK;
    (void)snprintf(prefix, sizeof prefix, "%s/%s", info->key, f->name);
    return cm_storage_list(st, NULL, prefix, true, find_part, f, err);
}

static void find(struct found *f)
{
    struct cm_err err = CM_ERR_INIT;

    tool_must(cm_storage_list(st, NULL, "certificates", false, find_below, f, &err), "list", &err);
}

static gnutls_datum_t datum(const struct cm_buf *b)
{
    gnutls_datum_t d = { b->data, (unsigned)b->len };

    return d;
}

static unsigned import_chain(const char *key, gnutls_x509_crt_t **ret)
{
    struct cm_buf pem = CM_BUF_INIT(CM_STORAGE_VALUE_MAX);
    unsigned n = 0;
    gnutls_datum_t d;
    int rc;

    load(key, &pem);
    d = datum(&pem);
    rc = gnutls_x509_crt_list_import2(ret, &n, &d, GNUTLS_X509_FMT_PEM, 0);
    if (rc < 0 || n == 0 || n > CHAIN_MAX)
        tool_die("%s: no chain: %s", key, gnutls_strerror(rc));
    cm_buf_free(&pem);
    return n;
}

static void check_key(const char *key, gnutls_x509_crt_t leaf)
{
    struct cm_buf pem = CM_BUF_SECRET(CM_STORAGE_VALUE_MAX);
    gnutls_x509_privkey_t priv;
    unsigned char a[64];
    unsigned char b[64];
    size_t na = sizeof a;
    size_t nb = sizeof b;
    gnutls_datum_t d;
    int rc;

    load(key, &pem);
    d = datum(&pem);
    (void)gnutls_x509_privkey_init(&priv);
    rc = gnutls_x509_privkey_import2(priv, &d, GNUTLS_X509_FMT_PEM, NULL, 0);
    if (rc < 0)
        tool_die("%s: no key: %s", key, gnutls_strerror(rc));
    if (gnutls_x509_privkey_get_key_id(priv, GNUTLS_KEYID_USE_SHA256, a, &na) < 0 ||
        gnutls_x509_crt_get_key_id(leaf, GNUTLS_KEYID_USE_SHA256, b, &nb) < 0 || na != nb ||
        memcmp(a, b, na) != 0)
        tool_die("%s does not fit the leaf", key);
    gnutls_x509_privkey_deinit(priv);
    cm_buf_free(&pem);
}

static void read_file(const char *path, struct cm_buf *b)
{
    struct cm_err err = CM_ERR_INIT;
    char part[4096];
    size_t n;
    FILE *f = strcmp(path, "-") == 0 ? stdin : fopen(path, "rb");

    if (f == NULL)
        tool_die("cannot open %s", path);
    while ((n = fread(part, 1, sizeof part, f)) > 0)
        tool_must(cm_buf_append(b, part, n, &err), path, &err);
    if (f != stdin)
        (void)fclose(f);
}

static void check_chain(const char *root, gnutls_x509_crt_t *chain, unsigned n, const char *name)
{
    struct cm_buf pem = CM_BUF_INIT(CM_STORAGE_VALUE_MAX);
    gnutls_x509_trust_list_t trust;
    unsigned status = 0;
    gnutls_datum_t d;
    int rc;

    if (root != NULL)
        read_file(root, &pem);
    else
        load("certmesh/ca/local/root.crt", &pem);
    d = datum(&pem);
    (void)gnutls_x509_trust_list_init(&trust, 0);
    rc = gnutls_x509_trust_list_add_trust_mem(trust, &d, NULL, GNUTLS_X509_FMT_PEM, 0, 0);
    if (rc < 1)
        tool_die("no root to verify with");
    /* Certificates that live seconds may be over by now; whole they have to be. */
    rc = gnutls_x509_trust_list_verify_crt(trust, chain, n, GNUTLS_VERIFY_DISABLE_TIME_CHECKS,
                                           &status, NULL);
    if (rc < 0 || status != 0)
        tool_die("the chain of %s does not verify: status %#x", name, status);
    if (gnutls_x509_crt_check_hostname(chain[0], name) == 0)
        tool_die("the leaf is not for %s", name);
    gnutls_x509_trust_list_deinit(trust, 1);
    cm_buf_free(&pem);
}

static void get_serial(gnutls_x509_crt_t leaf, char *ret, size_t size)
{
    unsigned char serial[64];
    size_t n = sizeof serial;

    if (gnutls_x509_crt_get_serial(leaf, serial, &n) < 0 || 2 * n >= size)
        tool_die("no serial number");
    for (size_t i = 0; i < n; i++)
        (void)snprintf(ret + 2 * i, 3, "%02x", serial[i]);
}

static void pair(const char *name, const char *root, char *ret_serial, size_t size)
{
    struct found f = { .name = name };
    struct cm_buf meta = CM_BUF_INIT(CM_STORAGE_VALUE_MAX);
    gnutls_x509_crt_t *chain = NULL;
    char key[CM_STORAGE_KEY_MAX + 8];
    int stem;
    unsigned n;

    find(&f);
    if (f.leaves != 1 || f.parts != 3)
        tool_die("%s: %u chains and %u objects, not one of three", name, f.leaves, f.parts);
    stem = (int)(strlen(f.crt) - strlen(".crt"));
    n = import_chain(f.crt, &chain);
    (void)snprintf(key, sizeof key, "%.*s.key", stem, f.crt);
    check_key(key, chain[0]);
    check_chain(root, chain, n, name);
    (void)snprintf(key, sizeof key, "%.*s.json", stem, f.crt);
    load(key, &meta);
    if (strstr(cm_buf_str(&meta), name) == NULL)
        tool_die("%s is not about %s", key, name);
    get_serial(chain[0], ret_serial, size);
    for (unsigned i = 0; i < n; i++)
        gnutls_x509_crt_deinit(chain[i]);
    gnutls_free(chain);
    cm_buf_free(&meta);
}

static void one_pair(const char *name, const char *root)
{
    char serial[130];

    pair(name, root, serial, sizeof serial);
    (void)puts(serial);
}

static void pairs(const char *root, char **names, int n)
{
    char serial[130];

    for (int i = 0; i < n; i++)
        pair(names[i], root, serial, sizeof serial);
    (void)printf("%d\n", n);
}

static void age(const char *name)
{
    struct found f = { .name = name };
    struct cm_err err = CM_ERR_INIT;
    struct cm_key_info info;

    find(&f);
    if (f.leaves != 1)
        tool_die("%s: %u chains, not one", name, f.leaves);
    tool_must(cm_storage_stat(st, NULL, f.crt, &info, &err), "stat", &err);
    (void)printf("%lld\n", (long long)(info.modified_ns / 1000000));
}

static void absent(const char *name)
{
    struct found f = { .name = name };

    find(&f);
    if (f.parts != 0)
        tool_die("%s: %u objects are left", name, f.parts);
}

/* --------------------------------------------------------------- leftovers */

static cm_status find_left(void *user, const struct cm_key_info *info, struct cm_err *err)
{
    unsigned *left = user;

    (void)err;
    if (strncmp(info->key, "certmesh/journal/", strlen("certmesh/journal/")) == 0 ||
        strstr(info->key, "/challenge_tokens/") != NULL || ends_with(info->key, ".pending") ||
        ends_with(info->key, ".nextkey")) {
        (void)printf("left: %s\n", info->key);
        ++*left;
    }
    return CM_OK;
}

static void clean(char **names, int n)
{
    struct cm_err err = CM_ERR_INIT;
    char lock[CM_LOCK_NAME_MAX + 1];
    struct cm_grant g;
    unsigned left = 0;

    tool_must(cm_storage_list(st, NULL, "", true, find_left, &left, &err), "list", &err);
    if (left > 0)
        exit(1);
    for (int i = 0; i < n; i++) {
        (void)snprintf(lock, sizeof lock, "issue_cert_%s", names[i]);
        tool_must(cm_storage_try_lock(st, NULL, lock, 1000000000, &g, NULL, &err), "lock", &err);
        tool_must(cm_storage_unlock(st, NULL, &g, &err), "unlock", &err);
    }
}

static cm_status print_key(void *user, const struct cm_key_info *info, struct cm_err *err)
{
    (void)user;
    (void)err;
    (void)puts(info->key);
    return CM_OK;
}

static void put(const char *key)
{
    struct cm_buf value = CM_BUF_SECRET(CM_STORAGE_VALUE_MAX);
    struct cm_err err = CM_ERR_INIT;

    read_file("-", &value);
    tool_must(cm_storage_store(st, NULL, key, cm_buf_span(&value), &err), "store", &err);
    cm_buf_free(&value);
}

static void get(const char *key)
{
    struct cm_buf value = CM_BUF_SECRET(CM_STORAGE_VALUE_MAX);

    load(key, &value);
    if (fwrite(value.data, 1, value.len, stdout) != value.len)
        tool_die("cannot write");
    cm_buf_free(&value);
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    struct cm_err err = CM_ERR_INIT;

    if (argc < 3 || (argc < 4 && strcmp(what, "list") != 0))
        tool_die("usage: fault_store pair|absent|age|get|put|remove URL NAME|KEY [ROOT], list URL, "
                 "pairs URL ROOT NAME..., clean URL NAME...");
    st = tool_open(argv[2]);
    if (strcmp(what, "pair") == 0)
        one_pair(argv[3], argc > 4 ? argv[4] : NULL);
    else if (strcmp(what, "pairs") == 0)
        pairs(argv[3], argv + 4, argc - 4);
    else if (strcmp(what, "age") == 0)
        age(argv[3]);
    else if (strcmp(what, "absent") == 0)
        absent(argv[3]);
    else if (strcmp(what, "clean") == 0)
        clean(argv + 3, argc - 3);
    else if (strcmp(what, "list") == 0)
        tool_must(cm_storage_list(st, NULL, "", true, print_key, NULL, &err), "list", &err);
    else if (strcmp(what, "get") == 0)
        get(argv[3]);
    else if (strcmp(what, "put") == 0)
        put(argv[3]);
    else if (strcmp(what, "remove") == 0)
        tool_must(cm_storage_remove(st, NULL, argv[3], &err), "remove", &err);
    else
        tool_die("fault_store: what is '%s'?", what);
    cm_storage_close(st);
    return 0;
}

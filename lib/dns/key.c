/* SPDX-License-Identifier: Apache-2.0 */
#include "tsig.h"

#include <string.h>

/* A key file as BIND's tsig-keygen(8) writes it:
 *     key "name" { algorithm hmac-sha256; secret "base64"; };
 * with comments of all three kinds. Nothing else may be in it, and one key only: with several,
 * which one is meant would be a guess. */

#define KEY_FILE_MAX (16u * 1024)
#define WORD_MAX     1024u

static const struct {
    const char *name;
    enum cm_hmac alg;
} algorithms[] = {
    { "hmac-sha256", CM_HMAC_SHA256 },
    { "hmac-sha384", CM_HMAC_SHA384 },
    { "hmac-sha512", CM_HMAC_SHA512 },
};

struct reader {
    const char *at, *end;
    char word[WORD_MAX];
};

static void skip(struct reader *r)
{
    for (;;) {
        while (r->at < r->end && strchr(" \t\r\n", *r->at) != NULL && *r->at != '\0')
            r->at++;
        size_t left = (size_t)(r->end - r->at);
        bool line = left >= 1 && (*r->at == '#' || (left >= 2 && memcmp(r->at, "//", 2) == 0));
        if (line) {
            while (r->at < r->end && *r->at != '\n')
                r->at++;
        } else if (left >= 2 && memcmp(r->at, "/*", 2) == 0) {
            const char *close = memmem(r->at + 2, left - 2, "*/", 2);
            r->at = close == NULL ? r->end : close + 2;
        } else {
            return;
        }
    }
}

/* The next word into r->word, without quotes; false at the end, or when it is too long. Braces and
 * semicolons are words. */
static bool next(struct reader *r)
{
    size_t n = 0;

    skip(r);
    if (r->at == r->end)
        return false;
    if (strchr("{};", *r->at) != NULL && *r->at != '\0') {
        r->word[0] = *r->at++;
        r->word[1] = '\0';
        return true;
    }
    bool quoted = *r->at == '"';
    if (quoted)
        r->at++;
    while (r->at < r->end && n < WORD_MAX - 1) {
        char c = *r->at;
        if (quoted ? c == '"' : c == '\0' || strchr(" \t\r\n{};\"", c) != NULL)
            break;
        r->word[n++] = c;
        r->at++;
    }
    r->word[n] = '\0';
    if (quoted) {
        if (r->at == r->end || *r->at != '"')
            return false;
        r->at++;
    }
    return n > 0 || quoted;
}

static bool next_is(struct reader *r, const char *word)
{
    return next(r) && strcmp(r->word, word) == 0;
}

static cm_status take_name(struct dns_key *k, const char *word, struct cm_err *err)
{
    size_t len = strlen(word);
    char shown[64];

    if (len > 0 && word[len - 1] == '.')
        len--;
    if (len >= sizeof k->name)
        len = sizeof k->name - 1;
    for (size_t i = 0; i < len; i++)
        k->name[i] = (char)(word[i] >= 'A' && word[i] <= 'Z' ? word[i] - 'A' + 'a' : word[i]);
    k->name[len] = '\0';
    if (!dns_is_name(k->name))
        return cm_fail(err, CM_E_PARSE, "a TSIG key cannot be called '%s'",
                       cm_escape(word, strlen(word), shown, sizeof shown));
    return CM_OK;
}

static cm_status take_algorithm(struct dns_key *k, const char *word, struct cm_err *err)
{
    char shown[64];

    for (size_t i = 0; i < CM_ARRAY_LEN(algorithms); i++)
        if (strcasecmp(algorithms[i].name, word) == 0) {
            k->alg = algorithms[i].alg;
            k->alg_name = algorithms[i].name;
            return CM_OK;
        }
    return cm_fail(err, CM_E_UNSUPPORTED,
                   "TSIG algorithm '%s' is not supported; use hmac-sha256 or hmac-sha512",
                   cm_escape(word, strlen(word), shown, sizeof shown));
}

static cm_status read_key(struct reader *r, struct dns_key *k, struct cm_err *err)
{
    static const char bad[] = "not a TSIG key as tsig-keygen writes it: "
                              "key \"name\" { algorithm hmac-sha256; secret \"...\"; };";
    cm_status rc;

    if (!next_is(r, "key") || !next(r))
        return cm_fail(err, CM_E_PARSE, bad);
    rc = take_name(k, r->word, err);
    if (rc != CM_OK)
        return rc;
    if (!next_is(r, "{"))
        return cm_fail(err, CM_E_PARSE, bad);
    while (next(r) && strcmp(r->word, "}") != 0) {
        bool algorithm = strcmp(r->word, "algorithm") == 0;
        if ((!algorithm && strcmp(r->word, "secret") != 0) || !next(r))
            return cm_fail(err, CM_E_PARSE, bad);
        if (algorithm) {
            rc = take_algorithm(k, r->word, err);
        } else {
            cm_buf_reset(&k->secret);
            rc = cm_b64_decode(cm_span_str(r->word), &k->secret, err);
            if (rc != CM_OK && rc != CM_E_NOMEM)
                rc = cm_fail(err, CM_E_PARSE, "the secret of TSIG key '%s' is not base64", k->name);
        }
        if (rc != CM_OK)
            return rc;
        if (!next_is(r, ";"))
            return cm_fail(err, CM_E_PARSE, bad);
    }
    if (strcmp(r->word, "}") != 0 || k->alg_name == NULL || k->secret.len == 0)
        return cm_fail(err, CM_E_PARSE, bad);
    if (!next_is(r, ";") || next(r))
        return cm_fail(err, CM_E_PARSE, "there is more than one TSIG key, or something else");
    return CM_OK;
}

cm_status dns_key_parse(struct cm_span text, struct dns_key **ret, struct cm_err *err)
{
    static const struct cm_buf secret = CM_BUF_SECRET(DNS_SECRET_MAX);
    struct dns_key *k = cm_calloc(1, sizeof *k);
    struct reader r = { .at = (const char *)text.data };

    if (k == NULL)
        return cm_fail_nomem(err);
    if (text.len == 0)
        r.at = "";
    r.end = r.at + text.len;
    k->secret = secret;
    cm_status rc = read_key(&r, k, err);
    cm_wipe(&r, sizeof r);
    if (rc != CM_OK) {
        dns_key_free(k);
        return rc;
    }
    *ret = k;
    return CM_OK;
}

cm_status dns_key_load(const char *path, struct dns_key **ret, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf text = CM_BUF_SECRET(KEY_FILE_MAX);
    cm_status rc = cm_read_private_file(path, &text, err);

    if (rc == CM_OK) {
        rc = dns_key_parse(cm_buf_span(&text), ret, err);
        if (rc != CM_OK)
            rc = cm_wrap(err, rc, "'%s'", path);
    }
    return rc;
}

const char *dns_key_name(const struct dns_key *k)
{
    return k->name;
}

void dns_key_free(struct dns_key *k)
{
    if (k == NULL)
        return;
    cm_buf_free(&k->secret);
    free(k);
}

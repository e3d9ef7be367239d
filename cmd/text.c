/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd.h"

#include <ctype.h>
#include <inttypes.h>
#include <string.h>

#define WORD_MAX 48

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Edit distance (Levenshtein); words longer than WORD_MAX are nobody's slip. */
static size_t distance(const char *a, const char *b)
{
    size_t row[WORD_MAX + 1];
    size_t la = strlen(a), lb = strlen(b);

    if (la > WORD_MAX || lb > WORD_MAX)
        return WORD_MAX;
    for (size_t j = 0; j <= lb; j++)
        row[j] = j;
    for (size_t i = 1; i <= la; i++) {
        size_t diagonal = row[0];

        row[0] = i;
        for (size_t j = 1; j <= lb; j++) {
            size_t above = row[j];
            size_t cost =
                tolower((unsigned char)a[i - 1]) == tolower((unsigned char)b[j - 1]) ? 0 : 1;

            row[j] = smaller(smaller(row[j] + 1, row[j - 1] + 1), diagonal + cost);
            diagonal = above;
        }
    }
    return row[lb];
}

const char *cli_closest(const char *word, const char *const *words)
{
    const char *best = NULL;
    size_t best_distance = 3; /* three slips are another word */

    for (size_t i = 0; words[i] != NULL; i++) {
        size_t d = distance(word, words[i]);

        if (d < best_distance && d < strlen(words[i])) {
            best = words[i];
            best_distance = d;
        }
    }
    return best;
}

bool cli_parse_uint(const char *s, uint64_t max, uint64_t *ret)
{
    uint64_t v = 0;

    if (s[0] == '\0')
        return false;
    for (; *s != '\0'; s++) {
        unsigned digit = (unsigned)(*s - '0');

        if (*s < '0' || *s > '9' || v > (max - digit) / 10)
            return false;
        v = v * 10 + digit;
    }
    *ret = v;
    return true;
}

bool cli_parse_duration(const char *s, int64_t *ret_s)
{
    static const struct {
        char letter;
        int64_t seconds;
    } units[] = { { 's', 1 }, { 'm', 60 }, { 'h', 3600 }, { 'd', 86400 }, { 'w', 604800 } };
    char number[16];
    size_t len = strlen(s);
    int64_t unit = 1;
    uint64_t v = 0;

    if (len == 0 || len >= sizeof number)
        return false;
    memcpy(number, s, len + 1);
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (number[len - 1] == units[i].letter) {
            unit = units[i].seconds;
            number[len - 1] = '\0';
            break;
        }
    }
    if (!cli_parse_uint(number, UINT64_C(4000000000), &v))
        return false;
    *ret_s = (int64_t)v * unit;
    return true;
}

int64_t cli_now_s(void)
{
    const struct cm_env *env = cm_env_system();

    return env->wall_ns(env) / CM_NS_PER_S;
}

struct civil {
    int64_t year;
    int month, day, hour, minute, second;
};

/* Days to year-month-day by eras of 400 years; the year starts in March so that the leap day is
 * its last. gmtime() is not used: it is not thread-safe. */
static struct civil civil_of(int64_t unix_s)
{
    struct civil c;
    int64_t days = unix_s / 86400;
    int64_t rest = unix_s % 86400;

    if (rest < 0) {
        rest += 86400;
        days--;
    }
    days += 719468; /* from 0000-03-01 */
    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    int64_t doe = days - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    int64_t mp = (5 * doy + 2) / 153;

    c.day = (int)(doy - (153 * mp + 2) / 5 + 1);
    c.month = (int)(mp < 10 ? mp + 3 : mp - 9);
    c.year = yoe + era * 400 + (c.month <= 2 ? 1 : 0);
    c.hour = (int)(rest / 3600);
    c.minute = (int)(rest / 60 % 60);
    c.second = (int)(rest % 60);
    return c;
}

const char *cli_time_human(int64_t unix_s, char out[CLI_TIME_SIZE])
{
    struct civil c = civil_of(unix_s);

    (void)snprintf(out, CLI_TIME_SIZE, "%04" PRId64 "-%02d-%02d %02d:%02d UTC", c.year, c.month,
                   c.day, c.hour, c.minute);
    return out;
}

const char *cli_time_iso(int64_t unix_s, char out[CLI_TIME_SIZE])
{
    struct civil c = civil_of(unix_s);

    (void)snprintf(out, CLI_TIME_SIZE, "%04" PRId64 "-%02d-%02dT%02d:%02d:%02dZ", c.year, c.month,
                   c.day, c.hour, c.minute, c.second);
    return out;
}

const char *cli_span_human(int64_t seconds, char out[CLI_TIME_SIZE])
{
    static const struct {
        int64_t below;
        int64_t unit;
        const char *name;
    } steps[] = {
        { 120, 1, "s" },
        { 120 * INT64_C(60), 60, "min" },
        { 48 * INT64_C(3600), 3600, "h" },
        { 800 * INT64_C(86400), 86400, "days" },
        { INT64_MAX, 31556952, "years" },
    };
    size_t i = 0;

    if (seconds < 0)
        seconds = seconds == INT64_MIN ? INT64_MAX : -seconds;
    if (seconds > INT64_MAX / 2)
        seconds = INT64_MAX / 2;
    while (i + 1 < sizeof steps / sizeof steps[0] && seconds >= steps[i].below)
        i++;
    (void)snprintf(out, CLI_TIME_SIZE, "%" PRId64 " %s",
                   (seconds + steps[i].unit / 2) / steps[i].unit, steps[i].name);
    return out;
}

const char *cli_relative(int64_t seconds, char out[CLI_TIME_SIZE])
{
    char span[CLI_TIME_SIZE];

    (void)cli_span_human(seconds, span);
    if (seconds == 0)
        (void)snprintf(out, CLI_TIME_SIZE, "now");
    else if (seconds < 0)
        (void)snprintf(out, CLI_TIME_SIZE, "%.20s ago", span);
    else
        (void)snprintf(out, CLI_TIME_SIZE, "in %.20s", span);
    return out;
}

const char *cli_issuer_label(const char *issuer_key, char *out, size_t out_size)
{
    static const struct {
        const char *key;
        const char *label;
    } known[] = {
        { "acme-v02.api.letsencrypt.org-directory", "letsencrypt" },
        { "acme-staging-v02.api.letsencrypt.org-directory", "letsencrypt-staging" },
        { "certmesh-local", "internal" },
    };
    static const char *const tails[] = { "-directory", "-dir" };
    size_t len = 0;

    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strcmp(issuer_key, known[i].key) == 0)
            issuer_key = known[i].label;
    (void)cli_printable(issuer_key, out, out_size);
    len = strlen(out);
    for (size_t i = 0; i < sizeof tails / sizeof tails[0]; i++) {
        size_t tail = strlen(tails[i]);

        if (len > tail && strcmp(out + len - tail, tails[i]) == 0) {
            out[len - tail] = '\0';
            break;
        }
    }
    return out;
}

const char *cli_printable(const char *s, char *out, size_t out_size)
{
    size_t at = 0;

    for (; *s != '\0' && at + 1 < out_size; s++)
        out[at++] = (unsigned char)*s < 0x20 || *s == 0x7f ? '?' : *s;
    out[at] = '\0';
    return out;
}

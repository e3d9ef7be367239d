/* SPDX-License-Identifier: Apache-2.0 */
#include "crl.h"

#include <string.h>

/* A record: the serial number as a signed number of the list's width, big-endian; the reason; the
 * date in 32 bits without sign (until 2106). Half of what the list itself takes, mostly. */

enum { TAIL = 5 };

struct cm_crl_set {
    size_t n;
    size_t width; /* of a serial number */
    uint8_t at[];
};

static size_t stride(const struct cm_crl_set *s)
{
    return s->width + TAIL;
}

static uint8_t *record(struct cm_crl_set *s, size_t i)
{
    return s->at + i * stride(s);
}

/* False if @serial has more bytes than any in the list. */
static bool widen(struct cm_span serial, size_t width, uint8_t *out)
{
    if (serial.len == 0 || serial.len > width)
        return false;
    memset(out, (serial.data[0] & 0x80) != 0 ? 0xff : 0, width - serial.len);
    memcpy(out + width - serial.len, serial.data, serial.len);
    return true;
}

/* False if it is no certificate's that could be asked for. */
static bool put(struct cm_crl_set *s, size_t i, const struct cm_crl_entry *e)
{
    uint8_t *at = record(s, i);
    uint32_t when = e->at_s < 0 ? 0 : e->at_s > UINT32_MAX ? UINT32_MAX : (uint32_t)e->at_s;

    if (!widen(e->serial, s->width, at))
        return false;
    at += s->width;
    at[0] = (uint8_t)e->reason;
    for (size_t k = 0; k < 4; k++)
        at[1 + k] = (uint8_t)(when >> (24 - 8 * k));
    return true;
}

static bool is_sorted(struct cm_crl_set *s)
{
    for (size_t i = 1; i < s->n; i++)
        if (memcmp(record(s, i - 1), record(s, i), s->width) > 0)
            return false;
    return true;
}

static void swap(struct cm_crl_set *s, size_t i, size_t k)
{
    uint8_t kept[CM_CRL_SERIAL_MAX + TAIL];

    memcpy(kept, record(s, i), stride(s));
    memcpy(record(s, i), record(s, k), stride(s));
    memcpy(record(s, k), kept, stride(s));
}

/* Let the record at @i sink to its place in the heap of the first @n. */
static void sink(struct cm_crl_set *s, size_t i, size_t n)
{
    while (2 * i + 1 < n) {
        size_t child = 2 * i + 1;

        if (child + 1 < n && memcmp(record(s, child), record(s, child + 1), s->width) < 0)
            child++;
        if (memcmp(record(s, i), record(s, child), s->width) >= 0)
            return;
        swap(s, i, child);
        i = child;
    }
}

/* In place, and never quadratic: qsort() takes as much memory again, and the list is a stranger's.
 * Many a CA sorts its list itself. */
static void sort(struct cm_crl_set *s)
{
    if (is_sorted(s))
        return;
    for (size_t i = s->n / 2; i-- > 0;)
        sink(s, i, s->n);
    for (size_t n = s->n; n-- > 1;) {
        swap(s, 0, n);
        sink(s, 0, n);
    }
}

cm_status cm_crl_set_new(const struct cm_crl *crl, struct cm_crl_set **ret, struct cm_err *err)
{
    struct cm_span rest = crl->entries;
    struct cm_crl_entry e;
    struct cm_crl_set *s;
    size_t n = 0;

    CM_ASSERT(crl->serial_max <= CM_CRL_SERIAL_MAX && crl->n_entries <= CM_CRL_MAX);
    s = cm_calloc(1, sizeof *s + crl->n_entries * (crl->serial_max + TAIL));
    if (s == NULL)
        return cm_fail_nomem(err);
    s->width = crl->serial_max;
    while (n < crl->n_entries && cm_crl_next(&rest, &e))
        n += put(s, n, &e);
    s->n = n;
    sort(s);
    *ret = s;
    return CM_OK;
}

void cm_crl_set_free(struct cm_crl_set *s)
{
    free(s);
}

size_t cm_crl_set_bytes(const struct cm_crl_set *s)
{
    return sizeof *s + s->n * stride(s);
}

size_t cm_crl_set_count(const struct cm_crl_set *s)
{
    return s->n;
}

bool cm_crl_set_find(const struct cm_crl_set *s, struct cm_span serial, int *ret_reason,
                     int64_t *ret_at_s)
{
    uint8_t want[CM_CRL_SERIAL_MAX];
    size_t low = 0;
    size_t high = s->n;

    if (!widen(serial, s->width, want))
        return false;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        const uint8_t *at = s->at + mid * stride(s);
        int order = memcmp(at, want, s->width);

        if (order == 0) {
            at += s->width;
            *ret_reason = at[0];
            *ret_at_s = (int64_t)at[1] << 24 | at[2] << 16 | at[3] << 8 | at[4];
            return true;
        }
        if (order < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return false;
}

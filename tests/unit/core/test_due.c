/* SPDX-License-Identifier: Apache-2.0 */
#include "kit.h"

#include "life.h"

#define ITEMS 2000u

/* Not random enough for secrets, and the same in every run. */
static uint32_t dice(void)
{
    static uint32_t x = 2463534242u;

    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    return x;
}

static void check_heap(const struct cm_due *d)
{
    for (size_t i = 0; i < d->n; i++) {
        ck_assert_uint_eq(d->at[i]->pos, i);
        if (i > 0)
            ck_assert_int_le(d->at[(i - 1) / 4]->at_ms, d->at[i]->at_ms);
    }
}

START_TEST(random_changes_keep_the_order)
{
    static struct cm_due_item items[ITEMS];
    struct cm_due d = { .at = NULL };
    struct cm_err err = CM_ERR_INIT;
    size_t in = 0;

    for (size_t i = 0; i < ITEMS; i++)
        items[i].pos = CM_DUE_NOT_IN;
    for (unsigned step = 0; step < 100000; step++) {
        struct cm_due_item *x = &items[dice() % ITEMS];
        bool was_in = x->pos != CM_DUE_NOT_IN;

        if (dice() % 3 == 0) {
            cm_due_remove(&d, x);
            in -= was_in ? 1u : 0u;
            ck_assert_uint_eq(x->pos, CM_DUE_NOT_IN);
        } else {
            ck_ok(cm_due_set(&d, x, (int64_t)(dice() % 5000) - 1000, &err));
            in += was_in ? 0u : 1u;
        }
        ck_assert_uint_eq(d.n, in);
        if (step % 997 == 0)
            check_heap(&d);
    }
    check_heap(&d);
    for (int64_t last = INT64_MIN; d.n > 0;) {
        struct cm_due_item *x = cm_due_first(&d);

        ck_assert_int_ge(x->at_ms, last);
        last = x->at_ms;
        cm_due_remove(&d, x);
    }
    ck_assert_ptr_null(cm_due_first(&d));
    cm_due_free(&d);
}
END_TEST

/* What is idle costs nothing: moving one of a million takes little more than one of a thousand. */
START_TEST(work_hardly_depends_on_how_many_there_are)
{
    static const size_t sizes[] = { 1000, 1000000 };
    uint64_t steps[2];

    for (unsigned k = 0; k < 2; k++) {
        struct cm_due_item *items = calloc(sizes[k], sizeof *items);
        struct cm_due d = { .at = NULL };
        struct cm_err err = CM_ERR_INIT;

        ck_assert_ptr_nonnull(items);
        for (size_t i = 0; i < sizes[k]; i++) {
            items[i].pos = CM_DUE_NOT_IN;
            ck_ok(cm_due_set(&d, &items[i], (int64_t)(dice() % 1000000000), &err));
        }
        d.steps = 0;
        for (unsigned i = 0; i < 1000; i++) /* the first is done, and due again some day */
            ck_ok(cm_due_set(&d, cm_due_first(&d), 2000000000, &err));
        steps[k] = d.steps;
        cm_due_free(&d);
        free(items);
    }
    ck_assert_uint_gt(steps[0], 1000);
    ck_assert_msg(steps[1] <= 2 * steps[0] + steps[0] / 10, "%llu and %llu steps",
                  (unsigned long long)steps[0], (unsigned long long)steps[1]);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = { random_changes_keep_the_order,
                                   work_hardly_depends_on_how_many_there_are };

    return kit_run("due", tests, CM_ARRAY_LEN(tests));
}

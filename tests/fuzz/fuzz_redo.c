/* SPDX-License-Identifier: Apache-2.0 */
#include "file.h"
#include "fuzz.h"

#include <stdio.h>
#include <string.h>

/* The record of a commit under way. Whoever finds it renames and removes what it says: so nothing
 * in it may lead out of the root or to what is not a value, and what was read reads the same when
 * it is written again. */

static struct fst_redo parse(struct cm_span in, cm_status *ret_rc)
{
    struct fst_redo r = { .name = "x", .fd = -1 };

    *ret_rc = fst_redo_parse(in, &r, NULL);
    return r;
}

static void check_name(const char *name)
{
    CM_ASSERT(name[0] != '\0' && name[0] != '.' && strchr(name, '/') == NULL);
    CM_ASSERT(strlen(name) < FST_NAME_MAX);
}

static void check(const struct fst_redo *r)
{
    struct cm_buf text = CM_BUF_INIT(FST_REDO_MAX);
    struct fst_redo again;
    cm_status rc;

    fuzz_reached();
    CM_ASSERT(r->n >= 1 && r->n <= CM_COMMIT_MAX);
    CM_ASSERT(strchr(r->lock, '/') == NULL && strlen(r->lock) < FST_SAFE_MAX);
    CM_ASSERT(strlen(r->boot_id) < sizeof r->boot_id);
    for (size_t i = 0; i < r->n; i++) {
        check_name(r->items[i].tmp);
        check_name(r->items[i].old);
        CM_ASSERT(cm_storage_key_check(r->items[i].key, false, NULL) == CM_OK);
    }
    CM_ASSERT(fst_redo_text(r, &text, NULL) == CM_OK);
    again = parse(cm_buf_span(&text), &rc);
    CM_ASSERT(rc == CM_OK && again.n == r->n && again.undo == r->undo);
    CM_ASSERT(strcmp(again.lock, r->lock) == 0 && strcmp(again.boot_id, r->boot_id) == 0);
    for (size_t i = 0; i < r->n; i++) {
        const struct fst_redo_item *a = &again.items[i];
        const struct fst_redo_item *b = &r->items[i];

        CM_ASSERT(a->remove == b->remove && a->tmp_inode == b->tmp_inode);
        CM_ASSERT(strcmp(a->tmp, b->tmp) == 0 && strcmp(a->old, b->old) == 0);
        CM_ASSERT(strcmp(a->key, b->key) == 0 && a->before.exists == b->before.exists);
        CM_ASSERT(a->before.inode == b->before.inode && a->before.size == b->before.size);
        CM_ASSERT(a->before.modified_ns == b->before.modified_ns);
    }
    free(again.items);
    cm_buf_free(&text);
}

static void try(struct cm_span in)
{
    cm_status rc;
    struct fst_redo r = parse(in, &rc);

    CM_ASSERT(rc == CM_OK || rc == CM_E_PARSE);
    if (rc == CM_OK)
        check(&r);
    free(r.items);
}

/* An engine does not guess a checksum: the last line is put right for it. */
static void try_with_checksum(const uint8_t *data, size_t size)
{
    const size_t body_at = sizeof "certmesh-commit 1 F\n" - 1;
    uint64_t h = UINT64_C(0xCBF29CE484222325);
    char *text;

    for (size_t i = size; i > 0; i--) /* without the last line, if it is one */
        if (data[i - 1] == '\n' && size - i >= 4 && memcmp(data + i, "end ", 4) == 0) {
            size = i;
            break;
        }
    text = calloc(1, size + 32);
    CM_ASSERT(text != NULL);
    if (size > 0)
        memcpy(text, data, size);
    for (size_t i = body_at; i < size; i++)
        h = (h ^ data[i]) * UINT64_C(0x100000001B3);
    (void)snprintf(text + size, 32, "end %016llx\n", (unsigned long long)h);
    try((struct cm_span){ (const uint8_t *)text, size + 21 });
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > FST_REDO_MAX)
        return 0;
    try((struct cm_span){ data, size });
    try_with_checksum(data, size);
    return 0;
}

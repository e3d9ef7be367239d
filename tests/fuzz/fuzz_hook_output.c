/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz.h"
#include "program.h"

#include <string.h>

/* What a hook wrote: whatever it is, one printable line comes of it, without the secrets. The first
 * byte is the room there is for the line. */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const secrets[] = { "abc", "hunter2", "s3cr3t", NULL };
    struct cm_buf output = CM_BUF_INIT(1u << 20);
    char line[256];

    if (size == 0 || cm_buf_append(&output, data + 1, size - 1, NULL) != CM_OK)
        return 0;
    cm_program_blot(&output, secrets);
    CM_ASSERT(output.len == size - 1);
    for (size_t i = 1; secrets[i] != NULL; i++)
        CM_ASSERT(output.len == 0 ||
                  memmem(output.data, output.len, secrets[i], strlen(secrets[i])) == NULL);
    (void)cm_program_quote(&output, line, data[0]);
    if (data[0] > 0) {
        size_t len = strnlen(line, sizeof line);

        CM_ASSERT(len < data[0]);
        for (size_t i = 0; i < len; i++)
            CM_ASSERT(line[i] >= 0x20 && line[i] < 0x7f);
        if (len > 0)
            fuzz_reached();
    }
    cm_buf_free(&output);
    return 0;
}

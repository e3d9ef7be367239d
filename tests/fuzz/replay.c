/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Instead of a fuzzing engine: each file of the named directories is one input. */

#define INPUT_MAX (1024u * 1024)

static int replay_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    uint8_t *data = malloc(INPUT_MAX);
    size_t len = 0;
    int bad = f == NULL || data == NULL;

    if (!bad) {
        len = fread(data, 1, INPUT_MAX, f);
        bad = ferror(f);
    }
    if (bad) {
        perror(path);
    } else {
        /* A block of its own, so that the sanitizer sees a read past its end. */
        uint8_t *exact = malloc(len > 0 ? len : 1);

        if (exact != NULL) {
            memcpy(exact, data, len);
            (void)LLVMFuzzerTestOneInput(exact, len);
        }
        bad = exact == NULL;
        free(exact);
    }
    free(data);
    if (f != NULL)
        (void)fclose(f);
    return bad ? -1 : 0;
}

int main(int argc, char **argv)
{
    unsigned n = 0;

    (void)LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
    for (int i = 1; i < argc; i++) {
        DIR *dir = opendir(argv[i]);
        struct dirent *entry;

        if (dir == NULL) {
            perror(argv[i]);
            return EXIT_FAILURE;
        }
        while ((entry = readdir(dir)) != NULL) {
            char path[4096];

            if (entry->d_name[0] == '.')
                continue;
            (void)snprintf(path, sizeof path, "%s/%s", argv[i], entry->d_name);
            if (replay_file(path) != 0) {
                (void)closedir(dir);
                return EXIT_FAILURE;
            }
            n++;
        }
        (void)closedir(dir);
    }
    printf("%u inputs\n", n);
    return EXIT_SUCCESS;
}

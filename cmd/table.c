/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define GAP        2
#define NAME_LEAST 16

void cli_table_start(struct cli_table *t, const char *const *heads, size_t n_columns)
{
    memset(t, 0, sizeof *t);
    t->heads = heads;
    t->n_columns = n_columns;
}

static bool grow(struct cli_table *t)
{
    size_t cap = t->cap == 0 ? 32 : t->cap * 2;
    void *rows = NULL;
    void *notes = NULL;

    if (t->n_rows < t->cap)
        return true;
    rows = realloc(t->rows, cap * sizeof *t->rows);
    if (rows == NULL)
        return false;
    t->rows = rows;
    notes = realloc(t->notes, cap * sizeof *t->notes);
    if (notes == NULL)
        return false;
    t->notes = notes;
    t->cap = cap;
    return true;
}

void cli_table_row(struct cli_table *t, const char *const *cells, const char *note)
{
    if (t->out_of_memory || !grow(t)) {
        t->out_of_memory = true;
        return;
    }
    for (size_t i = 0; i < CLI_TABLE_COLUMNS; i++) {
        t->rows[t->n_rows][i] = i < t->n_columns ? strdup(cells[i]) : NULL;
        if (i < t->n_columns && t->rows[t->n_rows][i] == NULL)
            t->out_of_memory = true;
    }
    t->notes[t->n_rows] = note != NULL ? strdup(note) : NULL;
    t->n_rows++;
}

static void print_cell(FILE *out, const char *text, size_t width, bool last)
{
    size_t len = strlen(text);

    if (len > width) /* only the first column ever shrinks */
        fprintf(out, "%.*s...", (int)(width - 3), text);
    else if (last)
        fputs(text, out);
    else
        fprintf(out, "%-*s", (int)width, text);
    fputs(last ? "\n" : "  ", out);
}

void cli_table_print(struct cli_table *t, FILE *out, unsigned width)
{
    size_t widths[CLI_TABLE_COLUMNS] = { 0 };
    size_t rest = 0;

    for (size_t i = 0; i < t->n_columns; i++) {
        widths[i] = strlen(t->heads[i]);
        for (size_t r = 0; r < t->n_rows; r++) {
            size_t len = t->rows[r][i] != NULL ? strlen(t->rows[r][i]) : 0;

            if (len > widths[i])
                widths[i] = len;
        }
        if (i > 0)
            rest += widths[i] + GAP;
    }
    if (width > 0 && widths[0] + rest > width) {
        size_t room = width > rest ? width - rest : 0;

        widths[0] = room > NAME_LEAST ? room : widths[0] < NAME_LEAST ? widths[0] : NAME_LEAST;
    }
    for (size_t i = 0; i < t->n_columns; i++)
        print_cell(out, t->heads[i], widths[i], i + 1 == t->n_columns);
    for (size_t r = 0; r < t->n_rows; r++) {
        for (size_t i = 0; i < t->n_columns; i++) {
            print_cell(out, t->rows[r][i] != NULL ? t->rows[r][i] : "?", widths[i],
                       i + 1 == t->n_columns);
            free(t->rows[r][i]);
        }
        if (t->notes[r] != NULL)
            fprintf(out, "  %s\n", t->notes[r]);
        free(t->notes[r]);
    }
    free(t->rows);
    free(t->notes);
    memset(t, 0, sizeof *t);
}

unsigned cli_width(FILE *out)
{
    struct winsize size;

    if (!isatty(fileno(out)))
        return 0;
    if (ioctl(fileno(out), TIOCGWINSZ, &size) != 0 || size.ws_col < 20)
        return 80;
    return size.ws_col;
}

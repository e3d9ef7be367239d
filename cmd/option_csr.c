/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd.h"

#include <stdlib.h>
#include <string.h>

/* Extensions of certificate requests, and the other ports of challenges: what makes up a struct
 * cm_config_extra. */

static int digit(char ch)
{
    static const char digits[] = "0123456789abcdefABCDEF";
    const char *at = ch != '\0' ? strchr(digits, ch) : NULL;

    if (at == NULL)
        return -1;
    return (int)(at - digits) < 16 ? (int)(at - digits) : (int)(at - digits) - 6;
}

/* "OID=[critical:]HEX"; @oid and @bytes have as many bytes as @text, its NUL included. */
static bool read_extension(const char *text, char *oid, uint8_t *bytes,
                           struct cm_csr_extension *ret)
{
    static const char critical[] = "critical:";
    const char *hex = strchr(text, '=');

    if (hex == NULL || hex == text)
        return false;
    memcpy(oid, text, (size_t)(hex - text));
    oid[hex - text] = '\0';
    hex++;
    *ret = (struct cm_csr_extension){ .oid = oid };
    ret->critical = strncmp(hex, critical, sizeof critical - 1) == 0;
    if (ret->critical)
        hex += sizeof critical - 1;
    for (; *hex != '\0'; hex += 2) {
        int high = digit(hex[0]), low = high < 0 ? -1 : digit(hex[1]);

        if (low < 0)
            return false;
        bytes[ret->value.len++] = (uint8_t)(high << 4 | low);
    }
    ret->value.data = bytes;
    return ret->value.len > 0;
}

int cli_add_csr_extension(const struct cli *c, struct cli_list *list, const char *value)
{
    struct cm_csr_extension x;
    size_t room = strlen(value) + 1;
    char *memory = malloc(2 * room);

    if (memory == NULL)
        return cli_usage(c, "--csr-extension: out of memory");
    bool good = read_extension(value, memory, (uint8_t *)memory + room, &x);
    free(memory);
    if (!good)
        return cli_usage(c, "--csr-extension '%.80s' is not OID=HEX or OID=critical:HEX", value);
    if (list->n == CM_CSR_EXTENSIONS_MAX)
        return cli_usage(c, "--csr-extension more than %u times", CM_CSR_EXTENSIONS_MAX);
    list->at[list->n++] = value;
    return -1;
}

int cli_extra_check(const struct cli *c)
{
    if (c->o.csr_extensions.n > 0 && c->o.csr != NULL)
        return cli_usage(c, "--csr: what the request asks for stands in it; --csr-extension is for "
                            "requests that are made here");
    if (c->o.csr_extensions.n > 0 && cli_is_internal(c))
        return cli_usage(c, "the internal CA and --csr-extension exclude each other");
    return -1;
}

cm_status cli_extra_fill(const struct cli *c, struct cm_config_options *o, struct cli_life *life,
                         struct cm_err *err)
{
    struct cm_config_extra *x = &life->extra;

    *x = (struct cm_config_extra)CM_CONFIG_EXTRA_INIT;
    x->alt_http_port = c->o.alt_http_port;
    x->alt_tls_port = c->o.alt_tls_port;
    x->csr_extensions = life->extensions;
    o->extra = x;
    for (size_t i = 0; i < c->o.csr_extensions.n; i++) {
        const char *text = c->o.csr_extensions.at[i];
        size_t room = strlen(text) + 1;
        char *memory = malloc(2 * room);

        if (memory == NULL)
            return cm_fail(err, CM_E_NOMEM, "out of memory");
        life->extension_memory[i] = memory;
        x->n_csr_extensions = i + 1;
        if (!read_extension(text, memory, (uint8_t *)memory + room, &life->extensions[i]))
            return cm_fail(err, CM_E_INVAL, "--csr-extension '%.80s'", text);
    }
    return CM_OK;
}

void cli_extra_end(struct cli_life *life)
{
    for (size_t i = 0; i < life->extra.n_csr_extensions; i++)
        free(life->extension_memory[i]);
    life->extra.n_csr_extensions = 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "key.h"

#include <gnutls/pkcs11.h>
#include <string.h>

/* Modules of PKCS#11. Many find a token that has come back when a session is opened; some, and
 * SoftHSM is one of them, only when they are initialized. GnuTLS can do that to all modules at once
 * and not while somebody uses one of them, be it for a list of trusted CAs. So it is done behind
 * its back, to the modules it is needed for: p11-kit says which function lists are theirs. What
 * GnuTLS has of such a module (the list of functions) stays valid; sessions do not, and it opens
 * one for each key. */

void cm__module_of(struct cm_span url, char ret[CM_MODULE_MAX])
{
    char text[CM_KEY_URL_MAX];
    const uint8_t *query = memchr(url.data, '?', url.len);
    size_t len = query != NULL ? (size_t)(query - url.data) : url.len;
    size_t size = CM_MODULE_MAX;

    ret[0] = '\0';
    if (len >= sizeof text)
        return;
    memcpy(text, url.data, len); /* without the PIN, which is not needed for this */
    text[len] = '\0';
    if (gnutls_pkcs11_token_get_info(text, GNUTLS_PKCS11_TOKEN_MODNAME, ret, &size) < 0)
        ret[0] = '\0';
    ret[CM_MODULE_MAX - 1] = '\0';
}

#ifdef CM_HAVE_P11KIT

#include <p11-kit/p11-kit.h>

static void again(CK_FUNCTION_LIST *module)
{
    char *reserved = p11_kit_config_option(module, "x-init-reserved");
    CK_C_INITIALIZE_ARGS args;

    memset(&args, 0, sizeof args);
    args.flags = CKF_OS_LOCKING_OK;
    args.pReserved = reserved;
    (void)module->C_Finalize(NULL);
    /* Where this fails the token is not there: the next attempt does both again. */
    (void)module->C_Initialize(&args);
    free(reserved);
}

void cm__modules_again(bool (*wanted)(const char *file))
{
    CK_FUNCTION_LIST **all = p11_kit_modules_load(NULL, P11_KIT_MODULE_UNMANAGED);

    for (size_t i = 0; all != NULL && all[i] != NULL; i++) {
        char *file = p11_kit_module_get_filename(all[i]);

        /* A list of CAs is no token that goes and comes. */
        if ((p11_kit_module_get_flags(all[i]) & P11_KIT_MODULE_TRUSTED) == 0 && file != NULL &&
            wanted(file))
            again(all[i]);
        free(file);
    }
    p11_kit_modules_release(all);
}

#else

void cm__modules_again(bool (*wanted)(const char *file))
{
    (void)wanted;
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */

/* A public header by itself, twice: it needs nothing before it and guards itself. */
#include HEADER
#include HEADER

int main(void)
{
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */

/* As alone.c, for C++. */
#include HEADER
#include HEADER

int main()
{
    return 0;
}

/* Weak versions of what depends on your board. Write your own, without "weak", in a file of your project. */

#include "dse_bench.h"

#ifndef DSE_LOG_BYTES
#define DSE_LOG_BYTES 4096u
#endif

char dse_log[DSE_LOG_BYTES];
static uint32_t dse_logged;

DSE_WEAK void dse_marker(int level)
{
    (void)level; /* set or clear your pin here, such as GPIOA->BSRR = level ? 1u << 5 : 1u << 21; */
}

DSE_WEAK void dse_put(const char *text)
{
    for (; *text != 0 && dse_logged + 1u < DSE_LOG_BYTES; text++)
        dse_log[dse_logged++] = *text;
    dse_log[dse_logged] = 0;
}

DSE_WEAK int dse_sleep(const char *state, uint32_t milliseconds)
{
    (void)state;
    (void)milliseconds;
    return 0;
}

/* Weak versions of what depends on your board. Write your own, without "weak", in a file of your project. */

#include "dse_bench.h"

static uint32_t dse_logged;
static int dse_log_ended;

DSE_WEAK void dse_marker(int level)
{
    (void)level; /* set or clear your pin here, such as GPIOA->BSRR = level ? 1u << 5 : 1u << 21; */
}

DSE_WEAK void dse_put(const char *text)
{
    static const char full[] = "# error: dse_log is full; rows are missing\n";
    const uint32_t most = dse_log_bytes - (uint32_t)sizeof(full);
    for (; *text != 0 && !dse_log_ended; text++) {
        if (dse_logged < most) {
            dse_log[dse_logged++] = *text;
            continue;
        }
        dse_log_ended = 1;
        while (dse_logged > 0u && dse_log[dse_logged - 1u] != '\n') /* half a row would be read as one */
            dse_logged--;
        for (const char *next = full; *next != 0; next++)
            dse_log[dse_logged++] = *next;
    }
    dse_log[dse_logged] = 0;
}

DSE_WEAK int dse_sleep(const char *state, uint32_t milliseconds)
{
    (void)state;
    (void)milliseconds;
    return 0;
}

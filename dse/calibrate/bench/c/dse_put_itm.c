/* Output through SWO: stimulus port 0 of the ITM. The debugger sets up the pin, the rate and the ITM. */

#include "dse_bench.h"

#if defined(__ARM_ARCH_6M__) || defined(__ARM_ARCH_8M_BASE__)
#error "this core has no ITM: take PUT=semihosting, or write dse_put() for a UART"
#endif

#define DSE_ITM_PORT (*(volatile uint32_t *)0xE0000000u)
#define DSE_ITM_BYTE (*(volatile uint8_t *)0xE0000000u)
#define DSE_ITM_ENABLED (*(volatile uint32_t *)0xE0000E80u)

void dse_put(const char *text)
{
    if ((DSE_ITM_ENABLED & 1u) == 0u)
        return;
    for (; *text != 0; text++) {
        while (DSE_ITM_PORT == 0u)
            ;
        DSE_ITM_BYTE = (uint8_t)*text;
    }
}

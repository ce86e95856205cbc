/* Counts cycles: DWT->CYCCNT where the core has it, SysTick elsewhere. Included once, by dse_bench.c. */

#ifndef DSE_REGISTER
#define DSE_REGISTER(address) (*(volatile uint32_t *)(uintptr_t)(address))
#endif

#if defined(DSE_OWN_CYCLES)

/* dse_timer_start() and dse_cycles() are yours. */

#elif !defined(__ARM_ARCH_PROFILE) || __ARM_ARCH_PROFILE != 'M'

#error "No cycle counter is known for this core: write dse_timer_start() and dse_cycles(), which counts cycles \
up and wraps at 2^32, and compile with -DDSE_OWN_CYCLES."

#elif defined(DSE_SYSTICK) || defined(__ARM_ARCH_6M__) || defined(__ARM_ARCH_8M_BASE__)

/* Cortex-M0+ has no DWT cycle counter. SysTick counts 24 bits down; its interrupt counts the wraps. Your
   project may have a SysTick_Handler: the linker then says that there are two. Take yours out while measuring. */

#define DSE_SYST_CSR DSE_REGISTER(0xE000E010u)
#define DSE_SYST_RVR DSE_REGISTER(0xE000E014u)
#define DSE_SYST_CVR DSE_REGISTER(0xE000E018u)
#define DSE_SYST_TOP 0xFFFFFFu

static volatile uint32_t dse_wraps;

void SysTick_Handler(void);
void SysTick_Handler(void)
{
    dse_wraps++;
}

void dse_timer_start(void)
{
    DSE_SYST_CSR = 0;
    DSE_SYST_RVR = DSE_SYST_TOP;
    DSE_SYST_CVR = 0;
    dse_wraps = 0;
    DSE_SYST_CSR = 7; /* core clock, interrupt, on */
}

uint32_t dse_cycles(void)
{
    uint32_t wraps, value;
    do {
        wraps = dse_wraps;
        value = DSE_SYST_CVR;
    } while (wraps != dse_wraps);
    return wraps * (DSE_SYST_TOP + 1u) + (DSE_SYST_TOP - value);
}

#else

#define DSE_DEMCR DSE_REGISTER(0xE000EDFCu)
#define DSE_DWT_CTRL DSE_REGISTER(0xE0001000u)
#define DSE_DWT_CYCCNT DSE_REGISTER(0xE0001004u)
#define DSE_DWT_LAR DSE_REGISTER(0xE0001FB0u)

void dse_timer_start(void)
{
    DSE_DEMCR |= 1u << 24;     /* TRCENA */
    DSE_DWT_LAR = 0xC5ACCE55u; /* Cortex-M7 locks the DWT; elsewhere the write does nothing */
    DSE_DWT_CYCCNT = 0;
    DSE_DWT_CTRL |= 1u; /* CYCCNTENA */
}

uint32_t dse_cycles(void)
{
    return DSE_DWT_CYCCNT;
}

#endif

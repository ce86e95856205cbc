/* Start-up code for the emulated board MPS2 AN386 (Cortex-M4): vectors, FPU, data, and the end by semihosting. */

#include "dse_bench.h"

extern uint32_t stack_top, data_load, data_start, data_end, bss_start, bss_end;
void reset(void);
void SysTick_Handler(void) __attribute__((weak));

void SysTick_Handler(void)
{
}

static void stop(int code)
{
    register uint32_t operation __asm__("r0") = 0x18u; /* SYS_EXIT */
    register uint32_t argument __asm__("r1") = code ? 0x20023u : 0x20026u;
    __asm__ volatile("bkpt 0xAB" : "+r"(operation) : "r"(argument) : "memory");
    for (;;)
        ;
}

static void fault(void)
{
    dse_put("fault\n");
    stop(1);
}

void reset(void)
{
    *(volatile uint32_t *)0xE000ED88u |= 15u << 20; /* CPACR: the FPU */
    __asm__ volatile("dsb\n isb");
    for (uint32_t *to = &data_start, *from = &data_load; to < &data_end;)
        *to++ = *from++;
    for (uint32_t *to = &bss_start; to < &bss_end;)
        *to++ = 0;
    dse_bench_main();
    stop(0);
}

__attribute__((section(".vectors"), used)) static const void *const vectors[16] = {
    &stack_top, (void *)reset, (void *)fault, (void *)fault, (void *)fault, (void *)fault, (void *)fault,
    0, 0, 0, 0, (void *)fault, (void *)fault, 0, (void *)fault, (void *)SysTick_Handler,
};

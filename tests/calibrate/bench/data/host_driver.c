/* Runs every case on this computer: prints name, MACs counted and sizes, then the bytes before and after. */

#include <stdio.h>

#include "dse_bench.h"

volatile int dse_ran_plain;
uint32_t dse_seed;
uint32_t dse_counted;

int main(void)
{
    for (uint32_t place = 0; place < dse_case_count; place++) {
        const struct dse_case *one = &dse_cases[place];
        if (one->kind == DSE_SLEEP)
            continue;
        const unsigned arena = (unsigned)dse_arena_bytes;
        one->fill();
        printf("%s %u %u", one->name, arena, (unsigned)one->output_bytes);
        dse_counted = 0;
        /* The bytes in front must be written before the kernel runs. */
        printf("\n");
        fwrite(dse_arena, 1, arena, stdout);
        dse_ran_plain = 0;
        one->kernel();
        fwrite(one->output, 1, one->output_bytes, stdout);
        printf("%u %d\n", (unsigned)dse_counted, dse_ran_plain);
    }
    return 0;
}

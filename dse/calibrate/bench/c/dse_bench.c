/* Runs every case: warm-up, timed runs, then the kernel in a loop under the marker. */

#include "dse_bench.h"
#include "dse_timer.h"

#ifndef DSE_RUNS
#define DSE_RUNS 11 /* timed runs of each case, after one warm-up */
#endif
#ifndef DSE_MARKER_MS
#define DSE_MARKER_MS 2000u /* time under the marker for each case; 0: no power analyser */
#endif
#ifndef DSE_PAUSE_MS
#define DSE_PAUSE_MS 200u /* pause before and after the marker: the baseline */
#endif
#ifndef DSE_CLOCK_HZ
#error "compile with -DDSE_CLOCK_HZ=...: the core clock at which this runs"
#endif

volatile int dse_ran_plain;
volatile uint32_t dse_sink;
uint32_t dse_seed = 1u;
#ifdef DSE_COUNT
uint32_t dse_counted;
#endif

static void put_number(uint32_t value)
{
    char text[11];
    int place = 10;
    text[place] = 0;
    do {
        text[--place] = (char)('0' + value % 10u);
        value /= 10u;
    } while (value != 0u);
    dse_put(text + place);
}

static void put_hexadecimal(uint32_t value)
{
    char text[9];
    for (int place = 0; place < 8; place++)
        text[place] = "0123456789abcdef"[(value >> (28 - 4 * place)) & 15u];
    text[8] = 0;
    dse_put(text);
}

static void sort(uint32_t *values, int count)
{
    for (int end = 1; end < count; end++)
        for (int place = end; place > 0 && values[place - 1] > values[place]; place--) {
            uint32_t other = values[place];
            values[place] = values[place - 1];
            values[place - 1] = other;
        }
}

/* Reads every byte of the output, so that nothing of the work can be left out. */
static uint32_t check_sum(const struct dse_case *one)
{
    const uint8_t *bytes = one->output;
    uint32_t sum = 2166136261u;
    for (uint32_t place = 0; place < one->output_bytes; place++)
        sum = (sum ^ bytes[place]) * 16777619u;
    dse_sink = sum;
    return sum;
}

static uint32_t timed(const struct dse_case *one)
{
    uint32_t start = dse_cycles();
    for (uint32_t call = 0; call < one->calls; call++)
        one->kernel();
    return dse_cycles() - start;
}

static void wait(uint32_t milliseconds)
{
    for (uint32_t passed = 0; passed < milliseconds; passed++) {
        uint32_t start = dse_cycles();
        while (dse_cycles() - start < DSE_CLOCK_HZ / 1000u)
            ;
    }
}

static const char *library(void)
{
#ifdef DSE_LIBRARY
    return dse_ran_plain ? "plain-c" : DSE_LIBRARY;
#else
    return dse_ran_plain ? "plain-c" : "unnamed";
#endif
}

static void put_row(const struct dse_case *one, const char *kernels, uint32_t cycles)
{
    dse_put(one->before);
    dse_put(kernels);
    dse_put(one->between);
    if (cycles != 0u)
        put_number(cycles);
    dse_put(one->after);
    dse_put("\n");
}

static void under_marker(const struct dse_case *one, uint32_t cycles)
{
    uint32_t each = cycles / (DSE_CLOCK_HZ / 1000u) + 1u; /* ms, rounded up */
    uint32_t per_ms = (DSE_CLOCK_HZ / 1000u) / (cycles == 0u ? 1u : cycles) + 1u;
    uint32_t runs = each > 1u ? (DSE_MARKER_MS + each - 1u) / each : DSE_MARKER_MS * per_ms;
    wait(DSE_PAUSE_MS);
    dse_marker(1);
    for (uint32_t run = 0; run < runs; run++)
        for (uint32_t call = 0; call < one->calls; call++)
            one->kernel();
    dse_marker(0);
    wait(DSE_PAUSE_MS);
}

static void sleep_case(const struct dse_case *one)
{
    wait(DSE_PAUSE_MS);
    dse_marker(1);
    int slept = dse_sleep(one->before, DSE_MARKER_MS);
    dse_marker(0);
    wait(DSE_PAUSE_MS);
    if (slept) {
        dse_put("# sleep ");
        dse_put(one->before);
        dse_put("\n");
        return;
    }
    dse_put("# ");
    dse_put(one->name);
    dse_put(": not measured, dse_sleep() is not filled in; ignore the last marker\n");
}

static void run_case(const struct dse_case *one)
{
    uint32_t cycles[DSE_RUNS];
    one->fill();
    dse_ran_plain = 0;
    (void)timed(one); /* warm-up: caches, prefetch, branch prediction */
    for (int run = 0; run < DSE_RUNS; run++) {
        one->fill();
        cycles[run] = timed(one);
    }
    uint32_t sum = check_sum(one);
    sort(cycles, DSE_RUNS);
    dse_put("# ");
    dse_put(one->name);
    dse_put(": minimum ");
    put_number(cycles[0]);
    dse_put(", median ");
    put_number(cycles[DSE_RUNS / 2]);
    dse_put(" cycles of ");
    put_number(DSE_RUNS);
    dse_put(" runs, check sum ");
    put_hexadecimal(sum);
    dse_put("\n");
    if (!dse_ran_plain && library()[0] == 'u')
        dse_put("# this kernel is yours: compile with -DDSE_LIBRARY=..., the name of its library\n");
    if (DSE_MARKER_MS != 0u)
        under_marker(one, cycles[0]);
    if (one->kind == DSE_TIMED)
        put_row(one, library(), cycles[0]);
    else if (DSE_MARKER_MS != 0u)
        put_row(one, "", 0u); /* power alone: no library is being timed */
}

void dse_bench_main(void)
{
    dse_put("# ");
    dse_put(dse_title);
    dse_put("\n");
    dse_put(dse_header);
    dse_put("\n");
    dse_marker(0);
    dse_timer_start();
    uint32_t start = dse_cycles();
    for (volatile int spin = 0; spin < 1000; spin++)
        ;
    if (dse_cycles() == start) {
        dse_put("# error: the cycle counter does not count; nothing was measured\n");
        return;
    }
    for (uint32_t place = 0; place < dse_case_count; place++) {
        const struct dse_case *one = &dse_cases[place];
        if (one->kind == DSE_SLEEP) {
            if (DSE_MARKER_MS != 0u)
                sleep_case(one);
        } else {
            run_case(one);
        }
    }
    dse_put("# end\n");
}

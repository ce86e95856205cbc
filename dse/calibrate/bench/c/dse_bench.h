/* What the benchmarks share: types, the buffer, the functions that you may fill in. */

#ifndef DSE_BENCH_H
#define DSE_BENCH_H

#include <stdint.h>

/* ---- Yours to replace (dse_port.c has weak versions) --------------------------------------------- */

/* Sets the pin that the power analyser watches; 1 while a kernel loops or the chip sleeps. */
void dse_marker(int level);

/* Takes text; as it is, it goes into dse_log, which a debugger can read. */
void dse_put(const char *text);

/* Sleeps in the state of that name and returns 1 after that time; as it is, it returns 0 at once. */
int dse_sleep(const char *state, uint32_t milliseconds);

/* ---- Call this at the clock of the operating point, with caches as in your product ---------------- */

void dse_bench_main(void);

/* ---- Time: dse_timer.h --------------------------------------------------------------------------- */

void dse_timer_start(void);
uint32_t dse_cycles(void);

/* ---- Cases: bench_cases.c -------------------------------------------------------------------------- */

enum { DSE_TIMED, DSE_POWER, DSE_SLEEP };

struct dse_case {
    const char *name;
    int kind;
    uint32_t calls;      /* kernel calls in one run */
    void (*fill)(void);
    void (*kernel)(void);
    const void *output;
    uint32_t output_bytes;
    const char *before;  /* cells of the row in front of the library */
    const char *between; /* cells between the library and the cycles */
    const char *after;   /* cells behind the cycles */
};

extern const struct dse_case dse_cases[];
extern const uint32_t dse_case_count;
extern const char dse_title[];
extern const char dse_header[];

/* Every plain loop says so when it runs: a row of it is called plain-c, whatever DSE_LIBRARY says. */
extern volatile int dse_ran_plain;

#ifdef DSE_COUNT
extern uint32_t dse_counted;
#define DSE_MAC() (dse_counted++)
#else
#define DSE_MAC() ((void)0)
#endif

/* ---- The buffer that all cases share ---------------------------------------------------------------- */

extern int8_t dse_arena[];
extern const uint32_t dse_arena_bytes;

/* What dse_put() writes into unless it is yours: as long as what these cases print. */

extern char dse_log[];
extern const uint32_t dse_log_bytes;

#define DSE_ALIGN(bytes) ((((uint32_t)(bytes)) + 7u) & ~7u)
#define DSE_AT(type, offset) ((type *)(void *)(dse_arena + (offset)))

#define DSE_JOIN_(a, b) a##b
#define DSE_JOIN(a, b) DSE_JOIN_(a, b)
#define DSE_NAMED(prefix) DSE_JOIN(prefix, DSE_CASE)

/* Weak, and never merged with a loop of the same text: one may be replaced without the other. */
#if defined(__GNUC__) && !defined(__clang__)
#define DSE_WEAK __attribute__((weak, no_icf))
#else
#define DSE_WEAK __attribute__((weak))
#endif

/* ---- Numbers ---------------------------------------------------------------------------------------- */

extern uint32_t dse_seed;

/* Bytes -128 .. 127 of a linear congruential generator. */
static inline int8_t dse_random(void)
{
    dse_seed = dse_seed * 1664525u + 1013904223u;
    return (int8_t)((int32_t)(dse_seed >> 24) - 128);
}

/* Multiples of 1/8 in -1 .. 7/8: sums of their products are exact in any order. */
static inline float dse_random_float(void)
{
    return (float)(dse_random() >> 4) * 0.125f;
}

static inline void dse_fill_float(float *to, uint32_t count)
{
    for (uint32_t place = 0; place < count; place++)
        to[place] = dse_random_float();
}

static inline void dse_fill_bytes(int8_t *to, uint32_t count)
{
    for (uint32_t place = 0; place < count; place++)
        to[place] = dse_random();
}

static inline int8_t dse_clamp(int32_t value)
{
    return (int8_t)(value < -128 ? -128 : value > 127 ? 127 : value);
}

/* An int32 sum times a multiplier of 2^-31, times 2^-shift, rounded half up, as int8. */
static inline int8_t dse_requantise(int32_t sum, int32_t multiplier, int shift)
{
    int64_t product = (int64_t)sum * multiplier;
    int64_t half = (int64_t)1 << (30 + shift);
    return dse_clamp((int32_t)((product + half) >> (31 + shift)));
}

/* To the nearest, halves away from zero. */
static inline int32_t dse_round(float value)
{
    return (int32_t)(value < 0.0f ? value - 0.5f : value + 0.5f);
}

#endif

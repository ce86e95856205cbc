/* One case of an operation element by element; DSE_OP says which. DSE_N elements are counted as dse does:
   what is written, by pooling what is read, by an update the parameters.

   a, b, c are read, y is written; float unless DSE_BITS is 8. A mask has one bit per element. */

#ifndef DSE_ELEMENTS_H
#define DSE_ELEMENTS_H

#define DSE_OP_relu 1
#define DSE_OP_relu6 2
#define DSE_OP_hard_swish 3
#define DSE_OP_batch_norm 4
#define DSE_OP_add 5
#define DSE_OP_concat 6
#define DSE_OP_avg_pool 7
#define DSE_OP_max_pool 8
#define DSE_OP_softmax_loss 9
#define DSE_OP_quantise 10
#define DSE_OP_dequantise 11
#define DSE_OP_unpack 12
#define DSE_OP_update_sgd 13
#define DSE_OP_update_momentum 14
#define DSE_OP_update_adam 15
#define DSE_OP_update_lars 16

#define DSE_EPSILON 1e-5f
#define DSE_RATE 0.0625f
#define DSE_MOMENTUM 0.875f
#define DSE_ADAM_FIRST 0.875f
#define DSE_ADAM_SECOND 0.984375f
#define DSE_LARS_TRUST 0.0078125f
#define DSE_SCALE 0.03125f

union dse_float_bits {
    float value;
    uint32_t bits;
};

/* e^x within 3e-7 of itself: 2^k times a polynomial on +-ln(2)/2. */
static inline float dse_exp(float x)
{
    if (x < -87.0f)
        return 0.0f;
    const int32_t k = dse_round(x * 1.442695041f);
    const float r = (x - (float)k * 0.693145752f) - (float)k * 1.428606820e-6f;
    float sum = 1.3888889e-3f;
    sum = sum * r + 8.3333333e-3f;
    sum = sum * r + 4.1666667e-2f;
    sum = sum * r + 0.16666667f;
    sum = sum * r + 0.5f;
    sum = sum * r + 1.0f;
    sum = sum * r + 1.0f;
    union dse_float_bits power;
    power.bits = (uint32_t)(k + 127) << 23;
    return sum * power.value;
}

/* The instruction where there is one; else Newton's method from a first guess by halving the exponent. */
static inline float dse_sqrt(float x)
{
#if (defined(__ARM_FP) && (__ARM_FP & 4)) || defined(__SSE2__)
    return __builtin_sqrtf(x);
#else
    if (x <= 0.0f)
        return 0.0f;
    union dse_float_bits guess;
    guess.value = x;
    guess.bits = (guess.bits >> 1) + 0x1FBD1DF5u;
    for (int step = 0; step < 3; step++)
        guess.value = 0.5f * (guess.value + x / guess.value);
    return guess.value;
#endif
}

#define DSE_BIT(mask, place) (((mask)[(place) >> 3] >> ((place) & 7u)) & 1)

#endif

#define DSE_IS(word) (DSE_OP == DSE_OP_##word)
#define DSE_POOLS (DSE_IS(avg_pool) || DSE_IS(max_pool))
#define DSE_UPDATES (DSE_OP >= DSE_OP_update_sgd)

/* Elements of the longest array, and the bytes from one to the next. */
#if DSE_POOLS
#define DSE_LONGEST ((uint32_t)DSE_ROWS_IN * DSE_COLUMNS_IN * DSE_CHANNELS)
#define DSE_YN ((uint32_t)DSE_ROWS_OUT * DSE_COLUMNS_OUT * DSE_CHANNELS)
#else
#define DSE_LONGEST ((uint32_t)DSE_N)
#endif
#define DSE_STEP DSE_ALIGN(DSE_LONGEST * 4u)

/* Quantised values and packed ones are bytes whatever dtype they are priced under. */
#if DSE_BITS == 8 && !DSE_UPDATES && !DSE_IS(quantise) && !DSE_IS(dequantise) && !DSE_IS(unpack)
typedef int8_t DSE_NAMED(dse_a_);
typedef int8_t DSE_NAMED(dse_result_);
#elif DSE_IS(quantise)
typedef float DSE_NAMED(dse_a_);
typedef int8_t DSE_NAMED(dse_result_);
#elif DSE_IS(dequantise)
typedef int8_t DSE_NAMED(dse_a_);
typedef float DSE_NAMED(dse_result_);
#elif DSE_IS(unpack)
typedef uint8_t DSE_NAMED(dse_a_);
typedef int8_t DSE_NAMED(dse_result_);
#elif DSE_UPDATES && DSE_BITS == 8
typedef float DSE_NAMED(dse_a_);
typedef int8_t DSE_NAMED(dse_result_);
#else
typedef float DSE_NAMED(dse_a_);
typedef float DSE_NAMED(dse_result_);
#endif

static void DSE_NAMED(dse_fill_)(void)
{
    dse_seed = 1u;
#if (DSE_BITS == 8 && !DSE_UPDATES && !DSE_IS(quantise)) || DSE_IS(dequantise) || DSE_IS(unpack)
    dse_fill_bytes(DSE_AT(int8_t, 0), DSE_LONGEST);
    dse_fill_bytes(DSE_AT(int8_t, DSE_STEP), DSE_LONGEST);
#else
    dse_fill_float(DSE_AT(float, 0), DSE_LONGEST);
    dse_fill_float(DSE_AT(float, DSE_STEP), DSE_LONGEST);
#if DSE_IS(max_pool) && DSE_PASS == 1
    dse_fill_bytes(DSE_AT(int8_t, DSE_STEP), DSE_YN); /* index of the winner within its window */
    for (uint32_t place = 0; place < DSE_YN; place++)
        dse_arena[DSE_STEP + place] =
            (int8_t)((uint8_t)dse_arena[DSE_STEP + place] % (DSE_TAP_ROWS * DSE_TAP_COLUMNS));
#endif
#endif
#if DSE_UPDATES
#if DSE_BITS == 8
    dse_fill_bytes(DSE_AT(int8_t, 3u * DSE_STEP), DSE_LONGEST);
#else
    dse_fill_float(DSE_AT(float, 3u * DSE_STEP), DSE_LONGEST);
#endif
    for (uint32_t place = 0; place < DSE_LONGEST; place++) {
        DSE_AT(float, DSE_STEP)[place] = 0.0f;
        DSE_AT(float, 2u * DSE_STEP)[place] = 0.0f;
    }
#endif
}

DSE_WEAK void DSE_NAMED(dse_kernel_)(void)
{
    const DSE_NAMED(dse_a_) *const a = DSE_AT(DSE_NAMED(dse_a_), 0);
    DSE_NAMED(dse_result_) *const y = DSE_AT(DSE_NAMED(dse_result_), 3u * DSE_STEP);
    dse_ran_plain = 1;
#if DSE_POOLS
    const uint32_t taps = DSE_TAP_ROWS * DSE_TAP_COLUMNS;
#define DSE_WINDOW(row, column, ty, tx, channel) \
    ((((row) * DSE_STRIDE_ROWS + (ty)) * DSE_COLUMNS_IN + (column) * DSE_STRIDE_COLUMNS + (tx)) \
     * DSE_CHANNELS + (channel))
#if DSE_PASS == 1
    for (uint32_t place = 0; place < DSE_LONGEST; place++)
        y[place] = 0;
#endif
    uint32_t at = 0;
    for (uint32_t row = 0; row < DSE_ROWS_OUT; row++)
        for (uint32_t column = 0; column < DSE_COLUMNS_OUT; column++)
            for (uint32_t channel = 0; channel < DSE_CHANNELS; channel++, at++) {
#if DSE_IS(avg_pool) && DSE_PASS == 0
#if DSE_BITS == 8
                int32_t sum = 0;
#else
                float sum = 0.0f;
#endif
                for (uint32_t ty = 0; ty < DSE_TAP_ROWS; ty++)
                    for (uint32_t tx = 0; tx < DSE_TAP_COLUMNS; tx++)
                        sum += a[DSE_WINDOW(row, column, ty, tx, channel)];
#if DSE_BITS == 8
                const int32_t half = (int32_t)taps / 2;
                y[at] = (int8_t)((sum < 0 ? sum - half : sum + half) / (int32_t)taps);
#else
                y[at] = sum * (1.0f / (float)taps);
#endif
#elif DSE_IS(avg_pool)
                const float error = a[at] * (1.0f / (float)taps);
                for (uint32_t ty = 0; ty < DSE_TAP_ROWS; ty++)
                    for (uint32_t tx = 0; tx < DSE_TAP_COLUMNS; tx++)
                        y[DSE_WINDOW(row, column, ty, tx, channel)] += error;
#elif DSE_PASS == 0
                int8_t *const index = DSE_AT(int8_t, DSE_STEP);
                uint32_t winner = 0;
                DSE_NAMED(dse_a_) best = a[DSE_WINDOW(row, column, 0u, 0u, channel)];
                for (uint32_t tap = 1; tap < taps; tap++) {
                    const DSE_NAMED(dse_a_) other = a[DSE_WINDOW(
                        row, column, tap / DSE_TAP_COLUMNS, tap % DSE_TAP_COLUMNS, channel)];
                    if (other > best) {
                        best = other;
                        winner = tap;
                    }
                }
                y[at] = best;
                index[at] = (int8_t)winner;
#else
                const uint8_t *const index = DSE_AT(uint8_t, DSE_STEP);
                const uint32_t tap = index[at];
                y[DSE_WINDOW(row, column, tap / DSE_TAP_COLUMNS, tap % DSE_TAP_COLUMNS, channel)] += a[at];
                (void)taps;
#endif
            }
#undef DSE_WINDOW
#elif DSE_IS(relu) || DSE_IS(relu6)
#if DSE_PASS == 0
    for (uint32_t i = 0; i < DSE_N; i++) {
        DSE_NAMED(dse_a_) value = a[i] > 0 ? a[i] : 0;
#if DSE_IS(relu6)
        value = value < 6 ? value : 6;
#endif
        y[i] = value;
    }
#else
    const uint8_t *const mask = DSE_AT(uint8_t, DSE_STEP);
    for (uint32_t i = 0; i < DSE_N; i++)
        y[i] = DSE_BIT(mask, i) ? a[i] : 0;
#endif
#elif DSE_IS(hard_swish)
#if DSE_PASS == 0 && DSE_BITS == 8
    for (uint32_t i = 0; i < DSE_N; i++) { /* input and output in sixteenths */
        int32_t gate = (int32_t)a[i] + 48;
        gate = gate < 0 ? 0 : gate > 96 ? 96 : gate;
        y[i] = dse_requantise((int32_t)a[i] * gate, 1431655765, 6); /* over 96 */
    }
#elif DSE_PASS == 0
    for (uint32_t i = 0; i < DSE_N; i++) {
        float gate = a[i] + 3.0f;
        gate = gate < 0.0f ? 0.0f : gate > 6.0f ? 6.0f : gate;
        y[i] = a[i] * gate * (1.0f / 6.0f);
    }
#else
    const float *const b = DSE_AT(float, DSE_STEP);
    for (uint32_t i = 0; i < DSE_N; i++)
        y[i] = b[i] < -3.0f ? 0.0f : b[i] > 3.0f ? a[i] : a[i] * (2.0f * b[i] + 3.0f) * (1.0f / 6.0f);
#endif
#elif DSE_IS(batch_norm)
    const float *const b = DSE_AT(float, DSE_STEP);
#if DSE_PASS == 0
    const float *const shift = b + DSE_CHANNELS; /* b: scale, then shift, of each channel */
    for (uint32_t i = 0; i < DSE_N; i += DSE_CHANNELS)
        for (uint32_t channel = 0; channel < DSE_CHANNELS; channel++)
            y[i + channel] = a[i + channel] * b[channel] + shift[channel];
#else
    const float each = (float)DSE_CHANNELS / (float)DSE_N; /* b: the normalised input */
    for (uint32_t channel = 0; channel < DSE_CHANNELS; channel++) {
        float errors = 0.0f, products = 0.0f;
        for (uint32_t i = channel; i < DSE_N; i += DSE_CHANNELS) {
            errors += a[i];
            products += a[i] * b[i];
        }
        errors *= each;
        products *= each;
        for (uint32_t i = channel; i < DSE_N; i += DSE_CHANNELS)
            y[i] = a[i] - errors - b[i] * products;
    }
#endif
#elif DSE_IS(add) && DSE_PASS == 0
    const DSE_NAMED(dse_a_) *const b = DSE_AT(DSE_NAMED(dse_a_), DSE_STEP);
    for (uint32_t i = 0; i < DSE_N; i++)
#if DSE_BITS == 8
        y[i] = dse_requantise(((int32_t)a[i] * 5 + (int32_t)b[i] * 3) * 1024, 1518500250, 12);
#else
        y[i] = a[i] + b[i];
#endif
#elif DSE_IS(add) || DSE_IS(concat)
    for (uint32_t i = 0; i < DSE_N; i++)
        y[i] = a[i];
#elif DSE_IS(softmax_loss)
    const uint32_t label = DSE_N / 2u;
#if DSE_PASS == 0
    float largest = a[0], sum = 0.0f;
    for (uint32_t i = 1; i < DSE_N; i++)
        largest = a[i] > largest ? a[i] : largest;
    for (uint32_t i = 0; i < DSE_N; i++) {
        y[i] = dse_exp(a[i] - largest);
        sum += y[i];
    }
    const float each = 1.0f / sum;
    for (uint32_t i = 0; i < DSE_N; i++)
        y[i] *= each;
    (void)label;
#else
    for (uint32_t i = 0; i < DSE_N; i++)
        y[i] = a[i] - (i == label ? 1.0f : 0.0f);
#endif
#elif DSE_IS(quantise)
    for (uint32_t i = 0; i < DSE_N; i++)
        y[i] = dse_clamp(dse_round(a[i] * (1.0f / DSE_SCALE)) + 3);
#elif DSE_IS(dequantise)
    for (uint32_t i = 0; i < DSE_N; i++)
        y[i] = (float)(a[i] - 3) * DSE_SCALE;
#elif DSE_IS(unpack)
    uint32_t held = 0, bits = 0;
    const uint8_t *next = a;
    for (uint32_t i = 0; i < DSE_N; i++) {
        while (bits < DSE_WIDTH) {
            held |= (uint32_t)*next++ << bits;
            bits += 8u;
        }
        y[i] = (int8_t)(held & ((1u << DSE_WIDTH) - 1u));
        held >>= DSE_WIDTH;
        bits -= DSE_WIDTH;
    }
#elif DSE_UPDATES
#if DSE_BITS == 8
#define DSE_STORE(value) dse_clamp(dse_round(value))
#else
#define DSE_STORE(value) (value)
#endif
#if !DSE_IS(update_sgd)
    float *const state = DSE_AT(float, 2u * DSE_STEP);
#endif
#if DSE_IS(update_sgd)
    for (uint32_t i = 0; i < DSE_N; i++)
        y[i] = DSE_STORE((float)y[i] - DSE_RATE * a[i]);
#elif DSE_IS(update_momentum)
    for (uint32_t i = 0; i < DSE_N; i++) {
        state[i] = DSE_MOMENTUM * state[i] + a[i];
        y[i] = DSE_STORE((float)y[i] - DSE_RATE * state[i]);
    }
#elif DSE_IS(update_adam)
    float *const second = DSE_AT(float, DSE_STEP);
    for (uint32_t i = 0; i < DSE_N; i++) {
        state[i] = DSE_ADAM_FIRST * state[i] + (1.0f - DSE_ADAM_FIRST) * a[i];
        second[i] = DSE_ADAM_SECOND * second[i] + (1.0f - DSE_ADAM_SECOND) * a[i] * a[i];
        y[i] = DSE_STORE((float)y[i] - DSE_RATE * state[i] / (dse_sqrt(second[i]) + DSE_EPSILON));
    }
#else
    float weights = 0.0f, gradients = 0.0f;
    for (uint32_t i = 0; i < DSE_N; i++) {
        weights += (float)y[i] * (float)y[i];
        gradients += a[i] * a[i];
    }
    const float rate =
        DSE_RATE * DSE_LARS_TRUST * dse_sqrt(weights) / (dse_sqrt(gradients) + DSE_EPSILON);
    for (uint32_t i = 0; i < DSE_N; i++) {
        state[i] = DSE_MOMENTUM * state[i] + rate * a[i];
        y[i] = DSE_STORE((float)y[i] - state[i]);
    }
#endif
#undef DSE_STORE
#else
#error "unknown DSE_OP"
#endif
}

#if DSE_POOLS && DSE_PASS == 0
enum { DSE_NAMED(dse_size_) = (int)(DSE_YN * sizeof(DSE_NAMED(dse_result_))) };
#else
enum { DSE_NAMED(dse_size_) = (int)(DSE_LONGEST * sizeof(DSE_NAMED(dse_result_))) };
#endif
enum { DSE_NAMED(dse_out_) = (int)(3u * DSE_STEP) };
typedef char DSE_NAMED(dse_fits_)[4u * DSE_STEP <= DSE_ARENA_BYTES ? 1 : -1];

#undef DSE_IS
#undef DSE_POOLS
#undef DSE_UPDATES
#undef DSE_LONGEST
#undef DSE_YN
#undef DSE_STEP
#undef DSE_CASE
#undef DSE_OP
#undef DSE_PASS
#undef DSE_BITS
#undef DSE_N
#undef DSE_CHANNELS
#undef DSE_WIDTH
#undef DSE_ROWS_IN
#undef DSE_COLUMNS_IN
#undef DSE_TAP_ROWS
#undef DSE_TAP_COLUMNS
#undef DSE_STRIDE_ROWS
#undef DSE_STRIDE_COLUMNS
#undef DSE_APART_ROWS
#undef DSE_APART_COLUMNS
#undef DSE_GROUPS
#undef DSE_ROWS_OUT
#undef DSE_COLUMNS_OUT

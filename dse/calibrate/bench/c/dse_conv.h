/* One case of a kernel that multiplies: a convolution in plain loops, and all that is one (depthwise:
   as many groups as channels; pointwise: one tap; linear: one position).

   Channels last: x[row][column][in], w[out][tap row][tap column][in of a group], y[row][column][out].
   The padding is part of x, so every tap is a MAC, as it is counted. */

#define DSE_XN ((uint32_t)DSE_ROWS_IN * DSE_COLUMNS_IN * DSE_IN)
#define DSE_WN ((uint32_t)DSE_OUT * DSE_TAP_ROWS * DSE_TAP_COLUMNS * (DSE_IN / DSE_GROUPS))
#define DSE_YN ((uint32_t)DSE_ROWS_OUT * DSE_COLUMNS_OUT * DSE_OUT)

/* DSE_ERRORS: 8 or 32, the width of the tensors that are not weights in a backward pass of int8. */
#if DSE_BITS == 32
typedef float DSE_NAMED(dse_x_);
typedef float DSE_NAMED(dse_w_);
typedef float DSE_NAMED(dse_y_);
typedef float DSE_NAMED(dse_sum_);
#elif DSE_PASS == 0
typedef int8_t DSE_NAMED(dse_x_);
typedef int8_t DSE_NAMED(dse_w_);
typedef int8_t DSE_NAMED(dse_y_);
typedef int32_t DSE_NAMED(dse_sum_);
#elif DSE_ERRORS == 8
#if DSE_PASS == 1
typedef int32_t DSE_NAMED(dse_x_);
typedef int8_t DSE_NAMED(dse_w_);
#else
typedef int8_t DSE_NAMED(dse_x_);
typedef int32_t DSE_NAMED(dse_w_);
#endif
typedef int8_t DSE_NAMED(dse_y_);
typedef int32_t DSE_NAMED(dse_sum_);
#else
#if DSE_PASS == 1
typedef float DSE_NAMED(dse_x_);
typedef int8_t DSE_NAMED(dse_w_);
#else
typedef int8_t DSE_NAMED(dse_x_);
typedef float DSE_NAMED(dse_w_);
#endif
typedef float DSE_NAMED(dse_y_);
typedef float DSE_NAMED(dse_sum_);
#endif

#define DSE_X_AT 0u
#define DSE_W_AT DSE_ALIGN(DSE_XN * sizeof(DSE_NAMED(dse_x_)))
#define DSE_Y_AT (DSE_W_AT + DSE_ALIGN(DSE_WN * sizeof(DSE_NAMED(dse_w_))))

static void DSE_NAMED(dse_fill_)(void)
{
    dse_seed = 1u;
#if DSE_BITS == 32
    dse_fill_float(DSE_AT(float, DSE_X_AT), DSE_XN);
    dse_fill_float(DSE_AT(float, DSE_W_AT), DSE_WN);
    dse_fill_float(DSE_AT(float, DSE_Y_AT), DSE_YN);
#else
#if DSE_PASS != 1
    dse_fill_bytes(DSE_AT(int8_t, DSE_X_AT), DSE_XN);
#endif
#if DSE_PASS != 2
    dse_fill_bytes(DSE_AT(int8_t, DSE_W_AT), DSE_WN);
#endif
#if DSE_PASS != 0 && DSE_ERRORS == 32
    dse_fill_float(DSE_AT(float, DSE_Y_AT), DSE_YN);
#elif DSE_PASS != 0
    dse_fill_bytes(DSE_AT(int8_t, DSE_Y_AT), DSE_YN);
#endif
#endif
}

/* Places in x, w and y. */
#define DSE_X(row, column, channel) \
    x[(((uint32_t)(row) * DSE_STRIDE_ROWS + ty * DSE_APART_ROWS) * DSE_COLUMNS_IN \
       + (uint32_t)(column) * DSE_STRIDE_COLUMNS + tx * DSE_APART_COLUMNS) * DSE_IN + (channel)]
#define DSE_W(out, channel) \
    w[(((uint32_t)(out) * DSE_TAP_ROWS + ty) * DSE_TAP_COLUMNS + tx) * (DSE_IN / DSE_GROUPS) + (channel)]
#define DSE_Y(row, column, out) y[((uint32_t)(row) * DSE_COLUMNS_OUT + (column)) * DSE_OUT + (out)]
#define DSE_TAPS \
    for (uint32_t ty = 0; ty < DSE_TAP_ROWS; ty++) \
        for (uint32_t tx = 0; tx < DSE_TAP_COLUMNS; tx++)
#define DSE_POSITIONS \
    for (uint32_t row = 0; row < DSE_ROWS_OUT; row++) \
        for (uint32_t column = 0; column < DSE_COLUMNS_OUT; column++)

DSE_WEAK void DSE_NAMED(dse_kernel_)(void)
{
    DSE_NAMED(dse_x_) *const x = DSE_AT(DSE_NAMED(dse_x_), DSE_X_AT);
    DSE_NAMED(dse_w_) *const w = DSE_AT(DSE_NAMED(dse_w_), DSE_W_AT);
    DSE_NAMED(dse_y_) *const y = DSE_AT(DSE_NAMED(dse_y_), DSE_Y_AT);
    dse_ran_plain = 1;
#if DSE_PASS == 0
    DSE_POSITIONS
        for (uint32_t out = 0; out < DSE_OUT; out++) {
            const uint32_t first = out / (DSE_OUT / DSE_GROUPS) * (DSE_IN / DSE_GROUPS);
            DSE_NAMED(dse_sum_) sum = 0;
            DSE_TAPS
                for (uint32_t in = 0; in < DSE_IN / DSE_GROUPS; in++) {
                    sum += (DSE_NAMED(dse_sum_))DSE_X(row, column, first + in) * DSE_W(out, in);
                    DSE_MAC();
                }
#if DSE_BITS == 32
            DSE_Y(row, column, out) = sum;
#else
            DSE_Y(row, column, out) = dse_requantise(sum, 1518500250, 7);
#endif
        }
#elif DSE_PASS == 1
    for (uint32_t place = 0; place < DSE_XN; place++)
        x[place] = 0;
    DSE_POSITIONS
        for (uint32_t out = 0; out < DSE_OUT; out++) {
            const uint32_t first = out / (DSE_OUT / DSE_GROUPS) * (DSE_IN / DSE_GROUPS);
            const DSE_NAMED(dse_sum_) error = DSE_Y(row, column, out);
            DSE_TAPS
                for (uint32_t in = 0; in < DSE_IN / DSE_GROUPS; in++) {
                    DSE_X(row, column, first + in) += (DSE_NAMED(dse_sum_))DSE_W(out, in) * error;
                    DSE_MAC();
                }
        }
#else
    for (uint32_t out = 0; out < DSE_OUT; out++) {
        const uint32_t first = out / (DSE_OUT / DSE_GROUPS) * (DSE_IN / DSE_GROUPS);
        DSE_TAPS
            for (uint32_t in = 0; in < DSE_IN / DSE_GROUPS; in++) {
                DSE_NAMED(dse_sum_) sum = 0;
                DSE_POSITIONS {
                    sum += (DSE_NAMED(dse_sum_))DSE_X(row, column, first + in) * DSE_Y(row, column, out);
                    DSE_MAC();
                }
                DSE_W(out, in) = sum;
            }
    }
#endif
}

/* Where the result is; constants, because offsets in a table of cases must be. */
#if DSE_PASS == 0
enum { DSE_NAMED(dse_out_) = (int)DSE_Y_AT, DSE_NAMED(dse_size_) = (int)(DSE_YN * sizeof(DSE_NAMED(dse_y_))) };
#elif DSE_PASS == 1
enum { DSE_NAMED(dse_out_) = (int)DSE_X_AT, DSE_NAMED(dse_size_) = (int)(DSE_XN * sizeof(DSE_NAMED(dse_x_))) };
#else
enum { DSE_NAMED(dse_out_) = (int)DSE_W_AT, DSE_NAMED(dse_size_) = (int)(DSE_WN * sizeof(DSE_NAMED(dse_w_))) };
#endif
typedef char DSE_NAMED(dse_fits_)[DSE_Y_AT + DSE_YN * sizeof(DSE_NAMED(dse_y_)) <= DSE_ARENA_BYTES ? 1 : -1];

#undef DSE_XN
#undef DSE_WN
#undef DSE_YN
#undef DSE_X_AT
#undef DSE_W_AT
#undef DSE_Y_AT
#undef DSE_X
#undef DSE_W
#undef DSE_Y
#undef DSE_TAPS
#undef DSE_POSITIONS
#undef DSE_CASE
#undef DSE_PASS
#undef DSE_BITS
#undef DSE_ERRORS
#undef DSE_ROWS_IN
#undef DSE_COLUMNS_IN
#undef DSE_IN
#undef DSE_OUT
#undef DSE_GROUPS
#undef DSE_TAP_ROWS
#undef DSE_TAP_COLUMNS
#undef DSE_STRIDE_ROWS
#undef DSE_STRIDE_COLUMNS
#undef DSE_APART_ROWS
#undef DSE_APART_COLUMNS
#undef DSE_ROWS_OUT
#undef DSE_COLUMNS_OUT

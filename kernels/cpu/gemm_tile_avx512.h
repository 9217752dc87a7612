/* The tiles that fit 32 registers: at most 24 sums, the columns, one spread value. 16 rows of one
 * vector are as fast as 24, and do not crowd one set of the first-level cache. */
#define ROWS_1_TO_6(X, v)   X(1, v) X(2, v) X(3, v) X(4, v) X(5, v) X(6, v)
#define ROWS_7_TO_12(X, v)  X(7, v) X(8, v) X(9, v) X(10, v) X(11, v) X(12, v)
#define ROWS_13_TO_16(X, v) X(13, v) X(14, v) X(15, v) X(16, v)
/* clang-format off */
#define TILES(X)                                                                                   \
    ROWS_1_TO_6(X, 1) ROWS_7_TO_12(X, 1) ROWS_13_TO_16(X, 1)                                       \
    ROWS_1_TO_6(X, 2) ROWS_7_TO_12(X, 2)                                                           \
    ROWS_1_TO_6(X, 3) X(7, 3) X(8, 3)                                                              \
    ROWS_1_TO_6(X, 4)
/* clang-format on */
#define TILE_ROWS                                                                                  \
    { 16, 12, 8, 6 }

#define VECTOR             __m512
#define VECTOR_BYTES       64
#define VECTOR_LOAD(p)     _mm512_loadu_ps(p)
#define VECTOR_STORE(p, x) _mm512_storeu_ps(p, x)
#define VECTOR_ZERO()      _mm512_setzero_ps()
#define VECTOR_ADD(a, b)   _mm512_add_ps(a, b)

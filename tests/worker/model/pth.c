/* Files of torch.save are read as it wrote them; a file made to harm is refused by name. */
#include <stdio.h>
#include <string.h>

#include "tests/worker/model/weights_test.h"
#include "tests/worker/model/zip_build.h"

#define FOLDER "tests/vectors/weights"

static void as_torch_wrote_it(void **state) {
    same_weights(FOLDER "/state.pth", FOLDER "/state.safetensors");
    same_weights(FOLDER "/protocol4.pth", FOLDER "/state.safetensors");
    same_weights(FOLDER "/protocol5.pth", FOLDER "/state.safetensors");
    same_weights(FOLDER "/narrow.pth", FOLDER "/narrow.safetensors");
}

static void checkpoint_of_a_training(void **state) {
    struct weights *weights;
    struct error error = {0};
    ok(weights_open(&weights, FOLDER "/training.pt", &error), &error);
    assert_int_equal(weights_format(weights), WEIGHTS_PTH);
    assert_int_equal(weights_count(weights), 2);
    assert_int_equal(weights_find(weights, "proj.weight")->dtype, DTYPE_BF16);
    weights_close(&weights);
}

static void expect_file(const char *path, const char *why) {
    struct weights *weights;
    struct error error = {0};
    assert_int_equal(weights_open(&weights, path, &error), ERR_UNSUPPORTED);
    if (strstr(error.detail, why) == NULL)
        fail_msg("%s", error.detail);
}

static void other_files_of_torch(void **state) {
    expect_file(FOLDER "/transposed.pth", "contiguous");
    expect_file(FOLDER "/module.pth", "torch.nn.modules.linear.Linear");
    expect_file(FOLDER "/old.pth", "before 1.6");
}

/* -- pickles --------------------------------------------------------------------------------- */

#define STORAGE                                                                                    \
    "("                                                                                            \
    "X\x07\0\0\0storage"                                                                           \
    "ctorch\nFloatStorage\n"                                                                       \
    "X\x01\0\0\0"                                                                                  \
    "0"                                                                                            \
    "X\x03\0\0\0"                                                                                  \
    "cpu"                                                                                          \
    "K\x02"                                                                                        \
    "tQ"
#define CALL "ctorch._utils\n_rebuild_tensor_v2\n("
#define HOOKS                                                                                      \
    "\x89"                                                                                         \
    "ccollections\nOrderedDict\n)R"
#define DICT(v)                                                                                    \
    "\x80\x02}X\x01\0\0\0"                                                                         \
    "a" v "s."
#define GOOD                                                                                       \
    DICT(CALL STORAGE "K\0"                                                                        \
                      "K\x02\x85"                                                                  \
                      "K\x01\x85" HOOKS "tR")

static const float two[] = {1.5f, -2};

/* m[0..2): the members of a file of tensor `two`, whose pickle is `pickle`. */
static void set_members(struct zip_build *m, const char *pickle, size_t length) {
    m[0] = (struct zip_build){.name = "x/data.pkl", .bytes = pickle, .length = length};
    m[1] = (struct zip_build){.name = "x/data/0", .bytes = two, .length = sizeof two};
}

static void expect_pickle(const char *pickle, size_t length, enum error_code code,
                          const char *why) {
    const struct zip_build members[] = {{.name = "x/data.pkl", .bytes = pickle, .length = length},
                                        {.name = "x/data/0", .bytes = two, .length = sizeof two}};
    struct buffer zip = zip_build(members, 2, false, 2);
    expect_bytes(zip.data, zip.length, code, why);
    buffer_close(&zip);
}

#define PICKLE(p, code, why) expect_pickle(p, sizeof(p) - 1, code, why)

static void tensors_of_a_pickle(void **state) {
    PICKLE(GOOD, ERR_OK, NULL);
    PICKLE(DICT(CALL STORAGE "K\0"
                             "K\x03\x85"
                             "K\x01\x85" HOOKS "tR"),
           ERR_FORMAT, "past the end");
    PICKLE(DICT(CALL STORAGE "K\x01"
                             "K\x02\x85"
                             "K\x01\x85" HOOKS "tR"),
           ERR_FORMAT, "past the end");
    PICKLE(DICT(CALL STORAGE "J\xff\xff\xff\xff"
                             "K\x02\x85"
                             "K\x01\x85" HOOKS "tR"),
           ERR_FORMAT, "past the end");
    PICKLE(DICT(CALL STORAGE "K\0"
                             "J\xff\xff\xff\xff\x85"
                             "K\x01\x85" HOOKS "tR"),
           ERR_FORMAT, "whole numbers");
    PICKLE(DICT(CALL STORAGE "K\0"
                             "\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f\x85"
                             "K\x01\x85" HOOKS "tR"),
           ERR_FORMAT, "63 bits");
    PICKLE(DICT(CALL STORAGE "K\0"
                             "K\x02\x85"
                             "K\x02\x85" HOOKS "tR"),
           ERR_UNSUPPORTED, "contiguous");
    PICKLE(DICT(CALL STORAGE "K\0"
                             "K\x02\x85"
                             ")" HOOKS "tR"),
           ERR_FORMAT, "one length");
    PICKLE(DICT(CALL STORAGE "K\0tR"), ERR_FORMAT, "_rebuild_tensor_v2");
    PICKLE(DICT(CALL "NK\0"
                     "K\x02\x85"
                     "K\x01\x85" HOOKS "tR"),
           ERR_FORMAT, "storage");
    PICKLE(DICT(CALL ")QK\0"
                     "K\x02\x85"
                     "K\x01\x85" HOOKS "tR"),
           ERR_FORMAT, "storage");
    PICKLE(DICT("K\x01"), ERR_UNSUPPORTED, "dict of tensors");
    PICKLE("\x80\x02N.", ERR_UNSUPPORTED, "dict of tensors");
    PICKLE("\x80\x02}(X\x01\0\0\0"
           "a" CALL STORAGE "K\0"
           "K\x02\x85"
           "K\x01\x85" HOOKS "tR"
           "X\x01\0\0\0"
           "b"
           "K\x01u.",
           ERR_FORMAT, "'b': expected a tensor");
}

/* Other class, other key, other size. */
static void storages_that_lie(void **state) {
#define WITH(class, key, count)                                                                    \
    DICT(CALL "("                                                                                  \
              "X\x07\0\0\0storage" class "X\x01\0\0\0" key "X\x03\0\0\0"                           \
                                         "cpu" count "tQ"                                          \
                                         "K\0"                                                     \
                                         "K\x01\x85"                                               \
                                         "K\x01\x85" HOOKS "tR")
    PICKLE(WITH("ctorch\nFloatStorage\n", "1", "K\x02"), ERR_MISSING, "x/data/1");
    PICKLE(WITH("ctorch\nFloatStorage\n", "0", "K\x03"), ERR_FORMAT, "8 bytes");
    PICKLE(WITH("ctorch\nDoubleStorage\n", "0", "K\x02"), ERR_FORMAT, "8 bytes");
    PICKLE(WITH("ctorch\nHalfStorage\n", "0", "K\x04"), ERR_OK, NULL);
    PICKLE(WITH("ctorch\nFloatStorage\n", "0", "J\xff\xff\xff\xff"), ERR_FORMAT, "elements");
    PICKLE(WITH("ctorch\nFloatStorage\n", "0", "\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f"),
           ERR_FORMAT, "elements");
    PICKLE(WITH("ctorch\nQUInt8Storage\n", "0", "K\x02"), ERR_UNSUPPORTED, "torch.QUInt8Storage");
    PICKLE(WITH("ccollections\nOrderedDict\n", "0", "K\x02"), ERR_FORMAT, "class");
}

static void nothing_is_run(void **state) {
    PICKLE("\x80\x02"
           "cposix\nsystem\nX\x02\0\0\0id\x85R.",
           ERR_UNSUPPORTED, "posix.system");
    PICKLE("\x80\x02"
           "cos\nsystem\n.",
           ERR_UNSUPPORTED, "os.system");
    PICKLE("\x80\x02"
           "c__builtin__\neval\n.",
           ERR_UNSUPPORTED, "__builtin__.eval");
    PICKLE("\x80\x02"
           "c\nx\n.",
           ERR_UNSUPPORTED, "'.x'");
    PICKLE("\x80\x02"
           "ctorch\nFloatStorage \n.",
           ERR_FORMAT, "name");
    PICKLE("\x80\x02"
           "ctorch FloatStorage\n.",
           ERR_FORMAT, "name");
    PICKLE("\x80\x02"
           "ccollections\nOrderedDict\n]\x85R.",
           ERR_UNSUPPORTED, "OrderedDict");
    PICKLE("\x80\x02"
           "K\x01)R.",
           ERR_UNSUPPORTED, "no global");
    PICKLE("\x80\x02}N"
           "b.",
           ERR_UNSUPPORTED, "dict of tensors");
    PICKLE("\x80\x02]N"
           "b.",
           ERR_UNSUPPORTED, "no dict");
    static const uint8_t others[] = {'i',  'o',  'P',  'I',  'L',  'S',  'U',  'V',  'd',  'l',
                                     'p',  'g',  '0',  '1',  '2',  0x81, 0x82, 0x83, 0x84, 0x8b,
                                     0x8d, 0x8e, 0x8f, 0x90, 0x91, 0x92, 0x96, 0x97, 0x98, 0};
    for (size_t i = 0; i < sizeof others; i++) {
        char pickle[] = {(char)0x80, 2, 'N', (char)others[i], '\n', '\n', '.'}, why[16];
        (void)snprintf(why, sizeof why, "0x%02x", others[i]);
        expect_pickle(pickle, sizeof pickle, ERR_UNSUPPORTED, why);
    }
    PICKLE("\x80\x01N.", ERR_UNSUPPORTED, "protocol");
    PICKLE("\x80\x06N.", ERR_UNSUPPORTED, "protocol");
}

/* What protocols 4 and 5 add. */
static void later_protocols(void **state) {
#define SHORT(length, text) "\x8c" length text
    PICKLE("\x80\x04" SHORT("\x02", "os") SHORT("\x06", "system") "\x93.", ERR_UNSUPPORTED,
           "os.system");
    PICKLE("\x80\x05" SHORT("\x05", "torch") SHORT("\x0d", "FloatStorage\n") "\x93.",
           ERR_UNSUPPORTED, "torch.FloatStorage");
    PICKLE("\x80\x04" SHORT("\x11", "torch FloatStorag") SHORT("\x01", "e") "\x93.",
           ERR_UNSUPPORTED, "torch FloatStorag.e");
    PICKLE("\x80\x04" SHORT("\x05", "torch") "\x93.", ERR_FORMAT, "missing");
    PICKLE("\x80\x04NN\x93.", ERR_FORMAT, "no name");
    PICKLE("\x80\x04" SHORT("\x05", "abc"), ERR_FORMAT, "middle");
    PICKLE("\x80\x04" SHORT("\x01", "\xff") ".", ERR_FORMAT, "UTF-8");
    PICKLE("\x80\x04\x94.", ERR_FORMAT, "not there");
    PICKLE("\x80\x04(\x94.", ERR_FORMAT, "not there");
    PICKLE("\x80\x04\x95\x02\0\0\0\0\0\0\0N.", ERR_UNSUPPORTED, "dict of tensors");
    PICKLE("\x80\x04\x95\x03\0\0\0\0\0\0\0N.", ERR_FORMAT, "frame");
    PICKLE("\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\xffN.", ERR_FORMAT, "frame");
    PICKLE("\x80\x04\x95\x02\0", ERR_FORMAT, "middle");
    struct buffer text = {0};
    buffer_add(&text, "\x80\x04\x8c\xc8", 4);
    for (int i = 0; i < 200; i++)
        buffer_add_text(&text, "a");
    buffer_add(&text, "\x94h\0\x93.", 5);
    expect_pickle(text.data, text.length, ERR_LIMIT, "too long");
    buffer_close(&text);
}

/* A tensor that says its type beside a storage of bytes. */
static void typed_tensors(void **state) {
#define TYPED(class, count, type)                                                                  \
    DICT("ctorch._utils\n_rebuild_tensor_v3\n(("                                                   \
         "X\x07\0\0\0storage" class "X\x01\0\0\0"                                                  \
                                    "0"                                                            \
                                    "X\x03\0\0\0"                                                  \
                                    "cpu" count "tQ"                                               \
                                    "K\0"                                                          \
                                    "K\x08\x85"                                                    \
                                    "K\x01\x85" HOOKS type "tR")
#define UNTYPED "ctorch.storage\nUntypedStorage\n"
#define E4M3    "ctorch\nfloat8_e4m3fn\n"
    PICKLE(TYPED(UNTYPED, "K\x08", E4M3), ERR_OK, NULL);
    PICKLE(TYPED(UNTYPED, "K\x07", E4M3), ERR_FORMAT, "8 bytes");
    PICKLE(TYPED(UNTYPED, "K\x08", ""), ERR_FORMAT, "_v3");
    PICKLE(TYPED(UNTYPED, "K\x08", "N"), ERR_FORMAT, "type");
    PICKLE(TYPED(UNTYPED, "K\x08", UNTYPED), ERR_FORMAT, "type");
    PICKLE(TYPED(UNTYPED, "K\x08", "ctorch\nuint16\n"), ERR_UNSUPPORTED, "torch.uint16");
    PICKLE(TYPED("ctorch\nByteStorage\n", "K\x08", E4M3), ERR_FORMAT, "class");
    PICKLE(DICT(CALL "("
                     "X\x07\0\0\0storage" UNTYPED "X\x01\0\0\0"
                     "0NK\x08tQ"
                     "K\0"
                     "K\x02\x85"
                     "K\x01\x85" HOOKS "tR"),
           ERR_FORMAT, "class");
}

/* torch computes the sign of the one, the imaginary part of the other when they are used. */
static void numbers_that_are_not_as_stored(void **state) {
#define WITH_BIT(bytes, key, value)                                                                \
    DICT(CALL STORAGE "K\0"                                                                        \
                      "K\x02\x85"                                                                  \
                      "K\x01\x85" HOOKS "}X" bytes "\0\0\0" key value "s"                          \
                      "tR")
    PICKLE(WITH_BIT("\x03", "neg", "\x88"), ERR_UNSUPPORTED, "'a' has torch's negative bit");
    PICKLE(WITH_BIT("\x04", "conj", "\x88"), ERR_UNSUPPORTED, "resolve_conj");
    PICKLE(WITH_BIT("\x03", "neg", "\x89"), ERR_OK, NULL);
    PICKLE(WITH_BIT("\x04", "conj", "\x89"), ERR_OK, NULL);
    PICKLE(WITH_BIT("\x04", "note", "\x88"), ERR_OK, NULL);
}

static void broken_pickles(void **state) {
    static const char alone[] = {'R', 'Q', 'a', 'b',        'e',        's',
                                 't', 'u', '.', (char)0x85, (char)0x86, (char)0x87};
    for (size_t i = 0; i < sizeof alone; i++) {
        char pickle[] = {(char)0x80, 2, alone[i], '.'};
        expect_pickle(pickle, sizeof pickle, ERR_FORMAT, NULL);
        char marked[] = {(char)0x80, 2, '(', alone[i], '.'};
        if (alone[i] != 't')
            expect_pickle(marked, sizeof marked, ERR_FORMAT, NULL);
    }
    PICKLE("", ERR_FORMAT, "ends");
    PICKLE("\x80\x02", ERR_FORMAT, "ends");
    PICKLE("\x80\x02NN.", ERR_FORMAT, "one value");
    PICKLE("\x80\x02N.N", ERR_FORMAT, "more after");
    PICKLE("\x80\x02h\0.", ERR_FORMAT, "never remembered");
    PICKLE("\x80\x02Nq\x01.", ERR_FORMAT, "out of turn");
    PICKLE("\x80\x02Nr\xff\xff\xff\xff.", ERR_FORMAT, "out of turn");
    PICKLE("\x80\x02q\0.", ERR_FORMAT, "not there");
    PICKLE("\x80\x02X\xff\xff\xff\xff"
           "a.",
           ERR_FORMAT, "middle");
    PICKLE("\x80\x02X\x01\0\0\0\xff.", ERR_FORMAT, "UTF-8");
    PICKLE("\x80\x02X\x01\0\0\0\0.", ERR_FORMAT, "UTF-8");
    PICKLE("\x80\x02\x8a\x09"
           "aaaaaaaaa.",
           ERR_LIMIT, "8 bytes");
    PICKLE("\x80\x02\x8a\xff"
           "aaaaaaaaa.",
           ERR_LIMIT, "8 bytes");
    PICKLE("\x80\x02}(Nu.", ERR_FORMAT, "pairs");
    PICKLE("\x80\x02](N(e.", ERR_FORMAT, NULL);
    PICKLE("\x80\x02]q\0h\0a.", ERR_UNSUPPORTED, "dict of tensors"); /* it holds itself */
    PICKLE("\x80\x02}q\0X\x0a\0\0\0state_dicth\0s.", ERR_UNSUPPORTED, "dict of tensors");
}

/* Values inside values; marks upon marks; a list that doubles at each step by what it remembers. */
static void bombs(void **state) {
    struct buffer deep = {0}, marks = {0}, doubling = {0};
    buffer_add(&deep, "\x80\x02N", 3);
    for (int i = 0; i < 1000000; i++)
        buffer_add(&deep, "\x85", 1);
    buffer_add(&deep, ".", 1);
    expect_pickle(deep.data, deep.length, ERR_UNSUPPORTED, "dict of tensors");
    for (int i = 0; i < 10000; i++)
        buffer_add(&marks, "(", 1);
    expect_pickle(marks.data, marks.length, ERR_LIMIT, "deeper");
    buffer_add(&doubling, "\x80\x02", 2);
    for (int i = 0; i < 200; i++) {
        buffer_add(&doubling, "]q", 2);
        put_number(&doubling, (uint64_t)i, 1);
        if (i > 0) {
            const char twice[] = {'h', (char)(i - 1), 'a', 'h', (char)(i - 1), 'a'};
            buffer_add(&doubling, twice, sizeof twice);
        }
    }
    for (int i = 1; i < 200; i++)
        buffer_add(&doubling, "\x86", 1);
    buffer_add(&doubling, ".", 1);
    expect_pickle(doubling.data, doubling.length, ERR_UNSUPPORTED, "dict of tensors");
    buffer_close(&deep);
    buffer_close(&marks);
    buffer_close(&doubling);
}

static void expect_zip(const struct zip_build *members, size_t count, enum error_code code,
                       const char *why) {
    struct buffer zip = zip_build(members, count, false, count);
    expect_bytes(zip.data, zip.length, code, why);
    buffer_close(&zip);
}

static void zip_directories(void **state) {
    struct zip_build m[2];
    set_members(m, GOOD, sizeof GOOD - 1);
    struct buffer large = zip_build(m, 2, true, 2);
    expect_bytes(large.data, large.length, ERR_OK, NULL);
    buffer_close(&large);
    m[0].zip64 = m[1].zip64 = true;
    large = zip_build(m, 2, true, 2);
    expect_bytes(large.data, large.length, ERR_OK, NULL);
    buffer_close(&large);
    const uint64_t counts[] = {0, 1, 3, 0xfffe};
    m[0].zip64 = m[1].zip64 = false;
    for (size_t i = 0; i < 4; i++) {
        struct buffer zip = zip_build(m, 2, i == 3, counts[i]);
        expect_bytes(zip.data, zip.length, ERR_FORMAT, "directory");
        buffer_close(&zip);
    }
    struct buffer zip = zip_build(m, 2, true, UINT64_MAX);
    expect_bytes(zip.data, zip.length, ERR_LIMIT, "members");
    buffer_close(&zip);
}

static void zip_members_that_lie(void **state) {
    struct zip_build good[2];
    set_members(good, GOOD, sizeof GOOD - 1);
#define LIE(which, field, value, code, why)                                                        \
    do {                                                                                           \
        struct zip_build m[2] = {good[0], good[1]};                                                \
        m[which].field = (value);                                                                  \
        expect_zip(m, 2, code, why);                                                               \
    } while (0)
    LIE(1, method, 8, ERR_UNSUPPORTED, "compressed");
    LIE(1, flags, 1, ERR_UNSUPPORTED, "encrypted");
    LIE(1, local_name, "x/data/1", ERR_FORMAT, "differ");
    LIE(1, local_name, "x/data/00", ERR_FORMAT, "differ");
    LIE(1, offset_added, 1, ERR_FORMAT, "not where it should be");
    LIE(1, offset_added, 0xfffffff0, ERR_FORMAT, NULL);
    LIE(1, size_added, 1, ERR_FORMAT, "differ");
    LIE(1, size_added, 1 << 30, ERR_FORMAT, "differ");
    LIE(0, size_added, 8, ERR_FORMAT, "overlap");
    LIE(1, name, "../x/data/0", ERR_FORMAT, "folder");
    LIE(1, name, "x/../data/0", ERR_FORMAT, "folder");
    LIE(1, name, "/x/data/0", ERR_FORMAT, "folder");
    LIE(1, name, "x\\data", ERR_FORMAT, "folder");
    LIE(1, name, "", ERR_FORMAT, "folder");
    LIE(1, name, "x/data.pkl", ERR_FORMAT, "twice");
    LIE(1, name, "y/data.pkl", ERR_FORMAT, "two data.pkl");
    LIE(1, name, "y/data/0", ERR_MISSING, "x/data/0");
    LIE(0, name, "x/data.pk", ERR_FORMAT, "without data.pkl");
    struct zip_build whole[3] = {good[0], good[1], good[1]};
    whole[2] = (struct zip_build){.name = "x/byteorder", .bytes = "big", .length = 3};
    expect_zip(whole, 3, ERR_UNSUPPORTED, "big-endian");
    whole[2].bytes = "little";
    whole[2].length = 6;
    expect_zip(whole, 3, ERR_OK, NULL);
    whole[2] = good[1]; /* the same bytes under two entries of the directory */
    expect_zip(whole, 3, ERR_FORMAT, "twice");
    struct buffer changed = zip_build(good, 2, false, 2);
    changed.data[30 + strlen("x/data.pkl") + 3] ^= 1;
    expect_bytes(changed.data, changed.length, ERR_FORMAT, "copy it again");
    buffer_close(&changed);
}

static void damaged_files(void **state) {
    damage(FOLDER "/state.pth", 1 << 20, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_torch_wrote_it),
        cmocka_unit_test(checkpoint_of_a_training),
        cmocka_unit_test(other_files_of_torch),
        cmocka_unit_test(tensors_of_a_pickle),
        cmocka_unit_test(storages_that_lie),
        cmocka_unit_test(nothing_is_run),
        cmocka_unit_test(broken_pickles),
        cmocka_unit_test(bombs),
        cmocka_unit_test(zip_directories),
        cmocka_unit_test(zip_members_that_lie),
        cmocka_unit_test(later_protocols),
        cmocka_unit_test(typed_tensors),
        cmocka_unit_test(numbers_that_are_not_as_stored),
        cmocka_unit_test(damaged_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

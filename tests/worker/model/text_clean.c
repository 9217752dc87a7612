/* Cleaning of text equals the reference's. Every expectation is what its Python gives. */
#include <stdlib.h>
#include <string.h>

#include "tests/worker/model/model_test.h"
#include "worker/model/text_clean.h"

static void expect_clean(const char *text, const char *expected) {
    struct buffer out = {0};
    struct error error = {0};
    ok(text_clean(&out, text, &error), &error);
    assert_string_equal(out.data, expected);
    buffer_close(&out);
}

static void references_and_space(void **state) {
    expect_clean("", "");
    expect_clean("  a \t\n b\r\n", "a b");
    expect_clean("\xe3\x80\x80"
                 "a\xc2\xa0\xe2\x80\x89"
                 "b\xc2\x85",
                 "a b\xe2\x80\xa6"); /* U+0085: Windows-1252's ellipsis */
    expect_clean("zero\xe2\x80\x8bwidth", "zero\xe2\x80\x8bwidth"); /* U+200B is no space */
    expect_clean("fish &amp; chips", "fish & chips");
    expect_clean("fish &amp;amp;amp;amp; chips", "fish & chips");
    expect_clean("<fish &amp;amp;amp; chips",
                 "<fish &amp; chips"); /* twice, where it may be HTML */
    expect_clean("&ampx &notit; &notin; &nosuch; &", "&x \xc2\xacit; \xe2\x88\x89 &nosuch; &");
    expect_clean("&lt;b&gt;", "<b>");
    expect_clean("&#65;&#x42;&#X43 &#;&#x; &#xzz", "ABC &#;&#x; &#xzz");
    expect_clean("&#0;&#xd800;&#x110000;&#99999999999;",
                 "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
    expect_clean("&#128;&#150;&#1;&#xfffe;|", "\xe2\x82\xac\xe2\x80\x93|");
    expect_clean("&nbsp;a&nbsp;&nbsp;b&nbsp;", "a b");
    expect_clean("&CounterClockwiseContourIntegral;", "\xe2\x88\xb3");
    expect_clean("&NotEqualTilde;", "\xe2\x89\x82\xcc\xb8"); /* two code points */
}

static void text_is_bounded(void **state) {
    struct buffer out = {0};
    struct error error = {0};
    assert_int_equal(text_clean(&out, "a\xff", &error), ERR_FORMAT);
    assert_non_null(strstr(error.detail, "byte 1"));
    char *huge = malloc(TEXT_BYTES_MAX + 2);
    memset(huge, 'a', TEXT_BYTES_MAX + 1);
    huge[TEXT_BYTES_MAX + 1] = 0;
    assert_int_equal(text_clean(&out, huge, &error), ERR_LIMIT);
    huge[TEXT_BYTES_MAX] = 0;
    ok(text_clean(&out, huge, &error), &error);
    free(huge);
    buffer_close(&out);
}

/* One of each of ftfy's rules; vectors/text.json has them by the thousand. */
static void repairs(void **state) {
    expect_clean("\xc3\xa2\xc5\x93\xe2\x80\x9d No problems", "\xe2\x9c\x94 No problems");
    expect_clean("s\xc3\x83\xc2\xb3", "s\xc3\xb3");                 /* Latin-1 */
    expect_clean("s\xc3\x83\xc6\x92\xc3\x82\xc2\xb3", "s\xc3\xb3"); /* twice over */
    expect_clean("voil\xc3\x83 le travail", "voil\xc3\xa0 le travail");
    expect_clean("\xc3\xa2\xe2\x82\xac\xc5\x93quoted\xc3\xa2\xe2\x82\xac\xef\xbf\xbd",
                 "\"quoted\xef\xbf\xbd");
    expect_clean("\xc3\xad\xc2\xa0\xc2\xbd\xc3\xad\xc2\xb8\xc2\x80",
                 "\xf0\x9f\x98\x80"); /* CESU-8 */
    expect_clean("P&EACUTE;REZ STRA&SZLIG;E", "P\xc3\x89REZ STRASSE");
    expect_clean("<b>&EACUTE;", "<b>&EACUTE;");
    expect_clean(
        "\xef\xbc\xac\xef\xbc\xaf\xef\xbc\xb5\xef\xbc\xa4\xe3\x80\x80\xef\xbe\x80\xef\xbd\xb0",
        "LOUD \xe3\x82\xbf\xe3\x83\xbc");
    expect_clean("\xef\xac\x82ubberi\xef\xac\x81"
                 "c it\xe2\x80\x99s",
                 "flubberific it's");
    expect_clean("\x1b[36;44mblue\x1b[0m\x07\xef\xbb\xbf.", "blue.");
    expect_clean("e\xcc\x81 \xe3\x81\x8b\xe3\x82\x99", "\xc3\xa9 \xe3\x81\x8c");
    expect_clean("a\xcc\x95\xcc\xa7", "a\xcc\xa7\xcc\x95"); /* marks in canonical order */
    expect_clean("\xc3\x85 \xc3\x84 \xc3\xa9t\xc3\xa9", "\xc3\x85 \xc3\x84 \xc3\xa9t\xc3\xa9");
}

/* A text that needs a round for every few letters is refused, not worked on for minutes. */
static void rounds_are_bounded(void **state) {
    struct buffer text = {0}, out = {0};
    struct error error = {0};
    buffer_add_text(&text, "&");
    while (text.length < TEXT_BYTES_MAX - 4)
        buffer_add_text(&text, "amp;");
    assert_int_equal(text_clean(&out, text.data, &error), ERR_LIMIT);
    assert_non_null(strstr(error.detail, "too many times"));
    text.length = 4001; /* a shorter one is not */
    text.data[text.length] = 0;
    ok(text_clean(&out, text.data, &error), &error);
    assert_string_equal(out.data, "&");
    buffer_close(&text);
    buffer_close(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(references_and_space),
        cmocka_unit_test(repairs),
        cmocka_unit_test(text_is_bounded),
        cmocka_unit_test(rounds_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

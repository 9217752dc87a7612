/* Prompt lists: .txt, .csv and .jsonl, good ones and broken ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "coordinator/job.h"
#include "fake.h"

static void test_lists(void **state) {
    struct fake fake = {
        .files = {{"p.txt", "\xEF\xBB\xBF# comment\n\n a red ball \r\n12\n"},
                  {"p.csv", "name,prompt,motion,seeds\r\n"
                            "one,\"a \"\"red\"\" ball, big\r\nround\",,\r\n"
                            "\r\n"
                            ",second,it falls,2..3"},
                  {"p.jsonl",
                   "{\"prompt\": \"j\", \"seconds\": 1.5, \"output\": {\"fps\": 8}}\n"
                   "\n{\"name\": \"k\", \"prompt\": \"\\u00e9\", \"seeds\": [1, \"4..4\"]}"}}};
    struct job_resolver resolver = fake_resolver(&fake);
    struct job *job = NULL;
    struct error error = {0};
    const char *yaml = "model: pocket\ndefaults: {seconds: 2}\nvideos:\n"
                       "  - {file: p.txt, name: t, motion: it rolls}\n"
                       "  - {prompt: between}\n"
                       "  - {file: p.csv, seconds: 3}\n"
                       "  - {file: p.jsonl}\n";
    assert_int_equal(job_parse(&job, "a/b/lists.yaml", yaml, strlen(yaml), &resolver, &error),
                     ERR_OK);
    static const char *const names[] = {"t-001",     "t-002",        "video-003",
                                        "one",       "video-005-s2", "video-005-s3",
                                        "video-007", "k-s1",         "k-s4"};
    assert_int_equal(job->video_count, 9);
    for (int i = 0; i < 9; i++)
        assert_string_equal(job->videos[i].name, names[i]);
    assert_string_equal(job->name, "lists");
    assert_string_equal(job->videos[0].shots[0].prompt, "a red ball");
    assert_string_equal(job->videos[1].shots[0].prompt, "12");
    assert_string_equal(job->videos[1].shots[0].motion, "it rolls");
    assert_string_equal(job->videos[3].shots[0].prompt, "a \"red\" ball, big\r\nround");
    assert_int_equal(job->videos[3].frames, 48);
    assert_int_equal(job->videos[6].frames, 12);
    assert_string_equal(job->videos[8].shots[0].prompt, "é");
    job_close(&job);
}

static const struct {
    const char *name, *text, *expected;
} bad_csv[] = {
    {"a.csv", "",
     "a.csv:1:1: an empty list; expected a header that names the keys, e.g. "
     "name,prompt,motion,seconds"},
    {"a.csv", "prompt\n\"a", "a.csv:2:1: a quote that is never closed"},
    {"a.csv", "prompt\na\"b",
     "a.csv:2:2: a quote inside a field that does not start with one; put "
     "the whole field in quotes and write the inner one twice"},
    {"a.csv", "prompt\n\"a\"b",
     "a.csv:2:4: text after the closing quote; expected a comma or the "
     "end of the line (a quote inside a field is written twice)"},
    {"a.csv", "prompt\na, b\n",
     "a.csv:2:1: 2 fields; the header names 1 column (a field with a "
     "comma in it needs quotes)"},
    {"a.csv", "prompt,motion\na\n", "a.csv:2:1: 1 field; the header names 2 columns"},
    {"a.csv", "prompt,prompt\na,b\n", "a.csv:1:8: two columns are called \"prompt\""},
    {"a.csv", "prompt,motoin\na,b\n",
     "a.csv:1:8: no key is called \"motoin\"; did you mean "
     "\"motion\"; the first line of a CSV list names the keys of its columns"},
    {"a.csv", "prompt\n\"a\nb\"\n\"\",",
     "a.csv:4:1: 2 fields; the header names 1 column (a field "
     "with a comma in it needs quotes)"},
    {"a.jsonl", "{\"prompt\": \"a\"", "a.jsonl:1:15: "},
    {"a.jsonl", "\n[1]", "a.jsonl:2:1: expected an object, e.g. {\"prompt\": \"…\"}"},
    {"a.jsonl", "{\"prompt\": 12}",
     "a.jsonl:1:2: prompt: expected text (put it in quotes if it is "
     "meant as one), found 12"},
    {"a.doc", "a",
     "a.doc: expected the name of a list that ends with .txt (a prompt a line), .csv "
     "or .jsonl"},
};

static void test_bad_lists(void **state) {
    for (size_t i = 0; i < sizeof bad_csv / sizeof bad_csv[0]; i++) {
        struct fake fake = {.files = {{bad_csv[i].name, bad_csv[i].text}}};
        struct job_resolver resolver = fake_resolver(&fake);
        struct job *job = NULL;
        struct error error = {0};
        char yaml[128];
        snprintf(yaml, sizeof yaml, "model: pocket\nvideos: {file: %s, seconds: 1}",
                 bad_csv[i].name);
        assert_int_not_equal(job_parse(&job, "job.yaml", yaml, strlen(yaml), &resolver, &error),
                             ERR_OK);
        if (strncmp(error.detail, bad_csv[i].expected, strlen(bad_csv[i].expected)) != 0) {
            print_error("said:     %s\nexpected: %s\n", error.detail, bad_csv[i].expected);
            fail();
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lists),
        cmocka_unit_test(test_bad_lists),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

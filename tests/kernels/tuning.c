/* Measured algorithms: which is chosen, and that only a whole file of this machine is believed. */
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "kernels/cuda/tuning.h"
#include "tests/kernels/support.h"

#define MACHINE "Some GPU, compute capability 9.0, driver 13000, cuBLASLt 130002"

static char folder[] = "/tmp/vidloom-tuning-XXXXXX";

static int make_folder(void **state) {
    (void)state;
    return mkdtemp(folder) == NULL;
}

static int remove_folder(void **state) {
    struct error error;
    (void)state;
    return file_remove_tree(folder, &error) != ERR_OK;
}

static struct tuning *open_tuning(const char *where, const char *machine) {
    struct tuning *tuning = NULL;
    struct error error;
    assert_int_equal(tuning_open(&tuning, where, "products", machine, &error), ERR_OK);
    return tuning;
}

static struct tuning_product product_of(int64_t rows) {
    return (struct tuning_product){.outputs = 4608,
                                   .inputs = 1536,
                                   .rows = rows,
                                   .type = 1,
                                   .epilogue = 2,
                                   .in_alignment = 256,
                                   .out_alignment = 16};
}

static void put(struct tuning *tuning, int64_t rows, uint64_t word) {
    struct tuning_product product = product_of(rows);
    struct tuning_algorithm algorithm = {{word, 0, UINT64_MAX, 3, 4, 5, 6, ~word}};
    tuning_add(tuning, &product, &algorithm);
}

/* The first word of what is remembered for `rows`; 0: nothing is. */
static uint64_t found(const char *where, const char *machine, int64_t rows) {
    struct tuning *tuning = open_tuning(where, machine);
    struct tuning_product product = product_of(rows);
    struct tuning_algorithm algorithm = {{0}};
    if (tuning_find(tuning, &product, &algorithm)) {
        assert_true(algorithm.word[2] == UINT64_MAX && algorithm.word[7] == ~algorithm.word[0]);
    }
    tuning_close(&tuning);
    assert_null(tuning);
    return algorithm.word[0];
}

/* The path of the only file there. */
static void find_file(char path[FILE_PATH_BYTES]) {
    char command[128];
    snprintf(command, sizeof command, "ls %s/products-*", folder);
    FILE *list = popen(command, "r");
    assert_non_null(list);
    assert_non_null(fgets(path, FILE_PATH_BYTES, list));
    path[strcspn(path, "\n")] = '\0';
    pclose(list);
}

static void what_was_measured_is_found_again(void **state) {
    (void)state;
    struct tuning *tuning = open_tuning(folder, MACHINE);
    put(tuning, 32760, 7);
    put(tuning, 1, 8);
    put(tuning, 32760, 9); /* measured again */
    tuning_close(&tuning);
    assert_int_equal(found(folder, MACHINE, 32760), 9);
    assert_int_equal(found(folder, MACHINE, 1), 8);
    assert_int_equal(found(folder, MACHINE, 2), 0);
    assert_int_equal(found(folder, "Another GPU", 1), 0);
    assert_int_equal(found(NULL, MACHINE, 1), 0);
    struct error error;
    char path[FILE_PATH_BYTES];
    find_file(path);
    assert_int_equal(file_remove_tree(path, &error), ERR_OK);
    assert_int_equal(found(folder, MACHINE, 1), 0);
}

/* Every bit of the file, turned over, and every length it may be cut to. */
static void a_file_with_any_fault_is_not_believed(void **state) {
    (void)state;
    struct tuning *tuning = open_tuning(folder, MACHINE);
    put(tuning, 5, 77);
    tuning_close(&tuning);
    char path[FILE_PATH_BYTES], *text;
    size_t length;
    struct error error;
    struct arena arena;
    find_file(path);
    assert_int_equal(arena_open(&arena, 1 << 20, &error), ERR_OK);
    assert_int_equal(file_read(&text, &length, &arena, path, 1 << 16, &error), ERR_OK);
    for (size_t i = 0; i < length; i++) {
        text[i] ^= (char)(1 << i % 8);
        assert_int_equal(file_write(path, text, length, false, &error), ERR_OK);
        assert_int_equal(found(folder, MACHINE, 5), 0);
        text[i] ^= (char)(1 << i % 8);
        assert_int_equal(file_write(path, text, i, false, &error), ERR_OK);
        assert_int_equal(found(folder, MACHINE, 5), 0);
    }
    assert_int_equal(file_write(path, text, length, false, &error), ERR_OK);
    assert_int_equal(found(folder, MACHINE, 5), 77);
    arena_close(&arena);
}

/* Of the same product at other rows the first that was measured; of nothing else. */
static void a_like_product_is_found(void **state) {
    (void)state;
    struct tuning *tuning = open_tuning(NULL, MACHINE);
    struct tuning_algorithm algorithm;
    struct tuning_product like = product_of(12);
    assert_false(tuning_find_like(tuning, &like, 0, &algorithm));
    put(tuning, 10, 21);
    put(tuning, 11, 22);
    assert_true(tuning_find_like(tuning, &like, 10, &algorithm));
    assert_int_equal(algorithm.word[0], 21);
    assert_true(tuning_find_like(tuning, &like, 11, &algorithm));
    assert_int_equal(algorithm.word[0], 22);
    assert_false(tuning_find_like(tuning, &like, 12, &algorithm));
    assert_false(tuning_find(tuning, &like, &algorithm));
    like.in_alignment++;
    assert_false(tuning_find_like(tuning, &like, 0, &algorithm));
    tuning_close(&tuning);
}

static void kinds_of_products_have_a_file_each(void **state) {
    (void)state;
    struct tuning *tuning = open_tuning(folder, MACHINE), *other = NULL;
    struct tuning_product product = product_of(10);
    struct tuning_algorithm algorithm = {{1}};
    struct error error;
    put(tuning, 10, 21);
    assert_int_equal(tuning_open(&other, folder, "others", MACHINE, &error), ERR_OK);
    assert_false(tuning_find(other, &product, &algorithm));
    tuning_add(other, &product, &algorithm);
    tuning_close(&other);
    tuning_close(&tuning);
    assert_int_equal(found(folder, MACHINE, 10), 21);
}

static void a_folder_that_cannot_be_written_is_no_fault(void **state) {
    (void)state;
    struct tuning *tuning = open_tuning("/nowhere/at/all", MACHINE);
    put(tuning, 3, 4);
    struct tuning_product product = product_of(3);
    struct tuning_algorithm algorithm;
    assert_true(tuning_find(tuning, &product, &algorithm) && algorithm.word[0] == 4);
    tuning_close(&tuning);
}

static void no_more_are_kept_than_there_is_room_for(void **state) {
    (void)state;
    struct tuning *tuning = open_tuning(NULL, MACHINE);
    for (int i = 1; i <= TUNING_ENTRIES_MAX + 1; i++) {
        put(tuning, i, (uint64_t)i);
    }
    struct tuning_product last = product_of(TUNING_ENTRIES_MAX), beyond = last;
    struct tuning_algorithm algorithm;
    beyond.rows++;
    assert_true(tuning_find(tuning, &last, &algorithm));
    assert_false(tuning_find(tuning, &beyond, &algorithm));
    tuning_close(&tuning);
}

struct candidate {
    bool works;
    float time;
    uint64_t digest;
};

static bool try_candidate(void *context, int index, float *time, uint64_t *digest) {
    const struct candidate *candidate = (const struct candidate *)context + index;
    *time = candidate->time;
    *digest = candidate->digest;
    return candidate->works;
}

static void the_fastest_with_equal_results_is_chosen(void **state) {
    (void)state;
    struct candidate candidates[] = {
        {true, 5, 11}, {true, 4, 11}, {true, 1, 12}, {true, 3, 11}, {false, 2, 11}};
    assert_int_equal(tuning_choose(5, try_candidate, candidates), 3);
    assert_int_equal(tuning_choose(1, try_candidate, candidates), 0);
    candidates[3].time = 6;
    candidates[1].time = 5; /* no faster: the library's first choice stays */
    assert_int_equal(tuning_choose(5, try_candidate, candidates), 0);
    candidates[0].works = false; /* then the next one's result is the one to have */
    candidates[3].time = 1;
    assert_int_equal(tuning_choose(5, try_candidate, candidates), 3);
    candidates[1].works = false;
    assert_int_equal(tuning_choose(5, try_candidate, candidates), 2);
    candidates[2].works = candidates[3].works = false;
    assert_int_equal(tuning_choose(5, try_candidate, candidates), -1);
    assert_int_equal(tuning_choose(0, try_candidate, candidates), -1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_measured_is_found_again),
        cmocka_unit_test(a_file_with_any_fault_is_not_believed),
        cmocka_unit_test(a_like_product_is_found),
        cmocka_unit_test(kinds_of_products_have_a_file_each),
        cmocka_unit_test(a_folder_that_cannot_be_written_is_no_fault),
        cmocka_unit_test(no_more_are_kept_than_there_is_room_for),
        cmocka_unit_test(the_fastest_with_equal_results_is_chosen),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}

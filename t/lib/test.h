/*
 * test - what every unit test includes: cmocka with what it needs before it, and a main() that speaks TAP
 *
 *	static const struct CMUnitTest tests[] = {cmocka_unit_test(...), ...};
 *	TEST_MAIN("module", tests)
 */
#ifndef T_LIB_TEST_H
#define T_LIB_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define TEST_MAIN(name, tests)                                                                               \
	int main(void)                                                                                       \
	{                                                                                                    \
		cmocka_set_message_output(CM_OUTPUT_TAP);                                                    \
		return cmocka_run_group_tests_name(name, tests, NULL, NULL);                                 \
	}

/* A file below the source folder, wherever the test is built and run. To be freed. */
char *test_source_path(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* A new folder under $TMPDIR, and its removal with all that is in it. To be freed by test_folder_remove(). */
char *test_folder_new(void);
void test_folder_remove(char **path);
/* The whole file, NUL behind; fails the test if it cannot be read. To be freed. */
char *test_file_read(const char *path, size_t *len /* may be NULL */);
void test_file_write(const char *path, const void *bytes, size_t len);

#endif

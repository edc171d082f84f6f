/*
 * options_doc - prints what is made from options.def at build time: manual pages and JSON Schemas
 *
 *	options_doc man TEMPLATE        the page with its line @OPTIONS@ (process) or @POLICY_OPTIONS@ replaced
 *	options_doc schema process|policy
 */
#include "config.h"
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "conf/conf.h"
#include "conf/option_table.h"

/* roff: a backslash is an escape, a dot or quote at the start of a line a request */
static void roff(const char *text)
{
	if (*text == '.' || *text == '\'')
		fputs("\\&", stdout);
	for (; *text; text++)
		switch (*text) {
		case '\\':
			fputs("\\e", stdout);
			break;
		case '-':
			fputs("\\-", stdout);
			break;
		default:
			putchar(*text);
		}
}

static void print_words(const char *tag)
{
	size_t n, shown = 0;
	const struct option_word *w = option_words(&n);

	for (size_t i = 0; i < n; i++)
		if (strcmp(w[i].tag, tag) == 0)
			printf("%s\\fB%s\\fP", shown++ ? ", " : "", w[i].word);
}

static void print_type(const struct option_row *row)
{
	static const char *const names[] = {
	        [TYPE_UINT] = "number",
	        [TYPE_UINT_NONE] = "number or \\fBnone\\fP",
	        [TYPE_DURATION] = "duration",
	        [TYPE_SIZE] = "size",
	        [TYPE_RATE] = "rate",
	        [TYPE_BOOL] = "\\fBtrue\\fP or \\fBfalse\\fP",
	        [TYPE_EHLO] = "host name",
	        [TYPE_GATEWAY] = "host or \\fBnull\\fP",
	        [TYPE_HOSTNAME] = "host name",
	        [TYPE_FIELDNAME] = "name of a header field",
	        [TYPE_USERNAME] = "name of a user",
	        [TYPE_WORD] = "text or \\fBnull\\fP",
	        [TYPE_SECRET] = "text or \\fBnull\\fP; never shown",
	        [TYPE_PRIORITY] = "GnuTLS priority string or \\fBnull\\fP",
	        [TYPE_PATH] = "path",
	        [TYPE_NETLIST] = "list of networks",
	        [TYPE_HOSTRULES] = "list of networks, names of hosts and \\fBown\\fP",
	        [TYPE_ROUTES] = "list of routes, or \\fBnull\\fP",
	        [TYPE_PROXY] = "proxy or \\fBnull\\fP",
	        [TYPE_RESPONSES] = "list of objects",
	        [TYPE_CURFEW] = "list of objects",
	        [TYPE_SOCKET] = "socket",
	        [TYPE_SOCKETS] = "list of sockets",
	        [TYPE_SERVERS] = "list of name servers",
	        [TYPE_PATHS] = "list of paths",
	        [TYPE_ADDRESSES] = "list of addresses, or \\fB*\\fP",
	};

	if (row->type == TYPE_ENUM)
		print_words(row->tag);
	else
		fputs(names[row->type], stdout);
	if (*row->min || *row->max) {
		fputs(", ", stdout);
		roff(row->min);
		fputs(" to ", stdout);
		roff(row->max);
	}
}

static void print_scopes(unsigned scopes)
{
	const char *comma = "";

	for (unsigned kind = SCOPE_GLOBAL; kind <= SCOPE_HOST; kind <<= 1)
		if (scopes & kind) {
			printf("%s%s", comma, scope_kind_name((enum scope_kind)kind));
			comma = ", ";
		}
}

static void print_row(const struct option_row *row)
{
	printf(".TP\n\\fB");
	roff(row->full_name);
	printf("\\fP (");
	print_type(row);
	if (strcmp(row->def, "null") != 0) {
		printf("; built\\-in ");
		roff(row->def);
	}
	printf(")\n");
	roff(row->text);
	putchar('\n');
	if (row->scopes) {
		printf("In: ");
		print_scopes(row->scopes);
		printf(".\n");
	}
	if (row->reload == RELOAD_RESTART)
		printf("A change needs a restart.\n");
}

static bool print_page(const char *path)
{
	FILE *in = fopen(path, "r");
	char line[4096];

	if (!in)
		return false;
	while (fgets(line, sizeof(line), in)) {
		if (strcmp(line, "@OPTIONS@\n") == 0)
			for (size_t i = 0; i < PROC_COUNT; i++)
				print_row(&process_rows[i]);
		else if (strcmp(line, "@POLICY_OPTIONS@\n") == 0)
			for (size_t i = 0; i < OPT_COUNT; i++)
				print_row(&option_rows[i]);
		else
			fputs(line, stdout);
	}
	fclose(in);
	return true;
}

static bool print_schema(const char *which)
{
	json_t *j = conf_schema(strcmp(which, "policy") == 0);
	bool ok = json_dumpf(j, stdout, JSON_INDENT(2)) == 0;

	putchar('\n');
	json_decref(j);
	return ok;
}

int main(int argc, char **argv)
{
	bool ok = false;

	if (argc == 3 && strcmp(argv[1], "man") == 0)
		ok = print_page(argv[2]);
	else if (argc == 3 && strcmp(argv[1], "schema") == 0)
		ok = print_schema(argv[2]);
	if (!ok || fflush(stdout) != 0) {
		fprintf(stderr, "usage: options_doc man TEMPLATE | schema process|policy\n");
		return 1;
	}
	return 0;
}

/* What the configuration refuses and warns of: the very text, since operators (and their tools) read it. */
#include "config.h"
#include "t/lib/test.h"
#include "base/str.h"
#include "conf/conf.h"

/* All errors and warnings, a line each */
static char *complaints(const char *process, const char *policy)
{
	struct errors errors = {0};
	struct str all;
	struct conf *c = conf_load_text(process, policy, &errors);

	assert_int_equal(c == NULL, errors.n_errors > 0);
	conf_unref(&c);
	str_init(&all);
	for (size_t i = 0; i < errors.n; i++)
		str_printf(&all, "%s%s\n", errors.items[i].level == ERROR_WARNING ? "warning: " : "",
		        errors.items[i].text);
	errors_free(&errors);
	return str_steal(&all);
}

static void check_complaints(const char *process, const char *policy, const char *expected)
{
	char *got = complaints(process, policy);

	if (strcmp(got, expected) != 0)
		print_message("# of %s %s\n", process, policy ? policy : "");
	assert_string_equal(got, expected);
	free(got);
}

struct policy_case {
	const char *policy, *expected;
};

#define ROUTE_FORM                                                                                           \
	"not a route: write __mx__, HOST, ADDRESS, HOST:PORT, [IPv6]:PORT, smtp://HOST?pref=1, lmtp://HOST " \
	"or lmtp:unix:/path"

static void check_policies(const struct policy_case *cases, size_t n)
{
	for (size_t i = 0; i < n; i++)
		check_complaints("{}", cases[i].policy, cases[i].expected);
}

#define A "\"bind_address\": \"192.0.2.1\""
#define DEFAULT "\"default\": { \"bind_address\": \"192.0.2.99\" }"
#define BINDING(keys) "{ \"bindings\": { " DEFAULT ", \"acme\": { " keys " } } }"
#define ACME "policy.json: bindings.acme"

static void test_addresses(void **state)
{
	static const struct policy_case cases[] = {
	        {BINDING("\"bind_address\": \"192.0.2.300\""),
	                ACME ".bind_address: \"192.0.2.300\" is not an IP address\n"},
	        {BINDING("\"bind_address\": \"mta.example.net\""),
	                ACME ".bind_address: \"mta.example.net\" is not an IP address; names are not looked "
	                     "up, since what "
	                     "they mean can change unseen\n"},
	        {BINDING("\"bind_address\": [\"192.0.2.1\", \"192.0.2.2\"]"),
	                ACME ".bind_address[1]: \"192.0.2.2\" is a second IPv4 address beside \"192.0.2.1\"; "
	                     "a binding has at "
	                     "most one of each family\n"},
	        {BINDING("\"bind_address\": [\"192.0.2.1\", \"2001:db8::1\"]"), ""},
	        {BINDING("\"bind_address\": []"), ACME ".bind_address: no address: write at least one\n"},
	        {BINDING("\"bind_address\": \"0.0.0.0\""),
	                ACME ".bind_address: \"0.0.0.0\" is not an address to send from; \"*\" lets the "
	                     "kernel choose\n"},
	        {BINDING("\"bind_address\": \"224.0.0.1\""), ACME
	                ".bind_address: \"224.0.0.1\" is not an address to send from, but a multicast one\n"},
	        {BINDING("\"bind_address\": \"*\""), ACME ": bind_address \"*\" (the kernel chooses) is only "
	                                                  "for the binding \"default\" while there is no "
	                                                  "other; write an address\n"},
	        {BINDING("\"bind_address\": null"), ACME ".bind_address: null is not an IP address\n"},
	        {BINDING("\"bind_address\": 7"), ACME ".bind_address: 7 is not an IP address\n"},
	        {BINDING(""), ACME ": no bind_address: set one here, in its group or in \"global\"\n"},
	        {"{ \"bindings\": { \"acme\": { " A " } } }",
	                "policy.json: bindings.default: no bind_address, though there are other bindings: "
	                "set one here or in "
	                "\"global\", or the kernel could choose an address of theirs\n"},
	        {"{ \"bindings\": { \"default\": { \"bind_address\": \"*\" } } }", ""},
	        {"{ \"global\": { \"bind_address\": \"192.0.2.9\" }, \"bindings\": { \"acme\": {} } }",
	                "warning: " ACME ": bind_address 192.0.2.9 is that of binding \"default\" too\n"},
	        {"{ \"global\": { \"bind_address\": \"192.0.2.9\" }, \"bindings\": { \"a\": {}, \"b\": {}, "
	         "\"c\": {} } }",
	                "warning: policy.json: bindings.a: bind_address 192.0.2.9 is that of binding "
	                "\"default\" too, and of 2 "
	                "more\n"},
	};

	(void)state;
	check_policies(cases, sizeof(cases) / sizeof(*cases));
}

static void test_values(void **state)
{
	static const struct policy_case cases[] = {
	        {BINDING(A ", \"max_outbound_connections\": 0"),
	                ACME ".max_outbound_connections: 0 is out of range: from 1 to 100000\n"},
	        {BINDING(A ", \"max_outbound_connections\": \"many\""),
	                ACME ".max_outbound_connections: \"many\" is not a whole number\n"},
	        {BINDING(A ", \"max_outbound_connections\": 1.5"),
	                ACME ".max_outbound_connections: 1.5 is not a whole number\n"},
	        {BINDING(A ", \"max_outbound_connections\": -1"),
	                ACME ".max_outbound_connections: -1 is not a whole number\n"},
	        {BINDING(A ", \"retry_interval\": \"20 minutes\""),
	                ACME ".retry_interval: \"20 minutes\" is not a duration: write seconds, or a number "
	                     "with s, m, h, d or w "
	                     "as in \"20m\"\n"},
	        {BINDING(A ", \"retry_interval\": \"90d\""),
	                ACME ".retry_interval: \"90d\" is out of range: from 1s to 30d\n"},
	        {BINDING(A ", \"retry_interval\": \"99999999999999999999d\""),
	                ACME ".retry_interval: \"99999999999999999999d\" is not a duration: write seconds, "
	                     "or a number with s, m, "
	                     "h, d or w as in \"20m\"\n"},
	        {BINDING(A ", \"max_retries\": \"auto\""),
	                ACME ".max_retries: \"auto\" is not a whole number or \"none\"\n"},
	        {BINDING(A ", \"max_retries\": \"none\""), ""},
	        {BINDING(A ", \"generate_bounces\": \"yes\""),
	                ACME ".generate_bounces: \"yes\" is not true or false\n"},
	        {BINDING(A ", \"generate_bounces\": \"off\", \"suspend_delivery\": true"), ""},
	        {BINDING(A ", \"delivery_method\": \"LMTP\""),
	                ACME ".delivery_method: \"LMTP\" is not one of \"esmtp\", \"smtp\", \"lmtp\"\n"},
	        {BINDING(A ", \"ehlo_hostname\": \"__message__\""), ""},
	        {BINDING(A ", \"ehlo_hostname\": \"192.0.2.1\""),
	                ACME ".ehlo_hostname: \"192.0.2.1\" is not a host name, an address literal as in "
	                     "\"[192.0.2.1]\", \"__hostname__\" or \"__message__\"\n"},
	        {BINDING(A ", \"gateway\": \"hub.example.net:99999\""),
	                ACME ".gateway: \"hub.example.net:99999\" is not a gateway: write HOST, ADDRESS, "
	                     "HOST:PORT, ADDRESS:PORT or "
	                     "[IPv6]:PORT, or null for none\n"},
	        {BINDING(A ", \"gateway\": \"10.10.10.300\""),
	                ACME ".gateway: \"10.10.10.300\" is not a gateway: write HOST, ADDRESS, HOST:PORT, "
	                     "ADDRESS:PORT or "
	                     "[IPv6]:PORT, or null for none\n"},
	        {BINDING(A ", \"egress_proxy\": \"proxy://10.0.0.9:5000\""), ""},
	        {BINDING(A ", \"egress_proxy\": null"), ""},
	        {BINDING(A
	                 ", \"egress_proxy\": \"socks5://[2001:db8::1]:1080\", \"egress_proxy_user\": \"u\", "
	                 "\"egress_proxy_pass\": \"p\""),
	                ""},
	        {BINDING(A ", \"egress_proxy\": \"10.0.0.9:5000\""),
	                ACME ".egress_proxy: \"10.0.0.9:5000\" is not a proxy: write proxy://ADDRESS:PORT or "
	                     "socks5://ADDRESS:PORT\n"},
	        {BINDING(A ", \"egress_proxy\": \"socks5://proxy.example:1080\""),
	                ACME ".egress_proxy: \"socks5://proxy.example:1080\" is not a proxy: write "
	                     "ADDRESS:PORT after "
	                     "the slashes (names are not looked up here)\n"},
	        {BINDING(A ", \"egress_proxy\": \"socks5://10.0.0.9\""),
	                ACME ".egress_proxy: \"socks5://10.0.0.9\" is not a proxy: no port: write "
	                     "ADDRESS:PORT, or "
	                     "[IPv6]:PORT\n"},
	        {BINDING(A ", \"egress_proxy\": \"socks5://u:secret@10.0.0.9:1080\""),
	                ACME ".egress_proxy: credentials do not stand in it: set egress_proxy_user and "
	                     "egress_proxy_pass\n"},
	        {BINDING(A ", \"egress_proxy\": \"socks5://10.0.0.9:1080\", \"egress_proxy_user\": \"u\""),
	                ACME ": egress_proxy_user (\"u\") is of no use without egress_proxy_pass (null): "
	                     "name both, or "
	                     "neither\n"},
	        {"{ \"global\": { \"egress_proxy\": \"proxy://10.0.0.9:5000\" } }",
	                "policy.json: global: egress_proxy (\"proxy://10.0.0.9:5000\") is of no use without "
	                "bind_address: write the address that mail is to leave from\n"},
	        {"{ \"global\": { \"prohibited_hosts\": [\"10.0.0.0/8\", \"mine\"] } }",
	                "policy.json: global.prohibited_hosts[1]: \"mine\" is not a network (ADDR or "
	                "ADDR/BITS)\n"},
	        {"{ \"global\": { \"response_rules\": [ {\"match\": \"busy\", \"then\": \"suspend 30m\"}, "
	         "{\"code\": "
	         "\"5.7.x\", \"then\": \"reduce_connections 3\", \"for\": 60, \"threshold\": \"5/1m\"} ] } }",
	                ""},
	        {"{ \"global\": { \"response_rules\": [ {\"match\": \"(\", \"then\": \"fail\"}, {\"then\": "
	         "\"fail\"}, "
	         "{\"code\": 250, \"then\": \"fail\"}, {\"code\": 421}, \"x\" ] } }",
	                "policy.json: global.response_rules[0].match: not a pattern: missing closing "
	                "parenthesis at "
	                "character 2\n"
	                "policy.json: global.response_rules[1]: \"match\" or \"code\" has to be there\n"
	                "policy.json: global.response_rules[2].code: not a code of a failure: 421, \"4xx\", "
	                "\"5.7.1\" or "
	                "\"4.7.x\"\n"
	                "policy.json: global.response_rules[3]: \"then\" has to be there\n"
	                "policy.json: global.response_rules[4]: not an object with \"match\" or \"code\", "
	                "and \"then\"\n"},
	        {"{ \"global\": { \"response_rules\": [ {\"code\": 421, \"then\": \"suspend\"}, {\"code\": "
	         "421, \"then\": "
	         "\"fail\", \"threshold\": \"0/5\"}, {\"code\": 421, \"then\": \"fail\", \"for\": \"1h\"}, "
	         "{\"code\": 421, "
	         "\"then\": \"fail\", \"when\": 1} ] } }",
	                "policy.json: global.response_rules[0].then: not \"suspend 30m\", "
	                "\"reduce_connections N\", "
	                "\"retry_elsewhere\", \"fail\" or \"retry_in 10m\" (at most 30d)\n"
	                "policy.json: global.response_rules[1].threshold: not a threshold: \"1\" (each "
	                "reply), or "
	                "\"COUNT/SECONDS\" within a day, as \"5/60\"\n"
	                "policy.json: global.response_rules[2]: \"for\" belongs to reduce_connections\n"
	                "policy.json: global.response_rules[3].when: unknown key; \"name\", \"match\", "
	                "\"code\", "
	                "\"threshold\", \"then\" and \"for\" can stand here\n"},
	        {"{ \"global\": { \"curfew\": { \"from\": \"0 22 * * 1-5\", \"to\": \"0 6 * * *\", "
	         "\"timezone\": "
	         "\"Europe/Berlin\" } }, \"domains\": { \"a.example\": { \"curfew\": [] } } }",
	                ""},
	        {"{ \"global\": { \"curfew\": [ { \"from\": \"0 24 * * *\", \"to\": \"0 0 31 2 *\" }, { "
	         "\"from\": \"* * * * *\" }, "
	         "{ \"timezone\": \"Europe/Atlantis\" }, { \"when\": 1 }, 5 ] } }",
	                "policy.json: global.curfew[0].from: the hour is not as in crontab(5) (as in \"0 22 "
	                "* * 1-5\")\n"
	                "policy.json: global.curfew[0].to: there is no such day\n"
	                "policy.json: global.curfew[1]: \"from\" and \"to\" have to be there\n"
	                "policy.json: global.curfew[2].timezone: no time zone of this machine: "
	                "/usr/share/zoneinfo/Europe/Atlantis: No such file or directory\n"
	                "policy.json: global.curfew[3].when: unknown key; \"from\", \"to\" and \"timezone\" "
	                "can stand here\n"
	                "policy.json: global.curfew[4]: not an object with \"from\" and \"to\"\n"},
	        {"{ \"global\": { \"prohibited_hosts\": [] } }", ""},
	        {"{ \"global\": { \"prohibited_hosts\": [\"own\", \"*.bad.example\", \"/^park/\", "
	         "\"mx.bad.example\", { "
	         "\"net\": \"own\", \"code\": 550, \"enhanced\": \"5.7.1\", \"text\": \"no\", \"comment\": 1 "
	         "}], "
	         "\"skip_hosts\": { \"host\": \"localhost\", \"code\": 450 } } }",
	                ""},
	        {"{ \"global\": { \"prohibited_hosts\": [\"10.0.0.300\", \"/(/\", \"*.a*.example\", 5] } }",
	                "policy.json: global.prohibited_hosts[0]: \"10.0.0.300\" is not a network (ADDR or "
	                "ADDR/BITS)\n"
	                "policy.json: global.prohibited_hosts[1]: \"/(/\" is not a pattern: missing closing "
	                "parenthesis "
	                "at character 2\n"
	                "policy.json: global.prohibited_hosts[2]: \"*.a*.example\" is not a network, a host "
	                "name, "
	                "*.DOMAIN or /pattern/\n"
	                "policy.json: global.prohibited_hosts[3]: neither a text nor an object\n"},
	        {"{ \"global\": { \"prohibited_hosts\": [{ \"code\": 551 }, { \"net\": \"10.0.0.0/8\", "
	         "\"code\": 450, "
	         "\"enhanced\": \"4.4.6\", \"text\": \"\", \"txt\": 1 }] } }",
	                "policy.json: global.prohibited_hosts[0]: one of \"net\" and \"host\" has to be "
	                "there\n"
	                "policy.json: global.prohibited_hosts[1].code: not a reply code from 500 to 599\n"
	                "policy.json: global.prohibited_hosts[1].enhanced: not an enhanced status code as in "
	                "\"5.4.6\"\n"
	                "policy.json: global.prohibited_hosts[1].text: not a text of 1 to 400 printable "
	                "ASCII characters\n"
	                "policy.json: global.prohibited_hosts[1].txt: unknown key; \"net\", \"host\", "
	                "\"code\", "
	                "\"enhanced\" and \"text\" can stand here\n"},
	        {"{ \"global\": { \"skip_hosts\": [{ \"net\": \"10.0.0.0/8\", \"code\": 551 }] } }",
	                "policy.json: global.skip_hosts[0].code: not a reply code from 400 to 499\n"},
	        {"{ \"global\": { \"min_dns_ttl\": \"10m\", \"max_dns_ttl\": \"5m\" } }",
	                "policy.json: global.min_dns_ttl: is more than max_dns_ttl\n"},
	        {BINDING(A ", \"routes\": [\"hub.example.net\", \"192.0.2.1:26\", \"[2001:db8::1]:26\", "
	                   "\"2001:db8::1\", "
	                   "\"__mx__\", \"smtp://hub?pref=0&ttl=60&port=26&type=mx\", "
	                   "\"lmtp://hub:24?type=a\", "
	                   "\"lmtp:unix:/run/lmtp?pref=3\"]"),
	                ""},
	        {BINDING(A ", \"routes\": \"__mx__\""), ""},
	        {BINDING(A ", \"routes\": null"), ""},
	        {BINDING(A ", \"routes\": []"), ACME ".routes: 0 routes: write 1 to 32, or null for none\n"},
	        {BINDING(A ", \"routes\": [\"__MX__\", \"mx://a.example:25\", 3]"),
	                ACME ".routes[0]: \"__MX__\": " ROUTE_FORM "\n" ACME
	                     ".routes[1]: \"mx://a.example:25\" is not a route, as \"hub.example.net\" or "
	                     "\"__mx__\"\n" ACME
	                     ".routes[2]: 3 is not a route, as \"hub.example.net\" or \"__mx__\"\n"},
	        {BINDING(A ", \"routes\": [\"10.0.0.300\", \"http://hub\", \"[2001:db8::1\", \"a b\", \"\"]"),
	                ACME ".routes[0]: \"10.0.0.300\": " ROUTE_FORM "\n" ACME
	                     ".routes[1]: \"http://hub\": \"//hub\" is not a port\n" ACME
	                     ".routes[2]: \"[2001:db8::1\": " ROUTE_FORM "\n" ACME
	                     ".routes[3]: \"a b\": " ROUTE_FORM "\n" ACME ".routes[4]: \"\": " ROUTE_FORM
	                     "\n"},
	        {BINDING(A
	                 ", \"routes\": [\"smtp://hub?pref=65536\", \"smtp://hub?ttl=0\", "
	                 "\"smtp://hub?type=b\", "
	                 "\"smtp://hub:25?port=26\", \"smtp://hub?x=1\", \"smtp://hub?pref=1&pref=1\", "
	                 "\"hub?pref=1\", \"lmtp://hub:25\", \"lmtp:unix:run\", \"lmtp:unix:/run?port=1\"]"),
	                ACME
	                ".routes[0]: \"smtp://hub?pref=65536\": pref is not a number from 0 to 65535\n" ACME
	                ".routes[1]: \"smtp://hub?ttl=0\": ttl is not a number of seconds from 1 to "
	                "86400\n" ACME ".routes[2]: \"smtp://hub?type=b\": type is neither mx nor a\n" ACME
	                ".routes[3]: \"smtp://hub:25?port=26\": two different ports\n" ACME
	                ".routes[4]: \"smtp://hub?x=1\": \"x=1\": a route's parameters are pref, ttl, port "
	                "and "
	                "type\n" ACME ".routes[5]: \"smtp://hub?pref=1&pref=1\": pref stands twice\n" ACME
	                ".routes[6]: \"hub?pref=1\": parameters need a method: write smtp://hub?pref=1\n" ACME
	                ".routes[7]: \"lmtp://hub:25\": LMTP must not be spoken on port 25 (RFC 2033 "
	                "5)\n" ACME ".routes[8]: \"lmtp:unix:run\": the path of a Unix socket begins with / "
	                "and has at most "
	                "107 bytes\n" ACME
	                ".routes[9]: \"lmtp:unix:/run?port=1\": port means nothing for a Unix socket\n"},
	        {BINDING(A ", \"max_outbound_connections\": {}"),
	                ACME ".max_outbound_connections: an object is not a whole number\n"},
	};

	(void)state;
	check_policies(cases, sizeof(cases) / sizeof(*cases));
}

static void test_structure(void **state)
{
	static const struct policy_case cases[] = {
	        {BINDING("\"bind_adress\": \"192.0.2.1\", \"comment\": \"x\""),
	                ACME ".bind_adress: unknown key; did you mean \"bind_address\"?\n" ACME
	                     ": no bind_address: set one here, in its group or in \"global\"\n"},
	        {BINDING(A ", \"Max-Outbound-Connections\": 3"),
	                ACME ".Max-Outbound-Connections: unknown key; did you mean "
	                     "\"max_outbound_connections\"?\n"},
	        {BINDING(A ", \"colour\": 3"), ACME ".colour: unknown key\n"},
	        {BINDING(A ", \"use_ipv6\": true"),
	                ACME ".use_ipv6: cannot stand here, only in global of a policy file\n"},
	        {BINDING(A ", \"domains\": { \"example.com\": { \"bind_address\": \"192.0.2.4\" } }"),
	                ACME ".domains.example.com.bind_address: cannot stand here, only in global, "
	                     "binding_groups, bindings of a "
	                     "policy file\n"},
	        {BINDING(A ", \"hosts\": { \"mx.example.com\": { \"retry_interval\": 60 } }"),
	                ACME ".hosts.mx.example.com.retry_interval: cannot stand here, only in global, "
	                     "binding_groups, bindings, "
	                     "domains of a policy file\n"},
	        {"{ \"domains\": { \"example.com\": { \"match_domain\": [] } } }",
	                "policy.json: domains.example.com.match_domain: cannot stand in domains\n"},
	        {"{ \"retry_interval\": 60 }", "policy.json: retry_interval: cannot stand here, only in "
	                                       "global, binding_groups, bindings, domains of a "
	                                       "policy file\n"},
	        {"{ \"binding\": {} }", "policy.json: binding: unknown key; did you mean \"bindings\"?\n"},
	        {"{ \"bindings\": [] }", "policy.json: bindings: not an object: write { ... }\n"},
	        {"{ \"bindings\": { \"default\": 3 } }",
	                "policy.json: bindings.default: not an object: write { ... }\n"},
	        {"{ \"rules\": {} }", "policy.json: rules: not a list: write [ ... ]\n"},
	        {"{ \"domains\": { \"a..b\": {} } }",
	                "policy.json: domains.a..b: \"a..b\" is not a domain: a label is empty\n"},
	        {"{ \"domains\": { \"/(/\": {} } }", "policy.json: domains./(/: not a pattern: missing "
	                                             "closing parenthesis at character 2\n"},
	        {"{ \"domains\": { \"/abc\": {} } }", "policy.json: domains./abc: a pattern stands between "
	                                              "two slashes, as /\\.example\\.net$/\n"},
	        {"[]", "policy.json: not a JSON object: the file begins with { and ends with }\n"},
	        {"{ \"global\": { \"retry_interval\": 60 }, }",
	                "policy.json: line 1, column 39: string or '}' expected near '}'; JSON has no comma "
	                "behind the last item\n"},
	        {"{ \"comment\": [1], \"global\": { \"comment\": \"x\" }, \"bindings\": { \"comment\": \"x\" "
	         "}, "
	         "\"domains\": { \"comment\": \"y\" }, \"hosts\": { \"comment\": \"y\" }, "
	         "\"binding_groups\": { \"comment\": 1 } }",
	                ""},
	        {"{ \"domains\": { \"a\\nb\": {} } }", "policy.json: domains.\"a\\x0ab\": \"a\\x0ab\" is not "
	                                               "a domain: it has characters that no host name has\n"},
	};

	(void)state;
	check_policies(cases, sizeof(cases) / sizeof(*cases));
}

#define GROUP(name, bindings) "\"" name "\": { \"bindings\": { " bindings " } }"

static void test_bindings(void **state)
{
	static const struct policy_case cases[] = {
	        {"{ \"bindings\": { " DEFAULT ", \"a:b\": { " A " } } }",
	                "policy.json: bindings.a:b: binding \"a:b\": a name is 1 to 64 bytes of printable "
	                "ASCII without space : ; , / \" '\n"},
	        {"{ \"bindings\": { " DEFAULT ", \"x\": { " A
	         " } }, \"binding_groups\": { " GROUP("g", "\"x\": {}") " } }",
	                "policy.json: binding_groups.g.bindings.x: the name is taken by policy.json: "
	                "bindings.x; names of bindings "
	                "are unique across groups\nwarning: policy.json: binding_groups.g: has no bindings: "
	                "mail assigned to it "
	                "would wait for ever\n"},
	        {"{ \"binding_groups\": { " GROUP("g", "\"default\": {}") " } }",
	                "policy.json: binding_groups.g.bindings.default: the binding \"default\" stands in "
	                "no group, but in "
	                "\"bindings\"\nwarning: policy.json: binding_groups.g: has no bindings: mail "
	                "assigned to it would wait for "
	                "ever\n"},
	        {"{ \"binding_groups\": { " GROUP("default", "") " } }",
	                "policy.json: binding_groups.default.bindings: group \"default\" holds the bindings "
	                "without a group: they "
	                "stand in \"bindings\" at the top\n"},
	        {"{ \"binding_groups\": { \"default\": { \"retry_interval\": 60 } } }", ""},
	        {BINDING(A ", \"weight\": 2"), ACME ".weight: a weight counts among the members of a group: "
	                                            "the binding stands in none\n"},
	        {"{ \"bindings\": { " DEFAULT
	         " }, \"binding_groups\": { " GROUP("g", "\"x\": { " A ", \"weight\": 0 }") " } }",
	                "policy.json: binding_groups.g.bindings.x.weight: not a weight: write a number above "
	                "0, at most 1000000\n"},
	        {"{ \"bindings\": { " DEFAULT ", \"a\": { " A
	         ", \"match_domain\": \"Example.com\" }, \"b\": { \"bind_address\": "
	         "\"192.0.2.2\", \"match_domain\": [\"b.example\", \"example.com.\"] } } }",
	                "policy.json: bindings.b.match_domain[1]: example.com is claimed already by "
	                "match_domain of policy.json: "
	                "bindings.a\n"},
	        {BINDING(A ", \"match_domain\": [\"a.example\", \"A.example\"]"), ""},
	        {BINDING(A ", \"match_domain\": [7, \"a b\"]"),
	                ACME ".match_domain[0]: not a domain: write \"example.com\" or a list of such\n" ACME
	                     ".match_domain[1]: \"a b\" is not a domain: it has characters that no host name "
	                     "has\n"},
	        {BINDING(A ", \"match_domain\": \"a.example\", \"match_domain_from\": [\"10.0.0.0/8\", "
	                   "\"authenticated\"]"),
	                ""},
	        {BINDING(A ", \"match_domain\": \"*.a.example\""),
	                ACME ".match_domain: \"*.a.example\" is not a domain: it has characters that no host "
	                     "name has; each domain is named "
	                     "by itself, and subdomains are a rule's matter: mailfrom_domain =~ '...'\n"},
	        {BINDING(A ", \"match_domain\": \"a.example\", \"match_domain_from\": []"),
	                ACME ".match_domain_from: an empty list believes nobody: write networks or "
	                     "\"authenticated\"\n"},
	        {BINDING(A ", \"match_domain_from\": \"10.0.0.0/8\""),
	                "warning: " ACME
	                ": match_domain_from has no effect without match_domain or match_domain_file\n"},
	        {BINDING(A ", \"match_domain_file\": \"/nowhere/at/all\""), ACME
	                ".match_domain_file: /nowhere/at/all cannot be read: No such file or directory\n"},
	        {BINDING(A ", \"match_domain_file\": \"/dev/null\""),
	                ACME ".match_domain_file: /dev/null not a regular file\n"},
	};

	(void)state;
	check_policies(cases, sizeof(cases) / sizeof(*cases));
}

static void test_across_options(void **state)
{
	static const struct policy_case cases[] = {
	        {"{ \"global\": { \"retry_interval\": \"1d\" } }",
	                "warning: policy.json: global: retry_interval (\"1d\") is more than "
	                "max_retry_interval (\"12h\"): the latter "
	                "is every wait\n"},
	        {"{ \"domains\": { \"a.example\": { \"message_expiration\": \"10m\" } } }",
	                "warning: policy.json: domains.a.example: retry_interval (\"20m\") is more than "
	                "message_expiration (\"10m\"): "
	                "mail expires before its first retry\n"},
	        {"{ \"global\": { \"retry_interval\": \"2m\" }, \"domains\": { \"a.example\": { "
	         "\"message_expiration\": \"10m\" } } }",
	                ""},
	        {"{ \"domains\": { \"a.example\": { \"delivery_method\": \"lmtp\", \"lmtp_port\": 25 } } }",
	                "policy.json: domains.a.example: delivery_method (\"lmtp\") cannot be used with "
	                "lmtp_port (25): RFC 2033 "
	                "forbids it\n"},
	        {"{ \"domains\": { \"a.example\": { \"delivery_method\": \"lmtp\", \"remote_smtp_port\": 24 "
	         "} } }",
	                "warning: policy.json: domains.a.example: delivery_method (\"lmtp\") does not use "
	                "remote_smtp_port (24): the "
	                "port of LMTP is lmtp_port\n"},
	        {BINDING(A ", \"tls\": \"always\""),
	                ACME ".tls: \"always\" is not one of \"no\", \"ifavailable\", \"required\"\n"},
	        {BINDING(A ", \"tls_priority\": \"NORMAL:+NONSENSE\""),
	                ACME ".tls_priority: \"NORMAL:+NONSENSE\" is not a GnuTLS priority string, e.g. "
	                     "\"SECURE192:-VERS-TLS1.1\"\n"},
	        {BINDING(A ", \"tls_priority\": \"SECURE192:-VERS-TLS1.1\", \"tls_min_version\": \"1.2\""),
	                ""},
	        {BINDING(A ", \"xclient\": \"required\", \"delivery_method\": \"smtp\""),
	                ACME ": xclient (\"required\") cannot be had with delivery_method (\"smtp\"): HELO "
	                     "offers no "
	                     "extensions; write \"esmtp\"\n"},
	        {BINDING(A ", \"outbound_smtp_auth_type\": \"plain\", \"outbound_smtp_auth_user\": \"u\", "
	                   "\"outbound_smtp_auth_pass\": \"p\", \"delivery_method\": \"smtp\""),
	                ACME ": outbound_smtp_auth_type (\"plain\") cannot be had with delivery_method "
	                     "(\"smtp\"): "
	                     "HELO offers no extensions; write \"esmtp\"\n"},
	        {BINDING(A ", \"outbound_smtp_auth_type\": \"plain\", \"outbound_smtp_auth_user\": \"u\", "
	                   "\"outbound_smtp_auth_pass\": \"p\", \"outbound_smtp_auth_pass_file\": "
	                   "\"/dev/null\""),
	                ACME
	                ": outbound_smtp_auth_pass (\"(not shown)\") excludes outbound_smtp_auth_pass_file "
	                "(\"/dev/null\"): name one of them\n"},
	        {BINDING(A ", \"outbound_smtp_auth_type\": \"plain\", \"outbound_smtp_auth_user\": \"u\""),
	                ACME ": outbound_smtp_auth_type (\"plain\") is of no use without "
	                     "outbound_smtp_auth_pass (null): name "
	                     "both, or \"none\"\n"},
	        {BINDING(A ", \"outbound_smtp_auth_pass\": 4711"),
	                ACME ".outbound_smtp_auth_pass: \"(not shown)\" is not a text without control "
	                     "characters\n"},
	        {BINDING(A ", \"tls_key\": \"/dev/null\""),
	                ACME ": tls_key (\"/dev/null\") is of no use without tls_certificate (null): name "
	                     "both, or neither\n"},
	        {BINDING(A ", \"tls_certificate\": \"/dev/null\", \"tls_key\": \"/nonexistent/key.pem\""),
	                "warning: " ACME ": tls_key: /nonexistent/key.pem: No such file or directory; mail "
	                "that needs it will wait\n"},
	        {BINDING(A ", \"tls\": \"no\", \"tls_verify\": \"host\""),
	                "warning: " ACME ": tls_verify (\"host\") has no effect with tls (\"no\"): without "
	                "TLS there is no certificate\n"
	                "warning: " ACME
	                ": dane (\"ifavailable\") has no effect with tls (\"no\"): mail goes "
	                "out in clear text even where TLSA records forbid it\n"},
	        {BINDING(A ", \"gateway\": \"192.0.2.9\", \"dane\": \"required\""),
	                "warning: " ACME ": dane (\"required\") cannot be had of gateway (\"192.0.2.9\"): an "
	                "address has no TLSA records, and the mail will wait\n"},
	        {BINDING(A ", \"tls\": \"no\", \"dane\": \"required\""),
	                "warning: " ACME
	                ": dane (\"required\") has no effect with tls (\"no\"): mail goes out "
	                "in clear text even where TLSA records forbid it\n"},
	        {BINDING(A ", \"max_outbound_connections\": 9, \"server_max_outbound_connections\": 5"),
	                "warning: " ACME ": max_outbound_connections (9) is more than "
	                "server_max_outbound_connections (5): one next "
	                "hop can never have that many\n"},
	        {"{ \"global\": { \"use_ipv6\": false }, \"bindings\": { \"default\": { \"bind_address\": "
	         "\"2001:db8::1\" } } }",
	                "warning: policy.json: global.use_ipv6: is off, but bind_address of binding "
	                "\"default\" is IPv6 only: its "
	                "mail cannot leave\n"},
	};

	(void)state;
	check_policies(cases, sizeof(cases) / sizeof(*cases));
	check_complaints("{ \"handoff\": { \"unstamped\": \"default\", \"bad_stamp\": \"default\" } }",
	        "{ \"global\": { \"default_binding\": \"none\" } }",
	        "policy.json: global.default_binding: \"none\" contradicts handoff.unstamped \"default\": "
	        "choose \"policy\", "
	        "\"tempfail\" or \"reject\" there, or another default_binding\n"
	        "policy.json: global.default_binding: \"none\" contradicts handoff.bad_stamp \"default\": "
	        "choose \"policy\", "
	        "\"tempfail\" or \"reject\" there, or another default_binding\n");
	check_complaints("{ \"stamp\": { \"lifetime\": \"1d\" } }", NULL,
	        "warning: bindpost.json: stamp.lifetime: has no effect without stamp.key_file: only "
	        "authenticated stamps have "
	        "an age\n");
	check_complaints("{ \"control\": { \"listen\": \"unix:/x?mode=0600\" }, \"handoff\": { \"listen\": "
	                 "[\"unix:/x\"] } }",
	        NULL, "bindpost.json: handoff.listen and control.listen are the same socket: unix:/x\n");
}

static void test_process(void **state)
{
	static const struct policy_case cases[] = {
	        {"{ \"hostnme\": \"x\" }",
	                "bindpost.json: hostnme: unknown key; did you mean \"hostname\"?\n"},
	        {"{ \"handof\": {} }", "bindpost.json: handof: unknown key; did you mean \"handoff\"?\n"},
	        {"{ \"handoff\": { \"max_recipient\": 3 } }", "bindpost.json: handoff.max_recipient: unknown "
	                                                      "key; did you mean \"max_recipients\"?\n"},
	        {"{ \"handoff\": [] }",
	                "bindpost.json: handoff: not an object: a section is written as { ... }\n"},
	        {"{ \"retry_interval\": 60 }", "bindpost.json: retry_interval: cannot stand here, only in "
	                                       "global, binding_groups, bindings, domains of a "
	                                       "policy file\n"},
	        {"{ \"handoff\": { \"max_message_size\": \"50 MB\" } }",
	                "bindpost.json: handoff.max_message_size: \"50 MB\" is not a size: write bytes, or a "
	                "number with KB, MB, GB "
	                "or TB as in \"50MB\"\n"},
	        {"{ \"handoff\": { \"listen\": [] } }",
	                "bindpost.json: handoff.listen: no socket: name at least one\n"},
	        {"{ \"handoff\": { \"listen\": 24 } }", "bindpost.json: handoff.listen: 24 is not a socket: "
	                                                "write inet:HOST:PORT, unix:/path or systemd:NAME\n"},
	        {"{ \"stamp\": { \"header\": \"received\" } }",
	                "bindpost.json: stamp.header: \"received\" is a field of the message itself: it "
	                "would be lost; "
	                "choose another name\n"},
	        {"{ \"stamp\": { \"header\": \"X Binding\" } }",
	                "bindpost.json: stamp.header: \"X Binding\" is not the name of a header field "
	                "(printable ASCII without "
	                "colon)\n"},
	        {"{ \"dns\": { \"servers\": [\"::1\", \"::2\", \"::3\", \"::4\", \"::5\", \"::6\", \"::7\", "
	         "\"::8\", \"::9\", "
	         "\"::a\", \"::b\", \"::c\", \"::d\", \"::e\", \"::f\", \"::10\", \"::11\"] } }",
	                "bindpost.json: dns.servers: 17 name servers; at most 16 can be used: name those "
	                "nearest\n"},
	        {"{ \"dns\": { \"servers\": [\"127.0.0.1\", \"ns.example.net\", { \"adress\": \"::1\" }] } }",
	                "bindpost.json: dns.servers[1]: \"ns.example.net\" is not a name server: write "
	                "ADDRESS, ADDRESS:PORT, "
	                "[IPv6]:PORT or {\"address\": ..., \"trust_ad\": true}\n"
	                "bindpost.json: dns.servers[2].adress: unknown key; \"address\" and \"trust_ad\" can "
	                "stand here\n"
	                "bindpost.json: dns.servers[2]: \"address\" is missing\n"},
	        {"{ \"user\": \"\", \"comment\": \"x\", \"log\": { \"level\": \"loud\", \"comment\": \"x\" } "
	         "}",
	                "bindpost.json: user: \"\" is not a user's name\nbindpost.json: log.level: \"loud\" "
	                "is not one of \"error\", "
	                "\"warning\", \"notice\", \"info\", \"debug\"\n"},
	        {"{ \"spool\": { \"path\": null } }", "bindpost.json: spool.path: null is not a path\n"},
	        {"", "bindpost.json: the file is empty; without any options it would be {}\n"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		check_complaints(cases[i].policy, NULL, cases[i].expected);
}

/* What the parser says of text that is no JSON, and what to do about the usual reasons */
static void test_no_json(void **state)
{
	static const struct policy_case cases[] = {
	        {"\xef\xbb\xbf{ \"user\": \"x\" }\r\n", "bindpost.json: the file begins with a byte order "
	                                                "mark; save it as UTF-8 without one\n"},
	        {" \n", "bindpost.json: the file is empty; without any options it would be {}\n"},
	        {"\xff\xfe{", "bindpost.json: the file is UTF-16; save it as UTF-8\n"},
	        {"{ \"user\": \"caf\xe9\" }",
	                "bindpost.json: line 1, column 14: unable to decode byte 0xe9 near '\"caf'; "
	                "the file must be UTF-8\n"},
	        {"{ // here\n}", "bindpost.json: line 1, column 3: string or '}' expected near '/'; JSON has "
	                         "no comments: "
	                         "write \"comment\": \"...\"\n"},
	        {"{ 'user': 1 }",
	                "bindpost.json: line 1, column 3: string or '}' expected near '''; JSON has text in "
	                "double quotes\n"},
	        {"{ \"policy\": [ \"a\", ] }",
	                "bindpost.json: line 1, column 20: unexpected token near ']'; JSON has no "
	                "comma behind the last item\n"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		check_complaints(cases[i].policy, NULL, cases[i].expected);
	/* what is missing elsewhere may stand in the file that could not be read: only that is told */
	check_complaints("{", "{ \"bindings\": { \"a\": {}, \"b\": { " A " } } }",
	        "bindpost.json: line 1, column 1: string or '}' expected near end of file\n");
}

/* All mistakes of both files in one go; a duplicate key hides none of the others. */
static void test_all_at_once(void **state)
{
	(void)state;
	check_complaints("{ \"hostname\": \"a b\",\n\"user\": 3 }",
	        "{ \"global\": { \"retry_interval\": 60,\n\"use_ipv6\": 3,\n\"retry_interv\\u0061l\": 70 },\n"
	        "\"domains\": { \"a.example\": { \"lmtp_port\": 0 } },\n"
	        "\"rules\": [ {}, { \"when\": \"x\", \"when\": \"y\", \"when\": \"z\" } ] }",
	        "bindpost.json: hostname: \"a b\" is not a host name\n"
	        "bindpost.json: user: 3 is not a user's name\n"
	        "policy.json: global.retry_interval: the key stands twice, in lines 1 and 3; keep one of "
	        "them\n"
	        "policy.json: rules[1].when: the key stands twice, in lines 5 and 5; keep one of them\n"
	        "policy.json: global.use_ipv6: 3 is not true or false\n"
	        "policy.json: domains.a.example.lmtp_port: 0 is out of range: from 1 to 65535\n");
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_structure),
        cmocka_unit_test(test_no_json),
        cmocka_unit_test(test_bindings),
        cmocka_unit_test(test_across_options),
        cmocka_unit_test(test_process),
        cmocka_unit_test(test_all_at_once),
};
TEST_MAIN("conf_errors", tests)

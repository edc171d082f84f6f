/*
 * Peers that do anything at any point, a thousand times over: every job comes back once, what came back as delivered is
 * at the MX host, and what is at the MX host came back as delivered or, at worst, as uncertain. The seed of a run that
 * fails is in its message.
 */
#include "base/mem.h"
#include "t/lib/session_rig.h"
#include "t/lib/test.h"

#define RUNS 1000

static const char *const points[] = {"CONNECT", "EHLO", "HELO", "LHLO", "MAIL", "RCPT", "RCPT", "RCPT",
        "DATA", "DATA", "BODY", "DOT", "DOT", "DOT", "RSET", "QUIT", "IDLE", "BDAT", "XCLIENT"};

static const char *const actions[] = {"", "250 ok", "250-a\\n250 b", "354 go", "354 go; wait 1; close",
        "220 x", "421 4.3.2 no", "421 4.3.2 no; close", "450 4.7.1 later", "451 later; close", "550 5.1.1 no",
        "552 no; reset", "close", "reset", "silent", "wait 2; 250 ok", "wait 40; 250 ok", "250 ok; close",
        "250 ok; reset", "250 ok; 250 again", "250 ok; 421 bye", "250 ok; wait 1; 421 bye; close", "send 25",
        "send 250-; wait 1; send a\\r\\n250 b\\r\\n", "send 250 ok\\n", "send what\\r\\n", "send \\r\\n",
        "trickle 250 ok\\r\\n", "endless 250-x\\r\\n", "stall", "500-5.5.1 a\\n250 b",
        "250-mx\\n250-PIPELINING\\n250 SIZE 100000", "250-mx\\n250 SIZE 10"};

static uint64_t pick(struct fake_rnd *rnd, uint64_t n)
{
	return rnd_below(&rnd->rnd, n);
}

static void make_script(struct rig *r, struct fake_rnd *rnd, bool chunking)
{
	unsigned n = (unsigned)pick(rnd, 5);
	char line[256];

	for (; n > 0; n--) {
		const char *point = points[pick(rnd, array_len(points))];
		const char *action = actions[pick(rnd, array_len(actions))];

		if (strcmp(point, "BDAT") == 0 && strchr(action, '2')) /* "taken" without taking it */
			continue;
		/* with BDAT no 354 tells a reply too many from the one to the message; and who says 421 does not
		 * go on */
		if (chunking &&
		        (strstr(action, "; 250") || (strstr(action, "421") && !strstr(action, "close"))))
			continue;
		/* a reply before all was sent, and then another: the peer contradicts itself */
		if (strcmp(point, "BODY") == 0 &&
		        (strchr(action, '2') || (!strstr(action, "close") && !strstr(action, "reset"))))
			continue;
		if (pick(rnd, 2))
			snprintf(line, sizeof(line), "%s/%u: %s", point, (unsigned)pick(rnd, 4) + 1, action);
		else
			snprintf(line, sizeof(line), "%s: %s", point, action);
		if (getenv("CHAOS_SEED"))
			printf("# %s\n", line);
		assert_true(scripted_mx_line(r->mx, line));
	}
}

static struct session_job *make_job(struct fake_rnd *rnd, unsigned number)
{
	char *body, filler[80000], to[256] = "";
	unsigned n = (unsigned)pick(rnd, 4) + 1, i;
	struct session_job *job;

	memset(filler, 'x', sizeof(filler)); /* more than goes out unasked */
	filler[pick(rnd, 8) ? 0 : sizeof(filler) - 1] = '\0';
	body = mem_printf(
	        "Subject: %u\r\n\r\n%s%s", number, filler, pick(rnd, 2) ? ".\r\n..a\r\n" : "text\r\n");
	for (i = 0; i < n; i++)
		snprintf(to + strlen(to), sizeof(to) - strlen(to), "%sr%u@x.test", i ? " " : "", i);
	job = rig_job("a@acme.test", to, body);
	mem_free(&body);
	job->ref = number;
	job->message_id = number;
	job->flags |= pick(rnd, 3) ? 0 : pick(rnd, 2) ? MESSAGE_DSN_KEPT : MESSAGE_ORCPT;
	if (pick(rnd, 3) == 0)
		fake_body_pieces(job->body, (size_t)pick(rnd, 20) + 1);
	if (pick(rnd, 10) == 0)
		fake_body_fail_at(job->body, pick(rnd, 20));
	return job;
}

static bool is_at_mx(const struct rig *r, const struct session_job *job, const char *recipient)
{
	char subject[32];
	unsigned i;

	snprintf(subject, sizeof(subject), "Subject: %u\r\n", (unsigned)job->ref);
	for (i = 0; i < scripted_mx_n_mails(r->mx); i++) {
		const struct scripted_mail *m = scripted_mx_mail(r->mx, i);

		if (strncmp(m->body, subject, strlen(subject)) == 0 &&
		        (!recipient || strstr(m->recipients, recipient)))
			return true;
	}
	return false;
}

static void check_job(const struct rig *r, const struct session_job *job, unsigned seed)
{
	unsigned ok = 0, unsure = 0, step = 0;
	uint32_t i;

	for (i = 0; i < job->n_recipients; i++) {
		enum outcome_class class = job->outcomes[i].class;

		ok += class == OUTCOME_OK;
		unsure += class == OUTCOME_UNCERTAIN;
		step += job->outcomes[i].code / 100 == 3; /* not taken, says a peer that is out of step */
		if (class == OUTCOME_OK && !is_at_mx(r, job, job->recipients[i]))
			fail_msg("seed %u: job %u: %s is said to be delivered: %s", seed, (unsigned)job->ref,
			        job->recipients[i], scripted_mx_log(r->mx));
		if (class == OUTCOME_UNCERTAIN && job->connection_lost)
			fail_msg("seed %u: job %u: uncertain, and to be sent to the next MX", seed,
			        (unsigned)job->ref);
	}
	if (ok + unsure + step == 0 && is_at_mx(r, job, NULL))
		fail_msg("seed %u: job %u is at the MX host, and said to be not: %s %s", seed,
		        (unsigned)job->ref, r->story.data, scripted_mx_log(r->mx));
}

static void run(unsigned seed)
{
	struct fake_rnd rnd;
	unsigned given = 0, steps, i;
	struct rig r;

	fake_rnd_init(&rnd, seed);
	rig_init(&r);
	if (pick(&rnd, 4) == 0)
		r.profile.o.delivery_method = DELIVERY_LMTP;
	if (pick(&rnd, 3) == 0)
		assert_true(scripted_mx_line(r.mx, "EHLO: 250 mx.test"));
	if (pick(&rnd, 4) == 0)
		r.profile.o.max_deliveries_per_connection = 2;
	if (pick(&rnd, 3) == 0) {
		assert_true(scripted_mx_line(
		        r.mx, "EHLO: 250-mx.test\\n250-PIPELINING\\n250-DSN\\n250 XCLIENT NAME ADDR"));
		assert_true(scripted_mx_line(r.mx, "XCLIENT: 220 again"));
		r.open.xclient = "NAME=c.test ADDR=192.0.2.1";
		r.profile.o.xclient = pick(&rnd, 2) ? XCLIENT_IFAVAILABLE : XCLIENT_REQUIRED;
	}
	bool chunking = pick(&rnd, 3) == 0;
	if (chunking) {
		r.profile.o.chunking = true;
		assert_true(scripted_mx_line(
		        r.mx, pick(&rnd, 4) ? "EHLO: 250-mx.test\\n250-PIPELINING\\n250-DSN\\n250 CHUNKING"
		                            : "EHLO: 250-mx.test\\n250 CHUNKING"));
		assert_true(scripted_mx_line(r.mx, "LHLO: 250-mx.test\\n250-PIPELINING\\n250 CHUNKING"));
	}
	make_script(&r, &rnd, chunking);
	rig_open(&r, pick(&rnd, 2) ? make_job(&rnd, given++) : NULL);
	for (steps = 0; steps < 12 && r.session; steps++) {
		switch (pick(&rnd, 6)) {
		case 0:
			rig_advance(&r, (unsigned)pick(&rnd, 10));
			break;
		case 1:
			rig_run(&r);
			break;
		case 2:
			session_no_job(r.session);
			break;
		case 3:
			if (pick(&rnd, 8) == 0)
				session_quit(r.session);
			break;
		default:
			session_job(r.session, make_job(&rnd, given++));
			loop_step(r.loop);
		}
	}
	rig_run(&r);
	rig_advance(&r, 4000);
	if (r.session || r.n_jobs != given)
		fail_msg("seed %u: %u of %u jobs, %s: %s", seed, r.n_jobs, given, r.story.data,
		        scripted_mx_log(r.mx));
	for (i = 0; i < r.n_jobs; i++)
		check_job(&r, r.jobs[i], seed);
	rig_end(&r);
}

static void test_chaos(void **state)
{
	const char *only = getenv("CHAOS_SEED");
	unsigned seed;

	(void)state;
	if (only) {
		run((unsigned)atoi(only));
		return;
	}
	for (seed = 1; seed <= RUNS; seed++)
		run(seed);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chaos),
};
TEST_MAIN("session_chaos", tests)

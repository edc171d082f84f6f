#include "config.h"
#include "t/lib/router_world.h"

#include "base/mem.h"
#include "t/lib/test.h"

void world_setup(struct world *w)
{
	memset(w, 0, sizeof(*w));
	fake_clock_init(&w->clock, 1700000000 * SECOND_US);
	fake_rnd_init(&w->rnd, 7);
	w->loop = loop_new("queue", &w->clock.clock);
	w->dns = fake_dns_new(w->loop);
	w->router = router_new(w->loop, fake_dns_dns(w->dns), &w->rnd.rnd, NULL);
}

void world_teardown(struct world *w)
{
	assert_int_equal(fake_dns_open(w->dns), 0);
	route_unref(&w->route);
	router_free(&w->router);
	fake_dns_free(&w->dns);
	loop_free(&w->loop);
}

void world_on_route(void *ctx, struct route *route, const struct outcome *why)
{
	struct world *w = ctx;

	w->n_done++;
	route_unref(&w->route);
	w->route = route;
	assert_true((route == NULL) == (why != NULL));
	if (why)
		w->why = *why;
}

void world_run(struct world *w)
{
	while (loop_step(w->loop))
		;
}

void world_ask(struct world *w, enum next_hop_type type, const char *name, bool use_ipv6)
{
	struct next_hop hop = {.type = type, .name = name, .port = 25};
	unsigned before = w->n_done;

	assert_non_null(route_start(w->router, &hop, use_ipv6, w->dane, world_on_route, w));
	assert_int_equal(w->n_done, before); /* never from inside */
	world_run(w);
	assert_int_equal(w->n_done, before + 1);
}

void world_script(struct world *w, const char *lines)
{
	char *copy = mem_strdup(lines), *save = NULL;
	struct error err;

	for (char *line = strtok_r(copy, ";", &save); line; line = strtok_r(NULL, ";", &save))
		if (!fake_dns_script(w->dns, line, &err))
			fail_msg("%s", err.text);
	mem_free(&copy);
}

uint64_t world_lifetime_s(const struct world *w)
{
	return (w->route->expires_mono_us - w->clock.mono) / SECOND_US;
}

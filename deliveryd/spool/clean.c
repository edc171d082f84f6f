#include "config.h"
#include "spool/spool_int.h"

void clean_init(struct spool *s)
{
	(void)s;
}
void clean_free(struct spool *s)
{
	(void)s;
}
void clean_tend(struct spool *s)
{
	(void)s;
}
bool clean_has_copies(const struct spool *s)
{
	(void)s;
	return false;
}
struct copy *clean_next(struct spool *s, struct copy *after)
{
	(void)s;
	(void)after;
	return NULL;
}
void clean_copied(struct spool *s, struct copy *c)
{
	(void)s;
	(void)c;
}
void clean_put_back(struct spool *s, struct copy *c)
{
	(void)s;
	(void)c;
}

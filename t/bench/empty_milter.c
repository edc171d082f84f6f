/*
 * empty_milter SOCKET - the least a milter can be: what libmilter itself costs, for t/bench/milter
 */
#include <libmilter/mfapi.h>
#include <stdio.h>

static sfsistat negotiate(SMFICTX *ctx, unsigned long f0, unsigned long f1, unsigned long f2,
        unsigned long f3, unsigned long *pf0, unsigned long *pf1, unsigned long *pf2, unsigned long *pf3)
{
	(void)ctx;
	(void)f2;
	(void)f3;
	*pf0 = f0 & SMFIF_ADDHDRS;
	*pf1 = f1 & (SMFIP_NOCONNECT | SMFIP_NOHELO | SMFIP_NORCPT | SMFIP_NODATA | SMFIP_NOHDRS |
	                    SMFIP_NOEOH | SMFIP_NOBODY | SMFIP_NOUNKNOWN);
	*pf2 = *pf3 = 0;
	return SMFIS_CONTINUE;
}

static sfsistat eom(SMFICTX *ctx)
{
	(void)ctx;
	return SMFIS_ACCEPT;
}

int main(int argc, char **argv)
{
	static char name[] = "empty";
	struct smfiDesc d = {.xxfi_name = name,
	        .xxfi_version = SMFI_VERSION,
	        .xxfi_flags = SMFIF_ADDHDRS,
	        .xxfi_eom = eom,
	        .xxfi_negotiate = negotiate};
	if (argc != 2 || smfi_setconn(argv[1]) != MI_SUCCESS || smfi_register(d) != MI_SUCCESS) {
		fputs("usage: empty_milter SOCKET\n", stderr);
		return 2;
	}
	return smfi_main() == MI_SUCCESS ? 0 : 1;
}

/*
 * cli_top - the live view: what is shown (cli_top.c) and the terminal it is shown on (cli_top_screen.c)
 */
#ifndef CONTROL_CLI_TOP_H
#define CONTROL_CLI_TOP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

/* The terminal: another screen without a cursor and keys at once, until screen_end(), which also comes with the signals
 * that end or stop us. */
void screen_begin(void);
void screen_end(void);
void screen_size(unsigned *columns, unsigned *rows); /* 80 x 24 where there is no terminal */
/* Draws over what was there; each line is cut to the columns. */
void screen_draw(const struct str *text);
/* Waits for a key, a new size or the time. */
enum screen_event { SCREEN_TIME, SCREEN_RESIZED, SCREEN_QUIT };
enum screen_event screen_wait(unsigned ms);
/* The signal that ended the view, 0 = none: to be raised again once the terminal is as it was. */
int screen_signal(void);

#endif

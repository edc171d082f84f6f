/*
 * The terminal of `bindpost top`, by ANSI sequences and termios. What is changed of it is put back by screen_end(), also
 * at exit() and when a signal ends or stops us: handlers only note the signal, the waiting notices.
 */
#include "control/cli_top.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/utf8.h"

static struct {
	struct termios before;
	bool keys, shown, input_over; /* `before` is set; our screen is up; standard input has ended */
	volatile sig_atomic_t ended_by, resized, stopped;
} screen;

static void note_end(int number)
{
	screen.ended_by = number;
}

static void note_resize(int number)
{
	(void)number;
	screen.resized = 1;
}

static void note_stop(int number)
{
	(void)number;
	screen.stopped = 1;
}

static void on_signal(int number, void (*handler)(int))
{
	struct sigaction action = {.sa_handler = handler};

	sigemptyset(&action.sa_mask);
	sigaction(number, &action, NULL); /* no SA_RESTART: poll() is to return */
}

static void put(const char *text)
{
	fputs(text, stdout);
	fflush(stdout);
}

static void show(void)
{
	struct termios raw;

	if (tcgetattr(STDIN_FILENO, &screen.before) == 0) {
		raw = screen.before;
		raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
		raw.c_cc[VMIN] = 1;
		raw.c_cc[VTIME] = 0;
		screen.keys = tcsetattr(STDIN_FILENO, TCSANOW, &raw) == 0;
	}
	screen.shown = true;
	put("\033[?1049h\033[?25l");
}

void screen_begin(void)
{
	static const int ends[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE};

	for (size_t i = 0; i < array_len(ends); i++)
		on_signal(ends[i], note_end);
	on_signal(SIGWINCH, note_resize);
	on_signal(SIGTSTP, note_stop);
	atexit(screen_end);
	show();
}

void screen_end(void)
{
	if (!screen.shown)
		return;
	screen.shown = false;
	put("\033[?25h\033[?1049l");
	if (screen.keys)
		tcsetattr(STDIN_FILENO, TCSANOW, &screen.before);
	screen.keys = false;
}

/* Ctrl-Z: the shell gets its terminal back, and we ours when we go on. */
static void stop(void)
{
	screen.stopped = 0;
	screen_end();
	raise(SIGSTOP);
	show();
}

void screen_size(unsigned *columns, unsigned *rows)
{
	struct winsize size;

	*columns = 80;
	*rows = 24;
	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 && size.ws_row > 0) {
		*columns = size.ws_col;
		*rows = size.ws_row;
	}
}

/* At most so many characters of a line; what is shown is ours, so none of them is wider than one. */
static size_t cut(const char *line, size_t len, unsigned columns)
{
	size_t at = 0;

	while (at < len && columns-- > 0) {
		size_t n = utf8_next(line + at, len - at, NULL);

		at += n ? n : 1;
	}
	return at;
}

void screen_draw(const struct str *text)
{
	unsigned columns, rows, row = 0;
	const char *p = text->data, *end = p + text->len;
	struct str out;

	screen_size(&columns, &rows);
	str_init(&out);
	str_add(&out, "\033[H");
	while (p < end && row < rows) {
		const char *lf = memchr(p, '\n', (size_t)(end - p));
		size_t len = (size_t)((lf ? lf : end) - p);

		if (row++)
			str_add(&out, "\r\n");
		str_add_mem(&out, p, cut(p, len, columns));
		str_add(&out, "\033[K");
		p = lf ? lf + 1 : end;
	}
	str_add(&out, "\033[J");
	put(out.data);
	str_free(&out);
}

enum screen_event screen_wait(unsigned ms)
{
	struct pollfd p = {.fd = screen.input_over ? -1 : STDIN_FILENO, .events = POLLIN};
	int n = screen.ended_by || screen.resized || screen.stopped ? -1 : poll(&p, 1, (int)ms);
	char key = 0;

	if (screen.ended_by || (n < 0 && errno != EINTR && !screen.resized && !screen.stopped))
		return SCREEN_QUIT;
	if (screen.stopped) {
		stop();
		return SCREEN_RESIZED;
	}
	if (screen.resized) {
		screen.resized = 0;
		return SCREEN_RESIZED;
	}
	if (n <= 0)
		return SCREEN_TIME;
	if (read(STDIN_FILENO, &key, 1) != 1)
		screen.input_over = true;
	return key == 'q' || key == 'Q' ? SCREEN_QUIT : SCREEN_TIME;
}

int screen_signal(void)
{
	return screen.ended_by;
}

#include "t/bench/wire.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "shm/base/log.h"
#include "shm/base/mem.h"

static const char mark[] = "\r\nX-Bench: ";

/* Lines are numbered, so that a missing or doubled one shows; some begin with one dot, some with two (stuffed). */
static void
fill_line(char *out, size_t n)
{
	static const char text[] = "The quick brown fox jumps over the lazy dog, 0123456789";
	static const char *const begin[8] = { "", "", "", "..", "", "", "...", "" };
	char line[WIRE_LINE + 1];
	int used = snprintf(line, sizeof line, "%s%06zx ", begin[n % 8], n);

	memset(line + used, '-', (size_t)(WIRE_LINE - used));
	memcpy(line + used, text,
	       sizeof text - 1 < (size_t)(WIRE_LINE - 2 - used) ? sizeof text - 1 : (size_t)(WIRE_LINE - 2 - used));
	memcpy(line + WIRE_LINE - 2, "\r\n", 2);
	memcpy(out, line, WIRE_LINE);
}

const char *
wire_fill(size_t bytes)
{
	static char *fill;
	static size_t lines;
	size_t want = bytes / WIRE_LINE + 1;

	if (want > lines) {
		want = want < 1024 ? 1024 : want * 2;
		fill = mem_array(fill, want, WIRE_LINE);
		for (; lines < want; lines++)
			fill_line(fill + lines * WIRE_LINE, lines);
	}
	return fill;
}

size_t
wire_head(char out[WIRE_HEAD_MAX], uint32_t serial, const char *from, const char *to, size_t bytes)
{
	int n = snprintf(out, WIRE_HEAD_MAX,
			 "From: <%s>\r\nTo: <%s>\r\nSubject: a message of the bench\r\n"
			 "Date: Fri, 21 Nov 2025 08:00:00 +0000\r\nMessage-ID: <%08x.%zu@bench.test>%s%08x %zu\r\n\r\n",
			 from, to, serial, bytes, mark, serial, bytes);

	if (n < 0 || n >= WIRE_HEAD_MAX)
		log_fatal("wire", "addresses are too long");
	return (size_t)n;
}

size_t
wire_tail(char out[WIRE_TAIL_MAX], uint32_t serial)
{
	char line[WIRE_TAIL_MAX];

	snprintf(line, sizeof line, "%08x %053d\r\n.\r\n", serial, 0);
	memcpy(out, line, WIRE_LINE + 3);
	return WIRE_LINE + 3;
}

enum wire_found
wire_check(const char *data, size_t len, uint32_t *serial)
{
	const char *end = data + len, *head, *body;
	char number[24] = "", tail[WIRE_TAIL_MAX];
	unsigned id;
	size_t bytes;

	if ((head = memmem(data, len, mark, sizeof mark - 1)) == NULL)
		return WIRE_FOREIGN;
	head += sizeof mark - 1;
	memcpy(number, head, (size_t)(end - head) < sizeof number ? (size_t)(end - head) : sizeof number - 1);
	if (sscanf(number, "%8x %zu", &id, &bytes) != 2)
		return WIRE_FOREIGN;
	*serial = id;
	if ((body = memmem(head, (size_t)(end - head), "\r\n\r\n", 4)) == NULL)
		return WIRE_ALTERED;
	body += 4;
	if ((size_t)(end - body) != bytes || bytes < WIRE_LINE)
		return WIRE_ALTERED;
	wire_tail(tail, id);
	return memcmp(body, wire_fill(bytes), bytes - WIRE_LINE) == 0 && memcmp(end - WIRE_LINE, tail, WIRE_LINE) == 0
		       ? WIRE_INTACT
		       : WIRE_ALTERED;
}

bool
wire_address(const char *text, struct sockaddr_in *out)
{
	const char *colon = strrchr(text, ':');
	char host[64] = "127.0.0.1", *rest;
	unsigned long port = strtoul(colon != NULL ? colon + 1 : text, &rest, 10);

	if (colon != NULL)
		snprintf(host, sizeof host, "%.*s", (int)(colon - text), text);
	*out = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	return *rest == '\0' && port > 0 && port < 65536 && inet_pton(AF_INET, host, &out->sin_addr) == 1;
}

void *
wire_share(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		log_fatal("wire", "no shared memory");
	return p;
}

void
wire_descriptors(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) == 0) {
		r.rlim_cur = r.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &r);
	}
}

uint64_t
wire_number(const char *text, const char *what, uint64_t min, uint64_t max)
{
	char *rest;
	uint64_t n = strtoull(text, &rest, 10);

	if (rest == text || *rest != '\0' || *text == '-' || n < min || n > max) {
		fprintf(stderr, "%s: %s is not a number from %llu to %llu\n", what, text, (unsigned long long)min,
			(unsigned long long)max);
		exit(2);
	}
	return n;
}

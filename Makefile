# Impetus: `make run` shows it at work, `make check` proves it. GNU make; everything is built under build/.
#
# O=DIR is the build folder of one variant: build is the product, build/test has fault points, build/asan also the
# address and undefined-behaviour sanitizers, build/clang is the product by clang. V=1 shows the commands.

O       ?= build
V       ?= 0
PREFIX  ?= /usr/local
DESTDIR ?=
SYSCONFDIR ?= $(PREFIX)/etc
VERSION := 0.1.0
ifeq ($(origin CC),default)
CC := gcc
endif
Q := $(if $(filter 0,$(V)),@)
# Silent with make -s, as everything else.
quiet := $(findstring s,$(firstword -$(MAKEFLAGS)))
say = $(if $(filter 0,$(V)),@$(if $(quiet),:,printf '  %-5s %s\n') $(1) $(2))

# The floors, top to bottom: an archive a folder, linked in this order.
DIRS := master worker worker/console worker/reception worker/delivery worker/keeper worker/log worker/net policy/lua \
        policy policy/conf spool spool/format shm shm/base
srcs  = $(wildcard $(1)/*.c)
lib   = $(O)/lib/lib$(subst /,_,$(1)).a
DAEMON_SRC := master/main.c

SANITIZE := -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
ifneq ($(filter %/asan,$(O)),)
VARIANT_CFLAGS  := -DIMPETUS_FAULTS $(SANITIZE)
VARIANT_LDFLAGS := $(SANITIZE)
OPT := -O1 -g
else ifneq ($(filter %/test,$(O)),)
VARIANT_CFLAGS := -DIMPETUS_FAULTS
FORTIFY := -D_FORTIFY_SOURCE=2
else
FORTIFY := -D_FORTIFY_SOURCE=2
endif
OPT  ?= -O2 -g

WARN := -Wall -Wextra -Wpedantic -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wcast-qual \
        -Wwrite-strings -Wvla -Wundef -Wformat=2 -Wno-format-nonliteral -Werror
PKGS := openssl libcares lmdb lua5.4 libpcre2-8 libbsd-overlay libcap
PKG_CFLAGS := $(shell pkg-config --cflags openssl libcares lmdb lua5.4 libpcre2-8 libbsd-overlay 2>/dev/null)
LIBS := $(shell pkg-config --libs openssl libcares lmdb lua5.4 libpcre2-8 libbsd-overlay 2>/dev/null) -lbsd -lcap -lm -pthread
CFLAGS_ALL = -std=c17 -D_GNU_SOURCE $(FORTIFY) -fstack-protector-strong -fno-strict-aliasing -I. $(OPT) \
             $(WARN) $(PKG_CFLAGS) -DIMPETUS_VERSION='"$(VERSION)"' -DIMPETUS_PREFIX='"$(PREFIX)"' \
             -DIMPETUS_SYSCONFDIR='"$(SYSCONFDIR)"' $(VARIANT_CFLAGS) $(CFLAGS)
LDFLAGS_ALL = -Wl,-z,relro,-z,now $(VARIANT_LDFLAGS) $(LDFLAGS)
ALL_LIBS = $(foreach d,$(DIRS),$(call lib,$(d)))

.PHONY: all libs
all: $(O)/impetusd $(O)/impetusctl
libs: $(ALL_LIBS)

$(O)/obj/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(CFLAGS_ALL) -MMD -MP -c -o $@ $<

define archive
$(call lib,$(1)): $(patsubst %.c,$(O)/obj/%.o,$(filter-out $(DAEMON_SRC),$(call srcs,$(1))))
	@mkdir -p $$(@D)
	@rm -f $$@
	$(Q)ar rcs $$@ $$^
endef
$(foreach d,$(DIRS),$(eval $(call archive,$(d))))

$(O)/impetusd: $(O)/obj/master/main.o $(ALL_LIBS)
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS_ALL) $(LDFLAGS_ALL) -o $@ $< -Wl,--start-group $(ALL_LIBS) -Wl,--end-group $(LIBS)
$(O)/impetusctl: $(patsubst %.c,$(O)/obj/%.o,$(call srcs,master/ctl)) $(call lib,shm/base)
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS_ALL) $(LDFLAGS_ALL) -o $@ $^ -lbsd

# Unit tests: t/unit mirrors the folders; t/unit/FOLDER/test_X.c links FOLDER's archive and those below it.
below = $(if $(filter $(1),$(DIRS)),$(shell printf '%s\n' $(DIRS) | sed -n '\,^$(1)$$,,$$p'),$(DIRS))
UNIT_SRC := $(shell find t/unit t/sim -name 'test_*.c' 2>/dev/null | sort)
UNIT_BIN := $(patsubst %.c,$(O)/%,$(UNIT_SRC))
define unit
$(O)/$(basename $(1)): $(O)/obj/$(basename $(1)).o $(foreach d,$(call below,$(patsubst t/unit/%/,%,$(dir $(1)))),$(call lib,$(d)))
	@mkdir -p $$(@D)
	$$(call say,LINK,$$@)
	$(Q)$$(CC) $$(CFLAGS_ALL) $$(LDFLAGS_ALL) -o $$@ $$< -Wl,--start-group $$(filter %.a,$$^) -Wl,--end-group $$(LIBS) -lcmocka
endef
$(foreach t,$(UNIT_SRC),$(eval $(call unit,$(t))))

# Benches of one floor in C: make build/t/bench/journal_bench, policy_bench. load and sink are the benches' own tools.
BENCH_TOOLS := $(O)/t/bench/load $(O)/t/bench/sink
.PHONY: bench-tools
bench-tools: $(BENCH_TOOLS)
.PRECIOUS: $(O)/obj/t/bench/%.o
$(O)/t/bench/load: $(O)/obj/t/bench/load_session.o $(O)/obj/t/bench/wire.o
$(O)/t/bench/sink: $(O)/obj/t/bench/sink_session.o $(O)/obj/t/bench/wire.o
$(O)/t/bench/%: $(O)/obj/t/bench/%.o $(foreach d,$(call below,policy/lua),$(call lib,$(d)))
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS_ALL) $(LDFLAGS_ALL) -o $@ $(filter %.o,$^) -Wl,--start-group $(filter %.a,$^) -Wl,--end-group $(LIBS)

# make unit: all; make unit-spool, unit-policy_lua ...: one folder (slashes as underscores).
.PHONY: unit
unit: $(UNIT_BIN)
	@t/tools/run-units $^
unit-%: FORCE
	@$(MAKE) --no-print-directory O=$(O) run-units UNITS="$(filter $(O)/t/unit/$(subst _,/,$*)/%,$(UNIT_BIN))"
.PHONY: run-units
run-units: $(UNITS)
	@t/tools/run-units $^
.PHONY: FORCE
FORCE:

# Small programs of the tests' own: t/tools/X.c.
TOOLS := $(patsubst %.c,$(O)/%,$(wildcard t/tools/*.c))
.PHONY: tools
tools: $(TOOLS) $(BENCH_TOOLS)
$(TOOLS): $(O)/%: $(O)/obj/%.o
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS_ALL) $(LDFLAGS_ALL) -o $@ $< $(LIBS)

# ---- what people call

.PHONY: run check check-asan crash bench fuzz sim tidy format install need-build
need-build:
	@t/tools/need build
# Headers come with the packages, so the packages come before anything is compiled.
run: need-build
	@$(MAKE) --no-print-directory -j"$$(nproc)" all
	@t/tools/quickstart
check:
	@t/tools/check build/test
check-asan:
	@t/tools/check build/asan
crash:
	@t/tools/need check
	@$(MAKE) --no-print-directory -j"$$(nproc)" O=build/test all
	@/usr/bin/python3 t/crash/campaign.py $(CRASH)
bench:
	@t/tools/need bench
	@$(MAKE) --no-print-directory -j"$$(nproc)" all bench-tools build/t/bench/journal_bench build/t/bench/policy_bench
	@/usr/bin/python3 t/bench/bench.py
fuzz:
	@t/tools/need ci
	@t/tools/fuzz $(SECONDS)
# SEEDS years, 10,000 by default; make check runs a few.
sim:
	@t/tools/need check
	@$(MAKE) --no-print-directory -s -j"$$(nproc)" O=build/test build/test/t/sim/test_year_sim
	@YEAR_SEEDS=$(or $(SEEDS),10000) build/test/t/sim/test_year_sim
tidy:
	@t/tools/need ci
	@mkdir -p build
	$(file >build/tidy.flags,$(CFLAGS_ALL))
	@t/tools/tidy build/tidy.flags
format:
	clang-format -i $$(git ls-files '*.c' '*.h')

MAN := etc/man
install: all
	install -d $(DESTDIR)$(PREFIX)/sbin $(DESTDIR)$(PREFIX)/share/man/man5 $(DESTDIR)$(PREFIX)/share/man/man8 \
		$(DESTDIR)$(SYSCONFDIR)/impetus $(DESTDIR)$(PREFIX)/share/impetus/policy \
		$(DESTDIR)$(PREFIX)/lib/systemd/system
	sed -e 's,@PREFIX@,$(PREFIX),g' -e 's,@SYSCONFDIR@,$(SYSCONFDIR),g' etc/impetus.service \
		>$(DESTDIR)$(PREFIX)/lib/systemd/system/impetus.service
	install -m 755 $(O)/impetusd $(O)/impetusctl $(DESTDIR)$(PREFIX)/sbin/
	install -m 644 $(MAN)/impetus.conf.5 $(DESTDIR)$(PREFIX)/share/man/man5/
	install -m 644 $(MAN)/impetusd.8 $(MAN)/impetusctl.8 $(DESTDIR)$(PREFIX)/share/man/man8/
	[ -e $(DESTDIR)$(SYSCONFDIR)/impetus/impetus.conf ] || \
		install -m 644 etc/impetus.conf $(DESTDIR)$(SYSCONFDIR)/impetus/
	[ -z "$(wildcard etc/policy/*.lua)" ] || \
		install -m 644 $(wildcard etc/policy/*.lua) $(DESTDIR)$(PREFIX)/share/impetus/policy/

.PHONY: clean
clean:
	rm -rf build

-include $(shell find $(O)/obj -name '*.d' 2>/dev/null)

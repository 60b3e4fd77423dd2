# Impetus: `make run` shows it at work, `make check` proves it. GNU make; everything is built under build/.
#
# O=DIR is the build folder of one variant (build: product; build/test: with fault points; build/asan: with sanitizers).

O       ?= build
CC      ?= gcc
PREFIX  ?= /usr/local
DESTDIR ?=
SYSCONFDIR ?= $(PREFIX)/etc
VERSION := 0.1.0

# The floors, top to bottom: an archive a folder, linked in this order.
DIRS := master worker worker/console worker/reception worker/delivery worker/keeper worker/log worker/net policy/lua policy \
        policy/conf spool spool/format shm shm/base
srcs  = $(wildcard $(1)/*.c)
lib   = $(O)/lib/lib$(subst /,_,$(1)).a
ALLSRC := $(foreach d,$(DIRS) master/ctl,$(call srcs,$(d)))
DAEMON_SRC := master/main.c

WARN := -Wall -Wextra -Wpedantic -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wcast-qual \
        -Wwrite-strings -Wvla -Wundef -Wformat=2 -Wno-format-nonliteral -Werror
PKGS := openssl libcares lmdb lua5.4 libpcre2-8 libbsd-overlay libcap
PKG_CFLAGS := $(shell pkg-config --cflags openssl libcares lmdb lua5.4 libpcre2-8 libbsd-overlay 2>/dev/null)
LIBS := $(shell pkg-config --libs openssl libcares lmdb lua5.4 libpcre2-8 libbsd-overlay 2>/dev/null) -lbsd -lcap -lm -pthread
OPT  ?= -O2 -g
VARIANT_CFLAGS  ?=
VARIANT_LDFLAGS ?=
CFLAGS_ALL = -std=c17 -D_GNU_SOURCE -D_FORTIFY_SOURCE=2 -fstack-protector-strong -fno-strict-aliasing -I. $(OPT) \
             $(WARN) $(PKG_CFLAGS) -DIMPETUS_VERSION='"$(VERSION)"' -DIMPETUS_PREFIX='"$(PREFIX)"' \
             -DIMPETUS_SYSCONFDIR='"$(SYSCONFDIR)"' $(VARIANT_CFLAGS) $(CFLAGS)
LDFLAGS_ALL = -Wl,-z,relro,-z,now $(VARIANT_LDFLAGS) $(LDFLAGS)
ALL_LIBS = $(foreach d,$(DIRS),$(call lib,$(d)))

.PHONY: all
all: $(O)/impetusd $(O)/impetusctl

$(O)/obj/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_ALL) -MMD -MP -c -o $@ $<

define archive
$(call lib,$(1)): $(patsubst %.c,$(O)/obj/%.o,$(filter-out $(DAEMON_SRC),$(call srcs,$(1))))
	@mkdir -p $$(@D)
	@rm -f $$@
	ar rcs $$@ $$^
endef
$(foreach d,$(DIRS),$(eval $(call archive,$(d))))

$(O)/impetusd: $(O)/obj/master/main.o $(ALL_LIBS)
	$(CC) $(CFLAGS_ALL) $(LDFLAGS_ALL) -o $@ $< -Wl,--start-group $(ALL_LIBS) -Wl,--end-group $(LIBS)
$(O)/impetusctl: $(patsubst %.c,$(O)/obj/%.o,$(call srcs,master/ctl)) $(call lib,shm/base)
	$(CC) $(CFLAGS_ALL) $(LDFLAGS_ALL) -o $@ $^ -lbsd

# Unit tests: t/unit mirrors the folders; t/unit/FOLDER/test_X.c links FOLDER's archive and those below it.
below = $(if $(filter $(1),$(DIRS)),$(shell printf '%s\n' $(DIRS) | sed -n '\,^$(1)$$,,$$p'),$(DIRS))
UNIT_SRC := $(shell find t/unit t/sim -name 'test_*.c' 2>/dev/null | sort)
UNIT_BIN := $(patsubst %.c,$(O)/%,$(UNIT_SRC))
define unit
$(O)/$(basename $(1)): $(O)/obj/$(basename $(1)).o $(foreach d,$(call below,$(patsubst t/unit/%/,%,$(dir $(1)))),$(call lib,$(d)))
	@mkdir -p $$(@D)
	$$(CC) $$(CFLAGS_ALL) $$(LDFLAGS_ALL) -o $$@ $$< -Wl,--start-group $$(filter %.a,$$^) -Wl,--end-group $$(LIBS) -lcmocka
endef
$(foreach t,$(UNIT_SRC),$(eval $(call unit,$(t))))

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

.PHONY: clean
clean:
	rm -rf build

-include $(shell find $(O)/obj -name '*.d' 2>/dev/null)

"""The house itself: arrows point downward, each library has one home, headers open with what they are for."""
import re
import subprocess

from lib.impetus import BUILD, TOP

FLOORS = ["shm/base", "shm", "spool/format", "spool", "policy/conf", "policy", "policy/lua", "policy/modules", "worker/net",
          "worker/log", "worker", "worker/keeper", "worker/delivery", "worker/reception", "worker/console", "master"]
# What a folder may include, besides itself and what these may.
BELOW = {
    "shm/base": set(), "shm": {"shm/base"}, "spool/format": {"shm/base"}, "spool": {"spool/format", "shm", "shm/base"},
    "policy/conf": {"shm/base"}, "policy": {"spool", "spool/format", "shm", "shm/base", "policy/conf"},
    "policy/lua": {"policy", "policy/conf", "spool", "spool/format", "shm", "shm/base"},
}
WORKER = {"worker/net", "worker/log", "worker", "policy", "policy/lua", "policy/conf", "spool", "spool/format", "shm", "shm/base"}
ROLES = {"worker/keeper", "worker/delivery", "worker/reception", "worker/console"}
HOMES = {"lmdb.h": ("shm/", "spool/"), "lua.h": ("policy/lua/",), "lauxlib.h": ("policy/lua/",), "ares.h": ("worker/net/",),
         "openssl/ssl.h": ("worker/net/",), "sys/capability.h": ("master/",), "pcre2.h": ("policy/",)}


def sources():
    out = subprocess.run(["git", "ls-files", "*.c", "*.h"], cwd=TOP, stdout=subprocess.PIPE, text=True).stdout.split()
    return [p for p in out if not p.startswith("t/") and (TOP / p).exists()]


def allowed(folder):
    if folder in BELOW:
        return BELOW[folder] | {folder}
    if folder == "worker":               # worker_main joins the roles; ask.h and the like are below them
        return WORKER | ROLES
    if folder in ROLES:                  # roles do not include each other
        return WORKER | {folder}
    if folder.startswith("worker/"):
        return WORKER
    return WORKER | ROLES | {"master", "master/ctl"}


def test_no_include_points_up_a_floor():
    bad = []
    for p in sources():
        folder = p.rsplit("/", 1)[0]
        for inc in re.findall(r'^#include "([^"]+)"', (TOP / p).read_text(), re.M):
            if inc.rsplit("/", 1)[0] not in allowed(folder):
                bad.append("%s includes %s" % (p, inc))
    assert not bad, "\n".join(bad)


def test_a_library_has_one_home():
    bad = []
    for p in sources():
        for inc in re.findall(r"^#include <([^>]+)>", (TOP / p).read_text(), re.M):
            if inc in HOMES and not p.startswith(HOMES[inc]):
                bad.append("%s includes <%s>" % (p, inc))
    assert not bad, "\n".join(bad)


def test_headers_open_with_a_contract():
    bad = [p for p in sources() if p.endswith(".h") and
           not (TOP / p).read_text().startswith("/* %s - " % p.rsplit("/", 1)[1])]
    assert not bad, bad


def test_no_marks_are_left():
    bad = [p for p in sources() if re.search(r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b", (TOP / p).read_text())]
    assert not bad, bad


def test_the_top_level_is_the_fixed_one():
    out = subprocess.run(["git", "ls-files"], cwd=TOP, stdout=subprocess.PIPE, text=True).stdout.split()
    top = {p.split("/")[0] for p in out if not p.startswith(".")}
    assert top <= {"master", "worker", "shm", "spool", "policy", "etc", "t", "Makefile", "README.md"}, top


def test_the_manual_names_every_verb():
    man = (TOP / "etc/man/impetusctl.8").read_text()
    verbs = re.findall(r'^\t\{ "([a-z ]+)", ', (TOP / "worker/console/console_verbs.c").read_text(), re.M)
    assert len(verbs) > 20
    missing = [v for v in verbs if ".It Cm " + v not in man and ", Cm " + v not in man]
    assert not missing, missing


def test_each_counter_is_written():
    """One that nobody writes says 0 for ever, and looks like news."""
    cells = re.findall(r"^\tX\(([A-Z_]+), (?:GAUGE|COUNTER), ", (TOP / "shm/shm_counters.h").read_text(), re.M)
    text = "".join((TOP / p).read_text() for p in sources() if p.endswith(".c"))
    written = set(re.findall(r"\b(?:slot_add|slot_set|\w+_count)\([^;]*?\bCELL_([A-Z_]+)", text))
    written |= set(re.findall(r"\[OUTCOME_\w+\] = CELL_([A-Z_]+)", text))     # delivery's table of them
    written |= set(re.findall(r"_count\([^;]*\? CELL_[A-Z_]+ : CELL_([A-Z_]+)", text))
    assert len(cells) > 50
    missing = [c for c in cells if c not in written]
    assert not missing, missing


def test_the_binary_says_its_version():
    out = subprocess.run([str(BUILD / "impetusd"), "-V"], stdout=subprocess.PIPE, text=True)
    assert out.returncode == 0 and re.search(r"impetus.* \d+\.\d+\.\d+", out.stdout), out


def test_the_spools_fault_points_are_those_of_its_list():
    listed = (TOP / "spool/spool_faults.h").read_text()
    text = "".join((TOP / p).read_text() for p in sources() if p.startswith("spool/") and p.endswith(".c"))
    for kind, call in (("X", r"fault_point"), ("E", r"fault_(?:error|fails|or|short)")):
        assert set(re.findall(kind + r'\("([a-z_.]+)"\)', listed)) == set(re.findall(call + r'\("([a-z_.]+)"', text))

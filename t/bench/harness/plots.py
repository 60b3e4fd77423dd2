"""Plots by gnuplot, as SVG, from the report's samples."""
import shutil
import statistics
import subprocess

from . import base

HEAD = """set terminal svg size 800,480 dynamic background "white"
set output "%s"
set title "%s"
set grid
set key top left
"""


def draw(name, title, commands, data):
    """data: [rows of numbers], available to commands as $d."""
    if shutil.which("gnuplot") is None:
        base.say("no gnuplot: no plots")
        return
    script = HEAD % (base.OUT / (name + ".svg"), title)
    script += "$d << EOD\n%s\nEOD\n" % "\n".join("\t".join(str(x) for x in row) for row in data)
    (base.OUT / (name + ".gp")).write_text(script + commands + "\n")
    r = subprocess.run(["gnuplot", str(base.OUT / (name + ".gp"))], stderr=subprocess.PIPE, text=True)
    if r.returncode:
        base.complain("gnuplot %s: %s" % (name, r.stderr.strip()))


def pairs(report, workload, measure, title):
    """Bars: postfix beside impetus, with the range of the samples."""
    rows = []
    for case in report.cases(workload):
        row = ['"%s"' % case]
        for peer in ("postfix", "impetus"):
            v = report.values(workload, case, measure, peer)
            row += [statistics.median(v), min(v), max(v)] if v else ["NaN"] * 3
        rows.append(row)
    if rows:
        draw("%s-%s" % (workload, measure), title,
             'set style data histogram\nset style histogram errorbars gap 2 lw 1\nset style fill solid 0.7\nset yrange [0:*]\n'
             'set xtics rotate by -15\nplot $d using 2:3:4:xtic(1) title "postfix", "" using 5:6:7 title "impetus"', rows)


def curve(report, workload):
    rows = []
    for i, case in enumerate(report.cases(workload)):
        v = report.values(workload, case, "cpu")
        rows.append([i, statistics.median(v), min(v), max(v), '"%s"' % case])
    if rows:
        draw(workload, "CPU ms a relayed message", "set yrange [0:*]\nset xrange [-0.5:%d.5]\nplot $d using "
             '1:2:3:4:xtic(5) with yerrorbars notitle, "" using 1:2 with lines notitle' % (len(rows) - 1), rows)


def lines(name, title, xlabel, columns, rows):
    """columns: [(title, axis 1 or 2)] of rows[1:]."""
    if not rows:
        return
    parts = ", ".join('$d using 1:%d axes x1y%d with lines title "%s"' % (i + 2, axis, label)
                      for i, (label, axis) in enumerate(columns))
    draw(name, title, 'set xlabel "%s"\nset ytics nomirror\nset y2tics\nset yrange [0:*]\nset y2range [0:*]\nplot %s'
         % (xlabel, parts), rows)


def journal(report):
    rows = [[case.split()[0]] + [report.median("journal", case, m) for m in ("rate", "disk")] for case in report.cases("journal")]
    if rows:
        draw("journal", "the journal beside the bare disk, messages of 4 KiB",
             'set logscale xy\nset xlabel "messages in work"\nset ylabel "messages/s"\nplot $d using 1:2 with linespoints title '
             '"journal", "" using 1:3 with linespoints title "bare, as many bytes a sync"', rows)

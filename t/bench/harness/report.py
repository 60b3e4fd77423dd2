"""What was measured, as samples (TSV), as one table of medians and ratios, and what plots are drawn from."""
import statistics
import time

from . import base


class Report:
    def __init__(self):
        base.OUT.mkdir(parents=True, exist_ok=True)
        self.tsv = open(base.OUT / "samples.tsv", "w")
        self.tsv.write("time\tworkload\tcase\tpeer\tmeasure\tvalue\n")
        self.samples, self.order, self.shown = {}, [], {}

    def add(self, workload, case, peer, row):
        """row: {measure: number}. All are kept; what a table shows is told by show()."""
        for measure, value in row.items():
            self.tsv.write("%s\t%s\t%s\t%s\t%s\t%.6g\n" % (time.strftime("%FT%T"), workload, case, peer, measure, value))
            key = (workload, case, measure)
            if key not in self.samples:
                self.samples[key] = {}
                self.order.append(key)
            self.samples[key].setdefault(peer, []).append(value)
        self.tsv.flush()

    def show(self, workload, columns):
        """columns: [(measure, title, format)]"""
        self.shown[workload] = columns

    def values(self, workload, case, measure, peer="impetus"):
        return self.samples.get((workload, case, measure), {}).get(peer, [])

    def median(self, workload, case, measure, peer="impetus"):
        v = self.values(workload, case, measure, peer)
        return statistics.median(v) if v else None

    def cases(self, workload):
        return list(dict.fromkeys(c for w, c, _ in self.order if w == workload))

    def cell(self, values, form):
        if not values:
            return ""
        m, lo, hi = (form % x for x in (statistics.median(values), min(values), max(values)))
        return m if lo == hi else "%s (%s..%s)" % (m, lo, hi)

    def rows(self):
        yield ("workload", "case", "measure", "postfix", "impetus", "ratio")
        for workload, columns in self.shown.items():
            for case in self.cases(workload):
                for measure, title, form in columns:
                    theirs, ours = (self.values(workload, case, measure, p) for p in ("postfix", "impetus"))
                    if not theirs and not ours:
                        continue
                    ratio = ""
                    if theirs and ours and statistics.median(theirs):
                        r = statistics.median(ours) / statistics.median(theirs)
                        ratio = "%.2fx" % r if r >= 1 else "1/%.1f" % (1 / max(r, 1e-9))
                    yield (workload, case, title, self.cell(theirs, form), self.cell(ours, form), ratio)
            trend = self.trend(workload)
            if trend:
                yield (workload, "growth from first to last", "CPU", "", trend, "")

    def trend(self, workload):
        """For curves: how the median CPU of the last and the worst point stand to the first."""
        cases = self.cases(workload)
        if not workload.startswith("curve") or len(cases) < 2:
            return ""
        m = [self.median(workload, c, "cpu") for c in cases]
        return "%+.0f%% (worst %+.0f%%)" % (100 * (m[-1] / m[0] - 1), 100 * (max(m) / m[0] - 1))

    def table(self):
        rows = list(self.rows())
        widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
        lines, last = [], ("", "")
        for r in rows:
            cells = list(r)
            if r[0] != last[0] and last[0]:
                lines.append("")
            elif r[:2] == last:
                cells[0] = cells[1] = ""
            last = r[:2]
            lines.append("  ".join(c.ljust(w) if i < 3 else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths))).rstrip())
        lines += ["", "medians (smallest..largest); ratio: impetus to postfix"]
        lines += ["*** WRONG: " + w for w in base.wrong]
        return "\n".join(lines) + "\n"

    def write(self):
        text = self.table()
        (base.OUT / "table.txt").write_text(text)
        return text

"""LaTeX: tables with booktabs, the paragraph on how it was measured, and a document that holds them all."""

from collections.abc import Sequence

from bench import __version__
from bench.analysis.groups import Section
from bench.analysis.labels import EXTERNAL, MARKS
from bench.analysis.race import standing
from bench.analysis.rows import Row
from bench.metrics.statistics import FEWEST_CLASSES, FEWEST_RUNS
from bench.render.leaderboard.tables import amount, score_text, span
from bench.render.paper.references import LIBRARIES, bibtex_key

SPECIAL = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
SPECIAL |= {character: f"\\{character}" for character in "&%$#_{}"}
SPECIAL |= {
    "†": r"$^\dagger$",
    "‡": r"$^\ddagger$",
    "§": r"$^{\S}$",
    "∞": r"$^\infty$",
    "¶": r"$^{\P}$",
    "°": r"$^\circ$",
}
SPECIAL |= {"±": r"$\pm$", "–": "--", "—": "---", "≤": r"$\leq$", "×": r"$\times$", "·": r"$\cdot$", "…": r"\dots{}"}
SPECIAL |= {"<": r"$<$", ">": r"$>$", "|": r"$|$"}
HEAD = ("method", "detector", "tier", "image AUROC", "over classes", "forgetting", "pixel AUPRO", "carried MB", "runs")


def escape_latex(text: str) -> str:
    """Text as LaTeX; what its ordinary fonts lack becomes a question mark."""
    return "".join(SPECIAL.get(c, c if c.isascii() else "?") for c in text)


def latex_table(section: Section, rows: Sequence[Row]) -> str:
    """The headline table of a section with tiers and intervals as in the leaderboard."""
    tiers = {id(row): standing(block).tier(row) for block in section.blocks.values() for row in block}
    lines = [" & ".join(HEAD) + r" \\"]
    for row in rows:
        numbers = (score_text(row.stat("final_image_auroc")), span(row.interval()))
        numbers += (score_text(row.stat("forgetting_image_auroc")), score_text(row.stat("final_aupro")))
        numbers += (amount(row.stat("carried_mb").mean), str(len(row.cells)))
        key = bibtex_key("method", row.spec["method"])
        names = (
            escape_latex(row.short) + (rf"~\cite{{{key}}}" if key else ""),
            escape_latex(row.spec["detector"]),
            escape_latex(tiers[id(row)]),
        )
        lines.append(" & ".join([*names, *map(escape_latex, numbers)]) + r" \\")
    spec = section.spec
    marks = [
        f"{escape_latex(mark)} {name.replace('_', ' ')}"
        for name, mark in MARKS.items()
        if any(r.may(name) for r in rows)
    ]
    marks += [f"{escape_latex(EXTERNAL)} scored from outside"] if any(row.external for row in rows) else []
    caption = (
        f"{escape_latex(section.title)}: {len(spec['classes'])} classes in {len(spec['steps'])} steps. Image AUROC, "
        f"mean over classes after the last step $\\pm$ 95\\,\\% over seeds; "
        f"over classes: 95\\,\\% over classes and runs. "
        f"Tier 1: not shown to differ from the best on its detector. {'; '.join(marks)}"
    ).rstrip(" .;")
    return "\n".join(
        [
            r"\begin{table}[t]", r"\centering", r"\small", rf"\caption{{{caption}.}}",
            r"\resizebox{\linewidth}{!}{%", rf"\begin{{tabular}}{{lll{'r' * (len(HEAD) - 3)}}}", r"\toprule", lines[0],
            r"\midrule", *lines[1:], r"\bottomrule", r"\end{tabular}}", r"\end{table}", "",
        ]
    )  # fmt: skip


def measured(chosen: Sequence[tuple[Section, Sequence[Row]]]) -> str:
    """A paragraph: what ran where, from the cells themselves."""
    cells = [cell for _, rows in chosen for row in rows for cell in row.cells]

    def told(values) -> str:
        return escape_latex(", ".join(sorted({str(value) for value in values if value})))

    spec = [cell["spec"] for cell in cells]
    where = [cell["environment"] for cell in cells]
    versions = told(f"{name} {number}" for env in where for name, number in (env.get("versions") or {}).items())
    holdout = told(f"{100 * one['holdout']:g} %" for one in spec if one.get("holdout"))
    start = told(" ".join([one["weights"]["kind"], one["backbone"] or ""]).strip() for one in spec)
    torch, devices = told(env.get("torch") for env in where), told(env.get("device") for env in where)
    confined = sum(bool((cell.get("wall") or {}).get("confined")) for cell in cells)
    sentences = [
        f"All {len(cells)} runs were measured with continual-anomaly-bench {__version__} "
        f"(commits {told(env.get('commit') for env in where) or 'not recorded'}) on "
        f"{told(one['scenario'] + '@' + str(one['scenario_version']) for one in spec)}, at "
        f"{told(one['image_size'] for one in spec)} px, size {told(one['size'] for one in spec)}, seeds "
        f"{told(str(one['seed']) for one in spec)}, class orders {told(one['order'] for one in spec)}, "
        f"metric versions {told(one['metric_version'] for one in spec)}.",
        f"Data are identified by the fingerprints {told(one['fingerprint'][:12] for one in spec)}; "
        f"backbones start from {start} weights.",
        f"Devices: {devices}; PyTorch {torch}{'; ' if versions else ''}{versions}.",
        "Every class is tested after every step, the weights after the last step count, and no test image, label, mask "
        f"or result reaches a method{f'; in {confined} runs the kernel confined it' if confined else ''}.",
        f"Thresholds are set on {holdout} of the normal training images, which no method trains on." if holdout else "",
        "Forgetting is the best earlier value of a class minus its final one, mean over the classes of earlier steps. "
        f"Tiers follow Holm's procedure over all pairs of a detector, from {FEWEST_RUNS} runs and {FEWEST_CLASSES} "
        r"classes on. The harness builds on " + ", ".join(rf"{n}~\cite{{{k}}}" for n, k in LIBRARIES.items()) + ".",
    ]
    return "\n".join(filter(None, sentences)) + "\n"


def part(name: str, figures: Sequence[str]) -> str:
    """Table and figures of one section, for the document."""
    shown = [rf"\includegraphics[width=.48\linewidth]{{{{{figure}}}.pdf}}" for figure in figures]
    return "\n".join([rf"\input{{{name}.tex}}", r"\begin{figure}[t]\centering", *shown, r"\end{figure}", r"\clearpage"])


def document(parts: Sequence[str], cited: Sequence[str]) -> str:
    """A document that holds everything and compiles as it is, to copy from."""
    head = [r"\documentclass{article}", r"\usepackage{booktabs,graphicx}", r"\usepackage[margin=2cm]{geometry}"]
    body = [r"\begin{document}", r"\input{measured.tex}", *parts, rf"\nocite{{{','.join(cited)}}}"]
    return "\n".join([*head, *body, r"\bibliographystyle{plain}", r"\bibliography{references}", r"\end{document}", ""])

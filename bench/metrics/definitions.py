"""Every definition in use of what a matrix R says, by its id: formula, source, and what it needs."""

from typing import NamedTuple

from bench.metrics.matrix import (
    bank_size_difference,
    bwt,
    final_average,
    forgetting,
    forgetting_clipped,
    forgetting_first_last,
    forgetting_per_step,
    forgetting_relative,
    forgetting_relative_clipped,
    forgetting_relative_off_by_one,
    forgetting_with_current,
    fwt,
    joint_minus_replay,
    plasticity,
    step_average,
)

EARLY = "scores of classes before they are learned"
TWO_RUNS = "a second run"


class Definition(NamedTuple):
    """A row of `DEFINITIONS`: the function, its formula, where it comes from, what it needs beyond the usual R."""

    function: object
    formula: str
    source: str
    needs: str = ""  # EARLY: NaN from an R that was only evaluated on classes seen so far; TWO_RUNS: no function of R


_GEM = "Lopez-Paz & Ranzato, GEM, arXiv:1706.08840"
_SOURCES = {
    final_average: f"ACC: {_GEM}",
    plasticity: "mean of the diagonal; learning accuracy, Riemer et al., arXiv:1810.11910",
    step_average: "average incremental accuracy: Rebuffi et al., iCaRL, arXiv:1611.07725",
    bwt: _GEM,
    fwt: f"{_GEM}; its baseline is 0 unless given",
    forgetting: "definition 1: Chaudhry et al., arXiv:1801.10112; CADIC, arXiv:2511.08634, eq. 10-11",
    forgetting_clipped: "definition 2: Mammoth, utils/metrics.py",
    forgetting_first_last: "definition 3: Avalanche, forgetting_bwt.py",
    forgetting_with_current: "definition 4: pyCLAD up to 0.3.0, forgetting_measure.py, its last entry",
    bank_size_difference: "definition 5: UCAD, README and issues 22 and 25",
    joint_minus_replay: "definition 6: ReplayCAD, README and issue 5",
    forgetting_per_step: "definition 7: IUF names it, without a formula",
    forgetting_relative: "definition 8 without its clipping",
    forgetting_relative_clipped: "definition 8: CLAD, utility_ad.py",
    forgetting_relative_off_by_one: "definition 9: clad-paste, results/download_results_wandb.py",
}
_NEEDS = {
    **dict.fromkeys((fwt, forgetting_with_current, forgetting_relative_clipped), EARLY),
    **dict.fromkeys((bank_size_difference, joint_minus_replay), TWO_RUNS),
}
# id -> Definition; in the order of the sources, Chaudhry's forgetting at the head of its kind
ALL = {f.__name__: Definition(f, f.__doc__.splitlines()[0], text, _NEEDS.get(f, "")) for f, text in _SOURCES.items()}

# The functions of (R, learned_at), and those of the final scores of two runs
DEFINITIONS = {name: row for name, row in ALL.items() if row.needs != TWO_RUNS}
DEFINITIONS_OF_TWO_RUNS = {name: row for name, row in ALL.items() if row.needs == TWO_RUNS}


def values(R, learned_at):
    """{id: value} by every definition; NaN for those of two runs, and where a needed cell is missing."""
    return {name: float("nan") if row.needs == TWO_RUNS else row.function(R, learned_at) for name, row in ALL.items()}

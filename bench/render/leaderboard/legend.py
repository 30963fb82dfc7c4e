"""What the columns of leaderboard.md mean, and the two methods that a continual one stands between."""

from bench.analysis.figures import FIGURES
from bench.analysis.gap_to_joint import JOINT
from bench.analysis.labels import EXTERNAL
from bench.render.leaderboard.tables import INTERVAL, MISSING, MIXED, OLDER

LOWER, UPPER = "finetune", JOINT


def legend() -> tuple[tuple[str, str], ...]:
    """(column, meaning) of all that need one."""
    return (
        (
            "image AUROC",
            "detection: ranking of normal and anomalous images of a class; mean over classes after the last step",
        ),
        (
            INTERVAL,
            "of the image AUROC, 95 %: classes and runs both vary (Student's t for each). Wide, "
            "for classes differ; to tell two methods apart on the same classes: `python -m bench compare`",
        ),
        ("tier", "1: not shown to differ from the best; 2: shown to be below; else why the row is not ranked"),
        ("can show", "smallest difference from the highest row that these runs could have shown; —: none"),
        (
            "pixel AUPRO, AP",
            "localisation: per-region overlap up to 30 % false positives; average precision of pixels; "
            "over the classes that have masks, where some have none",
        ),
        (
            "forgetting",
            "image AUROC: best earlier value minus final value, mean over old classes (Chaudhry); lower is better",
        ),
        (
            "plasticity",
            "image AUROC of each class just after it was learned, mean; low forgetting is worth little without it",
        ),
        *((figure.heading, figure.meaning) for figure in FIGURES.values() if figure.meaning),
        (
            "joint minus it",
            "in the other metrics: joint training minus this row, same detector, settings, data, seeds; where the "
            "method replays, ReplayCAD's FM (`joint_minus_replay`)",
        ),
        ("seeds", "runs behind the row: ± is Student's t, half width of the 95 % interval; one seed has none"),
        (
            f"† ‡ § ∞ {MISSING}",
            "reads ahead; is told the task at test; uses labels in training; keeps every image; not measured, or "
            "undefined",
        ),
    )


OUTSIDE = (
    EXTERNAL,
    "external: scores handed in by their author and scored here; nobody here saw the system train, so it "
    f"is not ranked, nor is it `{LOWER}` or `{UPPER}`",
)

AGED = (
    OLDER,
    "measured with older code: method, detector or reader have changed since, or nobody wrote down which code it was; "
    "`python -m bench run --redo changed` runs such cells again",
)

UNLIKE = (
    MIXED,
    "its seeds were measured with different versions of what decides numbers, named below its table: the spread over "
    "seeds is of the versions, too",
)

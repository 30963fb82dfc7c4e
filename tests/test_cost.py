"""What a cell cost: whose seconds they are."""

import math
from collections import namedtuple

import pytest
from cells import cell as made

from bench.analysis.figures import figures
from bench.runner import cost

Times = namedtuple("Times", "user nice system idle iowait irq softirq steal guest guest_nice")
WALL = ("train_s", "eval_s", "extra_s", "ms_per_image_1", "images_per_s", "evaluation_share", "train_images_per_s")


def test_the_share_of_others_is_what_neither_the_cell_nor_its_method_spent(monkeypatch):
    machine, own = Times(100, 1, 10, 500, 9, 0, 0, 0, 40, 1), 5.0
    monkeypatch.setattr(cost.psutil, "cpu_times", lambda: machine)
    monkeypatch.setattr(cost.time, "process_time", lambda: own)
    neighbours = cost.Neighbours()
    machine, own = Times(108, 2, 12, 507, 10, 0.5, 0.5, 0, 48, 1), 7.0  # 20 s of two processors, 12 s of them busy
    assert neighbours.share(of_method_s=6.0) == pytest.approx((12 - 6 - 2) / 20)
    assert neighbours.share(of_method_s=60.0) == 0.0, "clocks of different fineness"


def test_wall_seconds_are_shown_only_where_the_machine_was_the_cells_own():
    cell = made()
    whole = figures(cell)
    assert all(whole[name] > 0 for name in (*WALL, "train_cpu_s"))
    for shares in ([0.0, 0.2, 0.0], None):
        disturbed = cell | {"cost": {k: v for k, v in cell["cost"].items() if k != "others_share"}}
        disturbed["cost"] |= {} if shares is None else {"others_share": shares}
        found = figures(disturbed)
        assert all(math.isnan(found[name]) for name in WALL), shares
        assert found["train_cpu_s"] == whole["train_cpu_s"]

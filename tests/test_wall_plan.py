"""What a plugin's file does while a run is planned: it is asked behind the wall, as it is run there."""

import pytest
from test_wall import HEAD

from bench.errors import BadInput
from bench.runner.plan import plan_cells
from bench.schema.cell_json import plain
from bench.schema.request import Request

pytestmark = pytest.mark.slow

OPTIONS = """
from dataclasses import dataclass

@dataclass(frozen=True)
class Config:
    share: float = 0.5
    sides: tuple = (1, 2)

    @classmethod
    def tiny(cls):
        TINY
        return cls(share=0.25)
"""


def planned(code: str, cache, tmp_path, **about):
    (tmp_path / "cheat.py").write_text(code)
    about |= {"plugins": (tmp_path / "cheat.py",), "cache": cache, "device": "cpu"}
    (cell,) = plan_cells(Request(("cheat",), ("autoencoder",), ("synthetic/1x6",), **about))
    return cell


def test_what_a_plugin_says_of_itself_is_the_same_behind_the_wall(cache, tmp_path):
    code = HEAD.replace("from methods.finetune import Config", OPTIONS.replace("TINY", ""))
    given = {"overrides": {"cheat": {"share": 1}, "autoencoder": {"epochs": 3}}}
    behind, within = (planned(code, cache, tmp_path, no_wall=bare, **given) for bare in (False, True))
    assert behind.spec["method_config"]["share"] == 1.0 and behind.spec["detector_config"]["epochs"] == 3
    assert (
        plain(behind.spec | {"variant": ""}) == plain(within.spec | {"variant": ""})
        and behind.skip == within.skip == ""
    )
    with pytest.raises(BadInput, match=r"no option of cheat 'shar'.*Did you mean 'share'"):
        planned(code, cache, tmp_path, overrides={"cheat": {"shar": 1}})


@pytest.mark.parametrize(
    ("tried", "said"),
    [
        ("open('RIVAL', 'w').write('{}')", "write RIVAL"),
        ("open('RIVAL').read()", "read RIVAL"),
        ("__import__('socket').create_connection(('127.0.0.1', 9))", r"open a socket \(AF_INET\)"),
    ],
)
@pytest.mark.parametrize("where", ["at the top", "in tiny"])
def test_a_plugin_cannot_reach_out_of_the_plan(where, tried, said, cache, tmp_path):
    rival = tmp_path / "rival.json"
    rival.write_text("honest")
    tried = tried.replace("RIVAL", str(rival))
    if where == "at the top":
        code = HEAD + f"\ntry:\n    {tried}\nexcept OSError:\n    pass\n"
    else:
        code = HEAD.replace("from methods.finetune import Config", OPTIONS.replace("TINY", tried))
    with pytest.raises(BadInput, match=rf"cheat\.py.* was refused .* it tried to {said.replace('RIVAL', str(rival))}"):
        planned(code, cache, tmp_path)
    assert rival.read_text() == "honest"

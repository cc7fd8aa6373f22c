"""The picture: what is drawn where, and that it fits whatever the network."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sensitivity_fakes import make_sensitivity, make_stage, two_stages

from nas.errors import StudyError
from nas.sensitivity.picture import COLOURS, DARK, draw_sensitivity, shade
from nas.sensitivity.result import Effect, Sensitivity, Setting, Stage


def texts(sensitivity: Sensitivity, folder: Path) -> list[str]:
    """All that is written in the picture."""
    import matplotlib

    with matplotlib.rc_context({"svg.fonttype": "none"}):
        draw_sensitivity(sensitivity, folder / "x.svg")
    svg = (folder / "x.svg").read_text(encoding="utf-8")
    return [re.sub("<[^>]+>", "", text) for text in re.findall(r"<text.*?</text>", svg, re.DOTALL)]


def test_the_scale_is_logarithmic_from_none_to_fifty_points() -> None:
    assert shade(-0.1) == shade(0.0) == 0
    assert shade(0.5) == shade(0.9) == 1
    assert [shade(x) for x in (0.01, 0.1, 0.2)] == pytest.approx(np.log([2, 11, 21]) / np.log(51))
    assert 0.1 < shade(0.01) < shade(0.05) < DARK < shade(0.2)


def test_stages_losses_and_shares_are_written(tmp_path: Path) -> None:
    written = [text.strip() for text in texts(two_stages(), tmp_path)]
    assert "digits: sensitivity of trial 12, stage by stage" in written
    for text in ("a", "b", "60 %", "30 %", "40 %", "70 %", "channels pruned", "bits of weights/activations"):
        assert text in written, text
    for text in ("−50 %", "8/8", "4/32", "1.00", "3.00", "0.20", "0.40", "2.00", "–"):
        assert text in written, text
    assert any("standard error of a loss up to 0.10 points" in text for text in written)


def test_cells_have_the_colours_of_their_losses(tmp_path: Path) -> None:
    """One stage that loses nothing, one that loses all: the first and last colour of the scale, and white for none."""
    sensitivity = make_sensitivity(
        make_stage("a", 500, 1000, {0.5: (0.0, 0.5, 0.5)}), make_stage("b", 500, 1000, {0.5: (0.98, 0.5, 0.5)})
    )
    draw_sensitivity(sensitivity, tmp_path / "x.png")
    pixels = np.asarray(Image.open(io.BytesIO((tmp_path / "x.png").read_bytes())).convert("RGB")).reshape(-1, 3)

    def share(colour: str) -> float:
        wanted = [int(colour[start : start + 2], 16) for start in (1, 3, 5)]
        return float((np.abs(pixels.astype(int) - wanted).max(axis=1) <= 1).mean())

    assert share(COLOURS[0]) > 0.05
    assert share(COLOURS[-1]) > 0.05
    assert share(COLOURS[2]) < 0.001


def test_the_same_picture_every_time(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        draw_sensitivity(two_stages(), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def many(count: int, name: str = "layer{}.conv") -> Sensitivity:
    return make_sensitivity(
        *(
            make_stage(name.format(i), 1000 // count, 2000 // count, {0.5: (0.1, 0.9, 0.9)}, {(8, 8): 0.0})
            for i in range(count)
        )
    )


@pytest.mark.parametrize(
    "sensitivity",
    [
        many(1),
        many(60),
        many(3, "$x_{}^2$ features.inverted.residual.with.a.very.long.name"),
        make_sensitivity(Stage("only", "only", 0, 0, (Effect(Setting(0.5), reason="no"),))),
    ],
    ids=["one", "many", "long names", "nothing"],
)
def test_any_network_fits(sensitivity: Sensitivity, tmp_path: Path) -> None:
    """Nothing is written over the edges: the outermost pixels stay white."""
    draw_sensitivity(sensitivity, tmp_path / "x.png")
    image = np.asarray(Image.open(tmp_path / "x.png").convert("L"))
    assert image.min() < 100
    edges = (image[:8], image[-8:], image[:, :8], image[:, -8:])
    assert all(edge.min() == 255 for edge in edges)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StudyError, match=r"x\.png cannot be written"):
        draw_sensitivity(two_stages(), tmp_path / "file" / "x.png")

"""A picture in a page has the page's colours and its own pixels; what is text stays text."""

import base64
import io
import re
from importlib.resources import files

import matplotlib
import numpy as np
import pytest
from matplotlib.image import imread

from rramlab.report.figures import draw_map
from rramlab.report.pictures import Picture
from rramlab.report.theme import COLOURS


def map_of(conductance_S, top=20.0):
    return Picture(
        "map", "A map", "three cells < four", lambda figure: draw_map(figure, figure.subplots(), conductance_S, top)
    )


def images(svg):
    found = re.findall(r'href="data:image/png;base64,([^"]+)"', svg)
    return [np.round(imread(io.BytesIO(base64.b64decode(each))) * 255).astype(np.uint8) for each in found]


def test_a_map_keeps_each_cell_as_one_pixel_of_its_colour():
    rng = np.random.default_rng(3)
    conductance = rng.uniform(0, 20e-6, (40, 30)).astype(np.float32)
    conductance[3, 4] = np.nan
    expected = matplotlib.colormaps["viridis"](conductance * 1e6 / 20, bytes=True)
    (pixels,) = [each for each in images(map_of(conductance).svg()) if each.shape[:2] == (40, 30)]
    if not np.array_equal(pixels[0, 0], expected[0, 0]):
        pixels = pixels[::-1]  # an SVG may hold it upside down and turn it
    assert pixels[3, 4, 3] == 0  # not read: seen through, to the hatching
    read = np.isfinite(conductance)
    assert np.abs(pixels[read].astype(int) - expected[read]).max() <= 2
    assert (pixels[read][:, 3] == 255).all()


def test_colours_are_the_pages_and_words_are_escaped():
    svg = map_of(np.full((4, 4), 1e-5, np.float32)).svg()
    assert 'aria-label="three cells &lt; four"' in svg
    assert "var(--ink)" in svg
    assert not [light for light, _ in COLOURS.values() if light in svg]
    assert ">conductance (µS)</text>" in svg


def luminance(colour):
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_what_is_read_stands_out_from_its_background(theme):
    css = files("rramlab.report").joinpath("page.css").read_text(encoding="utf-8")
    of_page = {name: re.findall(rf"--{name}: (#[0-9a-f]{{6}})", css)[theme] for name in
               ("page", "card", "shade", "good", "good-back", "warn", "warn-back", "bad", "bad-back")}  # fmt: skip
    for role, pair in COLOURS.items():
        if role != "line":
            assert contrast(pair[theme], of_page["card"]) >= 4.5, role
    for role in ("ink", "soft"):
        for back in ("page", "shade", "good-back", "warn-back", "bad-back"):
            if role == "ink" or back in ("page", "shade"):
                assert contrast(COLOURS[role][theme], of_page[back]) >= 4.5, (role, back)
    for tone in ("good", "warn", "bad"):
        assert contrast(of_page[tone], of_page["card"]) >= 4.5, tone


def test_no_two_roles_share_a_light_colour():
    assert len({light for light, _ in COLOURS.values()}) == len(COLOURS)

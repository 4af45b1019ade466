"""book/_ext/light.py: a page shows its pictures as WebP, with the same pixels where anything is to be seen."""

import io

import numpy as np
import pytest
from PIL import Image
from tiny_book import build

SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"></svg>'


@pytest.fixture(scope="module")
def html(tmp_path_factory):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 4), dtype=np.uint8)
    made = io.BytesIO()
    Image.fromarray(pixels).save(made, "PNG", dpi=(192, 192))
    text = "# Page\n\n![words](one.png)\n\n![more](two.svg)\n\n`_images/one.png`\n"
    files = {"index.md": text, "one.png": made.getvalue(), "two.svg": SVG}
    return build(tmp_path_factory.mktemp("book"), files, ["myst_parser", "figures", "light"])


def test_a_page_shows_webp(html):
    page = (html / "index.html").read_text()
    assert 'src="_images/one.webp" style="width: 15px;"' in page and 'src="_images/two.svg"' in page
    assert '<span class="pre">_images/one.png</span>' in page


def test_its_pixels_are_the_same(html):
    with Image.open(html / "_images" / "one.png") as png, Image.open(html / "_images" / "one.webp") as webp:
        before, after = np.asarray(png), np.asarray(webp)
    assert (before[..., 3] == after[..., 3]).all()
    assert (before == after)[before[..., 3] > 0].all()

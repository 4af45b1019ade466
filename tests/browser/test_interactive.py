"""The interactive figures in a browser: what they show, what the keyboard does, and what is left without the script."""

import math
from pathlib import Path

import pandas as pd
import pytest
import section4_tables as tables
from matplotlib.figure import Figure

from paperlib.figures import interactive

STATIC = Path(__file__).resolve().parents[2] / "book" / "_static"
pytestmark = pytest.mark.slow
PAGE = """<!doctype html><html lang="en" data-theme="light"><head><meta charset="utf-8"><title>Figures</title>
<meta name="viewport" content="width=device-width"><link rel="stylesheet" href="{css}">{script}</head>
<body><main><h1>Figures</h1>{figures}</main></body></html>"""
GROUND = {"light": "#fff", "dark": "#121212"}  # of the theme's pages
INSTEAD = "The figure above shows a part of this."


def figures():
    """Three small figures.  ResNet-20's second seed ends after epoch 1; one pair of channels is dead, one not there."""
    ratios = tables.ratios(archs=("plain", "resnet"), depths=(20,), seeds=(0, 1), value=math.log(2))
    ended = (ratios.arch == "resnet") & (ratios.seed == 1) & (ratios.epoch > 1)
    ratios.loc[(ratios.epoch == 3) & (ratios.block == 2), "log_ratio"] = math.log(32)
    spectra = pd.DataFrame(
        {"schedule": schedule, "L": L, "block": b, "lowest": 1 - k / L, "highest": 1.0}
        for schedule, k in (("geometric", 1), ("uniform", 0.5), ("arc", 0.25))
        for L in (2, 4, 32, 64)
        for b in range(1, L + 1)
    )
    row = {"spread": 1.2, "alive": 5, "dead": 0}
    cells = [
        row | {"lr": lr, "step": step, "variant": variant, "c": c, "d": d, "ratio": ratio * (1 + step / 100)}
        for lr in (0.01, 0.1)
        for step in (0, 100)
        for variant, ratio in (("free", 2.0), ("held", 0.5), ("other", 1.0))
        for c in (2, 8)
        for d in (2, 8)
        if (variant, lr) != ("other", 0.1) and (c, d) != (2, 8)
    ]
    grid = pd.DataFrame(cells)
    grid.loc[(grid.c == 8) & (grid.d == 8), ["ratio", "spread", "alive", "dead"]] = [math.nan, math.nan, 0, 5]
    titles = {"free": "not held", "held": "held", "other": "held otherwise"}
    return {
        "Ratios": interactive.ratios_over_epochs(ratios[~ended]),
        "Spectra": interactive.spectra_by_depth(spectra),
        "Grid": interactive.ratios_by_channels(grid, titles),
    }


@pytest.fixture
def open_page(browser, tmp_path):
    """Opens a page with the three figures; at the end no error and no request to the outside has been made."""
    contexts, wrong = [], []

    def opened(script=True, data=None, **options):
        context = browser.new_context(**options)
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda message: wrong.append(message.text))
        page.on("request", lambda asked: None if asked.url.startswith("file:") else wrong.append(asked.url))
        parts = [
            interactive.html(d, label, INSTEAD, Figure(figsize=(4, 3))) for label, d in (data or figures()).items()
        ]
        tag = f'<script defer src="{(STATIC / "interactive.js").as_uri()}"></script>' if script else ""
        file = tmp_path / "page.html"
        file.write_text(
            PAGE.format(css=(STATIC / "interactive.css").as_uri(), script=tag, figures="".join(parts)), encoding="utf-8"
        )
        page.goto(file.as_uri())
        contexts.append(context)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert wrong == []


def figure(page, label):
    return page.locator(f'figure.interactive[aria-label="{label}"]')


def said(page, label):
    return figure(page, label).locator('[aria-live="polite"]').text_content()


# -- chapter 5 ---------------------------------------------------------------------------------------------------
def test_the_slider_steps_through_the_epochs(open_page):
    page = open_page()
    ratios = figure(page, "Ratios")
    assert said(page, "Ratios").startswith("Plain-20, before training: the median ratio of the 5 blocks is 0.5.")
    slider = ratios.get_by_role("slider", name="Epoch")
    slider.focus()
    page.keyboard.press("ArrowRight")
    assert "Plain-20, epoch 1:" in said(page, "Ratios")
    assert slider.get_attribute("aria-valuetext") == "epoch 1"
    page.keyboard.press("End")
    assert "Farthest from 1 is stage1 block2, at 32. Mean and standard deviation over 2 seeds." in said(page, "Ratios")
    assert ratios.locator("circle.beyond, rect.beyond").count() == 1  # 32 is off the scale


def test_another_network_keeps_the_epoch_and_says_which_seeds_are_left(open_page):
    page = open_page()
    figure(page, "Ratios").get_by_role("slider", name="Epoch").fill("2")
    figure(page, "Ratios").get_by_label("Network").select_option("ResNet-20")
    assert said(page, "Ratios").startswith("ResNet-20, epoch 2:")
    assert said(page, "Ratios").endswith("From 1 of 2 seeds.")
    assert figure(page, "Ratios").locator("svg g.resnet rect").count() == 2  # the transitions


def test_the_points_are_at_their_ratios(open_page):
    page = open_page()
    ones = figure(page, "Ratios").locator("line.one").get_attribute("y1")
    grid = [float(line.get_attribute("y1")) for line in figure(page, "Ratios").locator("line.grid").all()]
    heights = [float(mark.get_attribute("cy")) for mark in figure(page, "Ratios").locator("circle").all()]
    doubling = (max(grid) - min(grid)) / 6  # from an eighth to eight
    ratios = [2, 0.5, 0.5]  # of the blocks that are no transitions
    assert heights == pytest.approx([float(ones) - math.log2(ratio) * doubling for ratio in ratios])


def test_it_plays_to_the_end_and_speaks_only_then(open_page):
    page = open_page()
    page.clock.install()
    page.reload()
    play = figure(page, "Ratios").get_by_role("button")
    play.click()
    live = figure(page, "Ratios").locator(".interactive-summary")
    assert play.inner_text() == "Stop" and live.get_attribute("aria-live") == "off"
    page.clock.run_for(1100)
    assert "epoch 2:" in live.inner_text()
    page.clock.run_for(2000)
    assert play.inner_text() == "Play" and live.get_attribute("aria-live") == "polite"
    assert "epoch 3:" in live.inner_text()
    play.click()
    assert "before training" in live.inner_text()


def test_whoever_asks_for_little_motion_steps_by_hand(open_page):
    page = open_page(reduced_motion="reduce")
    assert not figure(page, "Ratios").locator("button").is_visible()
    assert figure(page, "Ratios").get_by_role("slider").is_visible()


# -- chapter 1 ---------------------------------------------------------------------------------------------------
def test_depth_and_schedule_answer(open_page):
    page = open_page()
    spectra = figure(page, "Spectra")
    assert said(page, "Spectra").startswith("32 blocks, schedule geometric (the paper's):")
    assert "δ = 0.0313. That is 0.24 times log(2L)/L, which is 0.13." in said(page, "Spectra")
    assert spectra.locator("rect.bar").count() == 32
    spectra.get_by_role("slider", name="L").fill("0")
    assert spectra.locator("rect.bar").count() == 2 and "2 blocks" in said(page, "Spectra")
    spectra.get_by_role("radio", name="geometric").focus()
    page.keyboard.press("ArrowDown")
    assert "schedule uniform: no block changes a gradient's norm by more than δ = 0.25." in said(page, "Spectra")
    assert spectra.locator("polyline.other").count() == 2 and spectra.locator("polyline.chosen").count() == 1


# -- chapter 3 ---------------------------------------------------------------------------------------------------
def cell(page, place):
    return figure(page, "Grid").get_by_role("gridcell").nth(place)


def test_cells_are_labelled_and_follow_the_controls(open_page):
    page = open_page()
    told = [cell(page, i).get_attribute("aria-label") for i in range(4)]
    assert told[0] == "2 input channels, 2 output channels: ratio 4.00, times or over 1.20, seeds: 5"
    assert told[1].endswith(": not measured") and told[3].endswith(": 5 of 5 networks dead")
    assert [cell(page, i).inner_text() for i in range(4)] == ["4.00", "–", "4.00", "dead"]
    figure(page, "Grid").get_by_role("slider", name="Step").fill("0")
    figure(page, "Grid").get_by_label("Variant").select_option("held")
    assert cell(page, 0).inner_text() == "0.50" and "low" in cell(page, 0).get_attribute("class")
    assert said(page, "Grid").startswith("held, learning rate 0.1, after 0 steps: the ratios of the 2 pairs are off by")


def test_what_was_not_measured_cannot_be_chosen(open_page):
    page = open_page()
    grid = figure(page, "Grid")
    assert grid.locator("option[disabled]").all_inner_texts() == ["held otherwise"]
    grid.get_by_role("radio", name="0.01").check()
    assert grid.locator("option[disabled]").count() == 0
    grid.get_by_label("Variant").select_option("held otherwise")
    grid.get_by_role("radio", name="0.1", exact=True).check()
    assert said(page, "Grid").startswith("not held, learning rate 0.1")


def test_arrows_move_within_the_grid_which_is_one_stop(open_page):
    page = open_page()
    cell(page, 0).focus()
    for key, place in (("ArrowRight", 1), ("ArrowDown", 3), ("ArrowDown", 3), ("Home", 2), ("ArrowUp", 0), ("End", 1)):
        page.keyboard.press(key)
        assert cell(page, place).evaluate("cell => cell === document.activeElement")
    assert figure(page, "Grid").locator('td[tabindex="0"]').count() == 1
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


# -- all of them -------------------------------------------------------------------------------------------------
def test_without_the_script_a_picture_and_a_sentence_stand_there(open_page):
    for page in (open_page(script=False), open_page(java_script_enabled=False)):
        assert [text.strip() for text in page.locator(".interactive-instead").all_inner_texts()] == [INSTEAD] * 3
        assert [picture.is_visible() for picture in page.locator("figure img").all()] == [True] * 3
        assert page.locator("figure svg, figure input, figure select").count() == 0


def test_in_print_the_picture_and_the_sentence_stand_there(open_page):
    page = open_page()
    assert not page.get_by_text(INSTEAD).first.is_visible() and not page.locator("figure img").first.is_visible()
    page.emulate_media(media="print")
    for kind in (page.get_by_text(INSTEAD), page.locator("figure img")):
        assert [shown.is_visible() for shown in kind.all()] == [True] * 3
    assert not page.locator("svg").first.is_visible() and not page.locator("input").first.is_visible()
    assert not page.locator(".interactive-summary").first.is_visible()
    assert not page.locator(".interactive-key").first.is_visible()


def test_a_phone_has_letters_of_the_same_size_and_nothing_beyond_its_edge(open_page):
    page = open_page(viewport={"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    sizes = page.evaluate(
        "[...document.querySelectorAll('svg')].map(s => s.getBoundingClientRect().width / s.viewBox.baseVal.width)"
    )
    assert sizes == pytest.approx([1, 1], abs=0.02)
    page.set_viewport_size({"width": 700, "height": 800})
    page.wait_for_function("document.querySelector('svg').viewBox.baseVal.width > 500")


def test_nothing_on_record_leaves_the_sentence(open_page):
    page = open_page(data={"Ratios": interactive.ratios_over_epochs(tables.ratios().iloc[:0])})
    assert page.locator(".interactive-instead").is_visible() and page.locator("svg").count() == 0


def test_what_a_record_names_is_text(open_page):
    data = figures()
    data["Ratios"]["networks"][0]["blocks"] = ["</script><img src=x onerror=console.error(1)>"] * 5
    page = open_page(data=data)
    assert page.locator("img").count() == 3 and "</script><img" in said(page, "Ratios")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious(open_page, axe, theme):
    page = open_page()
    page.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
    page.add_style_tag(content=f"body {{ background: {GROUND[theme]}; color: var(--drawing-text); }}")
    page.evaluate(axe)
    found = page.evaluate(
        "axe.run({preload: false}).then(r => r.violations.map(v => [v.impact, v.id, v.nodes[0].html]))"
    )
    assert [v for v in found if v[0] in ("serious", "critical")] == []

"""The theme: contrast recomputed, switching, fonts, icons and the stored setting."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
from PySide6.QtGui import QFontMetrics
from PySide6.QtWidgets import QApplication, QCheckBox, QLabel, QVBoxLayout, QWidget

from llamaduo_gui.core.paths import resource
from llamaduo_gui.gui.theme import fonts, icons, series
from llamaduo_gui.gui.theme.settings import Appearance, load_appearance, save_appearance
from llamaduo_gui.gui.theme.sheet import build_sheet
from llamaduo_gui.gui.theme.theme import apply_theme, color, current_tokens, theme_notifier
from llamaduo_gui.gui.theme.tokens import DARK, LIGHT, Tokens, contrast_ratio
from llamaduo_gui.gui.widgets.buttons import Button
from llamaduo_gui.gui.widgets.card import Card
from llamaduo_gui.gui.widgets.labels import IconLabel, Label
from tests.gui.checks import picture, share_of_color

THEMES = [pytest.param(LIGHT, id="light"), pytest.param(DARK, id="dark")]
# The ratios printed in the interface's specification: token -> (light, dark) on the surface.
PRINTED_RATIOS = {
    "outline": (3.6, 4.4),
    "text": (17.4, 13.8),
    "text2": (7.9, 8.5),
    "text3": (5.4, 6.0),
    "accent": (6.3, 7.8),
    "ok": (6.6, 8.5),
    "warn": (6.7, 9.1),
    "bad": (6.7, 7.5),
    "service": (4.8, 6.5),
    "base": (4.8, 6.5),
    "tuned": (5.2, 7.2),
    "gguf": (4.9, 7.1),
}


@pytest.mark.parametrize("token", sorted(PRINTED_RATIOS))
@pytest.mark.parametrize(("tokens", "column"), [(LIGHT, 0), (DARK, 1)])
def test_contrast_on_the_surface_is_what_the_specification_prints(
    token: str, tokens: Tokens, column: int
) -> None:
    ratio = contrast_ratio(tokens.get(token), tokens.surface)
    assert ratio == pytest.approx(PRINTED_RATIOS[token][column], abs=0.06)


@pytest.mark.parametrize("tokens", THEMES)
def test_white_text_on_the_fill_is_readable_also_under_the_pointer(tokens: Tokens) -> None:
    assert contrast_ratio(tokens.on_fill, tokens.fill) >= 5.2
    assert contrast_ratio(tokens.on_fill, tokens.fill_hover) >= 4.5


@pytest.mark.parametrize("tokens", THEMES)
@pytest.mark.parametrize("name", ["accent", "ok", "warn", "bad"])
def test_text_on_its_soft_fill_reaches_five_point_three(tokens: Tokens, name: str) -> None:
    ratio = contrast_ratio(tokens.get(name), tokens.get(f"{name}_soft"))
    assert round(ratio, 1) >= 5.3


@pytest.mark.parametrize("tokens", THEMES)
@pytest.mark.parametrize("ground", ["bg", "sidebar", "surface", "raised"])
def test_every_text_tone_is_readable_and_every_outline_visible_on_every_ground(
    tokens: Tokens, ground: str
) -> None:
    for tone in ("text", "text2", "text3", "accent"):
        assert contrast_ratio(tokens.get(tone), tokens.get(ground)) >= 4.5, tone
    assert contrast_ratio(tokens.outline, tokens.get(ground)) >= 3.0


def test_contrast_of_black_on_white_is_twenty_one() -> None:
    assert contrast_ratio("#000000", "#FFFFFF") == pytest.approx(21)
    assert contrast_ratio("#777777", "#777777") == pytest.approx(1)


@pytest.mark.parametrize("tokens", THEMES)
def test_the_sheet_has_no_gap_left_and_no_colour_of_the_other_theme(
    app: QApplication, tokens: Tokens
) -> None:
    sheet = build_sheet(tokens)
    other = DARK if tokens is LIGHT else LIGHT
    foreign = set(other.as_dict().values()) - set(tokens.as_dict().values())
    assert "$" not in sheet.split("*/", 1)[1]
    assert not [value for value in foreign if value in sheet]


def _sample(parent_shown: Callable[..., QWidget]) -> QWidget:
    card = Card("Title", "subtitle")
    card.body.addWidget(Label("Text"))
    card.body.addWidget(Button("Run", "primary", icon="play"))
    return parent_shown(card, 240, 140)


def test_switching_the_theme_changes_the_pixels_of_styled_and_painted_widgets(
    app: QApplication, shown: Callable[..., QWidget]
) -> None:
    card = _sample(shown)
    light = picture(card)
    apply_theme(app, "dark")
    dark = picture(card)
    assert share_of_color(light, LIGHT.surface) > 0.5
    assert share_of_color(dark, DARK.surface) > 0.5
    assert share_of_color(light, LIGHT.fill) > 0.01
    assert share_of_color(dark, DARK.fill) > 0.01
    assert share_of_color(dark, LIGHT.surface) < 0.01


def test_switching_back_gives_the_same_picture(
    app: QApplication, shown: Callable[..., QWidget]
) -> None:
    card = _sample(shown)
    before = picture(card)
    apply_theme(app, "dark")
    apply_theme(app, "light")
    assert picture(card) == before


def test_an_icon_takes_the_new_theme_s_colour(
    app: QApplication, shown: Callable[..., QWidget]
) -> None:
    button = Button("Stop", "danger", icon="stop")
    label = IconLabel("check", "ok", 32)
    holder = QWidget()
    column = QVBoxLayout(holder)
    column.addWidget(button)
    column.addWidget(label)
    shown(holder, 160, 120)
    before = button.icon().cacheKey()
    light = picture(label)
    apply_theme(app, "dark")
    assert button.icon().cacheKey() != before
    assert picture(label) != light


def test_the_notifier_tells_of_each_change(app: QApplication) -> None:
    heard: list[str] = []

    def hear() -> None:
        heard.append(current_tokens().name)

    theme_notifier().changed.connect(hear)
    apply_theme(app, "dark")
    apply_theme(app, "light")
    theme_notifier().changed.disconnect(hear)
    assert heard == ["dark", "light"]


def test_system_follows_the_desktop_and_an_unknown_one_counts_as_light(app: QApplication) -> None:
    assert apply_theme(app, "system") is LIGHT
    assert theme_notifier().mode == "system"
    assert color("text").name().upper() == LIGHT.text


def test_a_larger_text_scale_makes_text_icons_and_controls_larger(
    app: QApplication, shown: Callable[..., QWidget]
) -> None:
    button = shown(Button("Export report...", icon="export"), 400, 100)
    small = button.sizeHint()
    apply_theme(app, "light", text_scale=1.3)
    large = button.sizeHint()
    assert large.width() > 1.2 * small.width()
    assert large.height() > 1.1 * small.height()
    assert fonts.scaled(16) == 21


def test_the_shipped_fonts_load_with_even_figures_and_without_ligatures(app: QApplication) -> None:
    assert fonts.load_fonts() == ("Inter", "JetBrains Mono")
    figures = QFontMetrics(fonts.ui_font())
    assert {figures.horizontalAdvance(digit * 10) for digit in "0123456789"} == {
        figures.horizontalAdvance("0" * 10)
    }
    mono = QFontMetrics(fonts.mono_font())
    assert mono.horizontalAdvance("<=" * 10) == mono.horizontalAdvance("ab" * 10)


def test_roles_in_the_sheet_keep_even_figures(
    app: QApplication, shown: Callable[..., QWidget]
) -> None:
    ones, eights = Label("1" * 20, "title"), Label("8" * 20, "title")
    shown(ones)
    shown(eights)
    assert ones.sizeHint().width() == eights.sizeHint().width()
    assert ones.font().pointSizeF() == pytest.approx(fonts.point_size("title"))


def test_a_font_file_that_is_missing_is_replaced_by_a_system_font(
    app: QApplication, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fonts.load_fonts.cache_clear()
    monkeypatch.setattr(fonts, "FONT_FILES", ("Nowhere.ttf",))
    monkeypatch.setattr(fonts, "UI_FAMILY", "Nowhere")
    family, _mono = fonts.load_fonts()
    fonts.load_fonts.cache_clear()
    assert family not in ("", "Nowhere")
    assert "Nowhere.ttf could not be read" in caplog.text
    caplog.clear()


@pytest.mark.parametrize("name", icons.icon_names())
def test_every_icon_draws_something_in_its_colour_at_every_pixel_ratio(
    app: QApplication, name: str
) -> None:
    for ratio in icons.RATIOS:
        image = icons.pixmap(name, "accent", 16, ratio)
        assert image.width() == round(16 * ratio)
        assert image.devicePixelRatio() == ratio
        drawn = image.toImage()
        colors = {
            drawn.pixelColor(x, y).name().upper()
            for x in range(drawn.width())
            for y in range(drawn.height())
            if drawn.pixelColor(x, y).alpha() > 250
        }
        if ratio == 3.0:
            assert LIGHT.accent in colors


def test_an_unknown_icon_is_an_error(app: QApplication) -> None:
    with pytest.raises(KeyError, match="unicorn"):
        icons.pixmap("unicorn")


def test_pixmaps_are_cached(app: QApplication) -> None:
    assert icons.pixmap("home") is icons.pixmap("home")


def test_every_line_icon_is_on_the_24_grid_with_the_one_stroke() -> None:
    for path in resource("icons").glob("*.svg"):
        text = path.read_text(encoding="utf-8")
        assert 'viewBox="0 0 24 24"' in text, path.name
        assert "currentColor" in text, path.name
        assert 'stroke-width="1.75"' in text or path.stem == "dot", path.name


def test_a_check_box_keeps_its_box(app: QApplication, shown: Callable[..., QWidget]) -> None:
    box = QCheckBox("Hide names")
    shown(box, 140, 40)
    empty = picture(box)
    box.setChecked(True)
    assert share_of_color(picture(box), LIGHT.fill, step=1) > 0.01
    assert picture(box) != empty


def test_models_differ_by_shape_and_dash_and_not_by_colour_alone() -> None:
    styles = [series.series_style(kind) for kind in ("service", "base", "tuned", "gguf")]
    assert len({style.marker for style in styles}) == 4
    tuned, gguf = styles[2], styles[3]
    assert tuned.dash != gguf.dash


def test_the_appearance_is_stored_and_nonsense_in_the_file_falls_back(app: QApplication) -> None:
    assert load_appearance() == Appearance("system", 1.0)
    save_appearance(Appearance("dark", 1.3))
    assert load_appearance() == Appearance("dark", 1.3)
    save_appearance(Appearance("neon", 7.0))  # type: ignore[arg-type]
    assert load_appearance() == Appearance("system", 1.3)


def test_a_thousand_calls_leave_the_reference_count_of_none_flat(app: QApplication) -> None:
    """PySide6 6.12.0 on Python 3.11 drops a reference to None with each void call."""
    label = QLabel()
    label.setText("warm up")
    before = sys.getrefcount(None)
    for number in range(1000):
        label.setText(str(number))
        label.update()
    assert abs(sys.getrefcount(None) - before) < 50

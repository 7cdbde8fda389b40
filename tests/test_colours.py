"""The colours of the pictures can be told apart."""

from matplotlib.colors import to_rgb

from delayplug import _colours

NAMED = {name: value for name, value in vars(_colours).items() if name.isupper()}


def luminance(colour: str) -> float:
    """Of sRGB, 0 for black to 1 for white (ITU-R BT.709)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_colours_are_distinct() -> None:
    assert len(NAMED) == len(set(NAMED.values())) == 9
    assert all(
        value == "#{:02X}{:02X}{:02X}".format(*(round(255 * c) for c in to_rgb(value))) for value in NAMED.values()
    )


def test_greys_are_grey_and_in_order() -> None:
    greys = [NAMED[name] for name in ("DARK", "GREY", "LIGHT")]
    assert all(len(set(to_rgb(grey))) == 1 for grey in greys)
    assert sorted(greys, key=luminance) == greys


def test_lines_stand_out_on_white() -> None:
    """The light grey is for areas only."""
    for name, value in NAMED.items():
        if name != "LIGHT":
            assert 1.05 / (luminance(value) + 0.05) > 2, name

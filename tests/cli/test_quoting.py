"""Values on their way into an override and out of it."""

from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from sparse_ae.cli.compose import quoted

_ORDINARY = st.characters(codec="utf-8", exclude_categories=["C"], exclude_characters="$")  # $ interpolates


@given(st.text(_ORDINARY, min_size=1) | st.text("a\\' ", min_size=1))
def test_quoted_values_come_back(value: str) -> None:
    assert OverridesParser.create().parse_override(f"key={quoted(value)}").value() == value

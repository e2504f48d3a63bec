"""Costs to the nano-USD, and files that are wrong in every way."""

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from taskpilot.domain.errors import ConfigurationError
from taskpilot.domain.usage import Usage
from taskpilot.llm.prices import Prices
from tests.errors import saying

NOW = datetime(2026, 11, 23, tzinfo=UTC)
LOCAL = "http://127.0.0.1:8080/v1"


def write(folder: Path, text: str) -> Path:
    path = folder / "prices.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("base_url", [None, "https://api.openai.com/v1", LOCAL])
def test_cached_tokens_are_priced_as_such(base_url: str | None) -> None:
    assert Prices().cost_nano("gpt-4o", Usage(1_200, 1_024, 30), at=NOW, base_url=base_url) == 2_020_000


@pytest.mark.parametrize(
    ("model", "input_usd", "output_usd"),
    [
        ("gpt-4o", "2.50", "10"),
        ("gpt-4o-mini", "0.15", "0.60"),
        ("gpt-4-turbo", "10", "30"),
        ("gpt-4", "30", "60"),
        ("gpt-3.5-turbo", "0.50", "1.50"),
    ],
)
def test_the_five_models_of_the_original_design_have_their_prices(model: str, input_usd: str, output_usd: str) -> None:
    assert Prices().cost_nano(model, Usage(1_000_000, 0, 0), at=NOW) == int(Decimal(input_usd) * 10**9)
    assert Prices().cost_nano(model, Usage(0, 0, 1_000_000), at=NOW) == int(Decimal(output_usd) * 10**9)


def test_what_is_unknown_costs_none_and_not_zero() -> None:
    prices = Prices()
    assert prices.cost_nano("smollm2", Usage(10, 0, 10), at=NOW) is None
    assert prices.cost_nano("gpt-4o", None, at=NOW) is None
    assert prices.cost_nano("gpt-4o", Usage(5, 9, 1), at=NOW) is None
    assert prices.cost_nano("gpt-4o", Usage(1, 0, 1), at=NOW, base_url="https://api.groq.com/openai/v1") is None
    assert not prices.known("smollm2")


def test_the_embedded_model_is_free_and_known_to_be() -> None:
    prices = Prices()
    assert prices.cost_nano("offline", Usage(9, 0, 9), at=NOW) == 0
    assert prices.cost_nano("offline", None, at=NOW) == 0
    assert prices.known("offline")


def test_a_server_of_ones_own_is_priced_by_the_name_of_its_model() -> None:
    prices = Prices()
    assert prices.cost_nano("gpt-4o", Usage(1_200, 0, 4_096), at=NOW) == 43_960_000
    assert prices.known("gpt-4o", base_url=LOCAL)


def test_the_files_price_of_the_day_wins(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
        [[price]]
        model = "gpt-4o"
        from = 2026-11-01
        input = "1"
        cached_input = 0.1
        output = 2

        [[price]]
        model = "my model"
        input = "0.000001"
        output = "0.3"

        [[price]]
        model = "gpt-4o"
        from = "2026-11-23"
        input = "3"
        output = "4"
        """,
    )
    prices = Prices(path)
    usage = Usage(1_000, 400, 10)
    assert prices.cost_nano("gpt-4o", usage, at=datetime(2026, 11, 22, 23, 59, tzinfo=UTC)) == 600_000 + 40_000 + 20_000
    assert prices.cost_nano("gpt-4o", usage, at=NOW) == 3_000_000 + 40_000
    assert prices.cost_nano("gpt-4o", usage, at=datetime(2026, 10, 1, tzinfo=UTC)) == Prices().cost_nano("gpt-4o", usage, at=NOW)
    assert prices.cost_nano("my model", Usage(500, 0, 1), at=NOW) == 300  # 0.5 nano is rounded to even: 0.
    assert prices.known("my model")
    assert prices.cost_nano("my model", Usage(5, 9, 1), at=NOW) is None


def test_a_file_that_is_not_there_says_nothing(tmp_path: Path) -> None:
    assert Prices(tmp_path / "prices.toml").known("gpt-4o")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[[price]\n", "line 1"),
        ("\n\nmodel = x", "line 3"),
        ("prices = 1", "unknown key 'prices'"),
        ("price = 1", r"\[\[price\]\]"),
        ("[price]\nmodel = 'x'", r"\[\[price\]\]"),
        ("[[price]]\ninput = 1\noutput = 1", "number 1: `model`"),
        ("[[price]]\nmodel = 'x'\noutput = 1", r"number 1 \(x\): `input`"),
        ("[[price]]\nmodel = 'x'\ninput = 1", "`output`"),
        ("[[price]]\nmodel = 'x'\ninput = -1\noutput = 1", "`input`"),
        ("[[price]]\nmodel = 'x'\ninput = true\noutput = 1", "`input`"),
        ("[[price]]\nmodel = 'x'\ninput = nan\noutput = 1", "`input`"),
        ("[[price]]\nmodel = 'x'\ninput = '1 USD'\noutput = 1", "`input`"),
        ("[[price]]\nmodel = 'x'\ninput = 1\noutput = 1\nfrom = 'soon'", "`from`"),
        ("[[price]]\nmodel = 'x'\ninput = 1\noutput = 1\nfrom = 2026-01-01T00:00:00Z", "`from`"),
        ("[[price]]\nmodel = 'x'\ninput = 1\noutput = 1\nform = 2026-01-01", "unknown key 'form'"),
        ("[[price]]\nmodel = 'x'\ninput = 1\noutput = 1\n[[price]]\nmodel = 'x'\ninput = 2\noutput = 2", "number 2"),
    ],
)
def test_a_wrong_file_is_refused_by_name_and_place(text: str, complaint: str, tmp_path: Path) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigurationError, check=saying(complaint)) as caught:
        Prices(path)
    assert str(path) in caught.value.one_line
    assert "[[price]]" in caught.value.one_line


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "prices.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match=r"prices\.toml"):
        Prices(path)

from streams.text.words import words


def test_words_lose_case_accents_endings_and_filler() -> None:
    assert words("What are the Turbines' ratings in São Tomé?") == ["turbin", "rat", "sao", "tom"]


def test_short_words_keep_their_ending() -> None:
    assert words("gas bus") == ["gas", "bus"]


def test_repeats_and_order_are_kept() -> None:
    assert words("pump valve pump") == ["pump", "valv", "pump"]

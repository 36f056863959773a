"""Completions end where something new begins at the margin, and are the same for the same seed."""

from pathlib import Path

import pytest

from difflm.synthesis.decoding.sampling import complete, cut
from difflm.testing.models import save_decoder
from difflm.training.language_model_task import load_language_model


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("    return 1\n\ndef g():\n    pass", "    return 1\n"),
        ("    return 1\n    # a remark\n", "    return 1\n    # a remark\n"),
        ("\ndef f():\n    return 1\nprint(f())\n", "\ndef f():\n    return 1"),
        ("    x = 1\n@decorated\nclass A:", "    x = 1"),
        ("    return 'def '", "    return 'def '"),
    ],
)
def test_what_belongs_to_a_completion(text: str, kept: str) -> None:
    assert cut(text) == kept


def test_completions_are_drawn_from_the_seed_even_of_prompts_without_room(tmp_path: Path) -> None:
    module, tokenizer = load_language_model(str(save_decoder(tmp_path, "gpt2", positions=24)))

    def drawn(seed: int) -> list[str]:
        return complete(
            module.model,  # type: ignore[arg-type]
            tokenizer,
            "the quick brown fox " * 20,
            samples=2,
            temperature=1.0,
            max_tokens=6,
            seed=seed,
        )

    assert len(drawn(1)) == 2
    assert drawn(1) == drawn(1) != drawn(2)

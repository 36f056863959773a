"""Records in other orders of their fields: which tokens open fields, how often fields come first, and the way back."""

from functools import cache

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from difflm.models.compact import fit_compact_tokenizer
from difflm.records.tokenization import RecordTokenizer
from difflm.seeding import torch_generator
from difflm.training.any_order import counted_tokens, draw_ranks, fields_of, opening_tokens, reorder

FIXED = ('{"a": ', ', "b": ', ', "c": ', "}")
ROWS = (["1", "22", "333", "4"], ['"x"', '"y"', '"x"', "null"], ['"some"', '""', '"words"', '"of a text"'])


@cache
def _tokenizer(*kinds: str) -> RecordTokenizer:
    fitted = fit_compact_tokenizer(fixed_texts=FIXED, category_literals=['"x"', '"y"'], texts=["some words"])
    return RecordTokenizer(fitted, kinds=kinds, fixed_texts=FIXED)


@cache
def _batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    tokenizer = _tokenizer("integer", "categorical", "text")
    table = tokenizer.encode(ROWS, tokenizer.layout(ROWS))
    opening = opening_tokens(tokenizer)
    assert opening is not None
    return torch.from_numpy(table.ids_NT), torch.from_numpy(table.lengths_N), opening


def test_the_fields_of_tokens() -> None:
    ids, lengths, opening = _batch()
    fields = fields_of(ids, lengths, opening)
    assert ids[:, 0].tolist() == [opening[0]] * 4
    for row, length, found in zip(ids.tolist(), lengths.tolist(), fields.tolist(), strict=True):
        assert found[:length] == sorted(found[:length])
        assert [row[found.index(field)] for field in range(3)] == opening.tolist()
        assert found[length - 1 :] == [3, *[4] * (ids.shape[1] - length)]


def test_tokens_that_only_tell_which_field_follows_do_not_count() -> None:
    ids, lengths, opening = _batch()
    counted = counted_tokens(ids, lengths, opening)
    assert counted.sum(dim=1).tolist() == (lengths - 3).tolist()
    assert not bool(counted[torch.isin(ids, opening)].any())
    assert counted_tokens(ids, lengths, None).sum(dim=1).tolist() == lengths.tolist()


@given(st.lists(st.permutations(range(3)), min_size=4, max_size=4))
def test_reordering_is_undone_by_the_tokenizer(ranks: list[list[int]]) -> None:
    ids, lengths, opening = _batch()
    tokenizer = _tokenizer("integer", "categorical", "text")
    other = reorder(ids, lengths, opening, torch.tensor(ranks))
    for before, after, length, rank in zip(ids.tolist(), other.tolist(), lengths.tolist(), ranks, strict=True):
        assert after[length:] == before[length:]
        opened = [token for token in after[:length] if token in opening.tolist()]
        assert opened == [int(opening[rank.index(place)]) for place in range(3)]
        assert tokenizer.in_order(after[:length]) == before[:length]


def test_the_tables_order_changes_nothing() -> None:
    ids, lengths, opening = _batch()
    torch.testing.assert_close(reorder(ids, lengths, opening, torch.arange(3).expand(4, 3)), ids)


@pytest.mark.parametrize("fields", [1, 2, 3, 20])
def test_ranks_are_orders(fields: int) -> None:
    ranks = draw_ranks(4000, fields, torch_generator(0, "ranks"))
    assert bool((ranks.sort(dim=1).values == torch.arange(fields)).all())


def test_conditions_of_few_fields_are_what_is_learned_most() -> None:
    """In half of the reordered records about one to three of twenty fields come first, in the others any number."""
    generator = torch_generator(0, "ranks")
    ranks = draw_ranks(20_000, 20, generator)
    moved = (ranks < torch.arange(20)).sum(dim=1)  # at least the fields that came forward past one that did not
    assert 0.05 < float((moved == 0).float().mean()) < 0.2
    assert 0.3 < float(((moved > 0) & (moved <= 3)).float().mean()) < 0.6
    assert float((moved > 8).float().mean()) > 0.1
    first = ranks.argmin(dim=1)
    shares = torch.bincount(first, minlength=20) / 20_000
    assert float(shares[1:].min()) > 0.03  # every field gets its turn at the very beginning


def test_the_same_generator_draws_the_same_ranks() -> None:
    first, second = (draw_ranks(30, 5, torch_generator(3, "ranks", 1)) for _ in range(2))
    torch.testing.assert_close(first, second)


def test_fields_that_cannot_be_told_apart_have_no_opening_tokens() -> None:
    assert opening_tokens(_tokenizer("integer", "categorical", "json")) is None  # its keys may be those of the record
    spelled = fit_compact_tokenizer(fixed_texts=FIXED[1:], category_literals=[], texts=[])
    tokenizer = RecordTokenizer(spelled, kinds=("integer", "categorical", "text"), fixed_texts=FIXED)
    assert len(tokenizer.fixed_ids[0]) > 1
    assert opening_tokens(tokenizer) is None

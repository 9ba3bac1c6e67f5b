"""Replies read from a generation: where they end, how sure they are, what a stop text cuts."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from llm.replies import StopTexts, cut, cut_stream, read_replies, used_tokens

END = 9


class Letters:
    """A tokenizer whose ids are letters: 0 is "a"."""

    def batch_decode(self, rows: torch.Tensor, skip_special_tokens: bool) -> list[str]:
        return ["".join(chr(97 + int(t)) for t in row if t != END) for row in rows]


def test_tokens_after_the_end_do_not_count() -> None:
    tokens = torch.tensor([[5, END, END], [5, 6, 7]])
    assert used_tokens(tokens, [END], {}).tolist() == [[1, 1, 0], [1, 1, 1]]
    assert used_tokens(tokens, None, {1: 2}).tolist() == [[1, 1, 1], [1, 1, 0]]


def test_confidence_and_margin_by_hand() -> None:
    def row(token: int, probability: float) -> torch.Tensor:
        """Logits whose softmax gives `probability` to a token and the rest to token 8."""
        logits = torch.full((10,), -torch.inf)
        logits[token], logits[8] = torch.tensor([probability, 1 - probability]).log()
        return logits

    logits = (row(0, 0.8)[None], row(END, 0.6)[None], row(END, 0.51)[None])
    output = SimpleNamespace(sequences=torch.tensor([[4, 4, 0, END, END]]), logits=logits)
    (reply,) = read_replies(output, Letters(), END, StopTexts((), Letters(), 2))
    assert reply.text == "a"
    assert reply.confidence == pytest.approx((0.8 * 0.6) ** 0.5)
    assert reply.margin == pytest.approx(
        torch.tensor(0.6 / 0.4).log().item()
    )  # what follows the end is not of it


def test_a_stop_text_is_noticed_once() -> None:
    stopper = StopTexts(["bc"], Letters(), 1)
    assert stopper(torch.tensor([[7, 1], [7, 1]]), torch.empty(0)).tolist() == [False, False]
    assert stopper(torch.tensor([[7, 1, 2], [7, 1, 1]]), torch.empty(0)).tolist() == [True, False]
    assert stopper(torch.tensor([[7, 1, 2, 0], [7, 1, 1, 2]]), torch.empty(0)).tolist() == [True, True]
    assert stopper.lengths == {0: 2, 1: 3}


@pytest.mark.parametrize(
    ("pieces", "shown"), [(["one. tw", "o"], "one"), (["on", "e"], "one"), (["a.b"], "a")]
)
def test_a_stream_ends_where_the_whole_does(pieces: list[str], shown: str) -> None:
    stop = (". ", ".b")
    assert "".join(cut_stream(pieces, stop)) == cut("".join(pieces), stop) == shown


def test_what_may_begin_a_stop_text_is_held_back() -> None:
    stream = cut_stream(["ab-", "-", "cd"], ("---",))
    assert next(stream) == "a"
    assert "".join(stream) == "b--cd"

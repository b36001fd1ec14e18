"""Sentences to token ids: RoBERTa's byte-level BPE from its own files, or the words of the synthetic data set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from masa_track.errors import InputError, first_line
from masa_track.refer.synthetic import WORDS, encode

PAD = 1  # token id; <s> is 0 and </s> is 2
TOKENIZER_FILES = "tokenizer.json, or vocab.json and merges.txt"
Encode = Callable[[str], list[int]]


def clean_sentence(sentence: Any) -> str:
    """A sentence in lower case with single spaces, as the networks were trained.

    Raises:
        InputError: it is no text, or has no letter or digit in any alphabet.
    """
    if not isinstance(sentence, str):
        raise InputError(f"sentence must be text, got {type(sentence).__name__}")
    cleaned = " ".join(sentence.lower().split())
    if not any(c.isalnum() for c in cleaned):
        raise InputError(f"sentence must contain a word, got {sentence[:80]!r}")
    return cleaned


def synthetic_encode(sentence: str) -> list[int]:
    """The token ids of a sentence of the synthetic data set, :data:`~masa_track.refer.synthetic.WORDS`."""
    return encode(sentence)


def load_tokenizer(path: str | Path) -> Encode:
    """RoBERTa's tokenizer as a function from a sentence to ids.

    Args:
        path: ``tokenizer.json`` of ``roberta-base``, or a folder that holds it, or ``vocab.json`` and ``merges.txt``.

    Raises:
        InputError: the files are missing or not those of a tokenizer.
    """
    from tokenizers import Tokenizer
    from tokenizers.implementations import ByteLevelBPETokenizer
    from tokenizers.processors import RobertaProcessing

    path = Path(path)
    whole = path / "tokenizer.json" if path.is_dir() else path
    vocabulary, merges = path / "vocab.json", path / "merges.txt"
    try:
        if whole.is_file():
            tokenizer = Tokenizer.from_file(str(whole))
        elif vocabulary.is_file() and merges.is_file():
            tokenizer = ByteLevelBPETokenizer(str(vocabulary), str(merges))._tokenizer
            tokenizer.post_processor = RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
        else:
            raise InputError(f"tokenizer {path} is missing: give {TOKENIZER_FILES} of roberta-base")
    except Exception as error:  # tokenizers raises plain Exception for a broken file
        if isinstance(error, InputError):
            raise
        raise InputError(f"tokenizer {path} cannot be read ({first_line(error)}): get the file again") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def encode_sentence(sentence: str) -> list[int]:
        return list(tokenizer.encode(sentence).ids)

    if encode_sentence("")[:1] + encode_sentence("")[-1:] != [0, 2]:
        raise InputError(f"tokenizer {path} is not RoBERTa's: <s> must be 0 and </s> 2; give {TOKENIZER_FILES}")
    return encode_sentence


def token_rows(sentences: Sequence[str], encode_sentence: Encode, positions: int) -> Tensor:
    """Token ids of several sentences, padded at the right.

    Args:
        sentences: at least one.
        encode_sentence: from a sentence to ids, ``<s>`` and ``</s>`` included.
        positions: of the text encoder's table; at most two fewer tokens can be taken.

    Returns:
        (B, S) int64.

    Raises:
        InputError: no sentence, an empty one, or one with too many tokens.
    """
    if not sentences:
        raise InputError("sentences must hold at least one sentence, got none")
    rows = []
    for sentence in sentences:
        ids = encode_sentence(clean_sentence(sentence))
        if len(ids) > positions - 2:
            raise InputError(
                f"a sentence may have {positions - 2} tokens, got {len(ids)}: shorten {sentence[:60]!r}..."
            )
        rows.append(torch.tensor(ids, dtype=torch.long))
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PAD)


VOCABULARY = len(WORDS)  # of the synthetic data set

"""Recording of a transformers model while it reads a text: the model and its tokenizer loaded, and its forwards run.

No code of a model's folder is executed: weights are safetensors, and models that come with Python files are refused.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...common.errors import UserError
from ...common.packages import use
from ..problem.texts.hashed_words import token_ids
from .route_recorder import RecordedRouter, recording

MOST_CONTEXT = 1024  # tokens of one forward: experts settle within few, and a long context takes memory squared

TOKENIZER_FILES = ("tokenizer*", "vocab*", "merges.txt", "*.model")
"""Files of which a folder with a tokenizer has some."""


class CannotLoad(UserError, ValueError):
    """An error for a model or a text that cannot be loaded; the message has the reason and the remedy."""


@dataclass(frozen=True)
class TokenizedText:
    """Token ids of a text, int64 (tokens,), and what made them, in words."""

    token_T: Tensor
    tokenizer: str


def load_model(name: str, device: torch.device) -> Any:
    """Load a model of transformers without its head, from a folder or by the name that transformers knows.

    Raises:
        CannotLoad: whatever the loading code of transformers raised, in one sentence with the remedy.
        Unusable: when transformers is not installed.
    """
    transformers = _transformers()
    transformers.utils.logging.disable_progress_bar()
    local = Path(name).is_dir()
    remedy = "give a folder with a config.json and safetensors"
    with _quiet():
        try:
            model = transformers.AutoModel.from_pretrained(
                name, dtype="auto", use_safetensors=True, trust_remote_code=False, local_files_only=local
            )
        except Exception as error:  # of any file of the folder, or of the way to the hub
            raise CannotLoad(f"--model {name}: {_sentence(error)}: {remedy}{_or_name(local)}") from error
    return model.eval().to(device)


def tokenize(text: str, name: str, model: Any) -> TokenizedText:
    """Return the token ids of a text: of the model's tokenizer, or where it has none of `hashed_words`.

    Raises:
        CannotLoad: when the text has no tokens.
    """
    ids, reason = _own_ids(text, name)
    said = "its own tokenizer"
    if not len(ids):
        vocabulary = model.get_input_embeddings().num_embeddings
        ids = torch.from_numpy(token_ids(text) % vocabulary)
        said = f"hashed words modulo {vocabulary:,}: {reason}"
    if not len(ids):
        raise CannotLoad("the text has no tokens: give a text of at least one word")
    return TokenizedText(ids, said)


def _own_ids(text: str, name: str) -> tuple[Tensor, str]:
    """Return the ids of the model's tokenizer, or none and the reason."""
    none, local = torch.empty(0, dtype=torch.int64), Path(name).is_dir()
    if local and not any(found for pattern in TOKENIZER_FILES for found in Path(name).glob(pattern)):
        return none, "the model's folder has no tokenizer"
    with _quiet():
        try:
            tokenizer = _transformers().AutoTokenizer.from_pretrained(
                name, trust_remote_code=False, local_files_only=local
            )
            ids = torch.tensor(tokenizer(text)["input_ids"], dtype=torch.int64).flatten()
        except Exception as error:  # noqa: BLE001  # of any tokenizer's code
            return none, f"the model's tokenizer cannot be loaded ({_sentence(error)})"
    return ids, "the model's tokenizer makes no tokens of the text"


def steps_of(token_T: Tensor, model: Any, step: int | None) -> Sequence[Tensor]:
    """Return the tokens of each forward: at most ``step``, by default 1024 or what the model has positions for."""
    longest = getattr(model.config.get_text_config(), "max_position_embeddings", None) or MOST_CONTEXT
    steps: tuple[Tensor, ...] = token_T.split(step or min(longest, MOST_CONTEXT))
    return steps


def run_steps(model: Any, steps: Sequence[Tensor], routers: Sequence[RecordedRouter]) -> Iterator[int]:
    """Run the forwards one after the other, each with a context of its own; yield how many tokens are done.

    An encoder and its decoder read the same tokens.

    Raises:
        CannotLoad: when the model does not take token ids alone, or not so many of them.
    """
    done = 0
    for step_T in steps:
        ids_1T = step_T[None].to(model.device)
        more = {"decoder_input_ids": ids_1T} if model.config.is_encoder_decoder else {}
        with _quiet(), torch.inference_mode(), recording(routers):
            try:
                model(input_ids=ids_1T, use_cache=False, **more)
            except UserError:
                raise
            except (RuntimeError, TypeError, ValueError, IndexError) as error:  # as without memory, or without an image
                raise CannotLoad(
                    f"{type(model).__name__} cannot read {len(step_T):,} tokens of text alone ({_sentence(error)}): "
                    "give a language model, or a shorter --context"
                ) from error
        done += len(step_T)
        yield done


def _transformers() -> Any:
    return use("transformers", partial(import_module, "transformers"), remedy="pip install 'moebench[peers]'")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what transformers logs of a load and of a forward away: unused heads, retries, slower paths."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def _sentence(error: Exception) -> str:
    """Return the first sentence of an error, in one line."""
    said = " ".join((str(error) or "no message").split())
    return f"{type(error).__name__}, {said.partition('. ')[0].rstrip('.'):.200}"


def _or_name(local: bool) -> str:
    return "" if local else ", or a name of the hub where that can be reached"

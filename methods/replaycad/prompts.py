"""Prompts with a place for pseudo-words."""

from itertools import product

import torch
from torch import Tensor

from bench.api import BadInput

MARK = "*"
REPLAY = f"a photo of a {MARK}"  # what a replay is asked for with
MEDIA = ("photo", "rendering", "picture", "close-up photo", "cropped photo")
LOOKS = ("", "bright ", "dark ", "good ", "clean ", "plain ", "blurry ", "small ")
# 80 of the kind that textual inversion learns with (Gal et al., arXiv:2208.01618): they differ in all but the class.
TEMPLATES = (
    REPLAY,
    *(
        text
        for medium, look, article in product(MEDIA, LOOKS, ("a", "the"))
        if (text := f"a {look}{medium} of {article} {MARK}") != REPLAY
    ),
)


def placed(model, templates: tuple[str, ...], count: int) -> tuple[Tensor, Tensor]:
    """Token numbers of the templates (T, length), the mark in them repeated `count` times, and which row of the
    pseudo-words stands at each place (T, length), -1 for none. What follows the mark moves right and may be cut off."""
    mark = model.tokenizer(MARK, add_special_tokens=False).input_ids[0]
    tokens, places = [], []
    for words in model.tokenizer(list(templates)).input_ids:
        at = words.index(mark)
        wide = [*words[:at], *[mark] * count, *words[at + 1 :]][: model.length]
        blank = model.length - len(wide)
        if at + count > model.length:
            raise BadInput(f"replaycad.words={count}: the model reads {model.length} tokens only; give fewer words.")
        tokens.append([*wide, *[model.tokenizer.pad_token_id] * blank])
        places.append([-1] * at + list(range(count)) + [-1] * (model.length - at - count))
    return torch.tensor(tokens, device=model.device), torch.tensor(places, device=model.device)


def start(model, word: str, count: int) -> Tensor:
    """First values (count, width) of pseudo-words: a word's embedding, or draws like the vocabulary's for no word.

    Raises:
        BadInput: if the model does not know the word.
    """
    embeddings = model.text_encoder.get_input_embeddings().weight.detach().float()
    if not word:
        return embeddings.mean(0) + embeddings.std(0) * torch.randn(count, embeddings.shape[1]).to(embeddings)
    first = model.tokenizer(word, add_special_tokens=False).input_ids[0]
    if first == model.tokenizer.unk_token_id and word != model.tokenizer.unk_token:
        raise BadInput(f"replaycad.first_word={word}: the model's vocabulary lacks it; give another, or '' for none.")
    return embeddings[first].repeat(count, 1)

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
# What textual inversion's code draws from: 27 of CLIP's prompts for ImageNet, then the same of drawings and depictions.
LOOKED_AT = (
    "a photo of a", "a rendering of a", "a cropped photo of the", "the photo of a", "a photo of a clean",
    "a photo of a dirty", "a dark photo of the", "a photo of my", "a photo of the cool", "a close-up photo of a",
    "a bright photo of the", "a cropped photo of a", "a photo of the", "a good photo of the", "a photo of one",
    "a close-up photo of the", "a rendition of the", "a photo of the clean", "a rendition of a", "a photo of a nice",
    "a good photo of a", "a photo of the nice", "a photo of the small", "a photo of the weird", "a photo of the large",
    "a photo of a cool", "a photo of a small",
)  # fmt: skip
LISTS = {
    "own": TEMPLATES,
    "textual_inversion": tuple(
        f"{text.replace('a photo of', f'{medium} of')} {MARK}"
        for medium in ("a photo", "an illustration", "a depiction")
        for text in LOOKED_AT
    ),
}


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

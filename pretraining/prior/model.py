"""The parts of the small prior before training, in the layout of Stable Diffusion."""

from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

SIZE = 64  # px
CHANNELS, PLACES = 8, 16  # of the latents (8, 16, 16): with 4 channels colours are lost, with places of 8 px textures
LENGTH, WIDTH = 12, 64  # text tokens, and numbers in each
WORDS = 4  # that name a product
ROW, FACES = 128, 32  # numbers of an encoded mask that become so many features; their tokens have WIDTH numbers
MARK, ANY = "*", "product"  # stands for the name of a product, and is the name of any
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", MARK, ANY)
ARTICLES = ("a", "photo", "of")
PROMPT = "a photo of a"
BEFORE = 1 + len(PROMPT.split())  # tokens before the name
TEMPLATE = " ".join((PROMPT, *[MARK] * WORDS))


def name(product: int) -> list[str]:
    """The words of the vocabulary that name a product of the corpus."""
    return [f"n{product}{letter}" for letter in "abcd"[:WORDS]]


class Parts(NamedTuple):
    """Under the names that diffusers gives their folders."""

    vae: nn.Module
    unet: nn.Module
    text_encoder: nn.Module
    tokenizer: object
    scheduler: object


def parts(known: int) -> Parts:
    """With random weights and the names of `known` products in the vocabulary.

    The U-Net predicts velocities, and the last time is noise alone (Lin et al., arXiv:2305.08891): otherwise the mean
    of a picture shows through to the end, and replays take their colours from the noise that they start with.
    """
    from diffusers import DDIMScheduler

    tokenizer, text_encoder = _text(known)
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False,
        steps_offset=1, prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing",
    )  # fmt: skip
    return Parts(_vae(), _unet(), text_encoder, tokenizer, scheduler)


def _text(known: int):
    from transformers import BertTokenizer, CLIPTextConfig, CLIPTextModel

    words = [*SPECIAL, *ARTICLES, *(word for product in range(known) for word in name(product))]
    tokenizer = BertTokenizer(vocab={word: i for i, word in enumerate(words)}, model_max_length=LENGTH)
    config = CLIPTextConfig(
        vocab_size=len(words), hidden_size=WIDTH, intermediate_size=2 * WIDTH, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=LENGTH, bos_token_id=2, eos_token_id=3, pad_token_id=0,
    )  # fmt: skip
    return tokenizer, CLIPTextModel(config)


def _vae():
    """Its shortcuts of shuffled pixels (Chen et al., arXiv:2410.10733) let it learn fine textures soon."""
    from diffusers import AutoencoderDC

    widths, layers, none = (32, 32, 64), (0, 2, 2), ((),) * 3
    return AutoencoderDC(
        latent_channels=CHANNELS, encoder_block_out_channels=widths, decoder_block_out_channels=widths,
        encoder_layers_per_block=layers, decoder_layers_per_block=layers, encoder_qkv_multiscales=none,
        decoder_qkv_multiscales=none,
    )  # fmt: skip


def _unet():
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=PLACES, in_channels=CHANNELS, out_channels=CHANNELS, block_out_channels=(32, 64, 96),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1, cross_attention_dim=WIDTH, norm_num_groups=8, attention_head_dim=4,
    )  # fmt: skip


class Namer(nn.Module):
    """Latents (B, 8, 16, 16) of a picture to the words (B, 4, 64) that name its product.

    It stands for the search for pseudo-words while the prior is trained, and is thrown away after (the idea of an
    encoder for textual inversion is that of Gal et al., arXiv:2302.12228): a prior that has seen many names of one
    scale finds the next one quickly.
    """

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(CHANNELS, 32, 3, 2, 1), nn.SiLU(), nn.Conv2d(32, 64, 3, 2, 1), nn.SiLU(),
            nn.Conv2d(64, 128, 3, 2, 1), nn.SiLU(), nn.Flatten(), nn.Linear(128 * (PLACES // 8) ** 2, WORDS * WIDTH),
        )  # fmt: skip

    def forward(self, latents: Tensor) -> Tensor:
        return F.layer_norm(self.layers(latents).unflatten(1, (WORDS, WIDTH)), (WIDTH,))
